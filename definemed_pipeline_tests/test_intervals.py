import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from definemed_pipeline import intervals
from definemed_pipeline.intervals import (
    Estimate,
    bootstrap_macro_mean,
    bootstrap_mean,
    bootstrap_p,
    holm,
    mcnemar_p,
    paired_difference,
    paired_macro_difference,
    weighted_proportion,
    wilson,
)

OUTCOMES = st.lists(st.booleans(), min_size=1, max_size=60)


def test_wilson_gives_the_published_intervals() -> None:
    """Newcombe 1998, table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    published = {(81, 263): (0.2553, 0.3662), (15, 148): (0.0624, 0.1605), (0, 20): (0.0, 0.1611), (1, 29): (0.0061, 0.1718)}
    for (successes, trials), (low, high) in published.items():
        found = wilson(successes, trials)
        assert (round(found.low, 4), round(found.high, 4)) == (low, high)


@given(st.integers(0, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_contains_its_value_and_is_symmetric(counts: tuple[int, int]) -> None:
    successes, trials = counts
    one, other = wilson(successes, trials), wilson(trials - successes, trials)
    assert 0 <= one.low <= one.high <= 1
    assert trials == 0 or one.low <= one.value <= one.high
    assert one.low == pytest.approx(1 - other.high)


def test_wilson_without_trials_knows_nothing() -> None:
    found = wilson(0, 0)
    assert math.isnan(found.value)
    assert (found.low, found.high) == (0.0, 1.0)


def test_wilson_refuses_more_successes_than_trials() -> None:
    with pytest.raises(ValueError, match="3 successes of 2 trials"):
        wilson(3, 2)


@pytest.mark.parametrize(("proportion", "trials"), [(0.3, 144), (0.9, 60), (0.03, 100)])
def test_wilson_covers_the_truth_about_95_times_in_100(proportion: float, trials: int) -> None:
    drawn = np.random.default_rng(1).binomial(trials, proportion, size=2000)
    covered = [(found := wilson(int(k), trials)).low <= proportion <= found.high for k in drawn]
    assert 0.92 <= np.mean(covered) <= 0.98


def test_equal_weights_give_wilsons_interval() -> None:
    outcomes = np.arange(40) < 31
    found, expected = weighted_proportion(outcomes, np.full(40, 7.5)), wilson(31, 40)
    assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))


@pytest.mark.parametrize("proportion", [0.5, 0.9, 1.0])
def test_a_weighted_proportion_covers_the_truth_more_than_90_times_in_100(proportion: float) -> None:
    """Two strata, of which the heavy one is sampled a tenth as densely and is where the failures are."""
    random, covered = np.random.default_rng(5), 0
    weights = np.repeat([1.0, 10.0], [300, 100])
    truth = (300 + 1_000 * proportion) / 1_300
    for _ in range(400):
        outcomes = np.concatenate([np.ones(300), random.random(100) < proportion])
        found = weighted_proportion(outcomes, weights)
        assert found.low <= found.value <= found.high
        covered += found.low <= truth + 1e-12 <= found.high + 2e-12
    assert covered / 400 >= 0.9


def test_a_weighted_proportion_of_nothing_knows_nothing() -> None:
    assert (weighted_proportion([], []).low, weighted_proportion([], []).high) == (0.0, 1.0)


def test_the_bootstrap_covers_the_truth_about_95_times_in_100() -> None:
    samples = np.random.default_rng(2).exponential(1.0, size=(400, 120))
    found = [bootstrap_mean(sample, resamples=500, seed=index) for index, sample in enumerate(samples)]
    assert 0.90 <= np.mean([estimate.low <= 1.0 <= estimate.high for estimate in found]) <= 0.98


def test_pairing_covers_the_truth_and_is_narrower_where_units_differ_in_difficulty() -> None:
    generator = np.random.default_rng(3)
    covered, narrower = [], []
    for seed in range(200):
        difficulty = generator.normal(0, 1, 100)
        before = difficulty + generator.normal(0, 0.3, 100)
        after = difficulty + 0.1 + generator.normal(0, 0.3, 100)
        paired = paired_difference(before, after, resamples=300, seed=seed)
        alone = [bootstrap_mean(sample, resamples=300, seed=seed) for sample in (before, after)]
        covered.append(paired.low <= 0.1 <= paired.high)
        narrower.append(paired.high - paired.low < sum(one.high - one.low for one in alone) / 2)
    assert 0.90 <= np.mean(covered) <= 0.985
    assert all(narrower)


@given(OUTCOMES, st.integers(0, 2**31))
def test_bootstrap_is_a_function_of_its_seed_and_encloses_the_mean(values: list[bool], seed: int) -> None:
    found = bootstrap_mean(values, resamples=200, seed=seed)
    assert found == bootstrap_mean(values, resamples=200, seed=seed)
    assert min(values) <= found.low <= found.high <= max(values)
    assert found.value == pytest.approx(np.mean(values))


def test_resampling_in_pieces_gives_the_same_interval_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(4).normal(size=50)
    at_once = bootstrap_mean(values, resamples=300, seed=0)
    monkeypatch.setattr(intervals, "DRAWS_AT_ONCE", 7 * len(values))
    assert bootstrap_mean(values, resamples=300, seed=0) == at_once


def test_a_macro_average_weighs_strata_not_units() -> None:
    large, small = np.zeros(1000), np.ones(10)
    assert bootstrap_macro_mean([large, small], resamples=100, seed=0) == Estimate(value=0.5, low=0.5, high=0.5)
    assert paired_macro_difference([large, small], [large + 1, small], resamples=100, seed=0).value == 0.5


def test_an_empty_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one unit"):
        bootstrap_macro_mean([[1.0], []], resamples=100, seed=0)


def test_samples_that_cannot_be_paired_are_refused() -> None:
    with pytest.raises(ValueError, match="the same units"):
        paired_difference([1, 0], [1], resamples=100, seed=0)
    with pytest.raises(ValueError, match="the same units"):
        mcnemar_p([1, 0], [1])


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200))
def test_mcnemar_is_the_exact_sign_test_of_the_disagreements(pairs: list[tuple[bool, bool]]) -> None:
    before, after = zip(*pairs, strict=True)
    lost, won = pairs.count((True, False)), pairs.count((False, True))
    expected = binomtest(lost, lost + won, 0.5).pvalue if lost + won else 1.0
    assert mcnemar_p(before, after) == pytest.approx(expected)


def test_mcnemar_rejects_equal_models_no_more_often_than_it_says() -> None:
    outcomes = np.random.default_rng(5).random((1000, 2, 80)) < 0.6
    assert np.mean([mcnemar_p(before, after) <= 0.05 for before, after in outcomes]) <= 0.05


@pytest.mark.parametrize(
    ("low", "high", "excludes"), [(0.1, 0.2, True), (-0.2, -0.1, True), (-0.1, 0.1, False), (0.0, 0.1, False)]
)
def test_an_interval_that_touches_zero_does_not_exclude_it(low: float, high: float, excludes: bool) -> None:
    assert Estimate(value=(low + high) / 2, low=low, high=high).excludes_zero() is excludes


def test_metrics_carry_their_interval_by_name() -> None:
    found = Estimate(value=0.5, low=0.4, high=0.6).as_metrics("recall")
    assert found == {"recall": 0.5, "recall_low": 0.4, "recall_high": 0.6}


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=3, max_size=60), st.integers(0, 3))
def test_the_bootstraps_p_value_says_what_its_interval_says(pairs: list[tuple[bool, bool]], seed: int) -> None:
    before, after = [[one for one, _ in pairs]], [[other for _, other in pairs]]
    p = bootstrap_p(before, after, resamples=999, seed=seed)
    interval = paired_macro_difference(before, after, resamples=999, seed=seed)
    assert 2 / 1000 <= p <= 1
    assert bootstrap_p(after, before, resamples=999, seed=seed) == p
    if p < 0.045:
        assert interval.excludes_zero()
    if p > 0.055:
        assert not interval.excludes_zero()


def test_holms_correction_gives_the_published_example() -> None:
    """Holm's step-down on four tests, as R's `p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")` gives it."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), max_size=12))
def test_a_corrected_p_value_is_no_smaller_keeps_the_order_and_at_most_is_bonferronis(p_values: list[float]) -> None:
    corrected = holm(p_values)
    for one, other in zip(p_values, corrected, strict=True):
        assert one <= other <= min(1.0, len(p_values) * one)
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    assert [corrected[place] for place in order] == sorted(corrected)
