"""The UI as a process, and a way to ask its GraphQL what the pages ask."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from definemed_pipeline_tests.end_to_end.conftest import PROJECT, Workplace

LOCATION = {"repositoryLocationName": "definemed_pipeline", "repositoryName": "__repository__"}
PATIENCE_SECONDS = 300
Ask = Callable[..., dict[str, Any]]


@contextmanager
def dagster_dev(workplace: Workplace) -> Iterator[Ask]:
    """Start webserver and daemon as `make ui` does; yield what sends a query with its variables and returns the data."""
    port = free_port()
    command = [sys.executable, "-m", "dagster", "dev", "-w", str(PROJECT / "workspace.yaml"), "-h", "127.0.0.1", "-p", str(port)]
    environment = {**workplace.environment, "DEFINEMED_RECIPE": workplace.recipe}
    log = (workplace.folder / "ui.log").open("wb")
    server = subprocess.Popen(command, cwd=workplace.folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    query = asking(port)
    try:
        wait_until(lambda: answers(query))
        yield query
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def asking(port: int) -> Ask:
    """Return what sends a query with its variables to the webserver on a port, and returns the data."""

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

    return query


def launch_forced_backfill(ask: Ask, assets: Sequence[str], *partitions: str) -> str:
    """Launch a backfill that rebuilds assets of some partitions, as the page of an asset does; return its id."""
    launched = ask(
        """mutation($p: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $p) {
             __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }""",
        p={
            "assetSelection": [{"path": [asset]} for asset in assets],
            "partitionNames": list(partitions),
            "tags": [{"key": "definemed/force", "value": "true"}],
        },
    )["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    return str(launched["backfillId"])


def finished_backfill(ask: Ask, backfill_id: str) -> str | None:
    """Return how a backfill ended, or None while it is under way."""
    status = ask(
        "query($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }",
        id=backfill_id,
    )["partitionBackfillOrError"]["status"]
    return status if status not in ("REQUESTED", "CANCELING", "FAILING") else None


def wait_until(done: Callable[[], Any]) -> Any:
    """Ask once a second until the answer is true, and return it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if found := done():
            return found
        time.sleep(1)
    raise AssertionError("waited in vain")


def answers(query: Ask) -> bool:
    try:
        return bool(query("{ assetNodes { assetKey { path } } }")["assetNodes"])
    except OSError:
        return False
