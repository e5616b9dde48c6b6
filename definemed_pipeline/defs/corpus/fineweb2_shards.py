"""Asset `fineweb2_shards`: the web, as files that were checked once and stay where they are."""

import dagster as dg

from definemed_pipeline.corpus.shards import register_shard
from definemed_pipeline.defs.materialization import OWNERS, blocking, build_here, check, code_version, result
from definemed_pipeline.defs.partitions import fineweb2_shard
from definemed_pipeline.defs.resources import Lake
from definemed_pipeline.recipe import active_recipe

SECTION = active_recipe().source


@dg.asset(
    group_name="corpus",
    kinds={"parquet", "polars"},
    owners=OWNERS,
    partitions_def=fineweb2_shard,
    code_version=code_version("1", SECTION),
    check_specs=blocking("fineweb2_shards", has_documents="The file holds at least one document with text."),
)
def fineweb2_shards(context: dg.AssetExecutionContext, lake: Lake) -> dg.MaterializeResult:
    """One source file of German web text, checked whole and profiled.

    The rows stay where they are; every later stage reads them row group by row group and refuses a file that has changed since.
    """
    location = lake.shards().get(context.partition_key)
    if location is None:
        raise dg.Failure(f"the recipe's source has no file for partition {context.partition_key}", allow_retries=False)
    manifest = build_here(context, lake, register_shard, section=SECTION, inputs=[], sources=lake.sources({"shard": location}))
    readable = manifest.metrics["documents"] - manifest.metrics["null_texts"] - manifest.metrics["empty_texts"]
    return result(context, lake, manifest, checks=[check("has_documents", readable > 0, documents_with_text=readable)])
