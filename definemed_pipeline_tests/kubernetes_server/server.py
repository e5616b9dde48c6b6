"""The server as tests use it: a context manager, what it holds as plain dictionaries, and a way to wait."""

import copy
import math
import secrets
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import yaml

from definemed_pipeline_tests.kubernetes_server.api import Api
from definemed_pipeline_tests.kubernetes_server.connections import Listener
from definemed_pipeline_tests.kubernetes_server.deletion import GarbageCollector, PodGarbageCollector, TimeToLive
from definemed_pipeline_tests.kubernetes_server.faults import ClientFaults, ClusterFaults
from definemed_pipeline_tests.kubernetes_server.job_controller import JobController
from definemed_pipeline_tests.kubernetes_server.job_status import owner_of
from definemed_pipeline_tests.kubernetes_server.kubelet import Kubelet
from definemed_pipeline_tests.kubernetes_server.recorder import Recorder
from definemed_pipeline_tests.kubernetes_server.scheduler import Scheduler
from definemed_pipeline_tests.kubernetes_server.store import Clock, Object, Store
from definemed_pipeline_tests.kubernetes_server.trouble import Trouble

LONGEST_REST, SHORTEST_REST = 1.0, 0.005
T = TypeVar("T")


class KubernetesServer(ClusterFaults, ClientFaults):
    """A cluster of one API server, its controllers and as many nodes as it takes; use as a context manager.

    `folder` is the tests' own; what is in it may be mounted at its own path (see `volumes.py`). `claims` and `secrets` are what pods may refer to.
    `requests` counts requests by verb and path. `backoff_seconds` stands for the 10 s after which Kubernetes first replaces a failed pod or pulls again.
    """

    def __init__(self, folder: Path, *, namespace: str = "definemed", backoff_seconds: float = 0.05) -> None:
        self.namespace = namespace
        self.home = folder / "kubernetes"
        self.token = secrets.token_hex(16)
        self.clock = Clock()
        self.store = Store(self.clock)
        self.recorder = Recorder(self.store, self.clock)
        self.api = Api(self.store, {namespace, "default"})
        self.kubelet = Kubelet(self.store, self.clock, self.recorder, self.home, backoff_seconds)
        self.claims, self.secrets = self.kubelet.claims, self.kubelet.secrets
        self.scheduler = Scheduler(self.store, self.recorder, self.claims)
        self.pod_garbage_collector = PodGarbageCollector(self.store)
        self.controllers = (
            JobController(self.store, self.clock, self.recorder, backoff_seconds),
            GarbageCollector(self.store),
            self.pod_garbage_collector,
            TimeToLive(self.store, self.clock),
            self.scheduler,
            self.kubelet,
        )
        self.requests: Counter[tuple[str, str]] = Counter()
        self.listener = Listener(self)
        self.trouble = Trouble(self.token, self.listener.closing)
        self.failure: BaseException | None = None
        self._threads = (
            threading.Thread(target=self.listener.serve_forever, args=(0.02,), name="API server"),
            threading.Thread(target=self._control, name="controllers"),
        )

    def __enter__(self) -> "KubernetesServer":
        self.home.mkdir(parents=True, exist_ok=True)
        self._write_kubeconfig()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.listener.close()
        self.store.ring()
        for thread in self._threads:
            thread.join()
        self.kubelet.close()
        shutil.rmtree(self.home / "volumes", ignore_errors=True)
        if self.failure is not None and error is None:
            raise self.failure

    @property
    def kubeconfig(self) -> Path:
        """Return the file by which clients find this server."""
        return self.home / "kubeconfig.yaml"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.server_port}"

    def jobs(self) -> list[Object]:
        """Return the Jobs in the order of their creation."""
        return copy.deepcopy(self.store.all("jobs", self.namespace))

    def pods(self, job: str | None = None) -> list[Object]:
        """Return all pods, or those of a Job, in the order of their creation."""
        pods = self.store.all("pods", self.namespace)
        if job is not None:
            uid = self.job(job)["metadata"]["uid"]
            pods = [pod for pod in pods if owner_of(pod) == uid]
        return copy.deepcopy(pods)

    def services(self) -> list[Object]:
        return copy.deepcopy(self.store.all("services", self.namespace))

    def events(self, name: str | None = None) -> list[Object]:
        """Return all events, or those about an object, oldest first."""
        events = self.store.all("events", self.namespace)
        return copy.deepcopy([one for one in events if name in (None, one["involvedObject"]["name"])])

    def job(self, name: str) -> Object:
        return copy.deepcopy(self.store.get("jobs", self.namespace, name))

    def pod(self, name: str) -> Object:
        return copy.deepcopy(self.store.get("pods", self.namespace, name))

    def log(self, pod: str, container: str | None = None) -> str:
        """Return what a pod's container has said."""
        lines = self.kubelet.log(self.pod(pod), container).lines()
        return "".join(line.text.decode("utf-8", "replace") + "\n" * line.is_whole for line in lines)

    def count_requests(self, verb: str | None = None, path_contains: str = "") -> int:
        """Return how many requests there were, of one verb or with some word in the path."""
        return sum(
            count for (asked, path), count in self.requests.copy().items() if verb in (None, asked) and path_contains in path
        )

    def wait_for(self, condition: Callable[[], T], seconds: float = 30) -> T:
        """Wait until a condition holds, asked again at every change; return what it returned. Raise AssertionError when it takes too long."""
        end = time.monotonic() + seconds
        while True:
            seen = self.store.changes
            if value := condition():
                return value
            if self.failure is not None:
                raise self.failure
            if (left := end - time.monotonic()) <= 0:
                raise AssertionError(f"not within {seconds} s; the cluster stands thus:\n{self.describe()}")
            with self.store.changed:
                if self.store.changes == seen:
                    self.store.changed.wait(min(left, 0.1))

    def describe(self) -> str:
        """Say how everything stands, for people who look for what went wrong."""
        return "\n".join([*_described("Job", self.jobs()), *_described("Pod", self.pods())]) or "there are no Jobs and no pods"

    def _control(self) -> None:
        """Let every controller look at the cluster whenever something has changed, or one of them asked for it."""
        try:
            while not self.listener.closing.is_set():
                with self.store.changed:
                    seen = self.store.changes
                    rest = min(min((one.reconcile() for one in self.controllers), default=math.inf), LONGEST_REST)
                    if self.store.changes == seen:
                        self.store.changed.wait(max(rest, SHORTEST_REST))
        except BaseException as error:
            self.failure = error
            raise

    def _write_kubeconfig(self) -> None:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": {"server": self.url}}],
            "users": [{"name": "tests", "user": {"token": self.token}}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests", "namespace": self.namespace}}],
            "current-context": "tests",
        }
        self.kubeconfig.write_text(yaml.safe_dump(config), "utf-8")


def _described(kind: str, objects: Iterable[Object]) -> Iterable[str]:
    for one in objects:
        leaving = " (being deleted)" if one["metadata"].get("deletionTimestamp") else ""
        yield f"{kind} {one['metadata']['name']}{leaving}: {one.get('status')}"
