from typing import Any

import pytest

from definemed_pipeline.evaluation.benchmarks.accuracy import MACRO
from definemed_pipeline.evaluation.effect import effect_of


def scores(base: float, cpt: float, merged: float, low: float, high: float) -> dict[str, Any]:
    stages = {"base": base, "cpt": cpt, "merged": merged}
    difference = {"difference": cpt - base, "difference_low": low, "difference_high": high}
    return {
        "accuracy": {stage: {MACRO: {"accuracy": value}} for stage, value in stages.items()},
        "differences": [
            {"before": "base", "after": "cpt", "benchmark": "organe", **dict.fromkeys(difference, 9.0)},
            {"before": "base", "after": "cpt", "benchmark": MACRO, **difference},
        ],
    }


def claims(
    accuracy: tuple[float, float, float], proper: tuple[float, float, float], *, gain_low: float = 0.1, loss_high: float = -0.1
) -> list[bool]:
    base, cpt, merged = accuracy
    loss = proper[0] - proper[1]  # the failures rise by what is no longer answered properly
    failures = [
        {"before": "base", "after": "cpt", "difference": loss, "low": -loss_high, "high": loss + 0.1},
        {"before": "cpt", "after": "merged", "difference": 9.0, "low": 9.0, "high": 9.0},
    ]
    found = effect_of(
        scores(base, cpt, merged, gain_low, cpt - base + 0.1),
        proper=dict(zip(("base", "cpt", "merged"), proper, strict=True)),
        failure_differences=failures,
    )
    return [claim.holds for claim in found]


def test_the_whole_effect_shows_where_all_four_numbers_say_so() -> None:
    assert claims((0.3, 0.7, 0.5), (0.8, 0.1, 0.6)) == [True, True, True, True]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"accuracy": (0.3, 0.4, 0.4), "proper": (0.8, 0.1, 0.6), "gain_low": -0.01}, [False, True, True, False]),
        ({"accuracy": (0.3, 0.7, 0.5), "proper": (0.8, 0.7, 0.8), "loss_high": 0.02}, [True, False, False, True]),
        ({"accuracy": (0.3, 0.7, 0.5), "proper": (0.8, 0.1, 0.4)}, [True, True, False, True]),
        ({"accuracy": (0.3, 0.7, 0.4), "proper": (0.8, 0.1, 0.6)}, [True, True, True, False]),
        ({"accuracy": (0.3, 0.2, 0.3), "proper": (0.1, 0.4, 0.4), "gain_low": -0.2, "loss_high": 0.4}, [False] * 4),
    ],
    ids=["gain within chance", "loss within chance", "merge restores too little", "merge keeps too little", "nothing of it"],
)
def test_a_claim_the_numbers_do_not_carry_is_reported_as_not_shown(arguments: dict[str, Any], expected: list[bool]) -> None:
    assert claims(**arguments) == expected


def test_the_evidence_gives_the_numbers_with_their_intervals() -> None:
    found = effect_of(
        scores(0.3, 0.7, 0.5, 0.25, 0.55),
        proper={"base": 0.8, "cpt": 0.1, "merged": 0.6},
        failure_differences=[{"before": "base", "after": "cpt", "difference": 0.7, "low": 0.5, "high": 0.9}],
    )
    assert [claim.evidence for claim in found] == [
        "accuracy 30.0% to 70.0%, +40.0 points (95 % interval +25.0 to +55.0, paired)",
        "answered properly 80.0% to 10.0%, -70.0 points (95 % interval -90.0 to -50.0, paired)",
        "answered properly 10.0% to 60.0%, 71% of the loss",
        "accuracy 30.0% to 50.0%, 50% of the gain",
    ]
