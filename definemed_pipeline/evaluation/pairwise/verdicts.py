"""The verdicts of all pairs of models on all instructions, each pair in both orders: what judges return and statistics start from."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from definemed_pipeline.evaluation.responses import INSTRUCTION, MODEL

Model = tuple[str, str]  # base model and stage
Pair = tuple[Model, Model]
ORDERS = ("first", "second")  # where the answer of a pair's first model stood
NAMES = {1.0: "win", 0.5: "tie", 0.0: "loss"}


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Who answered what: `texts` and `is_ended` have shape (models, instructions), models and instructions sorted."""

    models: list[Model]
    instructions: pl.DataFrame
    texts: NDArray[np.object_]
    is_ended: NDArray[np.bool_]

    @property
    def pairs(self) -> list[Pair]:
        """Return every pair of different models once."""
        return list(combinations(self.models, 2))

    def index(self, model: Model) -> int:
        """Return the row of a model."""
        return self.models.index(model)


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """What a judge said on `contest.pairs`.

    `scores` has shape (pairs, instructions, orders): 1 where the pair's first model won, 0.5 for a tie, 0 where it lost, NaN where the verdict
    could not be read. `said` holds the judge's own words in the same shape, `is_asked` whether it was asked at all: equal answers are a tie
    without asking.
    """

    contest: Contest
    scores: NDArray[np.float64]
    said: NDArray[np.object_]
    is_asked: NDArray[np.bool_]

    @property
    def by_instruction(self) -> NDArray[np.float64]:
        """Return the mean of both orders, of shape (pairs, instructions).

        It is NaN where either could not be read: one order alone would carry the judge's preference for a position into the rate.
        """
        return self.scores.mean(axis=2)

    def table(self) -> pl.DataFrame:
        """Return one row per pair, instruction and order."""
        contest = self.contest
        count = contest.instructions.height
        return pl.concat(
            contest.instructions.select(INSTRUCTION).with_columns(
                *_named(one, other, count),
                pl.Series("order", [ORDERS[order]] * count),
                pl.Series("verdict", [NAMES.get(score) for score in self.scores[pair, :, order].tolist()], dtype=pl.String),
                pl.Series("is_asked", self.is_asked[pair, :, order]),
                pl.Series("said", self.said[pair, :, order].tolist(), dtype=pl.String),
            )
            for pair, (one, other) in enumerate(contest.pairs)
            for order in range(len(ORDERS))
        )


def contest_of(responses: pl.DataFrame) -> Contest:
    """Lay out complete responses, as `read_responses` returns them, by model and instruction."""
    models = [(str(base_model), str(stage)) for base_model, stage in responses.select(MODEL).unique().sort(MODEL).iter_rows()]
    columns = [*INSTRUCTION, "instruction", "reference"]
    instructions = responses.filter(base_model=models[0][0], stage=models[0][1]).select(columns).sort(INSTRUCTION)
    ordered = responses.sort(*MODEL, *INSTRUCTION)
    shape = (len(models), instructions.height)
    return Contest(
        models=models,
        instructions=instructions,
        texts=np.array(ordered["response"].to_list(), dtype=object).reshape(shape),
        is_ended=ordered["is_ended"].to_numpy().reshape(shape),
    )


def _named(one: Model, other: Model, count: int) -> list[pl.Series]:
    names = {"base_model": one[0], "stage": one[1], "opponent_base_model": other[0], "opponent_stage": other[1]}
    return [pl.Series(name, [value] * count) for name, value in names.items()]
