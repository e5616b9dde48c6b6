"""The Kubernetes objects of a payload, as plain dictionaries in the API's own spelling: one Job, and a headless Service where several nodes train together."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from definemed_pipeline.compute.kubernetes.settings import PodSettings
from definemed_pipeline.payload import BAD_INPUT, Spec
from definemed_pipeline.pod import MEETING_POINT, NODE, NODES, POD

CONTAINER = "payload"
SCRATCH = "scratch"
PREFIX = "definemed.io"
SETTLED, CHANNEL, RUN, ROOT_RUN = (f"{PREFIX}/{name}" for name in ("settled", "channel", "run-id", "root-run-id"))
QUEUE = "kueue.x-k8s.io/queue-name"
MANAGED = "app.kubernetes.io/managed-by=definemed"
MEETING_PORT = 29400
LONGEST_NAME = 52  # leaves room for what Kubernetes adds to name pods
Object = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Work:
    """A payload's work as Kubernetes is to know it again: the same for everyone who is asked to build the same artifacts.

    A forced build is the work of one run and its retries, hence `root_run_id` counts where it is forced.
    """

    module: str
    spec: Spec
    run_id: str
    root_run_id: str

    @property
    def asset(self) -> str:
        return self.spec.identities[0].asset

    @property
    def digest(self) -> str:
        artifacts = [(one.asset, one.partition, one.version) for one in self.spec.identities]
        told = [self.spec.lake, artifacts, self.root_run_id if self.spec.force else None]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:10]

    def job_name(self, attempt: int) -> str:
        """Return the name of an attempt's Job, the same for all who ask."""
        ending = f"-{self.digest}-{attempt}"
        return f"definemed-{self.asset.replace('_', '-')}"[: LONGEST_NAME - len(ending)].rstrip("-") + ending

    @property
    def labels(self) -> dict[str, str]:
        """Return what people and the reconciliation select by; a value that is no label is shortened (the whole is in the annotations)."""
        first = self.spec.identities[0]
        return {
            "app.kubernetes.io/part-of": "definemed",
            **dict([MANAGED.split("=")]),
            f"{PREFIX}/asset": as_label(first.asset),
            f"{PREFIX}/partition": as_label(first.partition),
            f"{PREFIX}/version": as_label(first.version),
            RUN: as_label(self.run_id),
            ROOT_RUN: as_label(self.root_run_id),
        }

    @property
    def annotations(self) -> dict[str, str]:
        partitions = [one.partition for one in self.spec.identities]
        shown = partitions if len(partitions) <= 10 else [*partitions[:10], f"and {len(partitions) - 10} more"]
        return {f"{PREFIX}/lake": self.spec.lake, f"{PREFIX}/partitions": ", ".join(shown), f"{PREFIX}/recipe": self.spec.recipe}


