import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from definemed_pipeline.corpus.classifier.calibration import Calibration
from definemed_pipeline.corpus.classifier.two_stage import (
    SCORE_SCHEMA,
    DecisionRule,
    choose_decision_threshold,
    decide,
    fit_rule,
    rounded,
)

PROBABILITY = st.floats(0, 1, width=32)
LOGIT = st.floats(-30, 30)
SCORED = st.lists(st.tuples(PROBABILITY, st.booleans(), st.integers(1, 50)), min_size=1, max_size=60)
AS_IT_IS = DecisionRule(linear=Calibration(), transformer=Calibration(), together=Calibration(), decision_threshold=0.5)


def columns(scored: list[tuple[float, bool, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    probabilities, labels, weights = zip(*scored, strict=True)
    return rounded(np.array(probabilities)), np.array(labels), np.array(weights, dtype=float)


def precision_at(threshold: float, probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    taken = probabilities >= threshold
    return float(np.average(labels[taken], weights=weights[taken]))


@given(SCORED, st.floats(0.5, 1))
def test_the_threshold_is_the_one_of_largest_recall_with_the_target_precision(
    scored: list[tuple[float, bool, int]], target: float
) -> None:
    probabilities, labels, weights = columns(scored)
    positive = probabilities[probabilities > 0]
    assume(len(positive) > 0)
    threshold = choose_decision_threshold(probabilities, labels, weights, target)
    best = max(precision_at(value, probabilities, labels, weights) for value in positive)
    wanted = min(target, best)
    assert precision_at(threshold, probabilities, labels, weights) >= wanted - 1e-9
    lower = [value for value in positive if value < threshold]
    assert all(precision_at(value, probabilities, labels, weights) < wanted + 1e-9 for value in lower)


def test_a_false_positive_that_stands_for_many_documents_counts_as_many() -> None:
    probabilities, labels = rounded(np.array([0.9, 0.8, 0.7, 0.6])), np.array([True, True, False, True])
    assert choose_decision_threshold(probabilities, labels, np.ones(4), 0.75) < 0.6
    assert choose_decision_threshold(probabilities, labels, np.array([1.0, 1, 20, 1]), 0.75) > 0.7


@given(SCORED)
def test_the_threshold_keeps_away_from_the_documents_beside_it(scored: list[tuple[float, bool, int]]) -> None:
    probabilities, labels, weights = columns(scored)
    threshold = choose_decision_threshold(probabilities, labels, weights, 0.9)
    assert 0 < threshold <= 1
    assert threshold == float(np.float32(threshold))
    below, above = (
        probabilities[probabilities < threshold].max(initial=0),
        probabilities[probabilities >= threshold].min(initial=1),
    )
    if below > 0 and above < 1 and above - below > 1e-4:
        low, middle, high = (np.log(value / (1 - value)) for value in (float(below), threshold, float(above)))
        assert middle - low == pytest.approx(high - middle, rel=1e-2)


def test_half_way_between_two_documents_is_meant_in_log_odds() -> None:
    probabilities = rounded(np.array([0.9, 0.8, 0.01]))
    threshold = choose_decision_threshold(probabilities, np.array([True, True, False]), np.ones(3), 1.0)
    odds = np.sqrt((0.8 / 0.2) * (0.01 / 0.99))
    np.testing.assert_allclose(threshold, odds / (1 + odds), rtol=1e-5)


@given(
    st.lists(st.tuples(LOGIT, LOGIT, st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=30),
    st.floats(2**-16, 1, width=32),
)
def test_a_document_is_medical_exactly_where_its_probability_reaches_the_threshold(
    drawn: list[tuple[float, float, bool, bool, bool]], threshold: float
) -> None:
    linear, transformer, empty, rejected, audited = (np.array(column) for column in zip(*drawn, strict=True))
    rejected &= ~empty
    audited &= rejected
    rule = DecisionRule(
        linear=Calibration(temperature=2.0, bias=-1.0),
        transformer=Calibration(),
        together=Calibration(bias=0.5),
        decision_threshold=threshold,
    )
    read = np.where(empty | (rejected & ~audited), np.nan, transformer)
    decided = decide(linear, read, rule, empty=empty, rejected=rejected)
    assert dict(decided.schema) == SCORE_SCHEMA
    assert (decided["is_medical"] == (decided["medical_probability"] >= threshold)).all()
    assert decided["medical_probability"].is_between(0, 1).all()
    assert not (decided["is_medical"] & (decided["decided_by"] != "transformer")).any()
    assert (decided["transformer_probability"].is_null().to_numpy() == np.isnan(read)).all()
    assert ((decided["decided_by"] == "empty").to_numpy() == empty).all()
    assert ((decided["decided_by"] == "linear").to_numpy() == rejected).all()
    assert decided.filter(decided_by="empty")["medical_probability"].sum() == 0
    assert (decided["audited"].to_numpy() == audited).all()
    swept = decide(linear, np.where(empty, np.nan, transformer), rule, empty=empty, rejected=np.zeros_like(empty))
    assert (decided["audit_missed"] == (decided["audited"] & swept["is_medical"])).all()


def test_a_document_both_stages_read_gets_their_mean_log_odds() -> None:
    nothing = np.zeros(2, dtype=bool)
    decided = decide(np.array([3.0, 2.0]), np.array([1.0, -2.0]), AS_IT_IS, empty=nothing, rejected=nothing)
    np.testing.assert_allclose(decided["medical_probability"], [1 / (1 + np.exp(-2)), 0.5], atol=1e-6)


def test_an_audited_document_that_the_full_sweep_would_take_is_a_miss_and_stays_rejected() -> None:
    linear, transformer = np.full(3, -1.0), np.array([9.0, -9.0, np.nan])
    decided = decide(linear, transformer, AS_IT_IS, empty=np.zeros(3, dtype=bool), rejected=np.ones(3, dtype=bool))
    assert decided["audited"].to_list() == [True, True, False]
    assert decided["audit_missed"].to_list() == [True, False, False]
    assert set(decided["decided_by"]) == {"linear"}
    assert not decided["is_medical"].any()


def test_a_rule_survives_its_json_form() -> None:
    random = np.random.default_rng(0)
    labels = random.random(200) < 0.3
    linear, transformer = (random.normal(size=200) + 2 * labels for _ in range(2))
    rule = fit_rule(linear, transformer, labels, np.ones(200), 0.9)
    assert DecisionRule.from_json(rule.to_json()) == rule
    taken = rule.probabilities(linear, transformer) >= rule.decision_threshold
    assert labels[taken].mean() >= 0.9


def test_stage_1_tells_documents_apart_far_below_the_sixth_decimal() -> None:
    low = AS_IT_IS.linear_probabilities(np.array([-40.0, -30.0, -29.999]))
    assert np.all(np.diff(low) > 0)
