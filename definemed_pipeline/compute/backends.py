"""The one interface behind which payloads are launched, and the choice of what stands behind it."""

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import dagster as dg

from definemed_pipeline.compute.forking import forked_payloads
from definemed_pipeline.compute.local import LocalCompute
from definemed_pipeline.compute.settings import ComputeSettings
from definemed_pipeline.payload import Spec


class Compute(Protocol):
    """Run a payload to its end, forwarding its messages to the Dagster run."""

    def run(self, context: dg.AssetExecutionContext, module: str, spec: Spec) -> None:
        """Return once the artifact is published; raise dagster.Failure otherwise, retryable where a new try may succeed."""


def compute_for(settings: ComputeSettings) -> Compute:
    """Return the compute of a recipe. The client of Kubernetes is needed only by those who use it."""
    if settings.backend == "kubernetes":
        from definemed_pipeline.compute.kubernetes.client import KubernetesCompute

        return KubernetesCompute(settings=settings.kubernetes, threads=settings.threads)
    return LocalCompute(threads=settings.threads)


def payloads_for(settings: ComputeSettings) -> AbstractContextManager[None]:
    """Return what a command that executes runs keeps open meanwhile: for local compute, what makes the start of a payload cheap."""
    return forked_payloads(settings.threads) if settings.backend == "local" else nullcontext()
