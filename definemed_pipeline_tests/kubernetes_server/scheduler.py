"""The scheduler: gives each pod a node of its own, unless it is told that none fits."""

import itertools
import math
from collections.abc import Mapping
from pathlib import Path

from definemed_pipeline_tests.kubernetes_server.conditions import set_condition
from definemed_pipeline_tests.kubernetes_server.recorder import Recorder
from definemed_pipeline_tests.kubernetes_server.store import Object, Store

SOURCE = "default-scheduler"


class Scheduler:
    """Binds pods to nodes. `shortage` is what no node has, or None."""

    def __init__(self, store: Store, recorder: Recorder, claims: Mapping[str, Path]) -> None:
        self.store, self.recorder, self.claims = store, recorder, claims
        self.shortage: str | None = None
        self._numbers = itertools.count(1)

    def reconcile(self) -> float:
        for pod in self.store.all("pods"):
            if pod["spec"].get("nodeName") or pod["metadata"].get("deletionTimestamp"):
                continue
            if lacking := self._lacking(pod):
                self._pass_over(pod, f"0/1 nodes are available: {lacking}")
            else:
                self._bind(pod, f"node-{next(self._numbers)}")
        return math.inf

    def _lacking(self, pod: Object) -> str | None:
        for volume in pod["spec"].get("volumes", []):
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim is not None and claim not in self.claims:
                return f'persistentvolumeclaim "{claim}" not found.'
        return self.shortage

    def _pass_over(self, pod: Object, message: str) -> None:
        stamp = self.store.clock.stamp()
        before = pod["metadata"]["resourceVersion"]
        told = self.store.update(
            "pods",
            pod,
            lambda after: set_condition(after, "PodScheduled", "False", stamp, reason="Unschedulable", message=message),
        )
        if told is not None and told["metadata"]["resourceVersion"] != before:
            self.recorder.tell("pods", pod, "FailedScheduling", message, source=SOURCE, kind="Warning")

    def _bind(self, pod: Object, node: str) -> None:
        def bind(after: Object) -> None:
            after["spec"]["nodeName"] = node
            set_condition(after, "PodScheduled", "True", self.store.clock.stamp())

        self.store.update("pods", pod, bind)
        where = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        self.recorder.tell("pods", pod, "Scheduled", f"Successfully assigned {where} to {node}", source=SOURCE)
