"""Asset `classifier_scores`: the probability of being medical, for every document of a shard."""

import dagster as dg

from definemed_pipeline.compute.backends import Compute
from definemed_pipeline.defs.corpus.fineweb2_shards import fineweb2_shards
from definemed_pipeline.defs.corpus.medical_classifier import medical_classifier
from definemed_pipeline.defs.materialization import (
    OWNERS,
    RETRIES,
    blocking,
    build_in_payload,
    check,
    code_version,
    result,
)
from definemed_pipeline.defs.partitions import fineweb2_shard
from definemed_pipeline.defs.resources import Lake
from definemed_pipeline.recipe import active_recipe

SECTION = active_recipe().classifier_scores


@dg.asset(
    group_name="corpus",
    kinds={"pytorch", "parquet"},
    owners=OWNERS,
    partitions_def=fineweb2_shard,
    deps=[fineweb2_shards, medical_classifier],
    code_version=code_version("1", SECTION),
    retry_policy=RETRIES,
    check_specs=blocking("classifier_scores", every_document="Every document of the shard has exactly one score."),
)
def classifier_scores(context: dg.AssetExecutionContext, lake: Lake, compute: dg.ResourceParam[Compute]) -> dg.MaterializeResult:
    """Score every document of one shard and keep all scores, also those of documents that are rejected."""
    shard = lake.artifact("fineweb2_shards", context.partition_key)
    manifest = build_in_payload(
        context,
        lake,
        compute,
        "definemed_pipeline.corpus.score",
        section=SECTION,
        inputs=[shard, lake.artifact("medical_classifier")],
    )
    expected = shard.metrics["documents"]
    return result(
        context,
        lake,
        manifest,
        table="scores.parquet",
        checks=[check("every_document", manifest.rows == expected, scores=manifest.rows, documents=expected)],
    )