def as_label(value: str) -> str:
    """Return a value as Kubernetes allows it in labels: 63 characters, letters and digits at both ends."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", value)[:63].strip("-_.") or "none"


def job_object(
    work: Work,
    attempt: int,
    pod: PodSettings,
    *,
    queue: str | None,
    environment: Mapping[str, str],
    owners: list[Object],
) -> Object:
    """Return the Job of an attempt. `environment` is what the launcher itself tells the payload."""
    name, nodes = work.job_name(attempt), pod.nodes or 1
    labels = {**work.labels, **({QUEUE: queue} if queue else {})}
    metadata: Object = {"name": name, "labels": labels, "annotations": work.annotations}
    if owners:
        metadata["ownerReferences"] = owners
    spec: Object = {
        "backoffLimit": pod.backoff_limit,
        "podReplacementPolicy": "Failed",  # never two pods on one artifact
        "podFailurePolicy": {"rules": FAILURE_RULES},
        "ttlSecondsAfterFinished": pod.ttl_seconds_after_finished,
        "suspend": queue is not None,  # Kueue lets it start
        "completions": nodes,
        "parallelism": nodes,
        "completionMode": "Indexed" if nodes > 1 else "NonIndexed",
        "template": {
            "metadata": {"labels": work.labels, "annotations": work.annotations},
            "spec": overlaid(_pod_spec(work, name, pod, environment), pod.pod_overlay),
        },
    }
    if pod.active_deadline_seconds is not None:
        spec["activeDeadlineSeconds"] = pod.active_deadline_seconds
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def service_object(job: Mapping[str, Any]) -> Object:
    """Return the headless Service by which the nodes of a Job find each other; it goes with the Job."""
    metadata = job["metadata"]
    owner = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": metadata["name"],
        "uid": metadata["uid"],
        "blockOwnerDeletion": True,
    }
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": metadata["name"], "labels": metadata["labels"], "ownerReferences": [owner]},
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {"batch.kubernetes.io/job-name": metadata["name"]},
            "ports": [{"name": "rendezvous", "port": MEETING_PORT}],
        },
    }


# Disruptions are nobody's fault and do not count; a wrong spec or input fails at once; anything else counts against backoffLimit.
FAILURE_RULES: list[Object] = [
    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    {"action": "FailJob", "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": [BAD_INPUT]}},
]


def _pod_spec(work: Work, name: str, pod: PodSettings, environment: Mapping[str, str]) -> Object:
    nodes = pod.nodes or 1
    resources = {
        key: value
        for key, value in (("cpu", pod.cpu), ("memory", pod.memory), ("ephemeral-storage", pod.ephemeral_storage))
        if value is not None
    }
    limits = {key: value for key, value in resources.items() if key != "cpu"}  # a limit of cores would only slow it down
    if pod.gpus:
        limits[pod.gpu_resource or ""] = str(pod.gpus)
    mounts = [
        {"name": volume, "mountPath": one.mount_path, "readOnly": one.read_only} for volume, one in sorted(pod.volumes.items())
    ]
    volumes = [{"name": volume, **one.source} for volume, one in sorted(pod.volumes.items())]
    if pod.scratch not in (mount["mountPath"] for mount in mounts):
        mounts.append({"name": SCRATCH, "mountPath": pod.scratch})
        volumes.append({"name": SCRATCH, "emptyDir": {}})
    told = {**environment, **pod.environment}
    container: Object = {
        "name": CONTAINER,
        "image": pod.image,
        "imagePullPolicy": pod.image_pull_policy,
        "command": ["python", "-m", "definemed_pipeline.pod", work.module],
        "env": [
            {"name": POD, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            *({"name": key, "value": value} for key, value in sorted(told.items())),
            *(_meeting(name, nodes) if nodes > 1 else ()),
        ],
        "envFrom": [{"secretRef": {"name": secret}} for secret in pod.secrets],
        "resources": {"requests": {**resources, **limits}, "limits": limits},
        "volumeMounts": mounts,
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec: Object = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": pod.grace_seconds,
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": volumes,
        "nodeSelector": pod.node_selector,
        "tolerations": pod.tolerations,
    }
    if pod.service_account is not None:
        spec["serviceAccountName"] = pod.service_account
    if pod.priority_class is not None:
        spec["priorityClassName"] = pod.priority_class
    if nodes > 1:
        spec["subdomain"] = name
    return spec


def _meeting(name: str, nodes: int) -> list[Object]:
    """Return what tells each of several nodes which one it is and where they meet."""
    index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    return [
        {"name": NODES, "value": str(nodes)},
        {"name": NODE, "valueFrom": {"fieldRef": {"fieldPath": index}}},
        {"name": MEETING_POINT, "value": f"{name}-0.{name}:{MEETING_PORT}"},
    ]


def overlaid(below: Any, overlay: Any) -> Any:
    """Lay one object over another as a strategic merge does: mappings key by key, lists of named things by name, the rest replaced."""
    if isinstance(below, Mapping) and isinstance(overlay, Mapping):
        return {**below, **{key: overlaid(below[key], value) if key in below else value for key, value in overlay.items()}}
    if _named(below) and _named(overlay):
        over = {one["name"]: one for one in overlay}
        kept = [overlaid(one, over.pop(one["name"])) if one["name"] in over else one for one in below]
        return [*kept, *over.values()]
    return overlay


def _named(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, Mapping) and "name" in one for one in value)
