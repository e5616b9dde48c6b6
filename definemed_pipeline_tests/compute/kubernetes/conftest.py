"""A cluster, a lake and a Dagster instance for the tests of Jobs."""

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.compute.kubernetes.settings import BUILT_IN
from definemed_pipeline.compute.kubernetes.state import Snapshot, describe
from definemed_pipeline_tests.kubernetes_server import KubernetesServer

SECONDS = 30
REPOSITORY = Path(__file__).parents[3]


class World:
    """What a test of a Job needs: ways to start runs, to let payloads go, and to see what came of it."""

    def __init__(self, folder: Path, server: KubernetesServer, instance: dg.DagsterInstance) -> None:
        self.folder, self.server, self.instance = folder, server, instance
        self.lake, self.scratch, self.gate = (folder / name for name in ("lake", "scratch", "gate"))
        for path in (self.scratch, self.gate):
            path.mkdir()
        self.runs = ThreadPoolExecutor(4)
        self.futures: list[Future[dg.ExecuteInProcessResult]] = []
        self.workers: list[subprocess.Popen[str]] = []

    def config(self, *, ending: str = "published", **config: Any) -> dict[str, Any]:
        """Return a run's configuration. `pod` and `tags` are laid over what the test world needs."""
        pod = {
            "environment": {"TEST_ENDING": config.pop("process_ending", "")},
            "grace_seconds": 5,
            "scratch": str(self.scratch),
            "volumes": {
                path.name: {"mount_path": str(path), "source": {"hostPath": {"path": str(path)}}}
                for path in (self.lake, self.scratch)
            },
            **config.pop("pod", {}),
        }
        steps = {"gate": str(self.gate), "ending": ending}
        return {"lake": str(self.lake), "run_id": str(uuid.uuid4()), "steps": steps, "pod": pod, **config}

    def start(self, **config: Any) -> "Future[dg.ExecuteInProcessResult]":
        """Start a run in this process."""
        from definemed_pipeline_tests.compute.kubernetes.dagster_run import run

        self.futures.append(self.runs.submit(run, self.instance, self.config(**config)))
        return self.futures[-1]

    def runs_are_over(self) -> bool:
        return all(future.done() for future in self.futures)

    def start_worker(self, **config: Any) -> "Worker":
        """Start a run in a worker process, which can be killed."""
        told = self.config(**config)
        path = self.folder / f"{told['run_id']}.json"
        path.write_text(json.dumps(told), "utf-8")
        log = (self.folder / f"{told['run_id']}.log").open("w")
        process = subprocess.Popen(
            [sys.executable, "-m", "definemed_pipeline_tests.compute.kubernetes.dagster_run", str(path)],
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.workers.append(process)
        return Worker(process, told["run_id"])

    def let_go(self) -> None:
        """Let every payload end."""
        (self.gate / "go").touch()

    def begun(self) -> list[str]:
        """Return the pods whose payload has begun, in order."""
        path = self.gate / "begun"
        return path.read_text().split() if path.exists() else []

    def wait_until_begun(self, pods: int = 1) -> str:
        """Wait for the payload of so many pods; return the last one's name."""
        self.wait_until(lambda: len(self.begun()) >= pods)
        return self.begun()[-1]

    def wait_until(self, is_so: Callable[[], Any]) -> None:
        deadline = time.monotonic() + SECONDS
        while not is_so():
            assert time.monotonic() < deadline, self.told()
            time.sleep(0.02)

    def told(self, run_id: str | None = None) -> list[str]:
        """Return what the Dagster runs were told, in order."""
        ids = [run_id] if run_id else [run.run_id for run in self.instance.get_runs()]
        return [entry.user_message for one in ids for entry in self.instance.all_logs(one)]

    def wait_until_told(self, text: str) -> None:
        self.wait_until(lambda: any(text in line for line in self.told()))

    @property
    def artifacts(self) -> list[Manifest]:
        """The artifacts of `thing` in the lake."""
        store = Store(str(self.lake))
        paths = sorted(self.lake.glob("thing/_/*/manifest.json"))
        return [manifest for path in paths if (manifest := store.manifest("thing", "_", path.parent.name))]

    def failure(self, result: dg.ExecuteInProcessResult) -> Any:
        """Return the one failure of a run: its description and metadata."""
        (event,) = [event for event in result.all_events if event.is_step_failure]
        return event.step_failure_data.user_failure_data

    def assert_nothing_is_left(self) -> None:
        """Finished Jobs go by their time to live, with their pods; nothing else may be there."""
        self.server.wait_for(lambda: all(describe(Snapshot(job)).is_over for job in self.server.jobs()))
        self.server.skew_clock(BUILT_IN.ttl_seconds_after_finished + 1)
        self.server.wait_for(lambda: not self.server.jobs() and not self.server.pods() and not self.server.services())


class Worker:
    """A run worker process."""

    def __init__(self, process: "subprocess.Popen[str]", run_id: str) -> None:
        self.process, self.run_id = process, run_id


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesServer]:
    with KubernetesServer(tmp_path) as server:
        monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))  # for pods
        yield server


@pytest.fixture
def world(tmp_path: Path, server: KubernetesServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    home = tmp_path / "dagster"
    home.mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with dg.DagsterInstance.get() as instance:
        world = World(tmp_path, server, instance)
        yield world
        world.let_go()
        server.end_trouble()
        while not world.runs_are_over():  # what a failed test left at work
            for job in server.jobs():
                server.delete_job(job["metadata"]["name"])
            time.sleep(0.1)
        world.runs.shutdown()
        for process in world.workers:
            process.kill()
            process.wait()
