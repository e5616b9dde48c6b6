"""Win rates: every model against every other, and against the recipe's opponent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from definemed_pipeline.evaluation.report.measures import STAGE_NAMES, Range, range_of
from definemed_pipeline.evaluation.report.tracing import TracedFiles, TracedText

PAIR = ("base_model", "stage", "opponent_base_model", "opponent_stage")
Model = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class WinRates:
    """Win rates of the row's model against the column's, over `models` in their order."""

    models: Sequence[Model]
    cells: Mapping[tuple[Model, Model], Range]
    opponent: Model
    judge: TracedText

    @staticmethod
    def name(model: Model) -> str:
        """Return a model's name as the page writes it."""
        return f"{model[0]} {STAGE_NAMES[model[1]]}"


def read_win_rates(files: TracedFiles) -> WinRates:
    """Read the win rates of all pairs."""
    rows = files.rows("win_rates", "win_rates.parquet", key=PAIR)
    cells = {
        ((row["base_model"], row["stage"]), (row["opponent_base_model"], row["opponent_stage"])): range_of(
            row, "win_rate", low="low", high="high"
        )
        for row in rows
    }
    settings = files.manifest("win_rates")["identity"]["settings"]
    return WinRates(
        models=list(dict.fromkeys(model for model, _ in cells)),
        cells=cells,
        opponent=(str(settings["opponent_base_model"]), str(settings["opponent_stage"])),
        judge=settings["judge"]["kind"],
    )
