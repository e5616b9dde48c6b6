"""What a Job is doing, read from the Job, its pods and their events: in words for people, and as an outcome for the client. No requests here."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from definemed_pipeline.compute.kubernetes.objects import CONTAINER, Object
from definemed_pipeline.payload import BAD_INPUT

# A container that waits for one of these needs somebody's help; Kubernetes itself would try for ever.
STUCK = {
    "ErrImagePull": "check compute.kubernetes' image, and that the cluster may pull it",
    "ImagePullBackOff": "check compute.kubernetes' image, and that the cluster may pull it",
    "ErrImageNeverPull": "load the image onto the nodes, or set image_pull_policy",
    "InvalidImageName": "correct compute.kubernetes' image",
    "CreateContainerConfigError": "check that the Secrets named in `secrets` exist in the namespace",
    "CreateContainerError": "check the volumes and the command",
    "RunContainerError": "check the image: its command `python` must exist",
}
HOPELESS = {"InvalidImageName"}


@dataclass(frozen=True)
class Snapshot:
    """A Job, its pods and their events at one moment. `job` is None where it is gone."""

    job: Object | None
    pods: Sequence[Object] = ()
    events: Sequence[Object] = ()


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a Job failed, with the cure, and whether it is of any use to try once more."""

    text: str
    retry: bool = False


@dataclass(frozen=True, kw_only=True)
class State:
    """What people are told (`text`, again when it changes), and whether the Job is over.

    `stuck` is why it cannot start unless somebody helps, `is_hopeless` that waiting is of no use.
    """

    text: str
    is_over: bool = False
    failure: Failure | None = None
    stuck: str | None = None
    is_hopeless: bool = False
    running: tuple[str, ...] = field(default=())  # pods whose logs can be read


def describe(snapshot: Snapshot) -> State:
    """Read a snapshot."""
    job = snapshot.job
    if job is None:
        return _over(Failure(text="its Job was deleted while it was at work; whoever deleted it may know why", retry=True))
    conditions = {one["type"]: one for one in job.get("status", {}).get("conditions", []) if one["status"] == "True"}
    if "Complete" in conditions:
        return State(text="succeeded", is_over=True)
    if "Failed" in conditions:
        return _over(_failure(job, conditions["Failed"], snapshot.pods))
    if job["metadata"].get("deletionTimestamp"):
        return State(text="being deleted")
    if job["spec"].get("suspend"):
        return State(text=_queued(job, snapshot.events))
    return _working(job, snapshot)


def _over(failure: Failure) -> State:
    return State(text=failure.text, is_over=True, failure=failure)


def _queued(job: Mapping[str, Any], events: Sequence[Object]) -> str:
    queue = next((value for key, value in job["metadata"]["labels"].items() if key.endswith("queue-name")), None)
    said = _last_message(events, job["metadata"]["name"])
    where = f"queued in {queue}, position unknown" if queue else "suspended"
    return where + (f" ({said})" if said else "")


