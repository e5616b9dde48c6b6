from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import check_grad

from definemed_pipeline.corpus.classifier.features import features_of
from definemed_pipeline.corpus.classifier.linear import Counts, LinearClassifier, Objective, load_linear, train_linear
from definemed_pipeline.corpus.classifier.settings import LinearSettings
from definemed_pipeline_tests.corpus.classifier_world import texts

SETTINGS = LinearSettings(buckets_power=12)


def counts_of(documents: pl.Series, section: LinearSettings) -> Counts:
    return Counts.of([features_of(documents, section)], 1 << section.buckets_power)


def train(documents: pl.Series, labels: np.ndarray, section: LinearSettings) -> LinearClassifier:
    return train_linear([documents], labels, section)


def sample(positives: int, negatives: int, seed: int) -> tuple[pl.Series, np.ndarray]:
    found = texts(positives, is_medical=True, seed=seed) + texts(negatives, is_medical=False, seed=seed)
    return pl.Series(found), np.arange(len(found)) < positives


@pytest.fixture(scope="module")
def classifier() -> LinearClassifier:
    return train(*sample(10, 150, seed=1), SETTINGS)


def test_it_tells_unseen_documents_apart_with_few_positives(classifier: LinearClassifier) -> None:
    unseen, labels = sample(100, 100, seed=2)
    logits = classifier.logits(unseen)
    assert logits[labels].min() > logits[~labels].max()


def test_training_twice_gives_the_same_bytes(classifier: LinearClassifier) -> None:
    again = train(*sample(10, 150, seed=1), SETTINGS)
    assert again.weights.tobytes() == classifier.weights.tobytes()
    assert again.intercept == classifier.intercept


def test_it_survives_saving(classifier: LinearClassifier, tmp_path: Path) -> None:
    classifier.save(tmp_path / "linear.safetensors")
    unseen, _ = sample(5, 5, seed=3)
    loaded = load_linear(tmp_path / "linear.safetensors", SETTINGS)
    assert loaded.logits(unseen).tolist() == classifier.logits(unseen).tolist()


def test_the_gradient_is_the_slope_of_the_loss() -> None:
    documents, labels = sample(5, 20, seed=4)
    objective = Objective(counts_of(documents, LinearSettings(buckets_power=8)), labels, 0.01)
    point = np.random.default_rng(0).normal(size=257)
    assert check_grad(lambda x: objective(x)[0], lambda x: objective(x)[1], point) < 1e-5


def test_it_ends_at_the_minimum() -> None:
    documents, labels = sample(20, 60, seed=5)
    section = LinearSettings(buckets_power=10, l2=1e-3)
    found = train(documents, labels, section)
    objective = Objective(counts_of(documents, section), labels, section.l2)
    _, gradient = objective(np.append(found.weights, found.intercept))
    assert np.abs(gradient).max() < 1e-5


def test_a_text_without_words_gets_the_intercept(classifier: LinearClassifier) -> None:
    assert classifier.logits(pl.Series([None, "", "?!"], dtype=pl.String)).tolist() == [classifier.intercept] * 3
    assert classifier.logits(pl.Series([], dtype=pl.String)).shape == (0,)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=5), st.integers(0, 9))
def test_slices_that_share_words_give_the_product_of_the_whole(sizes: list[int], seed: int) -> None:
    documents, _ = sample(sum(sizes) // 2, sum(sizes) - sum(sizes) // 2, seed=seed)
    starts = np.cumsum([0, *sizes[:-1]])
    slices = [features_of(documents.slice(start, size), SETTINGS) for start, size in zip(starts, sizes, strict=True)]
    counts, whole = Counts.of(slices, 1 << SETTINGS.buckets_power), features_of(documents, SETTINGS)
    random = np.random.default_rng(seed)
    weights, slopes = random.normal(size=counts.buckets), random.normal(size=len(documents))
    np.testing.assert_allclose(counts.times(weights), whole.dot(weights), atol=1e-6)  # words are kept in single precision
    # <X w, s> = <w, X' s>
    assert np.isclose(counts.times(weights) @ slopes, weights @ counts.transposed_times(slopes))
    assert sum(piece.shape[0] for piece in counts.words) == len(whole.hashes)
