"""Asset `benchmark_scores`: accuracy of base, CPT and merged model on benchmarks with right answers."""

import json
from typing import Any

import dagster as dg
import polars as pl
import pyarrow.parquet as pq

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
from definemed_pipeline.defs.models.merged_models import merged_models
from definemed_pipeline.defs.partitions import base_model
from definemed_pipeline.defs.resources import Lake
from definemed_pipeline.evaluation.benchmarks.accuracy import MACRO
from definemed_pipeline.evaluation.stages import STAGE_ASSETS, STAGES
from definemed_pipeline.recipe import active_recipe

SECTION = active_recipe().benchmark_scores
SIGNIFICANT = 0.05


@dg.asset(
    group_name="evaluation",
    kinds={"pytorch", "parquet"},
    owners=OWNERS,
    partitions_def=base_model,
    deps=[base_models, cpt_checkpoints, merged_models],
    code_version=code_version("2", SECTION),
    retry_policy=RETRIES,
    check_specs=[
        *blocking(
            "benchmark_scores",
            every_question="Every stage has answered every question of every benchmark.",
            finite="Every log-likelihood is a finite number.",
        ),
        *warning("benchmark_scores", controls_kept="The merged model is on no control shown to be worse than the base."),
    ],
)
def benchmark_scores(context: dg.AssetExecutionContext, lake: Lake, compute: dg.ResourceParam[Compute]) -> dg.MaterializeResult:
    """Accuracy of the three stages, question by question, on the recipe's test questions: 95 % intervals, paired tests corrected for their number.

    Multiple-choice questions go through lm-eval; instructions of the control are answered in chat and checked by rules. `tasks/` in the artifact holds
    every task as lm-eval's own command takes it.
    """
    manifest = build_in_payload(
        context,
        lake,
        compute,
        "definemed_pipeline.evaluation.benchmarks.score",
        section=SECTION,
        inputs=[lake.artifact(asset, context.partition_key) for asset in STAGE_ASSETS.values()],
        sources=lake.sources(SECTION.sources()),
    )
    folder = lake.store.folder(manifest)
    scores, questions = json.loads((folder / "scores.json").read_text("utf-8")), pl.read_parquet(folder / "questions.parquet")
    infinite = int((~questions["log_likelihoods"].explode().is_finite()).sum())
    answers = questions.height + pq.read_metadata(folder / "instructions.parquet").num_rows
    expected = len(STAGES) * manifest.metrics["questions"]
    forgotten = _forgotten(scores)
    return result(
        context,
        lake,
        manifest,
        table="questions.parquet",
        plots={
            "accuracy_by_stage": _accuracy_by_stage(scores, [MACRO]),
            "accuracy_by_task": _accuracy_by_stage(scores, [task for task in scores["accuracy"]["base"] if task != MACRO]),
            "differences": _differences(scores),
            **_published(context.partition_key),
        },
        checks=[
            check("every_question", answers == expected, answers=answers, expected=expected),
            check("finite", infinite == 0, infinite=infinite),
            check("controls_kept", not forgotten, warns=True, forgotten=forgotten),
        ],
    )


def _accuracy_by_stage(scores: dict[str, Any], tasks: list[str]) -> str:
    """Draw the accuracy of each stage on tasks; the macro average carries the bootstrap's interval, a task Wilson's."""
    found = {
        f"{stage}" if tasks == [MACRO] else f"{task}, {stage}": scores["accuracy"][stage][task]
        for task in tasks
        for stage in STAGES
    }
    return plots.bars(
        {name: one["accuracy"] for name, one in found.items()},
        label="accuracy, mean over benchmarks" if tasks == [MACRO] else "accuracy",
        intervals={name: (one["accuracy_low"], one["accuracy_high"]) for name, one in found.items()},
    )


def _differences(scores: dict[str, Any]) -> str:
    columns = ("before", "after", "benchmark", "difference", "difference_low", "difference_high", "gained", "lost")
    tests = ("mcnemar_p_holm", "bootstrap_p_holm")
    rows = [
        {**{name: row[name] for name in columns}, **{name: float(f"{row[name]:.2g}") for name in tests}}
        for row in scores["differences"]
    ]
    return plots.table(pl.DataFrame(rows).with_columns(pl.col("^difference.*$").round(4)))


def _forgotten(scores: dict[str, Any]) -> list[str]:
    """Return the tasks outside of the average on which the merged model is shown to be worse than the base."""
    return [
        row["benchmark"]
        for row in scores["differences"]
        if (row["before"], row["after"]) == ("base", "merged")
        and row["benchmark"] not in (*scores["average"], MACRO)
        and row["difference"] < 0
        and row["bootstrap_p_holm"] < SIGNIFICANT
    ]


def _published(base_model: str) -> dict[str, str]:
    """Return what others published on this base model as a table, where the recipe tells of any."""
    own = [one for one in active_recipe().report.published if one.base_model == base_model]
    rows = [{"published model": one.model, "stage": one.stage, "accuracy": one.accuracy, "source": one.source} for one in own]
    return {"published": f"{plots.table(pl.DataFrame(rows))}\n\nNot measured here, and on other questions."} if rows else {}
