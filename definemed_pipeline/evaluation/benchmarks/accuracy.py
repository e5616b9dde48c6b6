"""Accuracy of the stages of a base model with its uncertainty, from outcomes per question. No model is touched here."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from definemed_pipeline.evaluation.stages import STAGE_PAIRS
from definemed_pipeline.intervals import (
    bootstrap_macro_mean,
    bootstrap_mean,
    bootstrap_p,
    holm,
    mcnemar_p,
    paired_macro_difference,
    wilson,
)

MACRO = "macro_average"
TESTS = ("mcnemar_p", "bootstrap_p")
Right = NDArray[np.bool_]
# outcomes[stage][task]: right or wrong per question, the same questions in the same order for every stage
Outcomes = Mapping[str, Mapping[str, Right]]


def accuracy_of(
    outcomes: Mapping[str, Right], *, resamples: int, seed: int, average: Sequence[str] | None = None
) -> dict[str, Any]:
    """Return the accuracy per task (Wilson and bootstrap intervals) and the unweighted mean over the tasks of `average` (bootstrap), or over all."""
    average = list(outcomes) if average is None else average
    macro = bootstrap_macro_mean([outcomes[task] for task in average], resamples=resamples, seed=seed)
    return {
        **{task: _one_task(right, resamples, seed) for task, right in outcomes.items()},
        MACRO: {"questions": sum(len(outcomes[task]) for task in average), **macro.as_metrics("accuracy")},
    }


def differences_of(
    outcomes: Outcomes, *, resamples: int, seed: int, average: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Return how accuracy differs between stages on the same questions, a row per pair of stages and task (`benchmark`).

    Each has the paired bootstrap's interval and p-value, the exact McNemar p-value, and how many questions were `gained` and `lost`. McNemar's of the
    macro average pools the questions of its tasks; the bootstrap's weighs tasks alike. `…_holm` is corrected for all rows of the table.
    """
    rows = [
        {"before": before, "after": after, "benchmark": task, **_change(first, second, resamples, seed)}
        for before, after in STAGE_PAIRS
        for task, first, second in _compared(outcomes[before], outcomes[after], average)
    ]
    for test in TESTS:
        for row, corrected in zip(rows, holm([row[test] for row in rows]), strict=True):
            row[f"{test}_holm"] = corrected
    return rows


def _one_task(right: Right, resamples: int, seed: int) -> dict[str, Any]:
    bootstrap = bootstrap_mean(right, resamples=resamples, seed=seed)
    return {
        "questions": len(right),
        **wilson(int(right.sum()), len(right)).as_metrics("accuracy"),
        "bootstrap_low": bootstrap.low,
        "bootstrap_high": bootstrap.high,
    }


def _compared(
    before: Mapping[str, Right], after: Mapping[str, Right], average: Sequence[str] | None
) -> list[tuple[str, list[Right], list[Right]]]:
    """Return what is compared: each task by itself, and the macro average as all of its tasks."""
    average = list(before) if average is None else average
    single = [(task, [before[task]], [after[task]]) for task in before]
    return [*single, (MACRO, [before[task] for task in average], [after[task] for task in average])]


def _change(before: list[Right], after: list[Right], resamples: int, seed: int) -> dict[str, Any]:
    first, second = np.concatenate(before), np.concatenate(after)
    return {
        **paired_macro_difference(before, after, resamples=resamples, seed=seed).as_metrics("difference"),
        "bootstrap_p": bootstrap_p(before, after, resamples=resamples, seed=seed),
        "mcnemar_p": mcnemar_p(first, second),
        "gained": int(np.sum(~first & second)),
        "lost": int(np.sum(first & ~second)),
    }
