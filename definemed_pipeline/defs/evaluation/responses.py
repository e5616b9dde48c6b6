"""Asset `responses`: what base, CPT and merged model answer to instructions."""

import dagster as dg

from definemed_pipeline.compute.backends import Compute
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
from definemed_pipeline.evaluation.splits import instructions_of
from definemed_pipeline.evaluation.stages import STAGE_ASSETS, STAGES
from definemed_pipeline.recipe import active_recipe

SECTION = active_recipe().responses


@dg.asset(
    group_name="evaluation",
    kinds={"pytorch", "parquet"},
    owners=OWNERS,
    partitions_def=base_model,
    deps=[base_models, cpt_checkpoints, merged_models],
    code_version=code_version("2", SECTION),
    retry_policy=RETRIES,
    check_specs=blocking("responses", every_instruction="Every stage has one response to every instruction."),
)
def responses(context: dg.AssetExecutionContext, lake: Lake, compute: dg.ResourceParam[Compute]) -> dg.MaterializeResult:
    """Greedy answers of the three stages to the recipe's instructions, through each model's own chat template."""
    sources = lake.sources(SECTION.sources())
    manifest = build_in_payload(
        context,
        lake,
        compute,
        "definemed_pipeline.evaluation.generate",
        section=SECTION,
        inputs=[lake.artifact(asset, context.partition_key) for asset in STAGE_ASSETS.values()],
        sources=sources,
    )
    asked = zip(sources, SECTION.instruction_sets.values(), strict=True)
    expected = len(STAGES) * sum(len(instructions_of("test", source, one)) for source, one in asked)
    return result(
        context,
        lake,
        manifest,
        table="responses.parquet",
        checks=[check("every_instruction", manifest.rows == expected, responses=manifest.rows, expected=expected)],
    )
