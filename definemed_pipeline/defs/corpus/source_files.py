"""Asset `source_files`: which files the recipe's source has."""

import dagster as dg

from definemed_pipeline.corpus.sources.listing import CODE_VERSION, TABLE, refresh_listing
from definemed_pipeline.defs.materialization import HUB, OWNERS, code_version, result
from definemed_pipeline.defs.resources import Lake, final_failures
from definemed_pipeline.recipe import active_recipe

SECTION = active_recipe().source


@dg.asset(
    group_name="corpus",
    kinds={"parquet", "huggingface"},
    owners=OWNERS,
    pool=HUB,
    code_version=code_version(CODE_VERSION, SECTION),
)
def source_files(context: dg.AssetExecutionContext, lake: Lake) -> dg.MaterializeResult:
    """The listing of the source: every file with its location, size, digest and commit; one row becomes one shard.

    A pinned commit of the Hub is listed once ever and then reused; a branch, a folder or a bucket is looked at each time. Nothing
    depends on this asset in Dagster: see `fineweb2_shards` for the reason.
    """
    with final_failures():
        manifest = refresh_listing(
            lake.store,
            active_recipe().name,
            SECTION,
            run_id=context.run_id,
            report=context.log.info,
        )
    return result(context, lake, manifest, table=TABLE)
