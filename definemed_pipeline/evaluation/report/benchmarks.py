"""Accuracy of the stages on the benchmarks, and how it changes from stage to stage on the same questions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from definemed_pipeline.evaluation.benchmarks.accuracy import MACRO
from definemed_pipeline.evaluation.effect import only
from definemed_pipeline.evaluation.report.measures import P_VALUES, Range, range_of
from definemed_pipeline.evaluation.report.tracing import Traced, TracedFiles
from definemed_pipeline.evaluation.stages import STAGE_PAIRS, STAGES

AVERAGE = "average"


@dataclass(frozen=True, kw_only=True)
class BenchmarkRow:
    """One benchmark, or the average of all: accuracy by stage, changes by pair of stages, what was published by stage."""

    name: str
    questions: Traced
    accuracy: Mapping[str, Range]
    changes: Mapping[tuple[str, str], Range]
    published: Mapping[str, Traced]
    is_control: bool


@dataclass(frozen=True, kw_only=True)
class BenchmarkTable:
    """The benchmarks of one base model."""

    base_model: str
    metric: str
    rows: Sequence[BenchmarkRow]
    is_corrected: bool  # p-values, for the number of comparisons


def read_benchmarks(
    files: TracedFiles, base_models: Sequence[str], published: Sequence[Mapping[str, Any]]
) -> list[BenchmarkTable]:
    """Read a table per base model; `published` are the recipe's figures of the paper (see `ReportSettings`)."""
    return [_table(files.document("benchmark_scores", "scores.json", name), name, published) for name in base_models]


def _table(scores: Mapping[str, Any], base_model: str, published: Sequence[Mapping[str, Any]]) -> BenchmarkTable:
    figures = {one["stage"]: one["accuracy"] for one in published if one["base_model"] == base_model}
    names = sorted(name for name in scores["accuracy"][STAGES[0]] if name != MACRO)
    shown = [*([MACRO] if len(names) > 1 or figures else []), *names]
    rows = [_row(scores, name, figures if name == MACRO else {}) for name in shown]
    is_corrected = P_VALUES[0] in scores["differences"][0]
    return BenchmarkTable(base_model=base_model, metric=str(scores["metric"]), rows=rows, is_corrected=is_corrected)


def _row(scores: Mapping[str, Any], name: str, published: Mapping[str, Traced]) -> BenchmarkRow:
    by_stage = {stage: scores["accuracy"][stage][name] for stage in STAGES}
    return BenchmarkRow(
        name=AVERAGE if name == MACRO else name.replace("_", " "),
        questions=by_stage[STAGES[0]]["questions"],
        accuracy={stage: range_of(values, "accuracy") for stage, values in by_stage.items()},
        changes={
            (before, after): range_of(only(scores["differences"], before=before, after=after, benchmark=name), "difference")
            for before, after in STAGE_PAIRS
        },
        published=published,
        is_control=name not in (MACRO, *scores.get("average", [name])),
    )
