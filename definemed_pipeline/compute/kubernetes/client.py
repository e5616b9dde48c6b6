"""Payloads as Kubernetes Jobs: claim the Job of the work, follow it to its end, tell Dagster, and leave nothing behind.

dagster-k8s' own Pipes client starts bare Pods, which nobody restarts, drops the messages of a run that then fails and forgets a pod that vanishes;
the supported way to anything else is `open_pipes_session` around one's own Job. What a payload built is told by the lake and never by a message: a Job
succeeded where its artifacts' manifests are there.
"""

import contextlib
import dataclasses
import secrets
import time
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster import DagsterRunStatus
from dagster._core.storage.tags import ROOT_RUN_ID_TAG

from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.compute.environment import thread_limits
from definemed_pipeline.compute.kubernetes.channel import LakeContextInjector, LakeMessageReader
from definemed_pipeline.compute.kubernetes.claims import Claim, claim, settle
from definemed_pipeline.compute.kubernetes.cluster import Cluster, ConflictError, UnreachableError
from definemed_pipeline.compute.kubernetes.doorbell import Doorbell
from definemed_pipeline.compute.kubernetes.objects import CHANNEL, Object, Work, job_object, service_object
from definemed_pipeline.compute.kubernetes.pod_logs import PodLogs
from definemed_pipeline.compute.kubernetes.settings import KubernetesSettings
from definemed_pipeline.compute.kubernetes.state import Failure, Snapshot, State, describe, exit_status, is_bad_input
from definemed_pipeline.errors import UserError
from definemed_pipeline.payload import Spec
from definemed_pipeline.pod import PAYLOADS

SECONDS_UNTIL_STUCK_IS_FAILED = 300  # a registry may be out of reach for a while, a Secret be made a little later
SECONDS_BETWEEN_REMINDERS = 600
SECONDS_FOR_DELETION = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class KubernetesCompute:
    """Run each payload as a Job of its own."""

    settings: KubernetesSettings
    threads: int

    def run(self, context: dg.AssetExecutionContext, module: str, spec: Spec) -> None:
        """Run a payload to its end. Raise dagster.Failure: final where a new try is of no use, retryable otherwise."""
        work = _work(context, module, spec)
        store = Store(spec.lake)
        channel = f"{work.job_name(1).rsplit('-', 1)[0]}/{secrets.token_hex(4)}"
        injector, reader = LakeContextInjector(store, channel), LakeMessageReader(store, channel)
        with Cluster.connected(self.settings) as cluster:
            with dg.open_pipes_session(
                context=context, context_injector=injector, message_reader=reader, extras={"spec": self._in_pod(spec).to_json()}
            ) as session:
                environment = {**session.get_bootstrap_env_vars(), **thread_limits(self.threads)}
                found = claim(
                    cluster,
                    work,
                    lambda attempt: self._create(cluster, injector, work, attempt, environment),
                    tell=context.log.info,
                )
                session.report_launched({"extras": {"channel": found.channel}})
                snapshot, tail = self._followed(context, cluster, found)
            failure = _judged(snapshot, store, spec, session.get_custom_messages())
            with contextlib.suppress(UnreachableError):  # then the Job goes by its time to live
                settle(cluster, found.job, context.run_id)
        if failure is not None:
            raise self._as_dagster_failure(failure, found, f"{store.url}/{PAYLOADS}/{found.channel}", exit_status(snapshot), tail)

    def _in_pod(self, spec: Spec) -> Spec:
        """Return the spec as the pod is to see it."""
        pod = self._pod(spec)
        if "://" not in spec.lake and not any(spec.lake.startswith(volume.mount_path) for volume in pod.volumes.values()):
            raise UserError(
                f"the lake {spec.lake} is a folder of this machine, which pods do not see; set DEFINEMED_LAKE to an object store (s3://…), or mount it by compute.kubernetes.defaults.volumes"
            )
        return dataclasses.replace(spec, scratch=pod.scratch or "")

    def _pod(self, spec: Spec) -> Any:
        try:
            return self.settings.pod(spec.identities[0].asset)
        except ValueError as error:
            raise UserError(str(error)) from error

    def _create(
        self, cluster: Cluster, injector: LakeContextInjector, work: Work, attempt: int, environment: dict[str, str]
    ) -> Object:
        """Create an attempt's Job, what it reads first; raise ConflictError, and leave nothing, where somebody was faster."""
        owners = [cluster.owner] if cluster.owner else []
        pod = self._pod(work.spec)
        job = job_object(work, attempt, pod, queue=self.settings.queue, environment=environment, owners=owners)
        job["metadata"]["annotations"][CHANNEL] = injector.channel
        injector.place()
        try:
            made = _insistently(lambda: cluster.create_job(job))
        except ConflictError:
            present = cluster.job(work.job_name(attempt))
            if present is None or present["metadata"]["annotations"].get(CHANNEL) != injector.channel:
                injector.remove()
                raise
            made = present  # ours: the answer to our request had been lost
        if (pod.nodes or 1) > 1:
            _insistently(lambda: cluster.create_service(service_object(made)))
        return made

    def _followed(self, context: dg.AssetExecutionContext, cluster: Cluster, found: Claim) -> tuple[Snapshot, str]:
        """Follow a Job to its end; return how it stood then, and what its pods said last. Where the run is cancelled delete it."""
        progress = _Progress(context, found.job)
        progress.tell(f"{'found at work' if found.is_found else 'created'} (attempt {found.attempt})")
        try:
            with Doorbell(cluster, found.job) as bell, PodLogs(cluster) as logs:
                while True:
                    snapshot, state = _look(cluster, found.job)
                    logs.follow(state.running)
                    progress.tell(state.text)
                    if state.is_over:
                        break
                    if state.stuck and (state.is_hopeless or progress.seconds > SECONDS_UNTIL_STUCK_IS_FAILED):
                        cluster.delete_job(found.job)
                        raise dg.Failure(f"Job {found.job}: {state.stuck}", allow_retries=False)
                    bell.wait()
            return snapshot, "\n".join(logs.tail)
        except BaseException:
            if _is_being_cancelled(context):
                _delete(cluster, found.job)
                context.log.info(f"Job {found.job} is deleted, since the run was cancelled")
            raise

    def _as_dagster_failure(self, failure: Failure, found: Claim, log: str, status: int | None, tail: str) -> dg.Failure:
        metadata: dict[str, Any] = {
            "job": f"{self.settings.namespace}/{found.job}",
            "log": dg.MetadataValue.path(log),
            "tail": dg.MetadataValue.md(f"```\n{tail}\n```"),
            **({} if status is None else {"exit_status": status}),
        }
        return dg.Failure(description=failure.text, metadata=metadata, allow_retries=failure.retry)


