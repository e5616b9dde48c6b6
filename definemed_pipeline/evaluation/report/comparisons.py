"""Win rates: every model against every other, as judged and at equal length."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from definemed_pipeline.evaluation.report.measures import STAGE_NAMES, Range, range_of
from definemed_pipeline.evaluation.report.tracing import TracedFiles, TracedText

PAIR = ("base_model", "stage", "opponent_base_model", "opponent_stage")
Model = tuple[str, str]
Matrix = Mapping[tuple[Model, Model], Range | None]  # None where no verdict could be read


@dataclass(frozen=True, kw_only=True)
class WinRates:
    """Win rates of the row's model against the column's, over `models` in their order, by what they are called; who judged, and how reliably.

    `strengths` are in log odds against the opponent, strongest first; `people` says how judge and human votes agree, where there are any.
    """

    models: Sequence[Model]
    matrices: Mapping[str, Matrix]
    strengths: Mapping[Model, Range]
    opponent: Model
    judge: TracedText
    kin: TracedText | None
    reliability: Mapping[str, Any]
    people: Mapping[str, Any] | None

    @staticmethod
    def name(model: Model) -> str:
        """Return a model's name as the page writes it."""
        return f"{model[0]} {STAGE_NAMES[model[1]]}"


def read_win_rates(files: TracedFiles) -> WinRates:
    """Read the win rates of all pairs."""
    rows = files.rows("win_rates", "win_rates.parquet", key=PAIR)
    manifest = files.manifest("win_rates")
    settings = manifest["identity"]["settings"]
    return WinRates(
        models=list(dict.fromkeys((row["base_model"], row["stage"]) for row in rows)),
        matrices={
            "As judged": _matrix(rows, "win_rate", "low", "high"),
            "At equal length": _matrix(rows, "length_controlled", "length_controlled_low", "length_controlled_high"),
        },
        strengths={
            (row["base_model"], row["stage"]): range_of(row, "strength", low="low", high="high")
            for row in files.rows("win_rates", "strengths.parquet", key=("base_model", "stage"))
        },
        opponent=(str(settings["opponent_base_model"]), str(settings["opponent_stage"])),
        judge=settings["judge"].get("endpoint", {}).get("model", settings["judge"]["kind"]),
        kin=manifest["metrics"].get("kin_of_judge"),
        reliability=manifest["metrics"],
        people=files.document("win_rates", "human_agreement.json") if files.has("win_rates", "human_agreement.json") else None,
    )


def _matrix(rows: Sequence[Mapping[str, Any]], value: str, low: str, high: str) -> Matrix:
    return {
        ((row["base_model"], row["stage"]), (row["opponent_base_model"], row["opponent_stage"])): None
        if row[value] is None
        else range_of(row, value, low=low, high=high)
        for row in rows
    }
