"""Asset `classifier_scores`: the probability of being medical, for every document of a shard."""

from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.compute.backends import Compute
from definemed_pipeline.corpus.classifier.audit import pool, running_recall
from definemed_pipeline.defs import plots
from definemed_pipeline.defs.corpus.cascade_certificate import cascade_certificate
from definemed_pipeline.defs.corpus.fineweb2_shards import fineweb2_shards
from definemed_pipeline.defs.corpus.medical_classifier import medical_classifier
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

SECTION = active_recipe().classifier_scores


@dg.asset(
    group_name="corpus",
    kinds={"pytorch", "parquet"},
    owners=OWNERS,
    pool=HUB,
    partitions_def=fineweb2_shard,
    backfill_policy=SHARDS_PER_RUN,
    deps=[fineweb2_shards, medical_classifier, cascade_certificate],
    code_version=code_version("2", SECTION),
    retry_policy=RETRIES,
    check_specs=blocking(
        "classifier_scores",
        every_document="Every document of a shard has exactly one score.",
        audit="What stage 2 finds among stage 1's rejects does not refute the certified recall, over all shards scored so far.",
    ),
)
def classifier_scores(context: dg.AssetExecutionContext, lake: Lake, compute: dg.ResourceParam[Compute]) -> dg.MaterializeResult:
    """Score every document of a shard with the certified cascade and keep all scores, also those of documents that are rejected.

    A random share of what stage 1 rejects is read by stage 2 as well: the audit, which adds up over all shards and fails where it refutes
    the certificate.
    """
    shards = {key: lake.artifact("fineweb2_shards", key) for key in context.partition_keys}
    classifier, certificate = lake.artifact("medical_classifier"), lake.artifact("cascade_certificate")
    manifests = build_partitions_in_payload(
        context,
        lake,
        compute,
        "definemed_pipeline.corpus.classifier.score",
        section=SECTION,
        inputs=lambda key: [shards[key], classifier, certificate],
    )
    wrong = [key for key, manifest in manifests.items() if manifest.rows != shards[key].metrics["documents"]]
    return partitions_result(
        context,
        lake,
        manifests,
        table="scores.parquet",
        plots=lambda manifest: {"probabilities": _histogram(lake, manifest, classifier.metrics["decision_threshold"])},
        checks=[
            check("every_document", not wrong, shards=len(manifests), wrong_shards=wrong),
            _audit(lake, certificate),
        ],
    )


def _audit(lake: Lake, certificate: Manifest) -> dg.AssetCheckResult:
    """Pool the audits of all shards scored with this certificate, from their manifests alone."""
    scored = (lake.latest("classifier_scores", key) for key in lake.shards())
    same = [
        one
        for one in scored
        if one is not None
        and certificate.digest in (i.digest for i in one.identity.inputs)
        and one.metrics["audit_share"] == SECTION.audit_share
    ]
    counts: dict[str, Any] = {"target": certificate.metrics["target_recall"], **pool(one.metrics for one in same)}
    if not SECTION.audit_share or not certificate.metrics["certified"]:
        return check("audit", True, **counts)  # nothing is rejected, or nothing looked at
    recall = running_recall(counts["positives"], counts["audit_misses"], SECTION.audit_share, certificate.metrics["confidence"])
    return check("audit", recall.high >= counts["target"], **recall.as_metrics(), **counts)


def _histogram(lake: Lake, manifest: Manifest, threshold: float) -> str:
    """Draw the probabilities of all documents of the shard with the decision threshold."""
    scores = pl.read_parquet(lake.store.folder(manifest) / "scores.parquet", columns=["medical_probability"])
    counts, edges = np.histogram(scores["medical_probability"].to_numpy(), bins=25, range=(0, 1))
    return plots.histogram(edges.tolist(), counts.tolist(), label="medical probability", threshold=threshold)
