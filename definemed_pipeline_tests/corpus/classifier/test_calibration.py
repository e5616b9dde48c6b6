import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from definemed_pipeline.corpus.classifier.calibration import Calibration, calibrate, calibration_error, sigmoid


def world(count: int, seed: int, temperature: float, bias: float) -> tuple[np.ndarray, np.ndarray]:
    """Draw log-odds whose true calibration is known, and labels."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 3, count) * temperature
    return logits, random.random(count) < sigmoid(logits / temperature + bias)


@pytest.mark.parametrize(("temperature", "bias"), [(0.3, -2.0), (1.0, 0.0), (4.0, 1.5)])
def test_the_true_temperature_and_bias_are_found(temperature: float, bias: float) -> None:
    logits, labels = world(40_000, 0, temperature, bias)
    found = calibrate(logits, labels, np.ones(len(labels)))
    assert found.temperature == pytest.approx(temperature, rel=0.05)
    assert found.bias == pytest.approx(bias, abs=0.1)


def test_weights_bring_the_prevalence_of_the_web_back() -> None:
    logits, labels = world(60_000, 1, 1.0, -3.0)
    kept = labels | (np.random.default_rng(2).random(len(labels)) < 0.1)  # a sample ten times as rich in positives
    weights = np.where(labels[kept], 1.0, 10.0)
    found = calibrate(logits[kept], labels[kept], weights)
    assert found.bias == pytest.approx(-3.0, abs=0.15)
    blind = calibrate(logits[kept], labels[kept], np.ones(kept.sum()))
    assert blind.bias > -1.5
    unseen, unseen_labels = world(60_000, 3, 1.0, -3.0)
    errors = [calibration_error(sigmoid(one(unseen)), unseen_labels, np.ones(60_000)) for one in (found, blind)]
    assert errors[0] is not None
    assert errors[1] is not None
    assert errors[0] < 0.01
    assert errors[1] > 0.03


def test_a_sample_that_is_separated_perfectly_asks_for_no_certainty() -> None:
    logits = np.concatenate([np.full(50, 2.0), np.full(150, -2.0)])
    found = calibrate(logits, logits > 0, np.ones(200))
    assert 0.05 < found.temperature < 1
    assert 1e-9 < sigmoid(found(np.array([-2.0])))[0] < 0.05


def test_a_class_that_is_missing_is_refused() -> None:
    with pytest.raises(ValueError, match="both classes"):
        calibrate(np.zeros(3), np.ones(3, dtype=bool), np.ones(3))


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=30), st.floats(0.01, 20), st.floats(-9, 9))
def test_no_ranking_changes(drawn: list[float], temperature: float, bias: float) -> None:
    logits = np.sort(np.array(drawn))
    assert np.all(np.diff(Calibration(temperature=temperature, bias=bias)(logits)) >= 0)


def test_the_calibration_error_is_the_mean_gap_over_the_bins() -> None:
    probabilities, labels = np.array([0.1, 0.1, 0.9, 0.9]), np.array([False, False, True, False])
    assert calibration_error(probabilities, labels, np.ones(4)) == pytest.approx((0.2 + 0.8) / 4)
    assert calibration_error(probabilities, labels, np.array([1.0, 1, 9, 1])) == pytest.approx((0.2 + 0.0) / 12)
    assert calibration_error(np.zeros(0), np.zeros(0, dtype=bool), np.zeros(0)) is None


def test_extreme_log_odds_do_not_overflow() -> None:
    assert sigmoid(np.array([-2000.0, 0.0, 2000.0])).tolist() == [0.0, 0.5, 1.0]
    assert np.isnan(sigmoid(np.array([np.nan]))[0])
    np.testing.assert_allclose(sigmoid(np.array([-40.0])), np.exp(-40.0), rtol=1e-12)
