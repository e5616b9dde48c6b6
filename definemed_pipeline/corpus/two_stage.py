"""The classifier of two stages as one: its decision rule, its thresholds, its files.

Stage 1 (linear) reads every document and rejects those below `prefilter_threshold`; stage 2 (transformer) reads the rest. For a
document both have read, `medical_probability` is the sigmoid of their mean log-odds: measured on real text with a few hundred labels,
the mean is as good as the better stage, whichever that is. A document that stage 1 rejects keeps stage 1's probability, capped
just below `decision_threshold`. So `is_medical` is `medical_probability >= decision_threshold` for every document.

Probabilities are rounded to six decimals before anything is decided: the last bits of a transformer's output depend on how its batch
was padded, and no document's fate should.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from definemed_pipeline.corpus.classifier_settings import LinearSettings
from definemed_pipeline.corpus.linear import LinearClassifier, load_linear, sigmoid

if TYPE_CHECKING:
    from definemed_pipeline.corpus.transformer import TransformerClassifier

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

DECIMALS = 6
SMALLEST = np.float32(10**-DECIMALS)
SCORE_SCHEMA = {
    "linear_probability": pl.Float32,
    "transformer_probability": pl.Float32,
    "medical_probability": pl.Float32,
    "decided_by": pl.String,
    "is_medical": pl.Boolean,
}


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Both are values of float32, so that comparing in single or double precision gives the same decision."""

    prefilter_threshold: float
    decision_threshold: float


@dataclass(frozen=True)
class TwoStageClassifier:
    """The files of a `medical_classifier` artifact. Stage 2 is loaded when the first document gets there."""

    folder: Path

    @cached_property
    def thresholds(self) -> Thresholds:
        return Thresholds(**{name: self._record[name] for name in ("prefilter_threshold", "decision_threshold")})

    @cached_property
    def linear(self) -> LinearClassifier:
        return load_linear(self.folder / "linear.safetensors", LinearSettings(**self._record["linear"]))

    @cached_property
    def transformer(self) -> "TransformerClassifier":
        from definemed_pipeline.corpus.transformer import load_transformer

        return load_transformer(self.folder / "transformer", self._record["max_tokens"])

    @cached_property
    def _record(self) -> Mapping[str, Any]:
        record: dict[str, Any] = json.loads((self.folder / "classifier.json").read_text("utf-8"))
        return record

    def score(self, texts: pl.Series, batch_size: int) -> pl.DataFrame:
        """Return SCORE_SCHEMA for a column of texts; a null or blank text is decided by "empty", with probability 0."""
        empty = (texts.fill_null("").str.strip_chars() == "").to_numpy()
        linear = self.linear.logits(texts)
        reaches = ~empty & (rounded(sigmoid(linear)) >= self.thresholds.prefilter_threshold)
        transformer = np.full(len(texts), np.nan)
        if reaches.any():
            transformer[reaches] = self.transformer.logits(texts.filter(pl.Series(reaches)).to_list(), batch_size)
        return decide(linear, transformer, self.thresholds, empty=empty)


def decide(linear: Floats, transformer: Floats, thresholds: Thresholds, *, empty: Bools | None = None) -> pl.DataFrame:
    """Return SCORE_SCHEMA from the log-odds of both stages, shape (documents,) each; NaN where stage 2 has not read."""
    empty = np.zeros(len(linear), dtype=bool) if empty is None else empty
    linear_probability = np.where(empty, np.float32(0), rounded(sigmoid(linear)))
    by_transformer = ~empty & (linear_probability >= thresholds.prefilter_threshold) & ~np.isnan(transformer)
    transformer_probability = np.where(by_transformer, rounded(sigmoid(transformer)), np.float32(np.nan))
    below = np.nextafter(np.float32(thresholds.decision_threshold), np.float32(-1))
    probability = np.where(by_transformer, combined(linear, transformer), np.minimum(linear_probability, below))
    return pl.DataFrame(
        {
            "linear_probability": linear_probability,
            "transformer_probability": pl.Series(transformer_probability).fill_nan(None),
            "medical_probability": probability,
            "decided_by": np.where(empty, "empty", np.where(by_transformer, "transformer", "linear")),
            "is_medical": probability >= thresholds.decision_threshold,
        },
        schema=SCORE_SCHEMA,
    )


def combined(linear: Floats, transformer: Floats) -> Floats32:
    """Return the probability both stages give together: the sigmoid of their mean log-odds."""
    return rounded(sigmoid((linear + transformer) / 2))


def rounded(probabilities: Floats) -> Floats32:
    """Return probabilities as they are compared and stored."""
    return np.round(probabilities, DECIMALS).astype(np.float32)


def choose_decision_threshold(probabilities: Floats32, labels: Bools, target_precision: float) -> float:
    """Return the threshold of largest recall whose precision reaches the target; where none does, that of the best precision.

    It lies half-way (in log-odds) between the lowest probability that is taken and the next below: any value there decides these
    documents alike, and the middle is the safest for others.
    """
    order = np.argsort(-probabilities, kind="stable")
    values = np.unique(np.append(probabilities[probabilities > 0], SMALLEST))[::-1]  # what has probability 0 is never taken
    taken = np.searchsorted(-probabilities[order], -values, side="right")  # documents at or above each value
    precision = np.append(0, np.cumsum(labels[order]))[taken] / np.maximum(taken, 1)
    last = np.flatnonzero(precision >= min(target_precision, precision.max()))[-1]
    return _middle(values[last + 1] if last + 1 < len(values) else values[last], values[last])


def choose_prefilter_threshold(linear_probabilities: Floats32, prefilter_recall: float) -> float:
    """Return the threshold below which stage 1 may reject, given its probabilities for documents that both stages would take.

    With n such documents it is the k-th smallest probability, k = floor((n + 1) * (1 - recall)): then a new document of the same kind
    passes with a probability of at least `prefilter_recall` (split conformal prediction, Vovk et al. 2005). Where n is too small to
    promise that, it is 0 and stage 2 reads everything.
    """
    k = int((len(linear_probabilities) + 1) * (1 - prefilter_recall) + 1e-9)
    return float(np.sort(linear_probabilities)[k - 1]) if k else 0.0


def _middle(low: np.float32, high: np.float32) -> float:
    """Return the float32 half-way between two probabilities in log-odds; `high` where there is none between."""
    inside = np.clip(np.array([low, high], dtype=np.float64), SMALLEST, 1 - SMALLEST)
    middle = np.float32(sigmoid(np.log(inside / (1 - inside)).mean(keepdims=True))[0])
    return float(middle if low < middle < high else high)
