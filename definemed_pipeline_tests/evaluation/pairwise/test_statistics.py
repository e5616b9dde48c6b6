"""Win rates, length control and strengths on data whose answer is known, and the properties they must have."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from definemed_pipeline.evaluation.pairwise.length_control import PRIOR_PRECISION, _design, _fit, length_controlled, mirrored
from definemed_pipeline.evaluation.pairwise.resampling import win_rates
from definemed_pipeline.evaluation.pairwise.strengths import strengths
from definemed_pipeline.intervals import wilson

SCORES = st.lists(st.tuples(*[st.sampled_from([0.0, 0.5, 1.0])] * 2), min_size=3, max_size=30)
LENGTHS = st.lists(st.integers(-2000, 2000), min_size=30, max_size=30)


@pytest.mark.parametrize(("value", "low", "high"), [(1.0, wilson(20, 20).low, 1.0), (0.0, 0.0, wilson(0, 20).high)])
def test_what_was_always_won_or_lost_has_wilsons_interval(value: float, low: float, high: float) -> None:
    (found,) = win_rates(np.full((1, 20), value), resamples=100, seed=0)
    assert (found.value, found.low, found.high) == (value, pytest.approx(low), pytest.approx(high))


def test_only_ties_are_even_and_not_certain() -> None:
    (found,) = win_rates(np.full((1, 20), 0.5), resamples=100, seed=0)
    assert found.value == 0.5
    assert 0.4 < found.low < 0.5 < found.high < 0.6


def test_instructions_without_a_score_are_left_out_and_a_pair_without_any_is_unknown() -> None:
    scores = np.array([[1.0, 0.0, math.nan, 0.5], [math.nan] * 4])
    known, unknown = win_rates(scores, resamples=200, seed=0)
    assert known.value == 0.5
    assert math.isnan(unknown.value)
    assert (unknown.low, unknown.high) == (0.0, 1.0)


@given(SCORES, LENGTHS)
@profile(max_examples=30)
def test_the_two_sides_of_a_pair_add_up_to_one(scores: list[tuple[float, float]], lengths: list[int]) -> None:
    verdicts, longer = np.array(scores), np.array(lengths[: len(scores)], dtype=np.float64)
    one = length_controlled(verdicts, longer, resamples=100, seed=3)
    other = length_controlled(1 - verdicts, -longer, resamples=100, seed=3)
    assert 0 <= one.low <= one.high <= 1
    assert other.value == pytest.approx(mirrored(one).value)


def test_the_regression_is_the_one_that_scikit_learn_fits() -> None:
    from sklearn.linear_model import LogisticRegression

    generator = np.random.default_rng(5)
    longer = generator.normal(100, 300, 80)
    design = _design(longer, 2)
    outcomes = (generator.random(160) < 0.6).astype(np.float64)
    weights = generator.integers(0, 4, size=(1, 80)).astype(np.float64)
    ours = _fit(weights, design, outcomes, np.zeros((1, 3)))[0]
    theirs = LogisticRegression(C=1 / PRIOR_PRECISION, fit_intercept=False, tol=1e-10, max_iter=1000)
    theirs.fit(design, outcomes, sample_weight=np.repeat(weights[0], 2))
    assert ours == pytest.approx(theirs.coef_[0], abs=1e-4)


def test_a_judge_that_prefers_the_longer_answer_only_leaves_two_equal_models_even() -> None:
    longer = np.tile([300.0, 250.0, 400.0, -200.0], 30)
    verdicts = np.repeat((longer > 0).astype(np.float64)[:, None], 2, axis=1)
    found = length_controlled(verdicts, longer, resamples=200, seed=0)
    assert verdicts.mean() == 0.75
    assert abs(found.value - 0.5) < 0.15


def test_a_preference_for_the_first_answer_is_not_taken_for_a_preference_for_a_model() -> None:
    verdicts = np.tile([1.0, 0.0], (60, 1))
    verdicts[0] = [1.0, 1.0]
    found = length_controlled(verdicts, np.random.default_rng(0).normal(0, 100, 60), resamples=200, seed=0)
    assert abs(found.value - 0.5) < 0.05


def test_a_model_that_never_lost_has_a_finite_strength_above_all_others() -> None:
    players = np.array([[0, 1], [0, 2], [1, 2]])
    scores = np.array([np.ones(30), np.ones(30), np.tile([1.0, 0.0, 0.5], 10)])
    best, second, third = strengths(scores, players, reference=1, resamples=200, seed=0)
    assert second.value == 0.0
    assert 2 < best.value < 10
    assert third.value == pytest.approx(0.0, abs=1e-6)
    assert best.low > 0


def test_strengths_do_not_depend_on_who_is_named_first() -> None:
    players = np.array([[0, 1], [0, 2], [1, 2]])
    scores = np.random.default_rng(1).choice([0.0, 0.5, 1.0], size=(3, 40))
    one = strengths(scores, players, reference=0, resamples=100, seed=0)
    other = strengths(1 - scores, players[:, ::-1], reference=0, resamples=100, seed=0)
    assert [each.value for each in one] == pytest.approx([each.value for each in other])
