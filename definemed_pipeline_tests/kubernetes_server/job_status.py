"""What a Job's status and its pods' say, as the Job controller reads them. No changes here."""

from collections.abc import Iterable, Mapping
from typing import Any

from definemed_pipeline_tests.kubernetes_server.store import Object

TRACKING = "batch.kubernetes.io/job-tracking"
INDEX = "batch.kubernetes.io/job-completion-index"


def finish_time(job: Object) -> str | None:
    """Return when a Job finished, either way, or None."""
    ended = [condition_of(job, kind) for kind in ("Complete", "Failed")]
    return next((one["lastTransitionTime"] for one in ended if one), None)


def condition_of(one: Mapping[str, Any], kind: str) -> Object | None:
    """Return an object's condition of a type where it is true."""
    conditions = one.get("status", {}).get("conditions", [])
    return next((found for found in conditions if found["type"] == kind and found["status"] == "True"), None)


def owner_of(one: Object) -> str | None:
    """Return the uid of the controller an object belongs to."""
    owners = one["metadata"].get("ownerReferences", [])
    return next((ref["uid"] for ref in owners if ref.get("controller")), None)


def is_tracked(pod: Object) -> bool:
    """Tell whether a pod's end is still to be counted."""
    return TRACKING in pod["metadata"].get("finalizers", [])


def is_over(pod: Object) -> bool:
    return pod["status"]["phase"] in ("Succeeded", "Failed")


def is_leaving(pod: Object) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def is_active(pod: Object) -> bool:
    return not is_over(pod) and not is_leaving(pod)


def is_terminating(pod: Object) -> bool:
    return not is_over(pod) and is_leaving(pod)


def is_ready(pod: Object) -> bool:
    return condition_of(pod, "Ready") is not None


def has_failed(pod: Object, job: Object) -> bool:
    """Tell whether a pod counts as failed: one that is only being deleted does not where failed pods alone are replaced."""
    if pod["status"]["phase"] == "Failed":
        return True
    return job["spec"]["podReplacementPolicy"] != "Failed" and is_terminating(pod)


def index_of(pod: Object) -> int:
    return int(pod["metadata"]["annotations"][INDEX])


def indexes_in(text: str) -> set[int]:
    """Read indexes as a Job's status has them: "0,2-4"."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def indexes_text(indexes: Iterable[int]) -> str:
    """Write indexes as a Job's status has them."""
    runs: list[list[int]] = []
    for index in sorted(indexes):
        if runs and runs[-1][1] == index - 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ",".join(str(first) if first == last else f"{first}{',' if last == first + 1 else '-'}{last}" for first, last in runs)


def failure_action(job: Object, pod: Object) -> tuple[str, str]:
    """Return what a Job's podFailurePolicy makes of a failed pod (Count where it says nothing), and for FailJob the message."""
    where = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
    for number, rule in enumerate(job["spec"].get("podFailurePolicy", {}).get("rules", [])):
        matching = f"matching {rule['action']} rule at index {number}"
        if "onExitCodes" in rule:
            if container := _ended_with(pod, rule["onExitCodes"]):
                code = container["state"]["terminated"]["exitCode"]
                return rule["action"], f"Container {container['name']} for pod {where} failed with exit code {code} {matching}"
        elif condition := _in_condition(pod, rule["onPodConditions"]):
            return rule["action"], f"Pod {where} has condition {condition} {matching}"
    return "Count", ""


def _ended_with(pod: Object, rule: Mapping[str, Any]) -> Object | None:
    for container in pod["status"].get("containerStatuses", []):
        code = container["state"].get("terminated", {}).get("exitCode", 0)
        is_meant = code != 0 and rule.get("containerName", container["name"]) == container["name"]
        if is_meant and (code in rule["values"]) is (rule["operator"] == "In"):
            found: Object = container
            return found
    return None


def _in_condition(pod: Object, patterns: list[Mapping[str, Any]]) -> str | None:
    asked = {(one["type"], one["status"]) for one in patterns}
    return next((one["type"] for one in pod["status"].get("conditions", []) if (one["type"], one["status"]) in asked), None)
