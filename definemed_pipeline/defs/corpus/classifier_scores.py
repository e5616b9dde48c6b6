"""Asset `classifier_scores`: the probability of being medical, for every document of a shard."""

import dagster as dg
import numpy as np
import polars as pl

from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.compute.backends import Compute
from definemed_pipeline.defs import plots
from definemed_pipeline.defs.corpus.fineweb2_shards import fineweb2_shards
from definemed_pipeline.defs.corpus.medical_classifier import medical_classifier
from definemed_pipeline.defs.materialization import (
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

SECTION = active_recipe().classifier_scores


@dg.asset(
    group_name="corpus",
    kinds={"pytorch", "parquet"},
    owners=OWNERS,
    partitions_def=fineweb2_shard,
    backfill_policy=SHARDS_PER_RUN,
    deps=[fineweb2_shards, medical_classifier],
    code_version=code_version("1", SECTION),
    retry_policy=RETRIES,
    check_specs=blocking("classifier_scores", every_document="Every document of a shard has exactly one score."),
)
def classifier_scores(context: dg.AssetExecutionContext, lake: Lake, compute: dg.ResourceParam[Compute]) -> dg.MaterializeResult:
    """Score every document of a shard and keep all scores, also those of documents that are rejected."""
    shards = {key: lake.artifact("fineweb2_shards", key) for key in context.partition_keys}
    classifier = lake.artifact("medical_classifier")
    manifests = build_partitions_in_payload(
        context,
        lake,
        compute,
        "definemed_pipeline.corpus.score",
        section=SECTION,
        inputs=lambda key: [shards[key], classifier],
    )
    wrong = [key for key, manifest in manifests.items() if manifest.rows != shards[key].metrics["documents"]]
    return partitions_result(
        context,
        lake,
        manifests,
        table="scores.parquet",
        plots=lambda manifest: {"probabilities": _histogram(lake, manifest, classifier.metrics["decision_threshold"])},
        checks=[check("every_document", not wrong, shards=len(manifests), wrong_shards=wrong)],
    )


def _histogram(lake: Lake, manifest: Manifest, threshold: float) -> str:
    """Draw the probabilities of all documents of the shard with the decision threshold."""
    scores = pl.read_parquet(lake.store.folder(manifest) / "scores.parquet", columns=["medical_probability"])
    counts, edges = np.histogram(scores["medical_probability"].to_numpy(), bins=25, range=(0, 1))
    return plots.histogram(edges.tolist(), counts.tolist(), label="medical probability", threshold=threshold)
