"""How often each failure shows and how large each measure is, per model with intervals, and how the stages differ, paired by instruction."""

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from definemed_pipeline.evaluation.failures.diagnosis import FAILURES, MEASURES
from definemed_pipeline.evaluation.responses import MODEL
from definemed_pipeline.evaluation.stages import STAGE_PAIRS
from definemed_pipeline.intervals import bootstrap_mean, mcnemar_p, paired_difference, wilson

INTERVAL = {"low": pl.Float64, "high": pl.Float64, "responses": pl.Int64}
MODEL_SCHEMA = dict.fromkeys(MODEL, pl.String)
PAIR_SCHEMA = {"base_model": pl.String, "before": pl.String, "after": pl.String}


def failure_rates(diagnosed: pl.DataFrame) -> pl.DataFrame:
    """Return the rate of each failure per model with Wilson's interval, over the responses that could show it; `diagnosed` is by `diagnose`."""
    rows = []
    for name, column, values in _columns(diagnosed, FAILURES):
        rate = wilson(int(values.sum()), len(values))
        rows.append({**name, "failure": column, "rate": rate.value, "low": rate.low, "high": rate.high, "responses": len(values)})
    return pl.DataFrame(rows, schema={**MODEL_SCHEMA, "failure": pl.String, "rate": pl.Float64, **INTERVAL})


def measure_means(diagnosed: pl.DataFrame, *, resamples: int, seed: int) -> pl.DataFrame:
    """Return mean (with a bootstrap interval over instructions) and median of each measure per model, over the responses that have it."""
    rows = []
    for name, column, values in _columns(diagnosed, MEASURES):
        mean = bootstrap_mean(values, resamples=resamples, seed=seed)
        measured = {"mean": mean.value, "median": values.median(), "low": mean.low, "high": mean.high}
        rows.append({**name, "measure": column, **measured, "responses": len(values)})
    return pl.DataFrame(rows, schema={**MODEL_SCHEMA, "measure": pl.String, "mean": pl.Float64, "median": pl.Float64, **INTERVAL})


def failure_differences(diagnosed: pl.DataFrame, *, resamples: int, seed: int) -> pl.DataFrame:
    """Return how the rate of each failure differs between the stages of a base model (paired bootstrap; exact McNemar test)."""
    rows = [
        {**pair, "failure": name, **_change(both, resamples, seed), "mcnemar_p": mcnemar_p(both["before"], both["after"])}
        for pair, name, both in _pairs(diagnosed, FAILURES)
    ]
    return pl.DataFrame(
        rows, schema={**PAIR_SCHEMA, "failure": pl.String, "difference": pl.Float64, **INTERVAL, "mcnemar_p": pl.Float64}
    )


def measure_differences(diagnosed: pl.DataFrame, *, resamples: int, seed: int) -> pl.DataFrame:
    """Return how the mean of each measure differs between the stages of a base model (paired bootstrap)."""
    rows = [{**pair, "measure": name, **_change(both, resamples, seed)} for pair, name, both in _pairs(diagnosed, MEASURES)]
    return pl.DataFrame(rows, schema={**PAIR_SCHEMA, "measure": pl.String, "difference": pl.Float64, **INTERVAL})


def _columns(diagnosed: pl.DataFrame, columns: tuple[str, ...]) -> Iterator[tuple[Mapping[str, Any], str, pl.Series]]:
    """Yield per model and column the values that are there, as long as there are any."""
    for model, rows in diagnosed.group_by(*MODEL, maintain_order=True):
        for column in sorted(columns):
            values = rows[column].drop_nulls()
            if len(values):
                yield dict(zip(MODEL, model, strict=True)), column, values


def _pairs(diagnosed: pl.DataFrame, columns: tuple[str, ...]) -> Iterator[tuple[Mapping[str, Any], str, pl.DataFrame]]:
    """Yield per base model, pair of stages and column the values (`before`, `after`) of the instructions where both are there."""
    for (base_model,), rows in diagnosed.group_by("base_model", maintain_order=True):
        stages = rows.partition_by("stage", as_dict=True)
        for before, after in STAGE_PAIRS:
            for column in columns:
                both = pl.DataFrame({"before": stages[before,][column], "after": stages[after,][column]}).drop_nulls()
                if len(both):
                    yield {"base_model": base_model, "before": before, "after": after}, column, both


def _change(both: pl.DataFrame, resamples: int, seed: int) -> Mapping[str, Any]:
    change = paired_difference(both["before"], both["after"], resamples=resamples, seed=seed)
    return {"difference": change.value, "low": change.low, "high": change.high, "responses": len(both)}
