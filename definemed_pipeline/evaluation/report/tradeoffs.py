"""What the stages trade: what CPT gave and cost, what the merge kept, recovered and brought in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from definemed_pipeline.evaluation.report.measures import Range, range_of
from definemed_pipeline.evaluation.report.tracing import TracedFiles, TracedText
from definemed_pipeline.evaluation.stages import STAGES

# How a value and a change of each unit are written (see `styles`).
WRITTEN = {"share": ("percent", "points"), "ratio": ("ratio", "signed_ratio"), "words": ("words", "signed_words")}
UNITS = {"share": "%", "ratio": "", "words": ""}


@dataclass(frozen=True, kw_only=True)
class Tradeoff:
    """One measure at the three stages, what CPT did to it and what the merge did."""

    name: str
    unit: str
    better: TracedText
    value_style: str
    change_style: str
    stages: Mapping[str, Range]
    cpt_change: Range
    cpt_effect: TracedText
    total_change: Range
    merge_effect: TracedText
    merge_share: Range | None


def read_tradeoffs(files: TracedFiles) -> Mapping[str, Sequence[Tradeoff]]:
    """Read the table by base model."""
    found: dict[str, list[Tradeoff]] = {}
    for row in files.rows("failure_modes", "tradeoffs.parquet", key=("base_model", "measure")):
        found.setdefault(row["base_model"], []).append(_tradeoff(row))
    return found


def _tradeoff(row: Mapping[str, Any]) -> Tradeoff:
    value_style, change_style = WRITTEN[row["unit"]]
    is_told = row["merge_share"] is not None and row["merge_effect"] in ("kept", "recovered")
    return Tradeoff(
        name=row["measure"].replace("_", " "),
        unit=UNITS[row["unit"]],
        better=row["better"],
        value_style=value_style,
        change_style=change_style,
        stages={stage: range_of(row, stage) for stage in STAGES},
        cpt_change=range_of(row, "cpt_change"),
        cpt_effect=row["cpt_effect"],
        total_change=range_of(row, "total_change"),
        merge_effect=row["merge_effect"],
        merge_share=range_of(row, "merge_share") if is_told else None,
    )
