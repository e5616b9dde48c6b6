"""Conditions in a pod's status."""

from definemed_pipeline_tests.kubernetes_server.store import Object


def set_condition(one: Object, kind: str, status: str, stamp: str, *, reason: str = "", message: str = "") -> None:
    """Say something in an object's conditions; the time is that of the last change of `status`."""
    conditions = one["status"].setdefault("conditions", [])
    told = next((found for found in conditions if found["type"] == kind), None)
    since = told["lastTransitionTime"] if told and told["status"] == status else stamp
    condition = {"type": kind, "status": status, "lastTransitionTime": since}
    condition.update({key: value for key, value in (("reason", reason), ("message", message)) if value})
    conditions[:] = [*(found for found in conditions if found is not told), condition]


def mark_disrupted(pod: Object, stamp: str, reason: str, message: str) -> None:
    """Say that a pod ends through nobody's fault."""
    set_condition(pod, "DisruptionTarget", "True", stamp, reason=reason, message=message)
