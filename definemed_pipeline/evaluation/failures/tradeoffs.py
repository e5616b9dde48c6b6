"""What continual pre-training gave and cost a base model, what the merge kept and recovered of it, and what it brought in: one table.

Each row is a measure of the three stages on the same questions or instructions, with the paired changes between them. A gain or cost of continual
pre-training is one whose 95 % interval excludes zero; only of such a one a share kept or recovered by the merge is told. What the merge
brought in is worse in the merged model than in both others, in that sense. Intervals are of one comparison each and not corrected for their number.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from definemed_pipeline.evaluation.failures.diagnosis import FAILURES
from definemed_pipeline.evaluation.stages import STAGES
from definemed_pipeline.intervals import Estimate, bootstrap_macro_mean, paired_macro_difference, paired_macro_ratio, wilson

Unit = Literal["share", "ratio", "words"]
Strata = Sequence[NDArray[np.float64]]  # of one stage: values of units, by stratum
CHANGES = {"cpt_change": ("base", "cpt"), "merge_change": ("cpt", "merged"), "total_change": ("base", "merged")}
PARTS = ("", "_low", "_high")
SCHEMA = {
    "base_model": pl.String,
    "measure": pl.String,
    "unit": pl.String,
    "better": pl.String,
    "units": pl.Int64,
    **{f"{name}{part}": pl.Float64 for name in (*STAGES, *CHANGES) for part in PARTS},
    "cpt_effect": pl.String,
    "merge_effect": pl.String,
    **{f"merge_share{part}": pl.Float64 for part in PARTS},
}


@dataclass(frozen=True, kw_only=True)
class Measure:
    """Something measured of the same units at every stage; `strata` are averaged with equal weights, as benchmarks are."""

    name: str
    unit: Unit
    better: Literal["higher", "lower"]
    strata: Mapping[str, Strata]

    def is_better(self, change: Estimate) -> bool:
        return change.low > 0 if self.better == "higher" else change.high < 0

    def is_worse(self, change: Estimate) -> bool:
        return change.high < 0 if self.better == "higher" else change.low > 0


def tradeoffs(diagnosed: pl.DataFrame, scored: Mapping[str, pl.DataFrame], *, resamples: int, seed: int) -> pl.DataFrame:
    """Return the table, one row per base model and measure; see `SCHEMA`.

    `diagnosed` is by `diagnose`; `scored` holds per base model `stage`, `task`, `question_id`, `is_correct` and `in_average`: the tasks in the average
    make `accuracy`, every other is a control by its own name. `merge_share` is of what CPT changed: kept of a gain, recovered of a cost; it may be
    below 0 or above 1. Fewer words count as better, since verbosity is what the paper complains of.
    """
    rows = [
        {"base_model": base_model, **_row(measure, resamples, seed)}
        for (base_model,), answers in diagnosed.sort("base_model").group_by("base_model", maintain_order=True)
        for measure in [*_of_scores(scored.get(str(base_model))), *_of_answers(answers)]
    ]
    return pl.DataFrame(rows, schema=SCHEMA)


def _of_scores(scored: pl.DataFrame | None) -> Iterator[Measure]:
    if scored is None:
        return
    yield _accuracy("accuracy", scored.filter("in_average"))
    for (task,), rows in scored.filter(~pl.col("in_average")).sort("task").group_by("task", maintain_order=True):
        yield _accuracy(f"control {task}", rows)


def _accuracy(name: str, scored: pl.DataFrame) -> Measure:
    ordered = scored.sort("task", "question_id")
    strata = {
        stage: [rows["is_correct"].to_numpy().astype(np.float64) for rows in ordered.filter(stage=stage).partition_by("task")]
        for stage in STAGES
    }
    return Measure(name=name, unit="share", better="higher", strata=strata)


def _of_answers(answers: pl.DataFrame) -> Iterator[Measure]:
    columns: list[tuple[str, Unit, Literal["higher", "lower"], pl.Expr]] = [
        ("answered_properly", "share", "higher", ~pl.col("not_answered_properly")),
        *((failure, "share", "lower", pl.col(failure)) for failure in FAILURES if failure != "not_answered_properly"),
        ("words", "words", "lower", pl.col("words")),
        ("words_to_reference", "ratio", "lower", pl.col("words_to_reference")),
        ("foreign_share", "share", "lower", pl.col("foreign_share")),
    ]
    stages = {stage: answers.filter(stage=stage) for stage in STAGES}
    for name, unit, better, expression in columns:
        values = pl.DataFrame(
            {stage: rows.select(expression.alias(name))[name].cast(pl.Float64) for stage, rows in stages.items()}
        )
        values = values.drop_nulls()
        if len(values):
            yield Measure(name=name, unit=unit, better=better, strata={stage: [values[stage].to_numpy()] for stage in STAGES})


def _row(measure: Measure, resamples: int, seed: int) -> dict[str, Any]:
    changes = {
        name: paired_macro_difference(measure.strata[before], measure.strata[after], resamples=resamples, seed=seed)
        for name, (before, after) in CHANGES.items()
    }
    estimates = {stage: _estimate(measure, stage, resamples, seed) for stage in STAGES} | changes
    cpt_effect = (
        "gain"
        if measure.is_better(changes["cpt_change"])
        else "cost"
        if measure.is_worse(changes["cpt_change"])
        else "none shown"
    )
    share = None if cpt_effect == "none shown" else _merge_share(measure, cpt_effect, resamples, seed)
    return {
        "measure": measure.name,
        "unit": measure.unit,
        "better": measure.better,
        "units": sum(map(len, measure.strata["base"])),
        **{key: value for name, estimate in estimates.items() for key, value in estimate.as_metrics(name).items()},
        "cpt_effect": cpt_effect,
        "merge_effect": _merge_effect(measure, changes, cpt_effect),
        **(dict.fromkeys(f"merge_share{part}" for part in PARTS) if share is None else share.as_metrics("merge_share")),
    }


def _estimate(measure: Measure, stage: str, resamples: int, seed: int) -> Estimate:
    """Estimate a share of one stratum with Wilson's interval where it counts yes and no, else a mean by bootstrap."""
    strata = measure.strata[stage]
    if measure.unit == "share" and len(strata) == 1 and np.isin(strata[0], (0.0, 1.0)).all():
        return wilson(int(strata[0].sum()), len(strata[0]))
    return bootstrap_macro_mean(strata, resamples=resamples, seed=seed)


