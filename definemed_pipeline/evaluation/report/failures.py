"""What goes wrong in responses, by stage, with responses to read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from definemed_pipeline.evaluation.effect import FAILURE, only
from definemed_pipeline.evaluation.failures.diagnosis import FAILURES
from definemed_pipeline.evaluation.report.measures import Range, range_of
from definemed_pipeline.evaluation.report.tracing import TracedFiles, TracedText
from definemed_pipeline.evaluation.responses import INSTRUCTION
from definemed_pipeline.evaluation.stages import STAGES


@dataclass(frozen=True, kw_only=True)
class FailureRow:
    """One failure: its rate by stage."""

    name: str
    rates: Mapping[str, Range]


@dataclass(frozen=True, kw_only=True)
class FailureTable:
    """The failures of one base model."""

    base_model: str
    rows: Sequence[FailureRow]


@dataclass(frozen=True, kw_only=True)
class FailedAnswer:
    """One response that shows a failure, of the stage of a base model that shows it most."""

    base_model: str
    stage: str
    failure: str
    instruction: TracedText
    response: TracedText


@dataclass(frozen=True, kw_only=True)
class Example:
    """One instruction with what the stages of a base model answered."""

    base_model: str
    instruction: TracedText
    reference: TracedText
    responses: Mapping[str, TracedText]


def read_failures(files: TracedFiles, base_models: Sequence[str]) -> list[FailureTable]:
    """Read a table per base model, of the failures that could show: a form that was broken has to be asked for."""
    rates = files.rows("failure_modes", "failure_rates.parquet", key=("base_model", "stage", "failure"))
    return [
        FailureTable(
            base_model=name,
            rows=[
                FailureRow(
                    name=failure.replace("_", " "),
                    rates={
                        stage: range_of(
                            only(rates, base_model=name, stage=stage, failure=failure), "rate", low="low", high="high"
                        )
                        for stage in STAGES
                    },
                )
                for failure in FAILURES
                if any(row["failure"] == failure for row in rates)
            ],
        )
        for name in base_models
    ]


def read_failed_answers(files: TracedFiles, tables: Sequence[FailureTable]) -> list[FailedAnswer]:
    """Read for each failure of each base model the first response that was drawn as an example of it; answers read below are not asked for."""
    key = ("base_model", "stage", "failure", *INSTRUCTION)
    drawn = files.rows("failure_modes", "examples.parquet", key=key, where=pl.col("failure") != FAILURE)
    found = []
    for table in tables:
        for row in table.rows:
            failure, stage = row.name.replace(" ", "_"), _worst_stage(row)
            wanted = (table.base_model, stage, failure)
            first = next((one for one in drawn if (one["base_model"], one["stage"], one["failure"]) == wanted), None)
            if first is not None:
                texts = {name: first[name] for name in ("instruction", "response")}
                found.append(FailedAnswer(base_model=table.base_model, stage=stage, failure=row.name, **texts))
    return found


def _worst_stage(row: FailureRow) -> str:
    return max(STAGES, key=lambda stage: row.rates[stage].value)


def read_examples(files: TracedFiles, base_models: Sequence[str], *, examples: int) -> list[Example]:
    """Read of each base model the first instructions that show most: answered properly by the base, not after CPT, and again by the merge.

    Where there are too few of them, those follow that only CPT spoilt, then any.
    """
    return [example for name in base_models for example in _examples_of(files, name, examples)]


def _examples_of(files: TracedFiles, base_model: str, examples: int) -> list[Example]:
    diagnosed = files.rows(
        "failure_modes", "failures.parquet", key=("base_model", "stage", *INSTRUCTION), where=pl.col("base_model") == base_model
    )
    failed: dict[tuple[str, ...], dict[str, bool]] = {}
    for row in diagnosed:
        failed.setdefault(tuple(row[name] for name in INSTRUCTION), {})[row["stage"]] = row[FAILURE]
    chosen = sorted(failed, key=lambda one: (_tells_little(failed[one]), one))[:examples]
    return [_example(files, base_model, one) for one in chosen]


def _tells_little(failed: Mapping[str, bool]) -> int:
    spoilt = failed["cpt"] and not failed["base"]
    return 0 if spoilt and not failed["merged"] else 1 if spoilt else 2


def _example(files: TracedFiles, base_model: str, instruction: tuple[str, ...]) -> Example:
    is_it = pl.all_horizontal(pl.col(name) == value for name, value in zip(INSTRUCTION, instruction, strict=True))
    rows = files.rows("responses", "responses.parquet", base_model, key=("stage", *INSTRUCTION), where=is_it)
    by_stage = {row["stage"]: row for row in rows}
    return Example(
        base_model=base_model,
        instruction=by_stage[STAGES[0]]["instruction"],
        reference=by_stage[STAGES[0]]["reference"],
        responses={stage: by_stage[stage]["response"] for stage in STAGES},
    )
