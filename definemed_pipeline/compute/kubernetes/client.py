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
from pathlib import Path
from typing import Any

import dagster as dg
from dagster import DagsterRunStatus
from dagster._core.storage.tags import ROOT_RUN_ID_TAG

from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.compute.environment import payload_environment
from definemed_pipeline.compute.kubernetes.channel import LakeContextInjector, LakeMessageReader
from definemed_pipeline.compute.kubernetes.claims import Claim, claim, settle
from definemed_pipeline.compute.kubernetes.cluster import Cluster, ConflictError, UnreachableError
from definemed_pipeline.compute.kubernetes.doorbell import Doorbell
from definemed_pipeline.compute.kubernetes.objects import CHANNEL, Object, Work, job_object, service_object
from definemed_pipeline.compute.kubernetes.pod_logs import PodLogs
from definemed_pipeline.compute.kubernetes.settings import KubernetesSettings, PodSettings
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
        try:
            with Cluster.connected(self.settings) as cluster:
                self._run(context, cluster, module, spec)
        except UnreachableError as error:
            raise dg.Failure(
                f"the cluster does not answer: {error}; a Job that was made goes on, and another try finds it"
            ) from error

    def _run(self, context: dg.AssetExecutionContext, cluster: Cluster, module: str, spec: Spec) -> None:
        work, store, pod = _work(context, module, spec), Store(spec.lake), self._pod(spec)
        channel = f"{work.job_name(1).rsplit('-', 1)[0]}/{secrets.token_hex(4)}"
        injector, reader = LakeContextInjector(store, channel), LakeMessageReader(store, channel)
        with dg.open_pipes_session(
            context=context, context_injector=injector, message_reader=reader, extras={"spec": _in_pod(spec, pod).to_json()}
        ) as session:
            environment = {**session.get_bootstrap_env_vars(), **payload_environment(self.threads)}

            def create(attempt: int) -> Object:
                owners = [cluster.owner] if cluster.owner else []
                job = job_object(work, attempt, pod, queue=self.settings.queue, environment=environment, owners=owners)
                return _create(cluster, injector, job)

            found = claim(cluster, work, create, tell=context.log.info)
            if (pod.nodes or 1) > 1:
                cluster.create_service(service_object(found.job))
            session.report_launched({"extras": {"channel": found.channel}})
            snapshot, tail = _followed(context, cluster, found)
        failure = _judged(snapshot, store, spec, session.get_custom_messages())
        with contextlib.suppress(UnreachableError):  # then the Job goes by its time to live
            settle(cluster, found.name, context.run_id)
        if failure is not None:
            metadata: dict[str, Any] = {
                "job": f"{self.settings.namespace}/{found.name}",
                "log": dg.MetadataValue.path(f"{store.url}/{PAYLOADS}/{found.channel}"),
                "tail": dg.MetadataValue.md(f"```\n{tail}\n```"),
                "exit_status": exit_status(snapshot),
            }
            raise dg.Failure(description=failure.text, metadata=metadata, allow_retries=failure.retry)

    def _pod(self, spec: Spec) -> PodSettings:
        try:
            return self.settings.pod(spec.identities[0].asset)
        except ValueError as error:
            raise UserError(str(error)) from error


def _in_pod(spec: Spec, pod: PodSettings) -> Spec:
    """Return the spec as the pod is to see it."""
    mounts = [volume.mount_path for volume in pod.volumes.values()]
    if "://" not in spec.lake and not any(Path(spec.lake).is_relative_to(mount) for mount in mounts):
        raise UserError(
            f"the lake {spec.lake} is a folder of this machine, which pods do not see; "
            "set DEFINEMED_LAKE to an object store (s3://…), or mount it by compute.kubernetes.defaults.volumes"
        )
    return dataclasses.replace(spec, scratch=pod.scratch or "")


def _create(cluster: Cluster, injector: LakeContextInjector, job: Object) -> Object:
    """Create a Job and what it reads first; raise ConflictError, and leave nothing, where somebody was faster."""
    job["metadata"]["annotations"][CHANNEL] = injector.channel
    injector.place()
    try:
        return cluster.create_job(job)
    except ConflictError:
        present = cluster.job(job["metadata"]["name"])
        if present is None or present["metadata"]["annotations"].get(CHANNEL) != injector.channel:
            injector.remove()
            raise
        return present  # ours: the answer to our request had been lost


def _followed(context: dg.AssetExecutionContext, cluster: Cluster, found: Claim) -> tuple[Snapshot, str]:
    """Follow a Job to its end; return how it stood then, and what its pods said last. Where the run is cancelled delete it."""
    progress = _Progress(context, found.name)
    progress.tell(f"{'found at work' if found.is_found else 'created'} (attempt {found.attempt})")
    try:
        with Doorbell(cluster, found.name) as bell, PodLogs(cluster) as logs:
            stuck_since = None
            while True:
                snapshot, state = _look(cluster, found.name)
                logs.follow(state.running)
                progress.tell(state.text)
                if state.is_over:
                    break
                stuck_since = (stuck_since or time.monotonic()) if state.stuck else None
                if stuck_since and (state.is_hopeless or time.monotonic() - stuck_since > SECONDS_UNTIL_STUCK_IS_FAILED):
                    cluster.delete_job(found.name)
                    raise dg.Failure(f"Job {found.name}: {state.stuck}", allow_retries=False)
                bell.wait()
        return snapshot, "\n".join(logs.tail)
    except dg.Failure:
        raise
    except BaseException:
        if _is_being_cancelled(context):
            _delete(cluster, found.name)
            context.log.info(f"Job {found.name} is deleted, since the run was cancelled")
        else:
            context.log.info(f"Job {found.name} goes on without this run; whoever is asked for the same work finds it")
        raise


class _Progress:
    """Tells what a Job is doing when that changes, and every ten minutes since when it has not."""

    def __init__(self, context: dg.AssetExecutionContext, job: str) -> None:
        self.context, self.job = context, job
        self.text, self.since, self.told = "", datetime.now(UTC), 0.0

    def tell(self, text: str) -> None:
        now = time.monotonic()
        if text != self.text:
            self.text, self.since, self.told = text, datetime.now(UTC), now
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


def _is_being_cancelled(context: dg.AssetExecutionContext) -> bool:
    run = context.instance.get_run_by_id(context.run_id)
    return run is not None and run.status in (DagsterRunStatus.CANCELING, DagsterRunStatus.CANCELED)


def _delete(cluster: Cluster, job: str) -> None:
    """Delete a Job and see it go, for as long as a cancelled run may still take."""
    deadline = time.monotonic() + SECONDS_FOR_DELETION
    cluster.delete_job(job)
    while cluster.job(job) is not None and time.monotonic() < deadline:
        time.sleep(0.2)