def _merge_share(measure: Measure, cpt_effect: str, resamples: int, seed: int) -> Estimate:
    """Return the share of what CPT gave that the merge kept, (merged - base) / (cpt - base), or of what it cost that came back."""
    base, cpt, merged = (measure.strata[stage] for stage in STAGES)
    start, end = (base, cpt) if cpt_effect == "gain" else (cpt, base)
    parts = [after - before for before, after in zip(start, merged, strict=True)]
    wholes = [after - before for before, after in zip(start, end, strict=True)]
    return paired_macro_ratio(parts, wholes, resamples=resamples, seed=seed)


def _merge_effect(measure: Measure, changes: Mapping[str, Estimate], cpt_effect: str) -> str:
    """Say what the merge did: "brought in" what is worse than before and than after CPT, "gave" what is better than both."""
    merge, total = changes["merge_change"], changes["total_change"]
    if measure.is_worse(merge) and measure.is_worse(total):
        return "brought in"
    if measure.is_better(merge) and measure.is_better(total):
        return "gave"
    return {"gain": "kept", "cost": "recovered"}.get(cpt_effect, "none shown")


def readable(table: pl.DataFrame) -> pl.DataFrame:
    """Return the table as text: shares in %, changes in points, 95 % intervals in brackets, and what CPT and the merge did in words."""
    return pl.DataFrame([_in_words(row) for row in table.iter_rows(named=True)], schema=dict.fromkeys(READABLE, pl.String))


READABLE = ("base model", "measure", *STAGES, "base → cpt", "base → merged", "CPT", "merge")


def _in_words(row: Mapping[str, Any]) -> dict[str, str]:
    measure = row["measure"].replace("_", " ")
    shown, change = _FORMATS[row["unit"]]
    share = "" if row["merge_share"] is None else f" {_interval(row, 'merge_share', _percent)} %"
    merge = row["merge_effect"] + (share if row["merge_effect"] in ("kept", "recovered") else "")
    return {
        "base model": row["base_model"],
        "measure": f"{measure}, %" if row["unit"] == "share" else measure,
        **{stage: _interval(row, stage, shown) for stage in STAGES},
        "base → cpt": _interval(row, "cpt_change", change),
        "base → merged": _interval(row, "total_change", change),
        "CPT": row["cpt_effect"],
        "merge": merge,
    }


def in_brief(table: pl.DataFrame) -> pl.DataFrame:
    """Return the readable table for a narrow page: bare values, and what CPT and the merge did with the change or share that shows it."""
    return pl.DataFrame([_in_brief(row) for row in table.iter_rows(named=True)], schema=dict.fromkeys(BRIEF, pl.String))


BRIEF = ("base model", "measure", *STAGES, "what CPT did", "what the merge did")


def _in_brief(row: Mapping[str, Any]) -> dict[str, str]:
    words = _in_words(row)
    shown, _ = _FORMATS[row["unit"]]
    is_told = row["merge_effect"] in ("gave", "brought in")
    return {
        **{name: words[name] for name in ("base model", "measure")},
        **{stage: shown(row[stage]) for stage in STAGES},
        "what CPT did": "-" if row["cpt_effect"] == "none shown" else f"{words['CPT']} {words['base → cpt']}",
        "what the merge did": "-"
        if words["merge"] == "none shown"
        else f"{words['merge']}{' ' + words['base → merged'] if is_told else ''}",
    }


def _interval(row: Mapping[str, Any], name: str, written: Callable[[float], str]) -> str:
    return f"{written(row[name])} [{written(row[f'{name}_low'])}, {written(row[f'{name}_high'])}]"


def _percent(value: float) -> str:
    return f"{100 * value:.0f}"


_FORMATS: dict[str, tuple[Callable[[float], str], Callable[[float], str]]] = {
    "share": (lambda value: f"{100 * value:.1f}", lambda value: f"{100 * value + 0.0:+.1f}"),
    "ratio": (lambda value: f"{value:.2f}", lambda value: f"{value + 0.0:+.2f}"),
    "words": (lambda value: f"{value:.0f}", lambda value: f"{value + 0.0:+.1f}"),
}
