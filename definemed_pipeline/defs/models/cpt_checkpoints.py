"""Asset `cpt_checkpoints`: base models after continual pre-training on FineMed-de."""

import json
import math

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
from definemed_pipeline.defs.models.cpt_corpus import cpt_corpus
from definemed_pipeline.defs.partitions import base_model
from definemed_pipeline.defs.resources import Lake
from definemed_pipeline.recipe import active_recipe

SECTION = active_recipe().cpt_checkpoints


@dg.asset(
    group_name="models",
    kinds={"pytorch", "huggingface"},
    owners=OWNERS,
    partitions_def=base_model,
    deps=[base_models, cpt_corpus],
    code_version=code_version("2", SECTION),
    retry_policy=RETRIES,
    check_specs=blocking(
        "cpt_checkpoints",
        finite_loss="The last loss is a finite number.",
        same_vocabulary="The checkpoint's embedding has as many rows as the base model's.",
    ),
)
def cpt_checkpoints(context: dg.AssetExecutionContext, lake: Lake, compute: dg.ResourceParam[Compute]) -> dg.MaterializeResult:
    """The base model after continual pre-training (next-token loss, AdamW, linear decay; the paper: 2 epochs)."""
    base = lake.artifact("base_models", context.partition_key)
    manifest = build_in_payload(
        context,
        lake,
        compute,
        "definemed_pipeline.training.cpt",
        section=SECTION,
        inputs=[base, lake.artifact("cpt_corpus", context.partition_key)],
        execution=active_recipe().compute.training,
    )
    log, perplexities = (_read_rows(lake, manifest, f"{name}.jsonl") for name in ("log", "perplexity"))
    vocabulary, expected = manifest.metrics["vocabulary_size"], base.metrics["vocabulary_size"]
    return result(
        context,
        lake,
        manifest,
        plots=_plots(log, perplexities, manifest.metrics["speed"]),
        checks=[
            check("finite_loss", math.isfinite(log[-1]["loss"]), loss=log[-1]["loss"]),
            check("same_vocabulary", vocabulary == expected, found=vocabulary, expected=expected),
        ],
    )


def _read_rows(lake: Lake, manifest: Manifest, name: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in (lake.store.folder(manifest) / name).read_text("utf-8").splitlines()]


def _plots(log: list[dict[str, float]], perplexities: list[dict[str, float]], speed: dict[str, list[float]]) -> dict[str, str]:
    steps = [row["step"] for row in log]
    pictures = {
        "loss_curve": plots.lines(steps, {"loss": [row["loss"] for row in log]}, x_label="step", y_label="loss"),
        "gradient_norm": plots.lines(steps, {"norm": [row["grad_norm"] for row in log]}, x_label="step", y_label="gradient norm"),
        "speed": plots.lines(speed["step"], {"tokens/s": speed["tokens_per_s"]}, x_label="step", y_label="tokens/s"),
    }
    if perplexities:
        curves = {name: [row[name] for row in perplexities] for name in perplexities[0] if name != "step"}
        at = [row["step"] for row in perplexities]
        pictures["held_out_perplexity"] = plots.lines(at, curves, x_label="step", y_label="held-out perplexity")
    if all(value is not None for value in speed["mfu"]):
        pictures["mfu"] = plots.lines(speed["step"], {"MFU": speed["mfu"]}, x_label="step", y_label="MFU")
    return pictures
