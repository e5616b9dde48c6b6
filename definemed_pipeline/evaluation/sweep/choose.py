"""Which of the measured merges is chosen, and which are worth a look. No model is touched here.

A merge lies between its base and its CPT checkpoint, so what it is worth is told on the way between them: the share of the gain it keeps,
and the share of the loss it takes back.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from definemed_pipeline.evaluation.sweep.settings import RuleSettings


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A model on validation items: mean accuracy, share of instructions answered properly, share of answers that mix languages."""

    accuracy: float
    answered_properly: float
    language_mixing: float


@dataclass(frozen=True, kw_only=True)
class Valued:
    """What a candidate is worth beside its base and CPT checkpoint (see RuleSettings), and whether no other is at least as good in all."""

    accuracy_kept: float
    instruction_following_recovered: float
    balance: float
    keeps_limits: bool
    is_on_front: bool


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The position of the chosen candidate, and what every candidate is worth."""

    chosen: int
    valued: tuple[Valued, ...]


def choose(base: Measured, cpt: Measured, candidates: Sequence[Measured], rule: RuleSettings) -> Choice:
    """Value the candidates and choose one by the rule, which is always one of the Pareto front.

    Of equals the one that mixes languages less is taken, then the better one in accuracy and proper answers together, then the first.
    """
    front = pareto_front(candidates)
    valued = tuple(_value(base, cpt, candidate, rule, is_on_front=number in front) for number, candidate in enumerate(candidates))

    def worth(number: int) -> tuple[float, float, float, int]:
        own = candidates[number]
        return getattr(valued[number], rule.maximise), -own.language_mixing, own.accuracy + own.answered_properly, -number

    allowed = [number for number, value in enumerate(valued) if value.keeps_limits] or range(len(candidates))
    return Choice(chosen=max(allowed, key=worth), valued=valued)


def pareto_front(candidates: Sequence[Measured]) -> set[int]:
    """Return the positions of the candidates that no other dominates: at least as good in all three measures, and better in one."""
    goals = [(one.accuracy, one.answered_properly, -one.language_mixing) for one in candidates]
    return {
        number
        for number, own in enumerate(goals)
        if not any(other != own and all(a >= b for a, b in zip(other, own, strict=True)) for other in goals)
    }


def _value(base: Measured, cpt: Measured, candidate: Measured, rule: RuleSettings, *, is_on_front: bool) -> Valued:
    shares = {
        "accuracy_kept": _share(candidate.accuracy - base.accuracy, cpt.accuracy - base.accuracy),
        "instruction_following_recovered": _share(
            candidate.answered_properly - cpt.answered_properly, base.answered_properly - cpt.answered_properly
        ),
    }
    keeps_limits = (
        all(shares[name] >= least for name, least in rule.at_least.items())
        and candidate.language_mixing <= rule.most_language_mixing
    )
    return Valued(**shares, balance=min(shares.values()), keeps_limits=keeps_limits, is_on_front=is_on_front)


def _share(part: float, whole: float) -> float:
    """Return a part's share of a whole; where CPT gained or cost nothing there is nothing to keep or take back, and no merge lacks it."""
    return part / whole if whole > 0 else 1.0
