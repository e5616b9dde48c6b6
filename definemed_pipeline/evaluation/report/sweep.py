"""The merges that were tried on validation items, the Pareto front among them, and the one that was chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from definemed_pipeline.evaluation.report.charts import Axis, Point, axis_around
from definemed_pipeline.evaluation.report.measures import STAGE_NAMES, Range, range_of
from definemed_pipeline.evaluation.report.tracing import Traced, TracedFiles

ENDS = ("base", "cpt")  # measured beside the candidates


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A merge that was tried, or an end it lies between: then it keeps and recovers nothing of itself, and is never chosen."""

    name: str
    accuracy: Range
    answered_properly: Range
    language_mixing: Range
    kept: Traced | None
    recovered: Traced | None
    is_on_front: bool
    is_chosen: bool

    def point(self) -> Point:
        """Return the candidate on the plane of accuracy and proper answers; the chosen one and the ends are named."""
        is_end = self.name in ENDS
        style = self.name if is_end else "chosen" if self.is_chosen else "front" if self.is_on_front else "dominated"
        label = STAGE_NAMES[self.name] if is_end else self.name if self.is_chosen else ""
        return Point(x=self.accuracy, y=self.answered_properly, style=style, label=label)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """The sweep of one base model; `joined` is the front from end to end."""

    base_model: str
    candidates: Sequence[Candidate]
    points: Sequence[Point]
    joined: Sequence[Point]
    x_axis: Axis
    y_axis: Axis
    questions: Traced
    instructions: Traced

    @property
    def description(self) -> str:
        """Say what the chart shows to who does not see it."""
        return f"{self.base_model}: accuracy against instructions answered properly of every merge that was tried; the numbers are in the table below"


def read_sweeps(files: TracedFiles, base_models: Sequence[str]) -> list[Sweep]:
    """Read the sweeps of the base models that were swept."""
    found = ((name, files.rows("merge_sweep", "candidates.parquet", name, key=("model",))) for name in base_models)
    return [_sweep(name, rows) for name, rows in found if rows]


def _sweep(base_model: str, rows: Sequence[Mapping[str, Any]]) -> Sweep:
    candidates = [_candidate(row) for row in rows]
    points = [candidate.point() for candidate in candidates]
    front = [one.point() for one in sorted(candidates, key=lambda one: one.accuracy.value) if one.is_on_front]
    return Sweep(
        base_model=base_model,
        candidates=candidates,
        points=sorted(points, key=lambda point: point.style == "chosen"),  # drawn last, over the others
        joined=front,
        x_axis=axis_around("accuracy, %", [point.x for point in points]),
        y_axis=axis_around("instructions answered properly, %", [point.y for point in points]),
        questions=rows[0]["questions"],
        instructions=rows[0]["instructions"],
    )


def _candidate(row: Mapping[str, Any]) -> Candidate:
    return Candidate(
        name=str(row["model"]),
        accuracy=range_of(row, "accuracy"),
        answered_properly=range_of(row, "answered_properly"),
        language_mixing=range_of(row, "language_mixing"),
        kept=row["accuracy_kept"],
        recovered=row["instruction_following_recovered"],
        is_on_front=bool(row["is_on_front"]),
        is_chosen=row["is_chosen"],
    )
