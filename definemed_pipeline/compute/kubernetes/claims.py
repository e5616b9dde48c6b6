"""One Job per attempt, found again: whoever is asked for the same work attaches to the Job that is at it, or takes over what it left.

An attempt's Job is *settled* once its outcome was told to Dagster. Only a settled Job, or the failure of a run that has nothing to do with this one,
makes room for the next attempt. Two who come at the same moment agree by the Job's name, of which there can be only one.
"""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

from definemed_pipeline.compute.kubernetes.cluster import Cluster, ConflictError
from definemed_pipeline.compute.kubernetes.objects import CHANNEL, ROOT_RUN, RUN, SETTLED, Object, Work, as_label
from definemed_pipeline.compute.kubernetes.state import Snapshot, describe

SECONDS_BETWEEN_LOOKS = 0.5


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The Job of this work: made now, or found."""

    job: Object
    attempt: int
    is_found: bool

    @property
    def name(self) -> str:
        name: str = self.job["metadata"]["name"]
        return name

    @property
    def channel(self) -> str:
        """The folder of the lake in which its messages are."""
        channel: str = self.job["metadata"]["annotations"][CHANNEL]
        return channel


def claim(cluster: Cluster, work: Work, create: Callable[[int], Object], *, tell: Callable[[str], object]) -> Claim:
    """Attach to the Job of this work, or create that of the next attempt. `create` makes an attempt's Job or raises ConflictError."""
    for attempt in itertools.count(1):
        name = work.job_name(attempt)
        while (job := _present(cluster, name, tell)) is None:
            try:
                return Claim(job=create(attempt), attempt=attempt, is_found=False)
            except ConflictError:  # somebody was first
                continue
        if not _is_done_with(job, work):
            _take_over(cluster, work, job)
            return Claim(job=job, attempt=attempt, is_found=True)
    raise AssertionError


def settle(cluster: Cluster, job: str, run_id: str) -> None:
    """Note on a Job that its outcome was told."""
    cluster.annotate(job, annotations={SETTLED: run_id})


def _present(cluster: Cluster, name: str, tell: Callable[[str], object]) -> Object | None:
    """Return a Job that is there to stay; wait for the end of one that is being deleted."""
    is_told = False
    while (job := cluster.job(name)) is not None and job["metadata"].get("deletionTimestamp"):
        if not is_told:
            tell(f"Job {name}: waiting for it to be gone, since it is being deleted")
            is_told = True
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return job


def _is_done_with(job: Object, work: Work) -> bool:
    metadata = job["metadata"]
    if SETTLED in metadata.get("annotations", {}):
        return True
    state = describe(Snapshot(job=job))
    return state.failure is not None and metadata["labels"].get(ROOT_RUN) != as_label(work.root_run_id)


def _take_over(cluster: Cluster, work: Work, job: Object) -> None:
    """Let the Job know the run that follows it now, so that it is neither taken for an orphan nor deleted with its former run's worker."""
    owners = job["metadata"].get("ownerReferences", [])
    if cluster.owner and cluster.owner["uid"] not in (one["uid"] for one in owners):
        owners = [*owners, cluster.owner]
    labels = {RUN: as_label(work.run_id), ROOT_RUN: as_label(work.root_run_id)}
    cluster.annotate(job["metadata"]["name"], labels=labels, ownerReferences=owners)
