from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.optimize import check_grad

from definemed_pipeline.corpus.classifier_settings import LinearSettings
from definemed_pipeline.corpus.features import features_of
from definemed_pipeline.corpus.linear import LinearClassifier, Objective, load_linear, sigmoid, train_linear
from definemed_pipeline_tests.corpus.classifier_world import texts

SETTINGS = LinearSettings(buckets_power=12)


def sample(positives: int, negatives: int, seed: int) -> tuple[pl.Series, np.ndarray]:
    found = texts(positives, is_medical=True, seed=seed) + texts(negatives, is_medical=False, seed=seed)
    return pl.Series(found), np.arange(len(found)) < positives


@pytest.fixture(scope="module")
def classifier() -> LinearClassifier:
    return train_linear(*sample(10, 150, seed=1), SETTINGS)


def test_it_tells_unseen_documents_apart_with_few_positives(classifier: LinearClassifier) -> None:
    unseen, labels = sample(100, 100, seed=2)
    probabilities = classifier.probabilities(unseen)
    assert probabilities[labels].min() > probabilities[~labels].max()


def test_training_twice_gives_the_same_bytes(classifier: LinearClassifier) -> None:
    again = train_linear(*sample(10, 150, seed=1), SETTINGS)
    assert again.weights.tobytes() == classifier.weights.tobytes()
    assert again.intercept == classifier.intercept


def test_it_survives_saving(classifier: LinearClassifier, tmp_path: Path) -> None:
    classifier.save(tmp_path / "linear.safetensors")
    unseen, _ = sample(5, 5, seed=3)
    loaded = load_linear(tmp_path / "linear.safetensors", SETTINGS)
    assert loaded.logits(unseen).tolist() == classifier.logits(unseen).tolist()


def test_the_gradient_is_the_slope_of_the_loss() -> None:
    documents, labels = sample(5, 20, seed=4)
    objective = Objective(features_of(documents, LinearSettings(buckets_power=8)).matrix(), labels, 0.01)
    point = np.random.default_rng(0).normal(size=257)
    assert check_grad(lambda x: objective(x)[0], lambda x: objective(x)[1], point) < 1e-5


def test_it_ends_at_the_minimum() -> None:
    documents, labels = sample(20, 60, seed=5)
    section = LinearSettings(buckets_power=10, l2=1e-3)
    found = train_linear(documents, labels, section)
    objective = Objective(features_of(documents, section).matrix(), labels, section.l2)
    _, gradient = objective(np.append(found.weights, found.intercept))
    assert np.abs(gradient).max() < 1e-5


def test_a_text_without_words_gets_the_intercept(classifier: LinearClassifier) -> None:
    assert classifier.logits(pl.Series([None, "", "?!"], dtype=pl.String)).tolist() == [classifier.intercept] * 3
    assert classifier.logits(pl.Series([], dtype=pl.String)).shape == (0,)


def test_extreme_log_odds_do_not_overflow() -> None:
    with np.errstate(all="raise"):
        assert sigmoid(np.array([-2000.0, 0.0, 2000.0])).tolist() == [0.0, 0.5, 1.0]
