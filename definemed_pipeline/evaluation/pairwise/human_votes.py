"""How far a judge agrees with people who voted on the same answers: Cohen's kappa and the plain share, over win, tie and loss.

A vote is on texts: it counts for every pair of models that gave these very answers, and is out of date once none does.
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from definemed_pipeline.artifacts.manifest import Source
from definemed_pipeline.errors import UserError
from definemed_pipeline.evaluation.pairwise.resampling import draws, interval
from definemed_pipeline.evaluation.pairwise.verdicts import Contest, Verdicts
from definemed_pipeline.evaluation.records import json_lines
from definemed_pipeline.intervals import Estimate

VOTES = ("win", "tie", "loss")
FIELDS = ("instruction_set", "instruction_id", "response", "opponent_response", "vote")


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Judge against people: kappa and plain agreement with intervals, votes counted, out of date, and without a verdict to compare with."""

    kappa: Estimate
    share: Estimate
    votes: int
    outdated: int
    unread: int


def read_votes(source: Source) -> list[dict[str, str]]:
    """Read votes. Raise UserError naming file, line and fault."""
    votes = []
    for place, vote in json_lines(source):
        if not isinstance(vote, dict) or not all(isinstance(vote.get(field), str) for field in FIELDS):
            raise UserError(f"{place}: a vote holds the texts {', '.join(FIELDS)}")
        if vote["vote"] not in VOTES:
            raise UserError(f"{place}: vote is {vote['vote']!r}; allowed: {', '.join(VOTES)}")
        votes.append(vote)
    return votes


def agreement(verdicts: Verdicts, votes: list[dict[str, str]], *, resamples: int, seed: int) -> Agreement:
    """Compare the judge's verdicts, both orders together, with votes; instructions are resampled, since votes on one belong together."""
    counts: Counter[tuple[int, int, int]] = Counter()
    outdated = unread = 0
    found = _Scores(verdicts)
    for vote in votes:
        scored = found.of(vote)
        if scored is None:
            outdated += 1
            continue
        instruction, score = scored
        if math.isnan(score):
            unread += 1
        else:
            counts[instruction, 0 if score > 0.5 else 1 if score == 0.5 else 2, VOTES.index(vote["vote"])] += 1
    tables = _by_instruction(counts)
    measures = _kappa_and_share(tables.sum(axis=0)[None])[0]
    if not len(tables):
        low = high = np.full(2, math.nan)
    else:
        pieces = [
            _kappa_and_share((drawn @ tables.reshape(len(tables), -1)).reshape(-1, 3, 3))
            for drawn in draws(len(tables), resamples=resamples, seed=seed)
        ]
        low, high = interval(np.concatenate(pieces), len(tables))
    kappa, share = (Estimate(value=float(measures[m]), low=float(low[m]), high=float(high[m])) for m in range(2))
    return Agreement(kappa=kappa, share=share, votes=counts.total(), outdated=outdated, unread=unread)


class _Scores:
    """Finds the judge's score of a pair of texts."""

    def __init__(self, verdicts: Verdicts) -> None:
        contest = verdicts.contest
        self._scores = verdicts.by_instruction
        self._instructions = {
            key: i for i, key in enumerate(contest.instructions.select("instruction_set", "instruction_id").rows())
        }
        self._pairs = dict(self._played(contest))

    def _played(self, contest: Contest) -> Iterator[tuple[tuple[int, str, str], tuple[int, bool]]]:
        for pair, (one, other) in enumerate(contest.pairs):
            for instruction in range(contest.instructions.height):
                first, second = contest.texts[contest.index(one), instruction], contest.texts[contest.index(other), instruction]
                yield (instruction, second, first), (pair, True)
                yield (instruction, first, second), (pair, False)

    def of(self, vote: dict[str, str]) -> tuple[int, float] | None:
        """Return instruction and score as the vote's first answer sees it; None where nobody gave these answers."""
        instruction = self._instructions.get((vote["instruction_set"], vote["instruction_id"]))
        if instruction is None or (played := self._pairs.get((instruction, vote["response"], vote["opponent_response"]))) is None:
            return None
        pair, is_mirrored = played
        score = float(self._scores[pair, instruction])
        return instruction, 1 - score if is_mirrored else score


def _by_instruction(counts: Counter[tuple[int, int, int]]) -> NDArray[np.float64]:
    """Return tables of judge against people, of shape (instructions with votes, 3, 3)."""
    order = {instruction: row for row, instruction in enumerate(sorted({key[0] for key in counts}))}
    tables = np.zeros((len(order), len(VOTES), len(VOTES)))
    for (instruction, judged, voted), count in counts.items():
        tables[order[instruction], judged, voted] = count
    return tables


def _kappa_and_share(tables: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return kappa (Cohen 1960) and the share of equal verdicts of each table, shape (tables, 2); kappa is NaN where all said one thing."""
    with np.errstate(all="ignore"):
        shares = tables / tables.sum(axis=(1, 2), keepdims=True)
        equal = np.trace(shares, axis1=1, axis2=2)
        by_chance = (shares.sum(axis=1) * shares.sum(axis=2)).sum(axis=1)
        kappa = np.where(by_chance < 1, (equal - by_chance) / (1 - by_chance), math.nan)
    return np.column_stack([kappa, equal])
