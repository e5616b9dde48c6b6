"""The Job controller: creates pods, counts how they end and says in the Job's status how it stands, as in Kubernetes 1.31.

Each pod carries a finalizer until its end is counted, so that none can vanish unseen. Here status and finalizers change in one
step, hence `uncountedTerminatedPods` stays empty. The delay before a pod is replaced is Kubernetes' (10 s, doubled at every
failure, at most 60 times as long), scaled down.
"""

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from definemed_pipeline_tests.kubernetes_server.admission import generated_name
from definemed_pipeline_tests.kubernetes_server.deletion import delete, without_finalizer
from definemed_pipeline_tests.kubernetes_server.job_status import (
    INDEX,
    TRACKING,
    condition_of,
    failure_action,
    finish_time,
    has_failed,
    index_of,
    indexes_in,
    indexes_text,
    is_active,
    is_ready,
    is_terminating,
    is_tracked,
    owner_of,
)
from definemed_pipeline_tests.kubernetes_server.recorder import Recorder
from definemed_pipeline_tests.kubernetes_server.store import Clock, Object, Store, seconds_of

SOURCE = "job-controller"
LONGEST_BACKOFF = 60


@dataclass
class Failures:
    """How many pods of a Job have failed since one succeeded, and when the last did (by a clock that is not the cluster's)."""

    count: int = 0
    last: float = -math.inf

    def seconds_left(self, base: float) -> float:
        if not self.count:
            return 0
        return self.last + base * min(2 ** (self.count - 1), LONGEST_BACKOFF) - time.monotonic()


