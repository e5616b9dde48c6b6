"""The verdict: whether the paper's effect shows, in words made from the measured claims, and the plane it is a path in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from definemed_pipeline.evaluation.benchmarks.accuracy import MACRO
from definemed_pipeline.evaluation.effect import FAILURE, Claim, effect_of, only
from definemed_pipeline.evaluation.report.charts import Axis, Point, axis_around
from definemed_pipeline.evaluation.report.measures import STAGE_NAMES, range_of
from definemed_pipeline.evaluation.report.tracing import TracedFiles
from definemed_pipeline.evaluation.stages import STAGES


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One claim of the effect over all base models."""

    claim: str
    by_model: Mapping[str, Claim]

    @property
    def shown_for(self) -> str:
        """Say for which base models the claim holds, without a number."""
        shown = [name for name, claim in self.by_model.items() if claim.holds]
        missing = [name for name in self.by_model if name not in shown]
        if not shown:
            return "not shown"
        return "shown" if not missing else f"shown for {_listed(shown)}, not for {_listed(missing)}"

    @property
    def mark(self) -> str:
        """Return yes, partly or no."""
        holding = [claim.holds for claim in self.by_model.values()]
        return "yes" if all(holding) else "partly" if any(holding) else "no"


@dataclass(frozen=True, kw_only=True)
class Plane:
    """The stages of a base model by accuracy (x) and share of instructions answered properly (y)."""

    base_model: str
    points: Sequence[Point]
    x_axis: Axis
    y_axis: Axis

    @property
    def description(self) -> str:
        """Say what the chart shows to who does not see it."""
        return f"{self.base_model}: from base over CPT to merged, accuracy against instructions answered properly; the numbers are in the tables below"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the page says first."""

    headline: str
    findings: Sequence[Finding]
    planes: Sequence[Plane]


def read_verdict(files: TracedFiles, base_models: Sequence[str]) -> Verdict:
    """Read the claims of every base model."""
    rates = files.rows("failure_modes", "failure_rates.parquet", key=("base_model", "stage", "failure"))
    changes = files.rows("failure_modes", "failure_differences.parquet", key=("base_model", "failure", "before", "after"))
    scores = {name: files.document("benchmark_scores", "scores.json", name) for name in base_models}
    proper = {name: [row for row in rates if (row["base_model"], row["failure"]) == (name, FAILURE)] for name in base_models}
    claims = {
        name: effect_of(
            scores[name],
            proper={row["stage"]: 1 - row["rate"] for row in proper[name]},
            failure_differences=[row for row in changes if (row["base_model"], row["failure"]) == (name, FAILURE)],
        )
        for name in base_models
    }
    findings = [
        Finding(claim=one.claim, by_model={name: claims[name][number] for name in base_models})
        for number, one in enumerate(claims[base_models[0]])
    ]
    points = {name: _points(scores[name], proper[name]) for name in base_models}
    return Verdict(headline=headline_of(claims), findings=findings, planes=_planes(points))


def headline_of(claims: Mapping[str, Sequence[Claim]]) -> str:
    """Say for which base models the whole effect shows, a part of it, or nothing."""
    whole = [name for name, found in claims.items() if all(claim.holds for claim in found)]
    none = [name for name, found in claims.items() if not any(claim.holds for claim in found)]
    part = [name for name in claims if name not in whole and name not in none]
    if len(whole) == len(claims):
        return "The paper’s effect shows for every base model." if len(claims) > 1 else "The paper’s effect shows."
    if len(none) == len(claims):
        return "The paper’s effect does not show."
    said = [("in full", whole), ("in part", part), ("not at all", none)]
    return f"The paper’s effect shows {', '.join(f'{how} for {_listed(names)}' for how, names in said if names)}."


def _points(scores: Mapping[str, Any], proper: Sequence[Mapping[str, Any]]) -> list[Point]:
    return [
        Point(
            x=range_of(scores["accuracy"][stage][MACRO], "accuracy"),
            y=range_of(only(proper, stage=stage), "rate", low="low", high="high").complement(),
            style=stage,
            label=STAGE_NAMES[stage],
        )
        for stage in STAGES
    ]


def _planes(points: Mapping[str, Sequence[Point]]) -> list[Plane]:
    """Return one plane per base model, all on one scale: they are compared by looking."""
    every = [point for found in points.values() for point in found]
    x_axis = axis_around("accuracy, %", [point.x for point in every])
    y_axis = axis_around("instructions answered properly, %", [point.y for point in every])
    return [Plane(base_model=name, points=found, x_axis=x_axis, y_axis=y_axis) for name, found in points.items()]


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