def _working(job: Mapping[str, Any], snapshot: Snapshot) -> State:
    living = [pod for pod in snapshot.pods if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")]
    running = tuple(
        pod["metadata"]["name"] for pod in snapshot.pods if _container(pod).get("state", {}).keys() & {"running", "terminated"}
    )
    retried = _retries(job, snapshot.pods)
    if not living:
        said = _last_message(snapshot.events, job["metadata"]["name"])
        return State(text=f"waiting for Kubernetes to start a pod{f' ({said})' if said else ''}{retried}", running=running)
    texts, stuck, hopeless = [], None, False
    for pod in living:
        text, cure = _pod_text(pod, snapshot.events)
        texts.append(text)
        if cure:
            stuck, hopeless = f"{text}; {cure}", hopeless or _waiting(pod).get("reason") in HOPELESS
    return State(text="; ".join(dict.fromkeys(texts)) + retried, stuck=stuck, is_hopeless=hopeless, running=running)


def _pod_text(pod: Mapping[str, Any], events: Sequence[Object]) -> tuple[str, str | None]:
    """Say what a pod that has not ended is doing, and the cure where it is stuck."""
    name, node = pod["metadata"]["name"], pod["spec"].get("nodeName", "its node")
    if pod["metadata"].get("deletionTimestamp"):
        if _disruption(pod) == "DeletionByTaintManager":
            return f"{name} waits for {node}, which does not answer: delete the node, or the pod by force", None
        return f"{name} is being ended on {node}", None
    if reason := _waiting(pod).get("reason"):
        said = _waiting(pod).get("message", "")
        in_words = f"cannot start: {reason}{f' ({said})' if said else ''}" if reason in STUCK else f"is starting ({reason})"
        return f"{name} {in_words}", STUCK.get(reason)
    if "running" in _container(pod).get("state", {}):
        return f"{name} is running on {node}", None
    return f"{name} {_why_pending(pod, events)}", None


def _why_pending(pod: Mapping[str, Any], events: Sequence[Object]) -> str:
    conditions = pod.get("status", {}).get("conditions", [])
    unscheduled = next((one for one in conditions if one["type"] == "PodScheduled" and one["status"] == "False"), None)
    if unscheduled:
        return f"cannot be scheduled: {unscheduled.get('message') or unscheduled.get('reason')}"
    said = _last_message(events, pod["metadata"]["name"])
    return f"is pending{f' ({said})' if said else ''}"


def _retries(job: Mapping[str, Any], pods: Sequence[Object]) -> str:
    """Say which pods ended badly before, and how many such ends are allowed."""
    last = _last_failed(pods)
    if last is None:
        return ""
    counted = job.get("status", {}).get("failed", 0)
    return f", after {last['metadata']['name']} {_end(last)} ({counted} of {job['spec'].get('backoffLimit', 6)} retries)"


def _failure(job: Mapping[str, Any], condition: Mapping[str, Any], pods: Sequence[Object]) -> Failure:
    """Say why a Job failed: by its last pod where that tells, else by the Job's own condition."""
    last = _last_failed(pods)
    reason, message = condition.get("reason", "Failed"), condition.get("message", "")
    if reason == "DeadlineExceeded":
        limit = job["spec"].get("activeDeadlineSeconds")
        return Failure(
            text=f"it ran longer than active_deadline_seconds ({limit}); raise it: the next try goes on from the checkpoints"
        )
    if last is None:
        return Failure(text=f"the Job failed: {reason}: {message}; its pods are gone", retry=True)
    if _out_of_memory(last):
        limit = _memory_limit(last)
        return Failure(text=f"{last['metadata']['name']} ran out of memory (limit {limit}); raise compute.kubernetes' memory")
    tries = (
        ""
        if reason == "PodFailurePolicy"
        else f", and so did {job['spec'].get('backoffLimit')} retries" * (len(_failed(pods)) > 1)
    )
    return Failure(text=f"{last['metadata']['name']} {_end(last)}{tries}")


def _end(pod: Mapping[str, Any]) -> str:
    """Say how a failed pod ended."""
    if reason := _disruption(pod):
        return f"was disrupted ({reason})"
    ended = _container(pod).get("state", {}).get("terminated")
    if ended is None:
        reason, message = (pod.get("status", {}).get(key) for key in ("reason", "message"))
        return f"ended without a word ({': '.join(filter(None, (reason, message))) or 'no container status'})"
    if _out_of_memory(pod):
        return f"ran out of memory (limit {_memory_limit(pod)})"
    return f"ended with status {ended['exitCode']}"


def exit_status(snapshot: Snapshot) -> int | None:
    """Return the exit status of the pod that failed last, where it is known."""
    status: int | None = _container(_last_failed(snapshot.pods) or {}).get("state", {}).get("terminated", {}).get("exitCode")
    return status


def is_bad_input(snapshot: Snapshot) -> bool:
    """Tell whether the payload refused its spec or an input."""
    return exit_status(snapshot) == BAD_INPUT


def _failed(pods: Sequence[Object]) -> list[Object]:
    return [pod for pod in pods if pod.get("status", {}).get("phase") == "Failed"]


def _last_failed(pods: Sequence[Object]) -> Object | None:
    return max(_failed(pods), key=lambda pod: pod["metadata"]["creationTimestamp"], default=None)


def _container(pod: Mapping[str, Any]) -> Object:
    found: list[Object] = pod.get("status", {}).get("containerStatuses", [])
    return next((one for one in found if one["name"] == CONTAINER), {})


def _waiting(pod: Mapping[str, Any]) -> Object:
    waiting: Object = _container(pod).get("state", {}).get("waiting", {})
    return waiting


def _disruption(pod: Mapping[str, Any]) -> str | None:
    conditions = pod.get("status", {}).get("conditions", [])
    return next((one.get("reason") for one in conditions if one["type"] == "DisruptionTarget" and one["status"] == "True"), None)


def _out_of_memory(pod: Mapping[str, Any]) -> bool:
    return _container(pod).get("state", {}).get("terminated", {}).get("reason") == "OOMKilled"


def _memory_limit(pod: Mapping[str, Any]) -> str:
    container: Object = next((one for one in pod["spec"]["containers"] if one["name"] == CONTAINER), {})
    limit: str = container.get("resources", {}).get("limits", {}).get("memory", "none set")
    return limit


def _last_message(events: Sequence[Object], name: str) -> str:
    """Return the latest event's message about an object, on one line."""
    told = [event for event in events if event.get("involvedObject", {}).get("name") == name]
    last = max(told, key=lambda event: event.get("lastTimestamp") or event["metadata"]["creationTimestamp"], default=None)
    return re.sub(r"\s+", " ", last.get("message", "")).strip() if last else ""
