"""Sensors: find the source's files, and bring new and changed ones into the corpus."""

import dataclasses
import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg

from definemed_pipeline.artifacts.manifest import Input, Manifest
from definemed_pipeline.corpus.sources.listing import changed_shards, files_of
from definemed_pipeline.defs.jobs import assemble_corpus_job, refresh_shards
from definemed_pipeline.defs.partitions import fineweb2_shard, neighbours, range_tags
from definemed_pipeline.defs.resources import Lake, final_failures
from definemed_pipeline.recipe import active_recipe

# What a new shard goes through, each made from the one before and, for the scores, from a classifier that a refresh never retrains.
PER_SHARD = ("fineweb2_shards", "classifier_scores", "medical_documents", "benchmark_leaks")
CORPUS = "finemed_de"


@dg.sensor(
    name="fineweb2_shard_discovery",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Registers each file of the recipe's source as a partition. Starts no run.",
)
def fineweb2_shard_discovery(context: dg.SensorEvaluationContext, lake: Lake) -> dg.SensorResult | dg.SkipReason:
    """Register files that are not partitions yet; say so when there are none."""
    known = set(context.instance.get_dynamic_partitions(fineweb2_shard.name or ""))
    new = [partition for partition in lake.shards(watching=True) if partition not in known]
    if not new:
        return dg.SkipReason(f"all {len(known)} files of the source are registered")
    return dg.SensorResult(dynamic_partitions_requests=[fineweb2_shard.build_add_request(new)])


@dataclass(frozen=True, kw_only=True)
class Refresh:
    """The sensor's cursor: how far the corpus has followed a listing."""

    listing: str  # its version
    requested: tuple[
        str, ...
    ] = ()  # shards, at last the corpus, for which a run was requested: once a listing, whatever becomes of it
    done: bool = False

    @classmethod
    def of(cls, listing: Manifest, cursor: str | None) -> "Refresh":
        """Return where the cursor left off, or the beginning where the listing is a new one."""
        left = json.loads(cursor) if cursor else {}
        if left.get("listing") != listing.version:
            return cls(listing=listing.version)
        return cls(**{**left, "requested": tuple(left["requested"])})

    def after(self, requested: Sequence[str]) -> "Refresh":
        """Return the state once runs for these were requested."""
        return dataclasses.replace(self, requested=(*self.requested, *requested))

    def to_cursor(self) -> str:
        return json.dumps(dataclasses.asdict(self))


@dg.sensor(
    name="corpus_refresh",
    jobs=[refresh_shards, assemble_corpus_job],
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Follows the latest listing of the source: requests runs for new and changed files only, then builds FineMed-de once. "
    "Never starts a model.",
)
def corpus_refresh(context: dg.SensorEvaluationContext, lake: Lake) -> dg.SensorResult | dg.SkipReason:
    """Request what the latest listing asks for that was not requested yet; say so when there is nothing."""
    listing = lake.latest("source_files")
    if listing is None:
        return dg.SkipReason("the source was never listed: materialize source_files")
    refresh = Refresh.of(listing, context.cursor)
    if refresh.done:
        return dg.SkipReason(_no_news(listing))
    if missing := [asset for asset in ("medical_classifier", "cascade_certificate") if lake.latest(asset) is None]:
        return dg.SkipReason(f"{missing[0]} is not in the lake: run the job corpus once; a refresh goes on from there")
    due = shards_due(lake, listing)
    if wanted := [shard for shard in due if shard not in refresh.requested]:
        return _request_shards(context, refresh, wanted)
    if due:
        return dg.SkipReason(f"{len(due)} shards are under way, or their runs failed (see Runs): {', '.join(due[:5])}")
    return _request_corpus(lake, listing, refresh)


def shards_due(lake: Lake, listing: Manifest) -> list[str]:
    """Return the listed shards that are new, changed, or not followed through to their medical documents."""
    with final_failures():
        new, changed = changed_shards(lake.store, active_recipe().name, listing)
    touched = {*new, *changed}
    return [shard for shard in files_of(lake.store, listing) if shard in touched or not _is_followed_through(lake, shard)]


def _is_followed_through(lake: Lake, shard: str) -> bool:
    found = [lake.latest(asset, shard) for asset in PER_SHARD]
    if any(manifest is None for manifest in found):
        return False
    made = [manifest for manifest in found if manifest is not None]
    return all(_bytes(parent.as_input()) in map(_bytes, child.identity.inputs) for parent, child in itertools.pairwise(made))


def _bytes(one: Input) -> tuple[str, str, str]:
    """Return an input without its version: a parent that was built anew to the same bytes leaves its children as they are."""
    return one.asset, one.partition, one.digest


def _request_shards(context: dg.SensorEvaluationContext, refresh: Refresh, wanted: list[str]) -> dg.SensorResult:
    registered = list(context.instance.get_dynamic_partitions(fineweb2_shard.name or ""))
    unregistered = [shard for shard in wanted if shard not in set(registered)]
    runs = neighbours(wanted, [*registered, *unregistered], active_recipe().compute.shards_per_run)
    return dg.SensorResult(
        dynamic_partitions_requests=[fineweb2_shard.build_add_request(unregistered)] if unregistered else [],
        run_requests=[
            dg.RunRequest(run_key=f"{refresh.listing}-{run[0]}", job_name=refresh_shards.name, tags=range_tags(run))
            for run in runs
        ],
        cursor=refresh.after(wanted).to_cursor(),
    )


def _request_corpus(lake: Lake, listing: Manifest, refresh: Refresh) -> dg.SensorResult | dg.SkipReason:
    """Request FineMed-de, once, unless it is made from exactly these shards already."""
    last = PER_SHARD[-1]  # which follows from all before it
    shards = {_bytes(lake.artifact(last, shard).as_input()) for shard in files_of(lake.store, listing)}
    corpus = lake.latest(CORPUS)
    if corpus and shards == {_bytes(one) for one in corpus.identity.inputs if one.asset == last}:
        followed = dataclasses.replace(refresh, done=True)
        return dg.SensorResult(skip_reason=_no_news(listing), cursor=followed.to_cursor())
    if CORPUS in refresh.requested:
        return dg.SkipReason("FineMed-de is under way, or its run failed (see Runs)")
    return dg.SensorResult(
        run_requests=[dg.RunRequest(run_key=f"{refresh.listing}-{CORPUS}", job_name=assemble_corpus_job.name)],
        cursor=refresh.after((CORPUS,)).to_cursor(),
    )


def _no_news(listing: Manifest) -> str:
    return f"no news: FineMed-de is built from all {listing.metrics['files']} files of the latest listing"


@dg.sensor(
    name="orphaned_jobs",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Stops Kubernetes Jobs whose run was cancelled, or is over without a retry that would take them over.",
)
def orphaned_jobs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Delete orphans, with the reason in the log; starts no run."""
    from definemed_pipeline.compute.kubernetes.cluster import Cluster
    from definemed_pipeline.compute.kubernetes.orphans import find_orphans

    with Cluster.connected(active_recipe().compute.kubernetes) as cluster:
        orphans = list(find_orphans(context.instance, cluster, now=time.time()))
        for orphan in orphans:
            cluster.delete_job(orphan.job)
            context.log.info(f"Job {orphan.job} is deleted: {orphan.reason}")
    told = "; ".join(f"{orphan.job}: {orphan.reason}" for orphan in orphans)
    return dg.SkipReason(f"deleted {told}" if told else "every Job has its run")
