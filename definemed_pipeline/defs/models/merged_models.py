"""Asset `merged_models`: CPT checkpoints merged with the instruct models they came from."""

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
)
from definemed_pipeline.defs.models.base_models import base_models
from definemed_pipeline.defs.models.cpt_checkpoints import cpt_checkpoints
from definemed_pipeline.defs.partitions import base_model
from definemed_pipeline.defs.resources import Lake
from definemed_pipeline.recipe import active_recipe

SECTION = active_recipe().merged_models


@dg.asset(
    group_name="models",
    kinds={"pytorch", "huggingface"},
    owners=OWNERS,
    partitions_def=base_model,
    deps=[base_models, cpt_checkpoints],
    code_version=code_version("1", SECTION),
    retry_policy=RETRIES,
    check_specs=blocking("merged_models", same_shape="The merged model has the base model's parameters and vocabulary."),
)
def merged_models(context: dg.AssetExecutionContext, lake: Lake, compute: dg.ResourceParam[Compute]) -> dg.MaterializeResult:
    """The CPT checkpoint merged back with its instruct model, layer by layer (the paper: SLERP), to restore instruction-following."""
    base = lake.artifact("base_models", context.partition_key)
    manifest = build_in_payload(
        context,
        lake,
        compute,
        "definemed_pipeline.merging.merge",
        section=SECTION,
        inputs=[base, lake.artifact("cpt_checkpoints", context.partition_key)],
    )
    shape = {name: manifest.metrics[name] for name in ("parameters", "vocabulary_size")}
    expected = {name: base.metrics[name] for name in shape}
    return result(
        context,
        lake,
        manifest,
        table="tensors.parquet",
        plots={"cosine_by_layer": _cosine_by_layer(lake, manifest)},
        checks=[check("same_shape", shape == expected, found=shape, expected=expected)],
    )


def _cosine_by_layer(lake: Lake, manifest: Manifest) -> str:
    """Draw how far CPT turned each layer: where the cosine is near one, SLERP is linear interpolation."""
    tensors = pl.read_parquet(lake.store.folder(manifest) / "tensors.parquet").drop_nulls("layer")
    by_layer = tensors.group_by("layer").agg(pl.col("cosine").min().alias("lowest"), pl.col("cosine").mean().alias("mean"))
    by_layer = by_layer.sort("layer")
    return plots.lines(
        by_layer["layer"].to_list(),
        {"mean": by_layer["mean"].to_list(), "lowest": by_layer["lowest"].to_list()},
        x_label="layer",
        y_label="cosine of base and CPT weights",
    )
