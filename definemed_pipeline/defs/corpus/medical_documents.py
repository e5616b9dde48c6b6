"""Asset `medical_documents`: what the classifier took out of a shard, as a segment of the index over all medical documents."""

import dagster as dg

from definemed_pipeline.compute.backends import Compute
from definemed_pipeline.corpus.assembly.minhash import signing_fingerprint
from definemed_pipeline.defs.corpus.classifier_scores import classifier_scores
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
from definemed_pipeline.defs.resources import Lake
from definemed_pipeline.recipe import active_recipe

SECTION = active_recipe().medical_documents


@dg.asset(
    group_name="corpus",
    kinds={"polars", "parquet"},
    owners=OWNERS,
    pool=HUB,
    partitions_def=fineweb2_shard,
    backfill_policy=SHARDS_PER_RUN,
    deps=[fineweb2_shards, classifier_scores],
    code_version=code_version(f"1.{signing_fingerprint()}", SECTION),
    retry_policy=RETRIES,
    check_specs=blocking("medical_documents", every_positive="Every document the classifier took is there, and no other."),
)
def medical_documents(context: dg.AssetExecutionContext, lake: Lake, compute: dg.ResourceParam[Compute]) -> dg.MaterializeResult:
    """The medical documents of a shard, copied once and sorted, with the MinHash signatures by which duplicates are found in all shards.

    A segment never changes: a refresh adds the segments of new shards, and FineMed-de is gathered from all of them.
    """
    inputs = {
        key: [lake.artifact("fineweb2_shards", key), lake.artifact("classifier_scores", key)] for key in context.partition_keys
    }
    manifests = build_partitions_in_payload(
        context, lake, compute, "definemed_pipeline.corpus.assembly.medical_documents", section=SECTION, inputs=inputs.__getitem__
    )
    wrong = [key for key, one in manifests.items() if one.metrics["medical_documents"] != inputs[key][1].metrics["positives"]]
    return partitions_result(
        context,
        lake,
        manifests,
        table="documents.parquet",
        checks=[check("every_positive", not wrong, shards=len(manifests), wrong_shards=wrong)],
    )
