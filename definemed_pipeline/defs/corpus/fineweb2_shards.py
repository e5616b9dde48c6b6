"""Asset `fineweb2_shards`: the web, as files that were checked once and stay where they are."""

import dagster as dg

from definemed_pipeline.artifacts.manifest import Source
from definemed_pipeline.compute.backends import Compute
from definemed_pipeline.defs.materialization import (
    HUB,
    OWNERS,
    RETRIES,
    SHARDS_PER_RUN,
    blocking,
    build_partitions_in_payload,
    check,
    code_version,
    partitions_result,
)
from definemed_pipeline.defs.partitions import fineweb2_shard
from definemed_pipeline.defs.resources import Lake, final_failures
from definemed_pipeline.recipe import active_recipe

SECTION = active_recipe().source


@dg.asset(
    group_name="corpus",
    kinds={"parquet", "polars"},
    owners=OWNERS,
    pool=HUB,
    partitions_def=fineweb2_shard,
    backfill_policy=SHARDS_PER_RUN,
    code_version=code_version("1", SECTION),
    retry_policy=RETRIES,  # a file of the Hub may be out of reach for a while
    check_specs=blocking("fineweb2_shards", has_documents="Each file holds at least one document with text."),
)
def fineweb2_shards(context: dg.AssetExecutionContext, lake: Lake, compute: dg.ResourceParam[Compute]) -> dg.MaterializeResult:
    """One source file of German web text, checked whole and profiled.

    The rows stay where they are; every later stage reads them row group by row group and refuses a file that has changed since.

    There is no edge from `source_files`, whose row of this file is read here: a listing with one more file would make every shard
    stale in Dagster's eyes, and with it the corpus. What a shard depends on is the content of its own file, which is its source.
    """
    files = lake.shards()
    if unknown := [key for key in context.partition_keys if key not in files]:
        raise dg.Failure(f"the recipe's source has no file for partitions {', '.join(unknown)}", allow_retries=False)

    def sources_of(key: str) -> list[Source]:
        with final_failures():
            return [files[key].identify(lake.store.scratch), *lake.sources(SECTION.sources())]

    manifests = build_partitions_in_payload(
        context, lake, compute, "definemed_pipeline.corpus.register", section=SECTION, inputs=lambda _: [], sources=sources_of
    )
    readable = {
        key: found.metrics["documents"] - found.metrics["null_texts"] - found.metrics["empty_texts"]
        for key, found in manifests.items()
    }
    empty = [key for key, documents in readable.items() if not documents]
    checks = [check("has_documents", not empty, documents_with_text=sum(readable.values()), files_without=empty)]
    return partitions_result(context, lake, manifests, checks=checks)
