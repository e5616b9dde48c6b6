"""The UI as a process, and a way to ask its GraphQL what the pages ask."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from definemed_pipeline_tests.end_to_end.conftest import PROJECT, Workplace

LOCATION = {"repositoryLocationName": "definemed_pipeline", "repositoryName": "__repository__"}
PATIENCE_SECONDS = 300
Ask = Callable[..., dict[str, Any]]


@contextmanager
def dagster_dev(workplace: Workplace) -> Iterator[Ask]:
    """Start webserver and daemon as `make ui` does; yield what sends a query with its variables and returns the data."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "dagster", "dev", "-w", str(PROJECT / "workspace.yaml"), "-h", "127.0.0.1", "-p", str(port)]
    environment = {**workplace.environment, "DEFINEMED_RECIPE": workplace.recipe}
    log = (workplace.folder / "ui.log").open("wb")
    server = subprocess.Popen(command, cwd=workplace.folder, env=environment, stdout=log, stderr=log, start_new_session=True)

    def query(text: str, **variables: Any) -> dict[str, Any]:
        body = json.dumps({"query": text, "variables": variables}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/graphql", data=body, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as reply:
            answer = json.load(reply)
        assert "errors" not in answer, answer
        data: dict[str, Any] = answer["data"]
        return data

    try:
        wait_until(lambda: _answers(query))
        yield query
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


def wait_until(done: Callable[[], Any]) -> Any:
    """Ask once a second until the answer is true, and return it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if found := done():
            return found
        time.sleep(1)
    raise AssertionError("waited in vain")


def _answers(query: Ask) -> bool:
    try:
        return bool(query("{ assetNodes { assetKey { path } } }")["assetNodes"])
    except OSError:
        return False
