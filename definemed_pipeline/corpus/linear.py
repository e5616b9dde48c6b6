"""Stage 1 of the classifier: logistic regression on hashed subwords, quick enough to read the whole web.

What is decided with its probabilities belongs in `two_stage`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl
from safetensors.numpy import load_file, save_file

from definemed_pipeline.corpus.classifier_settings import LinearSettings
from definemed_pipeline.corpus.features import Features, features_of

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Floats = npt.NDArray[np.float64]
SLICE = 2_000  # documents whose features are in memory at once, about 300 MB
MAX_ITERATIONS = 500
TOLERANCE = 1e-7  # of the gradient's largest component


@dataclass(frozen=True, kw_only=True)
class LinearClassifier:
    """A trained stage 1: one weight per bucket, shape (2 ** buckets_power,), and the intercept."""

    weights: npt.NDArray[np.float32]
    intercept: float
    settings: LinearSettings

    def logits(self, texts: pl.Series) -> Floats:
        """Return the log-odds of each text being positive, shape (texts,): the same bit for bit in whatever company a text comes."""
        weights = self.weights.astype(np.float64)
        slices = [features.dot(weights) for features in _features(texts, self.settings)]
        return np.concatenate([np.zeros(0), *slices]) + self.intercept

    def probabilities(self, texts: pl.Series) -> Floats:
        """Return the probability of each text being positive, shape (texts,)."""
        return sigmoid(self.logits(texts))

    def save(self, path: Path) -> None:
        """Write weights and intercept as safetensors."""
        save_file({"weights": self.weights, "intercept": np.array([self.intercept], dtype=np.float32)}, path)


def load_linear(path: Path, settings: LinearSettings) -> LinearClassifier:
    """Load a saved stage 1; `settings` are those it was trained with."""
    tensors = load_file(path)
    return LinearClassifier(weights=tensors["weights"], intercept=float(tensors["intercept"][0]), settings=settings)


def train_linear(texts: pl.Series, labels: npt.NDArray[np.bool_], settings: LinearSettings) -> LinearClassifier:
    """Fit by L-BFGS: mean logistic loss, both classes of equal total weight, plus l2 / 2 times the squared weights.

    Needs about 30 kB of memory per document.
    """
    from scipy.optimize import minimize
    from scipy.sparse import vstack

    matrix = vstack([features.matrix() for features in _features(texts, settings)], format="csr")
    solution = minimize(
        Objective(matrix, labels, settings.l2),
        np.zeros(matrix.shape[1] + 1),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": MAX_ITERATIONS, "gtol": TOLERANCE, "ftol": 0},
    ).x
    # Single precision, also because the last bits of double depend on how many threads took part.
    single = solution.astype(np.float32)
    return LinearClassifier(weights=single[:-1], intercept=float(single[-1]), settings=settings)


def sigmoid(logits: Floats) -> Floats:
    """Return the probabilities of log-odds; through tanh, which never overflows."""
    return (1 + np.tanh(logits / 2)) / 2


class Objective:
    """Loss and gradient at weights and intercept; a class so that the transposed matrix is made once."""

    def __init__(self, matrix: "csr_array", labels: npt.NDArray[np.bool_], l2: float) -> None:
        self.matrix, self.transposed, self.l2 = matrix, matrix.T.tocsr(), l2
        self.signs = np.where(labels, 1.0, -1.0)
        self.shares = np.where(labels, 0.5 / labels.sum(), 0.5 / (~labels).sum())

    def __call__(self, point: Floats) -> tuple[float, Floats]:
        weights, intercept = point[:-1], point[-1]
        margins = self.signs * (self.matrix @ weights + intercept)
        loss = (self.shares * np.logaddexp(0, -margins)).sum() + self.l2 / 2 * (weights**2).sum()
        slopes = -self.shares * self.signs * sigmoid(-margins)
        return float(loss), np.append(self.transposed @ slopes + self.l2 * weights, slopes.sum())


def _features(texts: pl.Series, settings: LinearSettings) -> Iterator[Features]:
    for start in range(0, len(texts), SLICE):
        yield features_of(texts.slice(start, SLICE), settings)
