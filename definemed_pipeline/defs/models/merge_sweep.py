"""Asset `merge_sweep`: the merge to take, chosen on validation questions and instructions."""

import dagster as dg
import polars as pl

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
    warning,
)
from definemed_pipeline.defs.models.base_models import base_models
from definemed_pipeline.defs.models.cpt_checkpoints import cpt_checkpoints
from definemed_pipeline.defs.partitions import base_model
from definemed_pipeline.defs.resources import Lake, final_failures
from definemed_pipeline.recipe import active_recipe

RECIPE = active_recipe()
MEASURES = ("accuracy", "answered_properly", "language_mixing")


@dg.asset(
    group_name="models",
    kinds={"pytorch", "parquet"},
    owners=OWNERS,
    partitions_def=base_model,
    deps=[base_models, cpt_checkpoints],
    code_version=code_version("1", {name: RECIPE.merge_sweep_of(name) for name in RECIPE.base_models}),
    retry_policy=RETRIES,
    check_specs=[
        *blocking("merge_sweep", every_candidate="Every candidate was measured, and one was chosen."),
        *warning("merge_sweep", limits_kept="The chosen candidate keeps the limits of the recipe's rule."),
    ],
)
def merge_sweep(context: dg.AssetExecutionContext, lake: Lake, compute: dg.ResourceParam[Compute]) -> dg.MaterializeResult:
    """Merges tried on validation questions and instructions, never on those of the test, and the one that the recipe's rule takes."""
    section = RECIPE.merge_sweep_of(context.partition_key)
    with final_failures():
        files = section.sources()
    manifest = build_in_payload(
        context,
        lake,
        compute,
        "definemed_pipeline.evaluation.sweep.merge_sweep",
        section=section,
        inputs=[lake.artifact(asset, context.partition_key) for asset in ("base_models", "cpt_checkpoints")],
        sources=lake.sources(files),
    )
    table = pl.read_parquet(lake.store.folder(manifest) / "candidates.parquet")
    return result(context, lake, manifest, table="candidates.parquet", plots=_plots(table), checks=_checks(manifest, table))


def _checks(manifest: Manifest, table: pl.DataFrame) -> list[dg.AssetCheckResult]:
    expected, chosen = manifest.metrics["candidates"], table.filter("is_chosen")
    found = table.filter(pl.col("method").is_not_null()).height
    return [
        check("every_candidate", found == expected and chosen.height == min(1, expected), found=found, expected=expected),
        check("limits_kept", chosen["keeps_limits"].all(), warns=True, chosen=", ".join(chosen["model"])),
    ]


def _plots(table: pl.DataFrame) -> dict[str, str]:
    if table.is_empty():
        return {}
    return {
        "front": plots.trade_off(
            table,
            x="accuracy",
            y="answered_properly",
            x_label="accuracy on validation questions",
            y_label="validation instructions answered properly",
        ),
        "candidates": plots.table(table.select("model", pl.col(*MEASURES, "balance").round(3), "is_on_front", "is_chosen")),
    }
