"""The production instance as docker/ runs it: dagster.yaml on a real PostgreSQL, logs in an object store, code location, webserver and daemon apart."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from definemed_pipeline_tests.docker.files import DOCKER, instructions
from definemed_pipeline_tests.end_to_end.conftest import Workplace
from definemed_pipeline_tests.end_to_end.postgres import find_binaries, running_postgres
from definemed_pipeline_tests.end_to_end.ui import (
    Ask,
    answers,
    asking,
    finished_backfill,
    free_port,
    launch_forced_backfill,
    wait_until,
)

BINARIES = find_binaries()
pytestmark = [
    pytest.mark.xdist_group("daemon"),  # one worker starts a UI at a time; all of them wait more than they compute
    pytest.mark.skipif(BINARIES is None, reason="PostgreSQL is not installed (Debian's package postgresql)"),
]
MODELS = ["demo-qwen2", "demo-mistral"]
ASSETS = ["cpt_checkpoints", "merge_sweep", "merged_models"]


@dataclass(frozen=True)
class Deployment:
    """The processes of compose.yaml on this machine: the same commands, other addresses."""

    workplace: Workplace
    environment: Mapping[str, str]
    web_port: int

    @contextmanager
    def started(self, name: str, command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
        """Run a command of the images until the end of the block."""
        bin_folder = Path(sys.executable).parent
        with (self.workplace.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [bin_folder / command[0], *command[1:]],
                cwd=self.environment["DAGSTER_HOME"],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)

    def run_once(self, *command: str) -> None:
        bin_folder = Path(sys.executable).parent
        done = subprocess.run(
            [bin_folder / command[0], *command[1:]], env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def command_of_image(name: str, **port: int) -> list[str]:
    """Return the command of an image, moved to this machine's own addresses."""
    (command,) = [json.loads(rest) for word, rest in instructions(DOCKER / f"{name}.Dockerfile") if word == "CMD"]
    moved = {"0.0.0.0": "127.0.0.1", **{str(old): str(new) for old, new in port.items()}}
    return [moved.get(word, word) for word in command]


def service(name: str) -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text("utf-8"))["services"]
    own: dict[str, Any] = services[name]
    return own


@pytest.fixture
def deployment(copy_of_finished: Workplace, bucket: str) -> Iterator[Deployment]:
    """The production instance with its code location, webserver and database, but no daemon yet; on the lake of the finished micro graph."""
    home = copy_of_finished.folder / "production"
    home.mkdir()
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(DOCKER / name, home / name)
    code_port, web_port = free_port(), free_port()
    assert BINARIES is not None
    with ExitStack() as stack:
        database = stack.enter_context(running_postgres(BINARIES))
        environment = {
            **copy_of_finished.environment,
            **database,
            "DAGSTER_HOME": str(home),
            "DAGSTER_LOGS_BUCKET": bucket.split("/")[2],
            "DEFINEMED_RECIPE": copy_of_finished.recipe,
            "DEFINEMED_LAKE": str(copy_of_finished.lake),
            "DEFINEMED_CODE_HOST": "127.0.0.1",
            "DEFINEMED_CODE_PORT": str(code_port),
            "TMPDIR": str(home),
        }
        deployed = Deployment(copy_of_finished, environment, web_port)
        deployed.run_once("dagster", "instance", "migrate")
        stack.enter_context(deployed.started("code-location", command_of_image("user_code", **{"4000": code_port})))
        wait_until(lambda: is_serving(deployed, code_port))
        stack.enter_context(deployed.started("webserver", command_of_image("webserver", **{"3000": web_port})))
        yield deployed


def is_serving(deployed: Deployment, port: int) -> bool:
    check = [Path(sys.executable).parent / "dagster", "api", "grpc-health-check", "-p", str(port)]
    return subprocess.run(check, env=deployed.environment, capture_output=True, check=False).returncode == 0


def test_two_backfills_at_once_survive_the_death_of_the_daemon_and_nothing_is_built_twice(
    deployment: Deployment, bucket: str
) -> None:
    before = deployment.workplace.digests()
    ask = asking(deployment.web_port)
    wait_until(lambda: answers(ask))
    daemon, is_alive = service("daemon")["command"], service("daemon")["healthcheck"]["test"]
    with deployment.started("daemon", daemon) as process:
        backfills = [launch_forced_backfill(ask, ASSETS, model) for model in MODELS]
        wait_until(lambda: [run for run in runs(ask) if run["status"] == "STARTED"])
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert [finished_backfill(ask, backfill) for backfill in backfills] == [None, None]
    with deployment.started("daemon again", daemon):
        assert [wait_until(lambda one=one: finished_backfill(ask, one)) for one in backfills] == ["COMPLETED_SUCCESS"] * 2
        deployment.run_once(*is_alive[1:])  # after the word CMD
    assert sorted(run["backfill"] for run in runs(ask)) == sorted(backfills)
    assert {run["status"] for run in runs(ask)} == {"SUCCESS"}
    for asset in ASSETS:
        for model in MODELS:
            (made,) = materializations(ask, asset, model)
            assert made == deployment.workplace.artifacts()[asset, model].provenance.run_id
    assert deployment.workplace.digests() == before
    assert logs_of_runs(bucket) == {run["id"] for run in runs(ask)}


def runs(ask: Ask) -> list[dict[str, str]]:
    found: list[dict[str, Any]] = ask("{ runsOrError { ... on Runs { results { runId status tags { key value } } } } }")[
        "runsOrError"
    ]["results"]
    return [
        {
            "id": run["runId"],
            "status": run["status"],
            "backfill": {tag["key"]: tag["value"] for tag in run["tags"]}["dagster/backfill"],
        }
        for run in found
    ]


def materializations(ask: Ask, asset: str, partition: str) -> list[str]:
    """Return the run of every materialization that the database holds."""
    (node,) = ask(
        "query($k: [AssetKeyInput!], $p: [String!]) { assetNodes(assetKeys: $k) { assetMaterializations(partitions: $p) { runId } } }",
        k=[{"path": [asset]}],
        p=[partition],
    )["assetNodes"]
    return [one["runId"] for one in node["assetMaterializations"]]


def logs_of_runs(bucket: str) -> set[str]:
    """Return the runs whose output lies in the object store."""
    import s3fs

    return {path.split("/storage/")[1].split("/")[0] for path in s3fs.S3FileSystem().find(f"{bucket.split('/')[2]}/dagster-logs")}
