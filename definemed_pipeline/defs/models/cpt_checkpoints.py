"""Asset `cpt_checkpoints`: base models after continual pre-training on FineMed-de."""

import json
import math

import dagster as dg

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
    code_version=code_version("1", SECTION),
    retry_policy=RETRIES,
    check_specs=blocking(
        "cpt_checkpoints",
        finite_loss="The last loss is a finite number.",
        same_vocabulary="The checkpoint has the base model's vocabulary.",
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
    log = [json.loads(line) for line in (lake.store.folder(manifest) / "log.jsonl").read_text().splitlines()]
    vocabulary, expected = manifest.metrics["vocabulary_size"], base.metrics["vocabulary_size"]
    return result(
        context,
        lake,
        manifest,
        plots={
            "loss_curve": plots.lines(
                [entry["step"] for entry in log], {"loss": [entry["loss"] for entry in log]}, x_label="step", y_label="loss"
            )
        },
        checks=[
            check("finite_loss", math.isfinite(log[-1]["loss"]), loss=log[-1]["loss"]),
            check("same_vocabulary", vocabulary == expected, found=vocabulary, expected=expected),
        ],
    )
