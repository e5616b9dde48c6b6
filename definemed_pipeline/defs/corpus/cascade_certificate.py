"""Asset `cascade_certificate`: what the first stage alone may reject, and the proof that it costs little recall."""

import json

import dagster as dg
import polars as pl

from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.compute.backends import Compute
from definemed_pipeline.corpus.classifier.certificate import contradictions
from definemed_pipeline.defs import plots
from definemed_pipeline.defs.corpus.annotations import annotations
from definemed_pipeline.defs.corpus.medical_classifier import medical_classifier
from definemed_pipeline.defs.materialization import (
    OWNERS,
    RETRIES,
    blocking,
    build_in_payload,
    check,
    code_version,
    result,
    warning,
)
from definemed_pipeline.defs.resources import Lake
from definemed_pipeline.recipe import active_recipe

SECTION = active_recipe().cascade_certificate


@dg.asset(
    group_name="corpus",
    kinds={"pytorch", "parquet"},
    owners=OWNERS,
    deps=[annotations, medical_classifier],
    code_version=code_version("1", SECTION),
    retry_policy=RETRIES,
    check_specs=[
        *blocking("cascade_certificate", consistent="The certificate follows from its own counts and curve."),
        *warning("cascade_certificate", certified="Some threshold is certified: stage 1 spares stage 2 work."),
    ],
)
def cascade_certificate(
    context: dg.AssetExecutionContext, lake: Lake, compute: dg.ResourceParam[Compute]
) -> dg.MaterializeResult:
    """The stage-1 threshold below which stage 1 alone may reject, certified on unlabelled documents that nothing was tuned on.

    With the recipe's confidence the cascade takes at least the target share of what a full sweep by both stages would take: an exact
    binomial bound, valid after the choice of the threshold.
    """
    manifest = build_in_payload(
        context,
        lake,
        compute,
        "definemed_pipeline.corpus.classifier.certificate",
        section=SECTION,
        inputs=[lake.artifact("annotations"), lake.artifact("medical_classifier")],
    )
    folder = lake.store.folder(manifest)
    curve = pl.read_parquet(folder / "curve.parquet")
    wrong = contradictions(json.loads((folder / "certificate.json").read_text("utf-8")), curve)
    return result(
        context,
        lake,
        manifest,
        table="curve.parquet",
        plots=_pictures(manifest, curve),
        checks=[
            check("consistent", not wrong, wrong=wrong),
            check("certified", manifest.metrics["certified"], warns=True, in_words=manifest.metrics["in_words"]),
        ],
    )


def _pictures(manifest: Manifest, curve: pl.DataFrame) -> dict[str, str]:
    """Draw what every threshold would cost and save."""
    if curve.is_empty():
        return {}
    series = {
        f"recall is at least ({manifest.metrics['confidence']:.0%} confidence)": curve["recall_low"].to_list(),
        "target": [manifest.metrics["target_recall"]] * curve.height,
        "share stage 2 reads": curve["passed_share"].to_list(),
    }
    x_label = f"stage 1 rejects below this probability (certified: {manifest.metrics['threshold']:.3g})"
    return {"curve": plots.lines(curve["threshold"].to_list(), series, x_label=x_label, y_label="share", logarithmic=True)}
