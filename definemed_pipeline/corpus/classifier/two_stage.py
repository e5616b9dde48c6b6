"""The classifier of two stages as one: its decision rule and its files.

The **full sweep** is the rule itself: both stages read a document, and it is medical where the probability they give together reaches
`decision_threshold`. That probability comes from the mean of their calibrated log-odds: measured on real text with a few hundred labels,
the mean is as good as the better stage, whichever that is. The **cascade** is the same rule with less work: what stage 1 finds too
improbable, stage 2 does not read, and it is not medical. How improbable that is says the `certificate`, relative to the full sweep.

A document that stage 1 rejects keeps stage 1's probability, capped just below `decision_threshold`. So `is_medical` is
`medical_probability >= decision_threshold` for every document. Some rejects are audited: stage 2 reads them too, and where the full sweep
would have taken one, `audit_missed` says so. It stays rejected: else the corpus would depend on the audit, and the audit would no
longer measure the cascade.

What stage 2 has a part in is rounded to six decimals before anything is decided: the last bits of a transformer's output depend on how
its batch was padded, and no document's fate should. Stage 1's probability does not depend on company and is compared as float32:
most of the web lies below the sixth decimal.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from definemed_pipeline.corpus.classifier.calibration import Calibration, calibrate, sigmoid
from definemed_pipeline.corpus.classifier.linear import LinearClassifier, load_linear
from definemed_pipeline.corpus.classifier.settings import LinearSettings

if TYPE_CHECKING:
    from definemed_pipeline.corpus.classifier.transformer import TransformerClassifier

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

DECIMALS = 6
SMALLEST = np.float32(10**-DECIMALS)
SCORE_SCHEMA: dict[str, type[pl.DataType]] = {
    "linear_probability": pl.Float32,
    "transformer_probability": pl.Float32,
    "medical_probability": pl.Float32,
    "decided_by": pl.String,
    "is_medical": pl.Boolean,
    "audited": pl.Boolean,
    "audit_missed": pl.Boolean,
}


@dataclass(frozen=True, kw_only=True)
class DecisionRule:
    """How the log-odds of both stages become a decision; `decision_threshold` is a value of float32."""

    linear: Calibration
    transformer: Calibration
    together: Calibration
    decision_threshold: float = 1.0

    def linear_probabilities(self, linear: Floats) -> Floats32:
        """Return what stage 1 alone says, as it is compared and stored."""
        return sigmoid(self.linear(linear)).astype(np.float32)

    def transformer_probabilities(self, transformer: Floats) -> Floats32:
        """Return what stage 2 alone says, as it is stored."""
        return rounded(sigmoid(self.transformer(transformer)))

    def probabilities(self, linear: Floats, transformer: Floats) -> Floats32:
        """Return what both say together, as it is compared and stored; NaN where stage 2 has not read."""
        return rounded(sigmoid(self.together((self.linear(linear) + self.transformer(transformer)) / 2)))

    def to_json(self) -> dict[str, Any]:
        """Return the rule as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "DecisionRule":
        """Read a rule back."""
        stages = {name: Calibration(**data[name]) for name in ("linear", "transformer", "together")}
        return cls(**stages, decision_threshold=data["decision_threshold"])


@dataclass(frozen=True)
class TwoStageClassifier:
    """The files of a `medical_classifier` artifact. Stage 2 is loaded when the first document gets there."""

    folder: Path

    @cached_property
    def rule(self) -> DecisionRule:
        return DecisionRule.from_json(self._record["rule"])

    @cached_property
    def linear(self) -> LinearClassifier:
        return load_linear(self.folder / "linear.safetensors", LinearSettings(**self._record["linear"]))

    @cached_property
    def transformer(self) -> "TransformerClassifier":
        from definemed_pipeline.corpus.classifier.transformer import load_transformer

        return load_transformer(self.folder / "transformer", self._record["max_tokens"])

    @cached_property
    def _record(self) -> Mapping[str, Any]:
        record: dict[str, Any] = json.loads((self.folder / "classifier.json").read_text("utf-8"))
        return record


def decide(linear: Floats, transformer: Floats, rule: DecisionRule, *, empty: Bools, rejected: Bools) -> pl.DataFrame:
    """Return SCORE_SCHEMA from the log-odds of both stages, shape (documents,) each; `transformer` is NaN where stage 2 has not read.

    `empty` documents have no text; `rejected` ones were rejected by stage 1, and where stage 2 read them they are audited.
    """
    linear_probability = np.where(empty, np.float32(0), rule.linear_probabilities(linear))
    together = rule.probabilities(linear, transformer)
    by_transformer = ~empty & ~rejected
    below = np.nextafter(np.float32(rule.decision_threshold), np.float32(-1))
    probability = np.where(by_transformer, together, np.minimum(linear_probability, below))
    audited = rejected & ~np.isnan(transformer)
    return pl.DataFrame(
        {
            "linear_probability": linear_probability,
            "transformer_probability": pl.Series(rule.transformer_probabilities(transformer)).fill_nan(None),
            "medical_probability": probability,
            "decided_by": np.where(empty, "empty", np.where(by_transformer, "transformer", "linear")),
            "is_medical": probability >= rule.decision_threshold,
            "audited": audited,
            "audit_missed": audited & (together >= rule.decision_threshold),
        },
        schema=SCORE_SCHEMA,
    )


def fit_rule(linear: Floats, transformer: Floats, labels: Bools, weights: Floats, target_precision: float) -> DecisionRule:
    """Calibrate both stages and what they say together, and choose the decision threshold, all on validation documents.

    All have shape (documents,); `weights` say how many documents of the web each stands for.
    """
    first, second = calibrate(linear, labels, weights), calibrate(transformer, labels, weights)
    together = calibrate((first(linear) + second(transformer)) / 2, labels, weights)
    rule = DecisionRule(linear=first, transformer=second, together=together)
    threshold = choose_decision_threshold(rule.probabilities(linear, transformer), labels, weights, target_precision)
    return DecisionRule(linear=first, transformer=second, together=together, decision_threshold=threshold)


def rounded(probabilities: Floats) -> Floats32:
    """Return probabilities as they are compared and stored."""
    return np.round(probabilities, DECIMALS).astype(np.float32)


def choose_decision_threshold(probabilities: Floats32, labels: Bools, weights: Floats, target_precision: float) -> float:
    """Return the threshold of largest recall whose weighted precision reaches the target; where none does, that of the best precision.

    It lies half-way (in log-odds) between the lowest probability that is taken and the next below: any value there decides these
    documents alike, and the middle is the safest for others.
    """
    order = np.argsort(-probabilities, kind="stable")
    values = np.unique(np.append(probabilities[probabilities > 0], SMALLEST))[::-1]  # what has probability 0 is never taken
    last_taken = np.searchsorted(-probabilities[order], -values, side="right")  # documents at or above each value
    taken, right = (np.append(0, np.cumsum(one))[last_taken] for one in (weights[order], (weights * labels)[order]))
    precision = np.round(right / np.maximum(taken, np.finfo(np.float64).tiny), 12)
    last = np.flatnonzero(precision >= min(target_precision, precision.max()))[-1]
    return _middle(values[last + 1] if last + 1 < len(values) else values[last], values[last])


def _middle(low: np.float32, high: np.float32) -> float:
    """Return the float32 half-way between two probabilities in log-odds; `high` where there is none between."""
    inside = np.clip(np.array([low, high], dtype=np.float64), SMALLEST, 1 - SMALLEST)
    middle = np.float32(sigmoid(np.log(inside / (1 - inside)).mean(keepdims=True))[0])
    return float(middle if low < middle < high else high)
