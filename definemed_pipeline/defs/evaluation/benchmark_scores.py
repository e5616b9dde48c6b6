"""Asset `benchmark_scores`: multiple-choice accuracy of base, CPT and merged model."""

import dagster as dg

from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.compute.backends import Compute
from definemed_pipeline.defs import plots
from definemed_pipeline.defs.materialization import (
    OWNERS,
    RETRIES,
    blocking,
    build_in_payload,
    check,
    code_version,
    result,
)
from definemed_pipeline.defs.models.base_models import base_models
from definemed_pipeline.defs.models.cpt_checkpoints import cpt_checkpoints
from definemed_pipeline.defs.models.merged_models import merged_models
from definemed_pipeline.defs.partitions import base_model
from definemed_pipeline.defs.resources import Lake
from definemed_pipeline.evaluation.stages import STAGE_ASSETS, STAGES
from definemed_pipeline.recipe import active_recipe

SECTION = active_recipe().benchmark_scores


@dg.asset(
    group_name="evaluation",
    kinds={"pytorch", "parquet"},
    owners=OWNERS,
    partitions_def=base_model,
    deps=[base_models, cpt_checkpoints, merged_models],
    code_version=code_version("1", SECTION),
    retry_policy=RETRIES,
    check_specs=blocking("benchmark_scores", every_question="Every stage has answered every question of every benchmark."),
)
def benchmark_scores(context: dg.AssetExecutionContext, lake: Lake, compute: dg.ResourceParam[Compute]) -> dg.MaterializeResult:
    """Accuracy of the three stages through lm-eval, question by question, with 95 % intervals and paired differences."""
    manifest = build_in_payload(
        context,
        lake,
        compute,
        "definemed_pipeline.evaluation.benchmark",
        section=SECTION,
        inputs=[lake.artifact(asset, context.partition_key) for asset in STAGE_ASSETS.values()],
        sources=lake.sources(SECTION.sources()),
    )
    answers, expected = manifest.rows, len(STAGES) * manifest.metrics["questions"]
    return result(
        context,
        lake,
        manifest,
        table="questions.parquet",
        plots={"accuracy_by_stage": _accuracy_by_stage(manifest)},
        checks=[check("every_question", answers == expected, answers=answers, expected=expected)],
    )


def _accuracy_by_stage(manifest: Manifest) -> str:
    metrics = manifest.metrics
    return plots.bars(
        {stage: metrics[f"{stage}_accuracy"] for stage in STAGES},
        label="accuracy, mean over benchmarks",
        intervals={stage: (metrics[f"{stage}_accuracy_low"], metrics[f"{stage}_accuracy_high"]) for stage in STAGES},
    )
