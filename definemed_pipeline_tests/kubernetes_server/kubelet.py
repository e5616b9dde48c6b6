"""The kubelets of all nodes: start what the scheduler bound, end what was deleted, kill what does not end in time."""

import math
import time
from collections.abc import Callable
from pathlib import Path

from definemed_pipeline_tests.kubernetes_server.container_log import ContainerLog
from definemed_pipeline_tests.kubernetes_server.deletion import delete
from definemed_pipeline_tests.kubernetes_server.images import Registry
from definemed_pipeline_tests.kubernetes_server.pod_spec import Addresses
from definemed_pipeline_tests.kubernetes_server.pod_worker import PodWorker
from definemed_pipeline_tests.kubernetes_server.recorder import Recorder
from definemed_pipeline_tests.kubernetes_server.refusals import Refusal
from definemed_pipeline_tests.kubernetes_server.store import Object, Store


class Kubelet:
    """Runs pods. `claims` are the folders of persistent volume claims, `secrets` the values of Secrets, by name."""

    def __init__(
        self, store: Store, recorder: Recorder, home: Path, backoff_seconds: float, *, fail: Callable[[BaseException], None]
    ) -> None:
        self.store, self.clock, self.recorder = store, store.clock, recorder
        self.home, self.backoff_seconds, self.fail = home, backoff_seconds, fail
        self.claims: dict[str, Path] = {}
        self.secrets: dict[str, dict[str, str]] = {}
        self.registry = Registry()
        self.addresses = Addresses()
        self.workers: dict[str, PodWorker] = {}

    def reconcile(self) -> float:
        """Bring every node nearer to what the pods ask for; return in how many seconds to look again."""
        pods = {pod["metadata"]["uid"]: pod for pod in self.store.all("pods")}
        for uid, pod in pods.items():
            if pod["spec"].get("nodeName") and uid not in self.workers:
                self.workers[uid] = PodWorker(self, pod)
                self.workers[uid].start()
        for uid, worker in list(self.workers.items()):
            if not worker.is_silent:
                self._keep_in_step(worker, pods.get(uid))
            if worker.is_over and uid not in pods:
                del self.workers[uid]
        return (
            min((worker.kill_at for worker in self.workers.values() if not worker.is_over), default=math.inf) - time.monotonic()
        )

    def _keep_in_step(self, worker: PodWorker, pod: Object | None) -> None:
        if pod is None:
            worker.kill()
        elif pod["metadata"].get("deletionTimestamp"):
            worker.stop(pod["metadata"]["deletionGracePeriodSeconds"])
            if worker.is_over:
                delete(self.store, "pods", pod, grace=0)
        if time.monotonic() >= worker.kill_at:
            worker.kill()

    def worker(self, pod: Object) -> PodWorker:
        """Return what runs a pod. Raise Refusal where it has no node yet."""
        if (found := self.workers.get(pod["metadata"]["uid"])) is None:
            raise Refusal(400, f"pod {pod['metadata']['name']} does not have a host assigned")
        return found

    def log(self, pod: Object, container: str | None) -> ContainerLog:
        """Return a container's log. Raise Refusal as the API does while there is none."""
        name, names = pod["metadata"]["name"], [one["name"] for one in pod["spec"]["containers"]]
        if container is None:
            if len(names) > 1:
                raise Refusal(400, f"a container name must be specified for pod {name}, choose one of: [{' '.join(names)}]")
            container = names[0]
        elif container not in names:
            raise Refusal(400, f"container {container} is not valid for pod {name}")
        worker = self.worker(pod)
        if worker.is_silent:
            raise Refusal(
                500, f'Get "https://{pod["spec"]["nodeName"]}:10250/containerLogs/{name}/{container}": dial tcp: i/o timeout'
            )
        statuses = {one["name"]: one for one in pod["status"].get("containerStatuses", [])}
        waiting = statuses.get(container, {}).get("state", {}).get("waiting")
        if waiting is not None or container not in statuses:
            reason = (waiting or {}).get("reason", "ContainerCreating")
            raise Refusal(400, f'container "{container}" in pod "{name}" is waiting to start: {reason}')
        return worker.containers[container].log

    def close(self) -> None:
        """End every pod, also on lost nodes, and wait for it."""
        for worker in self.workers.values():
            while worker.is_alive():
                worker.kill()
                worker.join(0.05)
        self.workers.clear()
