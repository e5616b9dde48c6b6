"""The work behind the asset `failure_modes`: every answer diagnosed, rates and differences of the stages, the trade-off, examples."""

import json

import polars as pl

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.evaluation.failures.diagnosis import TEXTS, diagnose
from definemed_pipeline.evaluation.failures.examples import draw_examples
from definemed_pipeline.evaluation.failures.rates import failure_differences, failure_rates, measure_differences, measure_means
from definemed_pipeline.evaluation.failures.settings import FailureModesSettings
from definemed_pipeline.evaluation.failures.tradeoffs import tradeoffs
from definemed_pipeline.evaluation.responses import read_responses


def diagnose_responses(draft: Draft[FailureModesSettings]) -> None:
    """Diagnose every response of every model, and weigh what the stages trade.

    Write `failures.parquet` (a row per response, without its texts, with findings by offset), `failure_rates.parquet`,
    `failure_differences.parquet`, `measures.parquet`, `measure_differences.parquet`, `tradeoffs.parquet` and `examples.parquet` (with texts).
    """
    settings = draft.settings
    responses = read_responses(draft)
    draft.report(f"diagnosing {len(responses)} responses")
    diagnosed = diagnose(responses, settings)
    chance = {"resamples": settings.resamples, "seed": settings.seed}
    rates = failure_rates(diagnosed)
    tables = {
        "failures": diagnosed.drop(TEXTS),
        "failure_rates": rates,
        "failure_differences": failure_differences(diagnosed, **chance),
        "measures": measure_means(diagnosed, **chance),
        "measure_differences": measure_differences(diagnosed, **chance),
        "tradeoffs": tradeoffs(diagnosed, _scored(draft), **chance),
        "examples": draw_examples(diagnosed, number=settings.examples, seed=settings.seed),
    }
    for name, table in tables.items():
        table.write_parquet(draft.folder / f"{name}.parquet")
    draft.metrics["responses"] = len(diagnosed)
    for row in rates.iter_rows(named=True):
        name = f"{row['base_model']}_{row['stage']}_{row['failure']}"
        draft.metrics |= {name: row["rate"], f"{name}_low": row["low"], f"{name}_high": row["high"]}


def _scored(draft: Draft[FailureModesSettings]) -> dict[str, pl.DataFrame]:
    """Return the outcomes per question and checked instruction of each base model that was scored, with what counts in the average."""
    columns = ["stage", "task", "question_id", "is_correct"]
    scored = {}
    for base_model in draft.partitions("benchmark_scores"):
        folder = draft.input("benchmark_scores", base_model)
        average = json.loads((folder / "scores.json").read_text("utf-8"))["average"]
        outcomes = pl.concat(
            [pl.read_parquet(folder / f"{name}.parquet", columns=columns) for name in ("questions", "instructions")]
        )
        scored[base_model] = outcomes.with_columns(in_average=pl.col("task").is_in(average))
    return scored