class _Progress:
    """Tells what a Job is doing when that changes, and every ten minutes since when it has not."""

    def __init__(self, context: dg.AssetExecutionContext, job: str) -> None:
        self.context, self.job = context, job
        self.text, self.since, self.begun, self.told = "", datetime.now(UTC), 0.0, 0.0

    @property
    def seconds(self) -> float:
        """How long the text has been the same, by this machine's own clock."""
        return time.monotonic() - self.begun

    def tell(self, text: str) -> None:
        now = time.monotonic()
        if text != self.text:
            self.text, self.since, self.begun, self.told = text, datetime.now(UTC), now, now
            self.context.log.info(f"Job {self.job}: {text}")
        elif now - self.told > SECONDS_BETWEEN_REMINDERS:
            self.told = now
            self.context.log.info(f"Job {self.job}: {text}, since {self.since:%Y-%m-%d %H:%M} UTC")


def _work(context: dg.AssetExecutionContext, module: str, spec: Spec) -> Work:
    return Work(
        module=module, spec=spec, run_id=context.run_id, root_run_id=context.run.tags.get(ROOT_RUN_ID_TAG, context.run_id)
    )


def _look(cluster: Cluster, job: str) -> tuple[Snapshot, State]:
    """Return how a Job stands; where the server does not answer, that. The Job goes on meanwhile."""
    try:
        snapshot = cluster.snapshot(job)
    except UnreachableError as error:
        return Snapshot(job=None), State(text=f"the cluster does not answer ({error}); the Job goes on, and is asked for again")
    return snapshot, describe(snapshot)


def _judged(snapshot: Snapshot, store: Store, spec: Spec, messages: Any) -> Failure | None:
    """Say why the work failed, or None: what counts is whether its artifacts are there."""
    lacking = [one for one in spec.identities if store.manifest(one.asset, one.partition, one.version) is None]
    failure = describe(snapshot).failure
    told = [message["error"] for message in messages if isinstance(message, dict) and "error" in message]
    if failure is None and lacking:
        where = f"{lacking[0].asset}[{lacking[0].partition}] version {lacking[0].version}"
        return Failure(
            text=f"the Job succeeded, but {where} is not in the lake {store.url}: do pods and launcher see the same lake?"
        )
    if failure is None or (snapshot.job is None and not lacking and not spec.force):
        return None
    if told and is_bad_input(snapshot):
        return Failure(text=told[-1])
    return Failure(text=f"{failure.text}: {told[-1]}" if told else failure.text, retry=failure.retry)


def _insistently(request: Any) -> Any:
    """Send a request until it is answered."""
    while True:
        try:
            return request()
        except UnreachableError:
            time.sleep(1)


def _is_being_cancelled(context: dg.AssetExecutionContext) -> bool:
    run = context.instance.get_run_by_id(context.run_id)
    return run is not None and run.status in (DagsterRunStatus.CANCELING, DagsterRunStatus.CANCELED)


def _delete(cluster: Cluster, job: str) -> None:
    """Delete a Job and see it go, for as long as a cancelled run may still take."""
    deadline = time.monotonic() + SECONDS_FOR_DELETION
    cluster.delete_job(job)
    while cluster.job(job) is not None and time.monotonic() < deadline:
        time.sleep(0.2)
