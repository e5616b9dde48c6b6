"""One pod on its node: from the image to the last container's end, told in the pod's status step by step."""

import threading
import time
from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from definemed_pipeline_tests.kubernetes_server.conditions import set_condition
from definemed_pipeline_tests.kubernetes_server.container import Container
from definemed_pipeline_tests.kubernetes_server.container_log import ContainerLog
from definemed_pipeline_tests.kubernetes_server.pod_spec import ConfigError, Told
from definemed_pipeline_tests.kubernetes_server.store import Object
from definemed_pipeline_tests.kubernetes_server.volumes import Volumes

if TYPE_CHECKING:
    from definemed_pipeline_tests.kubernetes_server.kubelet import Kubelet

SOURCE = "kubelet"
SECONDS_BETWEEN_LOOKS = 0.02
LONGEST_BACKOFF = 30
NEVER_STARTED = {
    "exitCode": 137,
    "reason": "ContainerStatusUnknown",
    "message": "The container could not be located when the pod was terminated",
}
State = dict[str, Any]


class PodWorker(threading.Thread):
    """Runs a pod's containers in a thread, on and on even where its node no longer speaks with the cluster (`is_silent`)."""

    def __init__(self, kubelet: "Kubelet", pod: Object) -> None:
        self.pod, self.kubelet = pod, kubelet
        uid, name = pod["metadata"]["uid"], pod["metadata"]["name"]
        super().__init__(name=f"pod {name}")
        self.volumes = Volumes(pod, kubelet.home, claims=kubelet.claims, secrets=kubelet.secrets)
        self.containers = {
            one["name"]: Container(f"{uid}/{one['name']}", ContainerLog(self._log_path(one["name"]), kubelet.clock))
            for one in pod["spec"]["containers"]
        }
        self.kill_at = inf
        self.is_over = self.is_silent = self.hides_containers = False
        self._stopping = threading.Event()
        self._states: dict[str, State] = {one: {"waiting": {"reason": "ContainerCreating"}} for one in self.containers}
        self._phase = "Pending"
        self._begun = kubelet.clock.stamp()

    def run(self) -> None:
        self.tell()
        try:
            if (told := self._made_ready()) is not None:
                self._run_containers(told)
        except BaseException as error:
            self.kubelet.fail(error)
            raise
        finally:
            self._end()

    def stop(self, grace: float) -> None:
        """Let the pod end by itself, and kill it after `grace` seconds."""
        self.kill_at = min(self.kill_at, time.monotonic() + grace)
        if not self._stopping.is_set():
            self._stopping.set()
            for name, container in self.containers.items():
                self._record("Killing", f"Stopping container {name}")
                container.terminate()

    def kill(self, *, out_of_memory: bool = False) -> None:
        """End all containers at once; without `out_of_memory` also one that has not started yet."""
        if not out_of_memory:
            self._stopping.set()
        for container in self.containers.values():
            container.kill(out_of_memory=out_of_memory)

    def tell(self) -> None:
        """Write how the pod stands into its status, if the node can."""
        if not self.is_silent:
            self.kubelet.store.update("pods", self.pod, self._write)

    def _made_ready(self) -> Mapping[str, Told] | None:
        """Wait until the containers can start; return what they are told, or None where the pod is to end first."""
        pause = self.kubelet.backoff_seconds
        while not self._stopping.is_set():
            reason, message, told = self._obstacle()
            if told is not None:
                return told
            self._wait_for(reason, message)
            if reason == "ErrImagePull":
                self._record("Failed", f"Failed to pull image: {message}", kind="Warning")
                self._stopping.wait(self.kubelet.backoff_seconds)
                self._wait_for("ImagePullBackOff", f"Back-off pulling image: {reason}: {message}")
                self._stopping.wait(pause)
                pause = min(2 * pause, LONGEST_BACKOFF * self.kubelet.backoff_seconds)
            else:
                self._stopping.wait(SECONDS_BETWEEN_LOOKS)
        return None

    def _obstacle(self) -> tuple[str, str, Mapping[str, Told] | None]:
        """Return why the containers cannot start, or what they are told when they can."""
        for container in self.pod["spec"]["containers"]:
            if objection := self.kubelet.registry.objection(container["image"]):
                return *objection, None
        try:
            self.volumes.mount()
            told = {one["name"]: self._told(one) for one in self.pod["spec"]["containers"]}
            for one in told.values():
                one.environment()
        except ConfigError as error:
            return "CreateContainerConfigError", str(error), None
        return "", "", told

    def _told(self, container: Object) -> Told:
        pod = {**self.pod, "status": {"podIP": "127.0.0.1"}}
        paths = self.volumes.replaced(container)
        return Told(pod, container, secrets=self.kubelet.secrets, paths=paths, addresses=self.kubelet.addresses)

    def _wait_for(self, reason: str, message: str) -> None:
        waiting = {"reason": reason, **({"message": message} if message else {})}
        self._states = {name: {"waiting": waiting} for name in self.containers}
        self.tell()

    def _run_containers(self, told: Mapping[str, Told]) -> None:
        self._phase = "Running"
        for name, container in self.containers.items():
            self._start(name, container, told[name])
        if self._stopping.is_set():  # asked while they were started
            for container in self.containers.values():
                container.terminate()
        self.tell()
        for name, container in self.containers.items():
            container.wait()
            ended = {"exitCode": container.exit_code, "reason": container.reason, "finishedAt": self.kubelet.clock.stamp()}
            begun = self._states[name].get("running") or self._states[name].get("terminated", {})
            self._states[name] = {"terminated": {**begun, **ended}}

    def _start(self, name: str, container: Container, told: Told) -> None:
        environment = told.environment()
        folder = Path(told.here(told.container["workingDir"])) if "workingDir" in told.container else self.volumes.working_folder
        now = self.kubelet.clock.stamp()
        try:
            container.start(told.command(environment), environment, folder)
        except OSError as error:
            self._record("Failed", f"Error: failed to create containerd task: {error}", kind="Warning")
            self._states[name] = {"terminated": {"startedAt": now, "message": str(error)}}
        else:
            self._record("Started", f"Started container {name}")
            self._states[name] = {"running": {"startedAt": now}}

    def _end(self) -> None:
        """Tell how the pod ended, once it has left nothing on the node."""
        for name, state in self._states.items():
            if "terminated" not in state:
                self._states[name] = {"terminated": NEVER_STARTED}
                self.containers[name].log.end()
        codes = [state["terminated"]["exitCode"] for state in self._states.values()]
        self._phase = "Failed" if any(codes) else "Succeeded"
        self.volumes.unmount()
        self.is_over = True
        self.tell()
        self.kubelet.store.ring()

    def _write(self, pod: Object) -> None:
        status, stamp = pod["status"], self.kubelet.clock.stamp()
        has_ended = self._phase in ("Succeeded", "Failed")
        status.update(
            phase=self._phase,
            startTime=self._begun,
            hostIP="127.0.0.1",
            podIP="127.0.0.1",
            podIPs=[{"ip": "127.0.0.1"}],
            qosClass="Burstable",
        )
        status["containerStatuses"] = [self._container_status(one) for one in pod["spec"]["containers"]]
        if self.hides_containers:
            del status["containerStatuses"]
        set_condition(pod, "Initialized", "True", stamp)
        is_ready = all("running" in state for state in self._states.values())
        reason = "" if is_ready else {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(self._phase, "ContainersNotReady")
        for kind in ("ContainersReady", "Ready"):
            set_condition(pod, kind, str(is_ready), stamp, reason=reason)
        set_condition(pod, "PodReadyToStartContainers", str(not has_ended), stamp)

    def _container_status(self, container: Object) -> Object:
        state = self._states[container["name"]]
        is_running = "running" in state
        return {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "ready": is_running,
            "started": is_running,
            "restartCount": 0,
            "state": state,
            "lastState": {},
        }

    def _record(self, reason: str, message: str, *, kind: str = "Normal") -> None:
        if not self.is_silent:
            self.kubelet.recorder.tell("pods", self.pod, reason, message, source=SOURCE, kind=kind)

    def _log_path(self, container: str) -> Path:
        metadata = self.pod["metadata"]
        return self.kubelet.home / "logs" / f"{metadata['namespace']}_{metadata['name']}" / f"{container}.log"
