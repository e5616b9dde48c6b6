"""A cluster: its objects, its controllers at work in a thread, and a way to look and to wait."""

import copy
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from definemed_pipeline_tests.kubernetes_server.api import Api
from definemed_pipeline_tests.kubernetes_server.deletion import GarbageCollector, PodGarbageCollector, TimeToLive
from definemed_pipeline_tests.kubernetes_server.job_controller import JobController
from definemed_pipeline_tests.kubernetes_server.job_status import owner_of
from definemed_pipeline_tests.kubernetes_server.kubelet import Kubelet
from definemed_pipeline_tests.kubernetes_server.recorder import Recorder
from definemed_pipeline_tests.kubernetes_server.scheduler import Scheduler
from definemed_pipeline_tests.kubernetes_server.store import Clock, Object, Store

LONGEST_REST, SHORTEST_REST = 1.0, 0.005
T = TypeVar("T")


class Cluster:
    """Objects and controllers, without an API server; use as a context manager.

    `home` is a folder for logs and volumes; what lies in its parent may be mounted at its own path (see `volumes.py`). `claims`
    (folders) and `secrets` (values) are what pods may refer to, by name. `backoff_seconds` stands for the 10 s after which
    Kubernetes first replaces a failed pod or pulls an image again.
    """

    def __init__(self, home: Path, *, namespace: str, backoff_seconds: float) -> None:
        self.home, self.namespace = home, namespace
        self.clock = Clock()
        self.store = Store(self.clock)
        self.recorder = Recorder(self.store, self.clock)
        self.api = Api(self.store, {namespace, "default"})
        self.kubelet = Kubelet(self.store, self.recorder, home, backoff_seconds, fail=self.fail)
        self.claims, self.secrets = self.kubelet.claims, self.kubelet.secrets
        self.scheduler = Scheduler(self.store, self.recorder, self.claims)
        self.pod_garbage_collector = PodGarbageCollector(self.store)
        self.job_controller = JobController(self.store, self.clock, self.recorder, backoff_seconds)
        self.closing = threading.Event()
        self._controllers = (
            self.job_controller,
            GarbageCollector(self.store),
            self.pod_garbage_collector,
            TimeToLive(self.store, self.clock),
            self.scheduler,
            self.kubelet,
        )
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._control, name="controllers")

    def __enter__(self) -> Self:
        self.home.mkdir(parents=True, exist_ok=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.closing.set()
        self.store.ring()
        self._thread.join()
        self.kubelet.close()
        if self._failure is not None and error is None:
            raise self._failure

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
        """Return the Services in the order of their creation."""
        return copy.deepcopy(self.store.all("services", self.namespace))

    def events(self, name: str | None = None) -> list[Object]:
        """Return all events, or those about an object, oldest first."""
        events = self.store.all("events", self.namespace)
        return copy.deepcopy([one for one in events if name in (None, one["involvedObject"]["name"])])

    def job(self, name: str) -> Object:
        """Return a Job. Raise Refusal where there is none."""
        return copy.deepcopy(self.store.get("jobs", self.namespace, name))

    def pod(self, name: str) -> Object:
        """Return a pod. Raise Refusal where there is none."""
        return copy.deepcopy(self.store.get("pods", self.namespace, name))

    def log(self, pod: str, container: str | None = None) -> str:
        """Return what a pod's container has said. Raise Refusal where it has not started."""
        lines = self.kubelet.log(self.pod(pod), container).lines()
        return "".join(line.text.decode("utf-8", "replace") + "\n" * line.is_whole for line in lines)

    def wait_for(self, condition: Callable[[], T], seconds: float = 30) -> T:
        """Wait until a condition holds, asked again at every change; return its value. Raise AssertionError after so long."""
        end = time.monotonic() + seconds
        while True:
            seen = self.store.changes
            if value := condition():
                return value
            if self._failure is not None:
                raise self._failure
            if (left := end - time.monotonic()) <= 0:
                raise AssertionError(f"not within {seconds} s; the cluster stands thus:\n{self.describe()}")
            with self.store.changed:
                if self.store.changes == seen:
                    self.store.changed.wait(min(left, 0.1))

    def describe(self) -> str:
        """Say how everything stands, for people who look for what went wrong."""
        return "\n".join([*_described("Job", self.jobs()), *_described("Pod", self.pods())]) or "there are no Jobs and no pods"

    def fail(self, error: BaseException) -> None:
        """Let the test fail: something is wrong with this cluster itself."""
        self._failure = self._failure or error
        self.store.ring()

    def _control(self) -> None:
        """Let every controller look at the cluster whenever something has changed, or one of them asked for it."""
        try:
            while not self.closing.is_set():
                with self.store.changed:
                    seen = self.store.changes
                    rest = min(LONGEST_REST, *(one.reconcile() for one in self._controllers))
                    if self.store.changes == seen:
                        self.store.changed.wait(max(rest, SHORTEST_REST))
        except BaseException as error:
            self.fail(error)
            raise


def _described(kind: str, objects: Iterable[Object]) -> Iterator[str]:
    for one in objects:
        leaving = " (being deleted)" if one["metadata"].get("deletionTimestamp") else ""
        yield f"{kind} {one['metadata']['name']}{leaving}: {one.get('status')}"
