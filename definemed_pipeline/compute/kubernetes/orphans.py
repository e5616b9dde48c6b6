"""Jobs that nobody follows any more: their run was cancelled, or ended without them, and no retry took them over.

A run worker that is killed cannot delete its Job, and must not: the retry goes on with it. Hence a Job is an orphan only once its run is over for good.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import dagster as dg
from dagster import DagsterRun, DagsterRunStatus
from dagster._core.storage.dagster_run import FINISHED_STATUSES, RunRecord
from dagster._core.storage.tags import ROOT_RUN_ID_TAG

from definemed_pipeline.compute.kubernetes.cluster import Cluster
from definemed_pipeline.compute.kubernetes.objects import MANAGED, ROOT_RUN, RUN, Object
from definemed_pipeline.compute.kubernetes.state import Snapshot, describe

SECONDS_FOR_A_RETRY = 600


@dataclass(frozen=True, kw_only=True)
class Orphan:
    """A Job to be deleted, and why."""

    job: str
    reason: str


def find_orphans(instance: dg.DagsterInstance, cluster: Cluster, *, now: float) -> Iterator[Orphan]:
    """Yield the Jobs of this Dagster instance that are at work for nobody; `now` is in seconds since the epoch.

    A Job whose run the instance does not know belongs to another instance and is left alone.
    """
    for job in cluster.all_jobs(MANAGED):
        if describe(Snapshot(job=job)).is_over or job["metadata"].get("deletionTimestamp"):
            continue
        if (record := _record(instance, job)) and (reason := _why_orphaned(instance, job, record, now)):
            yield Orphan(job=job["metadata"]["name"], reason=reason)


def _record(instance: dg.DagsterInstance, job: Object) -> RunRecord | None:
    return instance.get_run_record_by_id(job["metadata"]["labels"].get(RUN, ""))


def _why_orphaned(instance: dg.DagsterInstance, job: Object, record: RunRecord, now: float) -> str | None:
    run = record.dagster_run
    if run.status not in FINISHED_STATUSES:
        return None
    if run.status == DagsterRunStatus.CANCELED:
        return f"its run {run.run_id} was cancelled"
    if now - (record.end_time or record.update_timestamp.timestamp()) < SECONDS_FOR_A_RETRY or _is_retried(instance, job):
        return None
    return f"its run {run.run_id} is over ({run.status.value}) and no retry took it over"


def _is_retried(instance: dg.DagsterInstance, job: Object) -> bool:
    """Tell whether a run of the same root is under way, which will find the Job."""
    root = job["metadata"]["labels"].get(ROOT_RUN, "")
    runs: list[DagsterRun] = list(instance.get_runs(dg.RunsFilter(tags={ROOT_RUN_ID_TAG: root})))
    return any(run.status not in FINISHED_STATUSES for run in runs)
