import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from definemed_pipeline.corpus.two_stage import (
    SCORE_SCHEMA,
    Thresholds,
    choose_decision_threshold,
    choose_prefilter_threshold,
    combined,
    decide,
    rounded,
)

PROBABILITY = st.floats(0, 1, width=32)
LOGIT = st.floats(-30, 30)
SCORED = st.lists(st.tuples(PROBABILITY, st.booleans()), min_size=1, max_size=60)


def columns(scored: list[tuple[float, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return rounded(np.array([p for p, _ in scored])), np.array([label for _, label in scored])


def precision_at(threshold: float, probabilities: np.ndarray, labels: np.ndarray) -> float:
    return float(labels[probabilities >= threshold].mean())


@given(SCORED, st.floats(0.5, 1))
def test_the_threshold_is_the_one_of_largest_recall_with_the_target_precision(
    scored: list[tuple[float, bool]], target: float
) -> None:
    probabilities, labels = columns(scored)
    positive = probabilities[probabilities > 0]
    assume(len(positive) > 0)
    threshold = choose_decision_threshold(probabilities, labels, target)
    best = max(precision_at(value, probabilities, labels) for value in positive)
    wanted = min(target, best)
    assert precision_at(threshold, probabilities, labels) >= wanted
    lower = [value for value in positive if value < threshold]
    assert all(precision_at(value, probabilities, labels) < wanted for value in lower)


@given(SCORED)
def test_the_threshold_keeps_away_from_the_documents_beside_it(scored: list[tuple[float, bool]]) -> None:
    probabilities, labels = columns(scored)
    threshold = choose_decision_threshold(probabilities, labels, 0.9)
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
    threshold = choose_decision_threshold(probabilities, np.array([True, True, False]), 1.0)
    odds = np.sqrt((0.8 / 0.2) * (0.01 / 0.99))
    np.testing.assert_allclose(threshold, odds / (1 + odds), rtol=1e-5)


@given(st.lists(PROBABILITY, min_size=1, max_size=300), st.floats(0.5, 0.999))
def test_the_prefilter_lets_the_promised_share_through(values: list[float], recall: float) -> None:
    probabilities = rounded(np.array(values))
    passing = (probabilities >= choose_prefilter_threshold(probabilities, recall)).sum()
    assert passing >= recall * len(values) - 1e-9


@given(st.integers(1, 98))
def test_with_too_few_documents_to_promise_anything_the_prefilter_rejects_nothing(count: int) -> None:
    assert choose_prefilter_threshold(rounded(np.linspace(0.5, 1, count)), 0.99) == 0


def test_on_unseen_documents_the_prefilter_keeps_its_promise_on_average() -> None:
    random = np.random.default_rng(0)
    passed = []
    for _ in range(400):
        seen, unseen = rounded(random.beta(2, 1, 60)), rounded(random.beta(2, 1, 200))
        passed.append((unseen >= choose_prefilter_threshold(seen, 0.95)).mean())
    assert 0.95 - 0.005 <= np.mean(passed) <= 0.98


@given(
    st.lists(st.tuples(LOGIT, LOGIT, st.booleans()), min_size=1, max_size=30),
    st.floats(0, 1, width=32),
    st.floats(2**-16, 1, width=32),
)
def test_a_document_is_medical_exactly_where_its_probability_reaches_the_threshold(
    logits: list[tuple[float, float, bool]], prefilter: float, decision: float
) -> None:
    linear, transformer, empty = (np.array(column) for column in zip(*logits, strict=True))
    decided = decide(linear, transformer, Thresholds(prefilter_threshold=prefilter, decision_threshold=decision), empty=empty)
    assert dict(decided.schema) == SCORE_SCHEMA
    assert (decided["is_medical"] == (decided["medical_probability"] >= decision)).all()
    assert decided["medical_probability"].is_between(0, 1).all()
    rejected = decided["decided_by"] != "transformer"
    assert not (rejected & decided["is_medical"]).any()
    assert (decided["transformer_probability"].is_null() == rejected).all()
    assert ((decided["decided_by"] == "empty").to_numpy() == empty).all()
    assert decided.filter(decided_by="empty")["medical_probability"].sum() == 0


def test_a_document_both_stages_read_gets_their_mean_log_odds() -> None:
    assert combined(np.array([2.0]), np.array([-2.0])).tolist() == [0.5]
    thresholds = Thresholds(prefilter_threshold=0.0, decision_threshold=0.5)
    decided = decide(np.array([3.0, 3.0]), np.array([1.0, np.nan]), thresholds)
    assert decided["decided_by"].to_list() == ["transformer", "linear"]
    np.testing.assert_allclose(decided["medical_probability"][0], 1 / (1 + np.exp(-2)), atol=1e-6)
