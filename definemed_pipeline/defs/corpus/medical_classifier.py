"""Asset `medical_classifier`: the two-stage classifier that will read the whole web."""

import dagster as dg

from definemed_pipeline.compute.backends import Compute
from definemed_pipeline.defs.corpus.annotations import annotations
from definemed_pipeline.defs.materialization import (
    OWNERS,
    RETRIES,
    blocking,
    build_in_payload,
    check,
    code_version,
    result,
)
from definemed_pipeline.defs.resources import Lake
from definemed_pipeline.recipe import active_recipe

SECTION = active_recipe().medical_classifier
CHECKS = active_recipe().checks


@dg.asset(
    group_name="corpus",
    kinds={"pytorch", "huggingface"},
    owners=OWNERS,
    deps=[annotations],
    code_version=code_version("1", SECTION),
    retry_policy=RETRIES,
    check_specs=blocking(
        "medical_classifier",
        precision="Precision on held-out annotations reaches the recipe's floor.",
        recall="Recall on held-out annotations reaches the recipe's floor.",
    ),
)
def medical_classifier(context: dg.AssetExecutionContext, lake: Lake, compute: dg.ResourceParam[Compute]) -> dg.MaterializeResult:
    """A linear model on hashed subwords that rejects cheaply, and a transformer of XLM-R architecture that decides the rest.

    The decision threshold is the lowest at which held-out precision reaches the recipe's target (the paper: 0.95).
    """
    manifest = build_in_payload(
        context,
        lake,
        compute,
        "definemed_pipeline.corpus.train_classifier",
        section=SECTION,
        inputs=[lake.artifact("annotations")],
    )
    precision, recall = manifest.metrics["precision"], manifest.metrics["recall"]
    return result(
        context,
        lake,
        manifest,
        table="held_out.parquet",
        checks=[
            check("precision", precision >= CHECKS.classifier_precision, found=precision, floor=CHECKS.classifier_precision),
            check("recall", recall >= CHECKS.classifier_recall, found=recall, floor=CHECKS.classifier_recall),
        ],
    )
