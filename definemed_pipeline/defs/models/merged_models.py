"""Asset `merged_models`: CPT checkpoints merged with the instruct models they came from."""

import math

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
from definemed_pipeline.defs.models.merge_sweep import merge_sweep
from definemed_pipeline.defs.partitions import base_model
from definemed_pipeline.defs.resources import Lake, final_failures
from definemed_pipeline.recipe import active_recipe

SECTION = active_recipe().merged_models
LINEAR_BELOW = math.degrees(math.acos(0.9995))  # mergekit's slerp interpolates linearly where the cosine is above


@dg.asset(
    group_name="models",
    kinds={"pytorch", "huggingface"},
    owners=OWNERS,
    partitions_def=base_model,
    deps=[base_models, cpt_checkpoints, merge_sweep],
    code_version=code_version("2", SECTION),
    retry_policy=RETRIES,
    check_specs=blocking(
        "merged_models",
        parameter_count="The merged model has as many weights as the base model.",
        vocabulary="Its embedding has as many rows as the base model's.",
        tied_weights="Input and output embeddings are one tensor exactly where the configuration says so.",
        chat_template="A conversation is written as the base model writes it.",
        finite_values="No weight is infinite or no number.",
        generation="It loads without code of its own and answers a question.",
    ),
)
def merged_models(context: dg.AssetExecutionContext, lake: Lake, compute: dg.ResourceParam[Compute]) -> dg.MaterializeResult:
    """The CPT checkpoint merged back with its instruct model as the sweep chose (the paper: SLERP), to restore instruction-following."""
    base = lake.artifact("base_models", context.partition_key)
    section = SECTION.of(context.partition_key)
    with final_failures():
        other_models = section.sources()
    manifest = build_in_payload(
        context,
        lake,
        compute,
        "definemed_pipeline.merging.merge",
        section=section,
        inputs=[base, *(lake.artifact(asset, context.partition_key) for asset in ("cpt_checkpoints", "merge_sweep"))],
        sources=lake.sources(other_models),
    )
    tensors = pl.read_parquet(lake.store.folder(manifest) / "tensors.parquet")
    return result(
        context,
        lake,
        manifest,
        table="tensors.parquet",
        plots={"angle_by_layer": _angle_by_layer(tensors), "change_by_layer": _change_by_layer(tensors)},
        checks=_checks(manifest, base),
    )


def _checks(manifest: Manifest, base: Manifest) -> list[dg.AssetCheckResult]:
    found, expected = manifest.metrics, base.metrics
    return [
        check(name, found[metric] == expected[metric], found=found[metric], expected=expected[metric])
        for name, metric in (("parameter_count", "parameters"), ("vocabulary", "vocabulary_size"))
    ] + [
        check("tied_weights", found["is_tied"]),
        check("chat_template", found["has_base_template"]),
        check("finite_values", not found["not_finite"], tensors=", ".join(found["not_finite"])),
        check("generation", found["answer_tokens"] > 0, answer=found["answer"]),
    ]


def _angle_by_layer(tensors: pl.DataFrame) -> str:
    """Draw how far CPT turned each layer's modules: below the line, SLERP is linear interpolation."""
    layers, angles = _by_layer(tensors, "angle_degrees")
    angles["slerp is linear below"] = [LINEAR_BELOW] * len(layers)
    return plots.lines(layers, angles, x_label="layer", y_label="angle of base and CPT weights, degrees")


def _change_by_layer(tensors: pl.DataFrame) -> str:
    layers, changes = _by_layer(tensors, "merged_change")
    return plots.lines(layers, changes, x_label="layer", y_label="change of the merge against its base, share")


def _by_layer(tensors: pl.DataFrame, measure: str) -> tuple[list[int], dict[str, list[float]]]:
    """Return the layers, and of each module the mean of a measure over its tensors, weighted by their size, in every layer."""
    size = pl.col("parameters")
    means = (
        tensors.drop_nulls("layer")
        .group_by("layer", "module")
        .agg((pl.col(measure) * size).sum() / size.sum())
        .pivot("module", index="layer", values=measure)
        .sort("layer")
    )
    modules = sorted(means.columns[1:])
    return means["layer"].to_list(), {module: means[module].to_list() for module in modules}
