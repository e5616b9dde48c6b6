"""Stage 1 of the classifier: logistic regression on hashed subwords, quick enough to read the whole web.

What is decided with its log-odds belongs in `two_stage`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl
from safetensors.numpy import load_file, save_file

from definemed_pipeline.corpus.classifier.calibration import sigmoid
from definemed_pipeline.corpus.classifier.features import Features, features_of
from definemed_pipeline.corpus.classifier.settings import LinearSettings

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Floats = npt.NDArray[np.float64]
Ints32 = npt.NDArray[np.int32]
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
        slices = [features.dot(weights) for features in _features([texts], self.settings)]
        return np.concatenate([np.zeros(0), *slices]) + self.intercept

    def save(self, path: Path) -> None:
        """Write weights and intercept as safetensors."""
        save_file({"weights": self.weights, "intercept": np.array([self.intercept], dtype=np.float32)}, path)


def load_linear(path: Path, settings: LinearSettings) -> LinearClassifier:
    """Load a saved stage 1; `settings` are those it was trained with."""
    tensors = load_file(path)
    return LinearClassifier(weights=tensors["weights"], intercept=float(tensors["intercept"][0]), settings=settings)


def train_linear(texts: Iterable[pl.Series], labels: npt.NDArray[np.bool_], settings: LinearSettings) -> LinearClassifier:
    """Fit by L-BFGS: mean logistic loss, both classes of equal total weight, plus l2 / 2 times the squared weights.

    `texts` come in pieces of any size, together as long as `labels`. Memory: see `Counts`.
    """
    from scipy.optimize import minimize

    counts = Counts.of(_features(texts, settings), 1 << settings.buckets_power)
    solution = minimize(
        Objective(counts, labels, settings.l2),
        np.zeros(counts.buckets + 1),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": MAX_ITERATIONS, "gtol": TOLERANCE, "ftol": 0},
    ).x
    # Single precision, also because the last bits of double depend on how many threads took part.
    single = solution.astype(np.float32)
    return LinearClassifier(weights=single[:-1], intercept=float(single[-1]), settings=settings)


@dataclass(frozen=True)
class Counts:
    """The documents x buckets matrix as the product of documents x words and words x buckets, which is what it is made from.

    Multiplied out, a German page of 3,300 characters has some 3,600 entries; as it stands it has about 250, and each distinct word of
    the whole sample some 25 once. That is a tenth of the memory (3 kB a document and 300 bytes a word) and of the arithmetic.
    """

    documents: "csr_array"  # shape (documents, words)
    words: "tuple[csr_array, ...]"  # pieces of (words, buckets), one below the other

    @property
    def buckets(self) -> int:
        return int(self.words[0].shape[1])

    def times(self, weights: Floats) -> Floats:
        """Return the matrix times one weight per bucket, shape (documents,)."""
        return np.asarray(self.documents @ np.concatenate([piece @ weights for piece in self.words]))

    def transposed_times(self, slopes: Floats) -> Floats:
        """Return the transposed matrix times one number per document, shape (buckets,)."""
        of_words = self.documents.T @ slopes
        bounds = np.cumsum([0, *(piece.shape[0] for piece in self.words)])
        parts = (piece.T @ of_words[low:high] for piece, low, high in zip(self.words, bounds, bounds[1:], strict=False))
        return np.asarray(sum(parts))

    @classmethod
    def of(cls, slices: Iterable[Features], buckets: int) -> "Counts":
        """Gather slices of documents: a word that several of them know is one word."""
        from scipy.sparse import csr_array

        vocabulary = _Vocabulary()
        numbers, weights, lengths, words = [], [], [], []
        for features in slices:
            known, new = vocabulary.number(features.hashes)
            numbers.append(known[features.words])
            weights.append(features.weights)
            lengths.append(np.diff(features.word_starts))
            pieces = csr_array(
                (
                    features.bucket_weights.astype(np.float32),
                    features.buckets.astype(np.int32),
                    features.bucket_starts.astype(np.int32),
                ),
                shape=(len(features.hashes), buckets),
            )
            words.append(pieces[new])
        starts = np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(
            np.int32
        )  # as `numbers`: else both become int64
        entries = (np.concatenate(weights), np.concatenate(numbers), starts)
        return cls(csr_array(entries, shape=(len(starts) - 1, len(vocabulary))), tuple(words))


class _Vocabulary:
    """Numbers words by their hashes, in the order in which they are first met."""

    def __init__(self) -> None:
        self.hashes, self.numbers = np.zeros(0, np.uint64), np.zeros(0, np.int32)

    def __len__(self) -> int:
        return len(self.hashes)

    def number(self, hashes: npt.NDArray[np.uint64]) -> tuple[Ints32, npt.NDArray[np.int64]]:
        """Return the number of each of these distinct words, and the positions of those that were not known before."""
        places = np.searchsorted(self.hashes, hashes)
        is_known = np.zeros(len(hashes), dtype=bool)
        inside = places < len(self)
        is_known[inside] = self.hashes[places[inside]] == hashes[inside]
        new = np.flatnonzero(~is_known)
        result = np.zeros(len(hashes), np.int32)
        result[is_known] = self.numbers[places[is_known]]
        result[new] = np.arange(len(self), len(self) + len(new))
        self.hashes, self.numbers = (
            np.insert(self.hashes, places[new], hashes[new]),
            np.insert(self.numbers, places[new], result[new]),
        )
        return result, new


class Objective:
    """Loss and gradient at weights and intercept."""

    def __init__(self, counts: Counts, labels: npt.NDArray[np.bool_], l2: float) -> None:
        self.counts, self.l2 = counts, l2
        self.signs = np.where(labels, 1.0, -1.0)
        self.shares = np.where(labels, 0.5 / labels.sum(), 0.5 / (~labels).sum())

    def __call__(self, point: Floats) -> tuple[float, Floats]:
        weights, intercept = point[:-1], point[-1]
        margins = self.signs * (self.counts.times(weights) + intercept)
        loss = (self.shares * np.logaddexp(0, -margins)).sum() + self.l2 / 2 * (weights**2).sum()
        slopes = -self.shares * self.signs * sigmoid(-margins)
        return float(loss), np.append(self.counts.transposed_times(slopes) + self.l2 * weights, slopes.sum())


def _features(texts: Iterable[pl.Series], settings: LinearSettings) -> Iterator[Features]:
    for piece in texts:
        for start in range(0, len(piece), SLICE):
            yield features_of(piece.slice(start, SLICE), settings)
