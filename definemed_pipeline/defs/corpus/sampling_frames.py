"""Asset `sampling_frames`: every document of a shard as numbers, from which the annotated samples are drawn."""

import dagster as dg

from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.compute.backends import Compute
from definemed_pipeline.corpus.annotation.lexicon import lexicon_location
from definemed_pipeline.defs import plots
from definemed_pipeline.defs.corpus.fineweb2_shards import fineweb2_shards
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

SECTION = active_recipe().sampling_frames


@dg.asset(
    group_name="corpus",
    kinds={"polars", "parquet"},
    owners=OWNERS,
    pool=HUB,
    partitions_def=fineweb2_shard,
    backfill_policy=SHARDS_PER_RUN,
    deps=[fineweb2_shards],
    code_version=code_version("1", SECTION),
    retry_policy=RETRIES,
    check_specs=blocking("sampling_frames", every_text="Every document with text stands in its shard's frame, or repeats an id."),
)
def sampling_frames(context: dg.AssetExecutionContext, lake: Lake, compute: dg.ResourceParam[Compute]) -> dg.MaterializeResult:
    """List every document of a shard with a random key, its dump and the range of a cheap score: numbers only.

    Whom the annotator is asked about is drawn from these lists, so that drawing never reads the web's texts.
    """
    shards = {key: lake.artifact("fineweb2_shards", key) for key in context.partition_keys}
    with final_failures():
        lexicon = lake.sources({"lexicon": lexicon_location(SECTION.lexicon)})
    manifests = build_partitions_in_payload(
        context,
        lake,
        compute,
        "definemed_pipeline.corpus.annotation.sampling_frames",
        section=SECTION,
        inputs=lambda key: [shards[key]],
        sources=lambda _: lexicon,
    )
    wrong = [key for key, manifest in manifests.items() if _accounted(manifest) != shards[key].metrics["documents"]]
    return partitions_result(
        context,
        lake,
        manifests,
        table="frame.parquet",
        plots=lambda manifest: {"score_bins": _picture(manifest)},
        checks=[check("every_text", not wrong, shards=len(manifests), wrong_shards=wrong)],
    )


def _accounted(manifest: Manifest) -> int:
    return sum(int(manifest.metrics[name]) for name in ("documents", "without_text", "duplicate_ids"))


def _picture(manifest: Manifest) -> str:
    counts = {name: manifest.metrics["documents_by_score_bin"][name] for name in SECTION.bin_names}
    return plots.bars(counts, label="documents per range of the cheap score")