@dataclass
class JobController:
    """Brings every Job nearer to what its spec asks for."""

    store: Store
    clock: Clock
    recorder: Recorder
    backoff_seconds: float
    objection: str | None = None  # why no pod may be created
    _failures: dict[str, Failures] = field(default_factory=dict)

    def reconcile(self) -> float:
        """Look at every Job; return in how many seconds to look again even if nothing changes."""
        pods: dict[str | None, list[Object]] = {}
        for pod in self.store.all("pods"):
            pods.setdefault(owner_of(pod), []).append(pod)
        jobs = self.store.all("jobs")
        self._release_orphans(pods, {job["metadata"]["uid"] for job in jobs})
        working = [job for job in jobs if finish_time(job) is None]
        return min((self._sync(job, pods.get(job["metadata"]["uid"], [])) for job in working), default=math.inf)

    def _release_orphans(self, pods: dict[str | None, list[Object]], jobs: set[str]) -> None:
        """Let go of pods whose Job is gone: nobody counts their end any more."""
        for owner in pods.keys() - jobs:
            for pod in filter(is_tracked, pods[owner]):
                self.store.update("pods", pod, without_finalizer(TRACKING))

    def _sync(self, job: Object, pods: list[Object]) -> float:
        status = copy.deepcopy(job["status"])
        if "startTime" not in status and not job["spec"]["suspend"]:
            status["startTime"] = self.clock.stamp()
        self._count(job, status, pods)
        due = math.inf
        if target := self._target(job, status, pods):
            self._delete(job, [pod for pod in pods if is_active(pod)])
        elif not job["metadata"].get("deletionTimestamp"):
            due = self._manage(job, status, pods)
            target = self._completed(job, status)
            if target is None:
                self._tell_suspension(job, status)
        self._let_go(job, status, pods, target)
        self._conclude(job, status, target)
        self.store.update("jobs", job, lambda after: after.update(status=status))
        return min(due, self._seconds_to_deadline(job, status))

    def _count(self, job: Object, status: Object, pods: list[Object]) -> None:
        """Add the pods that have ended since to the counts and to the record that delays the next pod."""
        record = self._failures.setdefault(job["metadata"]["uid"], Failures())
        for pod in filter(is_tracked, pods):
            if pod["status"]["phase"] == "Succeeded":
                record.count = 0
                if job["spec"]["completionMode"] == "Indexed":
                    done = indexes_in(status.get("completedIndexes", "")) | {index_of(pod)}
                    status.update(completedIndexes=indexes_text(done), succeeded=len(done))
                else:
                    status["succeeded"] = status.get("succeeded", 0) + 1
            elif has_failed(pod, job):
                record.count, record.last = record.count + 1, time.monotonic()
                if failure_action(job, pod)[0] != "Ignore":
                    status["failed"] = status.get("failed", 0) + 1

    def _target(self, job: Object, status: Object, pods: list[Object]) -> Object | None:
        """Return the condition that decides how the Job will end, or None while that is open."""
        for kind in ("SuccessCriteriaMet", "FailureTarget"):
            if decided := condition_of({"status": status}, kind):
                return decided
        for pod in pods:
            if has_failed(pod, job) and failure_action(job, pod)[0] == "FailJob":
                return self._condition("FailureTarget", "PodFailurePolicy", failure_action(job, pod)[1])
        if status.get("failed", 0) > job["spec"]["backoffLimit"]:
            return self._condition("FailureTarget", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
        if self._seconds_to_deadline(job, status) <= 0:
            return self._condition("FailureTarget", "DeadlineExceeded", "Job was active longer than specified deadline")
        return None

    def _completed(self, job: Object, status: Object) -> Object | None:
        """Return the condition of success where enough pods have succeeded and none is at work."""
        succeeded, completions = status.get("succeeded", 0), job["spec"].get("completions")
        if any(is_active(pod) for pod in self._pods(job)) or succeeded < (1 if completions is None else completions):
            return None
        return self._condition("SuccessCriteriaMet", "CompletionsReached", "Reached expected number of succeeded pods")

    def _manage(self, job: Object, status: Object, pods: list[Object]) -> float:
        """Delete or create pods until there are as many as wanted; return in how many seconds to go on where that must wait."""
        active = [pod for pod in pods if is_active(pod)]
        wanted = self._wanted(job, status, len(active))
        if len(active) > wanted:  # these are not counted as failed
            surplus = sorted(active, key=lambda pod: (is_ready(pod), pod["status"]["phase"] == "Running"))[: len(active) - wanted]
            for pod in surplus:
                self.store.update("pods", pod, without_finalizer(TRACKING))
            self._delete(job, surplus)
            return math.inf
        replaced = active
        if job["spec"]["podReplacementPolicy"] == "Failed":
            replaced = active + [pod for pod in pods if is_terminating(pod)]
        lacking = wanted - len(replaced)
        if lacking <= 0:
            return math.inf
        if (seconds := self._failures[job["metadata"]["uid"]].seconds_left(self.backoff_seconds)) > 0:
            return seconds
        if self.objection is not None:
            message = f'Error creating: pods "{job["metadata"]["name"]}-" is forbidden: {self.objection}'
            self.recorder.tell("jobs", job, "FailedCreate", message, source=SOURCE, kind="Warning")
            return self.backoff_seconds
        self._create(job, status, replaced, lacking)
        return math.inf

    @staticmethod
    def _wanted(job: Object, status: Object, active: int) -> int:
        spec, succeeded = job["spec"], status.get("succeeded", 0)
        if spec["suspend"]:
            return 0
        if "completions" not in spec:
            return active if succeeded else int(spec["parallelism"])
        return max(min(spec["completions"] - succeeded, spec["parallelism"]), 0)

    def _create(self, job: Object, status: Object, replaced: list[Object], count: int) -> None:
        indexes: Sequence[int | None] = [None] * count
        if job["spec"]["completionMode"] == "Indexed":
            taken = indexes_in(status.get("completedIndexes", "")) | {index_of(pod) for pod in replaced}
            indexes = [index for index in range(job["spec"]["completions"]) if index not in taken][:count]
        for index in indexes:
            pod = self.store.add("pods", pod_of(job, index))
            message = f"Created pod: {pod['metadata']['name']}"
            self.recorder.tell("jobs", job, "SuccessfulCreate", message, source=SOURCE)

    def _delete(self, job: Object, pods: list[Object]) -> None:
        for pod in pods:
            delete(self.store, "pods", pod)
            self.recorder.tell("jobs", job, "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}", source=SOURCE)

    def _let_go(self, job: Object, status: Object, pods: list[Object], target: Object | None) -> None:
        """Take the finalizer from counted pods, and from all once the Job ends; what a failing Job cuts short has failed."""
        for pod in filter(is_tracked, pods):
            is_counted = pod["status"]["phase"] == "Succeeded" or has_failed(pod, job)
            if not is_counted and target and target["type"] == "FailureTarget" and failure_action(job, pod)[0] != "Ignore":
                status["failed"] = status.get("failed", 0) + 1
            if is_counted or target or job["metadata"].get("deletionTimestamp"):
                self.store.update("pods", pod, without_finalizer(TRACKING))

    def _conclude(self, job: Object, status: Object, target: Object | None) -> None:
        """Write what the pods do now, and the Job's end once it is decided and no pod is at work any more."""
        pods = self._pods(job)
        active, terminating = [pod for pod in pods if is_active(pod)], [pod for pod in pods if is_terminating(pod)]
        status.update(
            active=len(active), ready=sum(map(is_ready, active)), terminating=len(terminating), uncountedTerminatedPods={}
        )
        if not status["active"]:
            del status["active"]
        if target is None:
            return
        conditions = status.setdefault("conditions", [])
        if target not in conditions:
            conditions.append(target)
        if terminating:
            return
        is_success = target["type"] == "SuccessCriteriaMet"
        ending = self._condition("Complete" if is_success else "Failed", target["reason"], target["message"])
        conditions.append(ending)
        self._failures.pop(job["metadata"]["uid"], None)
        if is_success:
            status["completionTime"] = ending["lastTransitionTime"]
            self.recorder.tell("jobs", job, "Completed", "Job completed", source=SOURCE)
        else:
            self.recorder.tell("jobs", job, target["reason"], target["message"], source=SOURCE, kind="Warning")

    def _tell_suspension(self, job: Object, status: Object) -> None:
        told = next((one for one in status.get("conditions", []) if one["type"] == "Suspended"), None)
        is_told = told is not None and told["status"] == "True"
        if job["spec"]["suspend"] is is_told:
            return
        word = "Suspended" if job["spec"]["suspend"] else "Resumed"
        condition = self._condition("Suspended", f"Job{word}", f"Job {word.lower()}")
        condition["status"] = str(job["spec"]["suspend"])
        status["conditions"] = [*(one for one in status.get("conditions", []) if one is not told), condition]
        self.recorder.tell("jobs", job, word, f"Job {word.lower()}", source=SOURCE)
        if word == "Resumed":  # the deadline is for the time it was at work
            status["startTime"] = self.clock.stamp()

    def _seconds_to_deadline(self, job: Object, status: Object) -> float:
        seconds = job["spec"].get("activeDeadlineSeconds")
        if seconds is None or job["spec"]["suspend"] or finish_time({"status": status}):
            return math.inf
        return float(seconds_of(status["startTime"]) + seconds - self.clock.now())

    def _pods(self, job: Object) -> list[Object]:
        return [pod for pod in self.store.all("pods", job["metadata"]["namespace"]) if owner_of(pod) == job["metadata"]["uid"]]

    def _condition(self, kind: str, reason: str, message: str) -> Object:
        now = self.clock.stamp()
        return {
            "type": kind,
            "status": "True",
            "reason": reason,
            "message": message,
            "lastProbeTime": now,
            "lastTransitionTime": now,
        }


def pod_of(job: Object, index: int | None) -> Object:
    """Return a new pod of a Job, for one of its indexes where it has such."""
    template, name = copy.deepcopy(job["spec"]["template"]), job["metadata"]["name"]
    metadata, spec = template["metadata"], template["spec"]
    prefix = f"{name}-"
    if index is not None:
        prefix = f"{name}-{index}-"
        metadata["labels"][INDEX] = str(index)
        metadata.setdefault("annotations", {})[INDEX] = str(index)
        spec["hostname"] = f"{name}-{index}"
        path = f"metadata.labels['{INDEX}']"
        variable = {"name": "JOB_COMPLETION_INDEX", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}
        for container in spec["containers"]:
            container["env"] = [*container.get("env", []), variable]
    owner = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": name,
        "uid": job["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    own = {
        "generateName": prefix,
        "name": generated_name(prefix),
        "namespace": job["metadata"]["namespace"],
        "ownerReferences": [owner],
        "finalizers": [TRACKING],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {**metadata, **own}, "spec": spec, "status": {"phase": "Pending"}}
