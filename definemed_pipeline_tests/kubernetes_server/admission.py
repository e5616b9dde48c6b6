"""What the API server adds to an object before it is stored: defaults, a Job's own labels and selector, and Kueue's webhook."""

import random
import uuid
from typing import Any

from definemed_pipeline_tests.kubernetes_server.store import Object

QUEUE = "kueue.x-k8s.io/queue-name"
LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # of generated names: nothing that could become a word
LONGEST_GENERATED = 63
SERVERS_OWN = ("uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")


def admit(plural: str, made: Object) -> Object:
    """Return an object as the server will store it."""
    made = _without_nulls(made)
    metadata = made["metadata"]
    if "name" not in metadata and "generateName" in metadata:
        metadata["name"] = generated_name(metadata["generateName"])
    made["metadata"] = {key: value for key, value in metadata.items() if key not in SERVERS_OWN}
    if plural == "jobs":
        _default_job(made)
    elif plural == "pods":
        _default_pod(made["spec"])
        made["status"] = {"phase": "Pending"}
    return made


def generated_name(prefix: str) -> str:
    return prefix[: LONGEST_GENERATED - 5] + "".join(random.choices(LETTERS, k=5))


def _default_job(job: Object) -> None:
    spec, name = job["spec"], job["metadata"].get("name", "")
    policy = "Failed" if "podFailurePolicy" in spec else "TerminatingOrFailed"
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    defaults = {
        "parallelism": 1,
        "backoffLimit": 6,
        "suspend": False,
        "completionMode": "NonIndexed",
        "podReplacementPolicy": policy,
    }
    spec.update({key: value for key, value in defaults.items() if key not in spec})
    if QUEUE in job["metadata"].get("labels", {}):  # Kueue's webhook: nothing in a queue starts before it is admitted
        spec["suspend"] = True
    uid = str(uuid.uuid4())  # a Job's uid, which the labels of its pods need
    job["metadata"]["uid"] = uid
    ours = {
        "batch.kubernetes.io/controller-uid": uid,
        "batch.kubernetes.io/job-name": name,
        "controller-uid": uid,
        "job-name": name,
    }
    template = spec["template"]
    metadata = template.setdefault("metadata", {})
    metadata["labels"] = {**metadata.get("labels", {}), **ours}
    spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
    for rule in spec.get("podFailurePolicy", {}).get("rules", []):
        for pattern in rule.get("onPodConditions", []):
            pattern.setdefault("status", "True")
    _default_pod(template["spec"])
    job["status"] = {}


def _default_pod(spec: Object) -> None:
    defaults: dict[str, Any] = {
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "securityContext": {},
        "schedulerName": "default-scheduler",
    }
    spec.update({key: value for key, value in defaults.items() if key not in spec})
    for container in spec.get("containers", []):
        own = {
            "resources": {},
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
            "imagePullPolicy": "IfNotPresent" if ":" in container.get("image", "").rpartition("/")[2] else "Always",
        }
        container.update({key: value for key, value in own.items() if key not in container})


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(one) for key, one in value.items() if one is not None}
    return [_without_nulls(one) for one in value] if isinstance(value, list) else value
