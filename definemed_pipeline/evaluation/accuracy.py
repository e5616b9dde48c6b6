"""Accuracy of the stages of a base model with its uncertainty, from outcomes per question. No model is touched here."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from definemed_pipeline.evaluation.stages import STAGE_PAIRS
from definemed_pipeline.intervals import (
    bootstrap_macro_mean,
    bootstrap_mean,
    mcnemar_p,
    paired_difference,
    paired_macro_difference,
    wilson,
)

MACRO = "macro_average"
# outcomes[stage][benchmark]: right or wrong per question, the same questions in the same order for every stage
Outcomes = Mapping[str, Mapping[str, NDArray[np.bool_]]]


def accuracy_of(benchmarks: Mapping[str, NDArray[np.bool_]], *, resamples: int, seed: int) -> dict[str, Any]:
    """Return the accuracy per benchmark (Wilson and bootstrap intervals) and their unweighted average (bootstrap)."""
    macro = bootstrap_macro_mean(list(benchmarks.values()), resamples=resamples, seed=seed)
    return {
        **{name: _one_benchmark(outcomes, resamples, seed) for name, outcomes in benchmarks.items()},
        MACRO: {"questions": sum(map(len, benchmarks.values())), **macro.as_metrics("accuracy")},
    }


def differences_of(outcomes: Outcomes, *, resamples: int, seed: int) -> list[dict[str, Any]]:
    """Return how accuracy differs between stages on the same questions: paired bootstrap interval and exact McNemar p-value.

    The p-value of the macro average pools the questions of all benchmarks.
    """
    return [
        {"before": before, "after": after, "benchmark": benchmark, **change}
        for before, after in STAGE_PAIRS
        for benchmark, change in _changes(outcomes[before], outcomes[after], resamples, seed).items()
    ]


def _one_benchmark(outcomes: NDArray[np.bool_], resamples: int, seed: int) -> dict[str, Any]:
    bootstrap = bootstrap_mean(outcomes, resamples=resamples, seed=seed)
    return {
        "questions": len(outcomes),
        **wilson(int(outcomes.sum()), len(outcomes)).as_metrics("accuracy"),
        "bootstrap_low": bootstrap.low,
        "bootstrap_high": bootstrap.high,
    }


def _changes(
    before: Mapping[str, NDArray[np.bool_]], after: Mapping[str, NDArray[np.bool_]], resamples: int, seed: int
) -> dict[str, dict[str, float]]:
    changes = {}
    for name in before:
        difference = paired_difference(before[name], after[name], resamples=resamples, seed=seed)
        changes[name] = {**difference.as_metrics("difference"), "mcnemar_p": mcnemar_p(before[name], after[name])}
    first, second = list(before.values()), [after[name] for name in before]
    macro = paired_macro_difference(first, second, resamples=resamples, seed=seed)
    pooled = mcnemar_p(np.concatenate(first), np.concatenate(second))
    changes[MACRO] = {**macro.as_metrics("difference"), "mcnemar_p": pooled}
    return changes
