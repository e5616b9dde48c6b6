"""Payload of the asset `medical_classifier`: train both stages on the annotator's labels, choose thresholds, measure.

The annotated sample is split by a hash of the text, each class by itself. Training sees the one part, thresholds are chosen and
figures taken on the other; gold documents only measure. The decision rule belongs in `two_stage`.
"""

import hashlib
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import TypeAdapter

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.corpus.agreement import agreement, proportion
from definemed_pipeline.corpus.classifier_settings import MedicalClassifierSettings
from definemed_pipeline.corpus.linear import LinearClassifier, sigmoid, train_linear
from definemed_pipeline.corpus.parquet import write_parquet
from definemed_pipeline.corpus.two_stage import (
    Thresholds,
    TwoStageClassifier,
    choose_decision_threshold,
    choose_prefilter_threshold,
    combined,
    decide,
    rounded,
)
from definemed_pipeline.errors import UserError
from definemed_pipeline.payload import run_payload
from definemed_pipeline.settings import as_json

if TYPE_CHECKING:
    from definemed_pipeline.corpus.transformer import TransformerClassifier

Floats = npt.NDArray[np.float64]

COLUMNS = ["id", "text", "role", "is_medical", "gold_is_medical"]
MIN_EXAMPLES = 20  # of each class; with fewer, neither a classifier nor a threshold means anything


def train_classifier(draft: Draft[MedicalClassifierSettings]) -> None:
    """Write `linear.safetensors`, `transformer/`, `classifier.json` and `held_out.parquet`, and set the metrics.

    Raise UserError where the annotations hold fewer than MIN_EXAMPLES documents of a class.
    """
    annotations = pl.read_parquet(draft.input("annotations") / "annotations.parquet", columns=COLUMNS)
    sample = annotations.filter(pl.col("role") == "sample").drop_nulls(["text", "is_medical"])
    gold = annotations.filter(pl.col("role") == "gold").drop_nulls("gold_is_medical")
    _check_examples(sample)
    training, held_out = split(sample, draft.settings.held_out_share)
    linear, transformer = _train(training, draft)
    labels = held_out["is_medical"]
    logits = linear.logits(held_out["text"]), transformer.logits(held_out["text"].to_list(), draft.settings.batch_size)
    thresholds = _choose_thresholds(labels, *logits, draft.settings)
    decisions = decide(*logits, thresholds)
    _write(draft, linear, transformer, thresholds, held_out.select("id", "is_medical").hstack(decisions.drop("is_medical")))
    draft.metrics |= {
        "training_documents": training.height,
        "training_positives": int(training["is_medical"].sum()),
        "held_out_documents": held_out.height,
        "held_out_positives": int(labels.sum()),
        **as_json(thresholds),
        **_measure(labels, *logits, decisions, draft.settings.target_precision),
        **_measure_on_gold(gold, TwoStageClassifier(draft.folder), draft.settings.batch_size),
    }


def split(sample: pl.DataFrame, held_out_share: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return training and held-out documents, sorted by id: each class is divided in the same proportion.

    By a hash of the text and not of the id, so that copies of a document never stand on both sides.
    """
    keys = pl.Series([hashlib.blake2b(text.encode(), digest_size=8).hexdigest() for text in sample["text"]], dtype=pl.String)
    keyed = sample.with_columns(split_key=keys).sort("id")
    bounds = keyed.group_by("is_medical").agg(
        bound=pl.col("split_key").sort().get((pl.len() * held_out_share).ceil().cast(pl.Int64) - 1)
    )
    divided = keyed.join(bounds, on="is_medical", maintain_order="left")
    is_held_out = pl.col("split_key") <= pl.col("bound")
    training, held_out = (divided.filter(side).select(sample.columns) for side in (~is_held_out, is_held_out))
    return training, held_out


def _check_examples(sample: pl.DataFrame) -> None:
    for label, name in ((True, "positive"), (False, "negative")):
        found = sample.filter(pl.col("is_medical") == label)["text"].n_unique()
        if found < MIN_EXAMPLES:
            raise UserError(
                f"the sample of {sample.height:,} annotated documents holds {found} different {name} ones, the classifier needs "
                f"{MIN_EXAMPLES}: raise annotations.sample_size, add shards, or look at the annotator's threshold"
            )


def _train(training: pl.DataFrame, draft: Draft[MedicalClassifierSettings]) -> tuple[LinearClassifier, "TransformerClassifier"]:
    """Train both stages and note how long each took."""
    from definemed_pipeline.corpus.transformer import train_transformer  # seconds to import: after all input was checked

    labels, started = training["is_medical"].to_numpy(), time.monotonic()
    draft.report(f"training on {training.height:,} documents, {labels.sum():,} of them positive")
    linear = train_linear(training["text"], labels, draft.settings.linear)
    draft.metrics["linear_seconds"] = round(time.monotonic() - started, 1)
    started = time.monotonic()
    checkpoint = draft.checkpoints / "transformer.pt"
    transformer = train_transformer(training["text"].to_list(), labels, draft.settings, checkpoint, draft.report)
    draft.metrics["transformer_seconds"] = round(time.monotonic() - started, 1)
    return linear, transformer


def _choose_thresholds(labels: pl.Series, linear: Floats, transformer: Floats, settings: MedicalClassifierSettings) -> Thresholds:
    """Choose the decision threshold as if stage 2 read everything, then how much stage 1 may take off its hands."""
    probabilities = combined(linear, transformer)
    decision_threshold = choose_decision_threshold(probabilities, labels.to_numpy(), settings.target_precision)
    taken = probabilities >= decision_threshold
    return Thresholds(
        prefilter_threshold=choose_prefilter_threshold(rounded(sigmoid(linear[taken])), settings.prefilter_recall),
        decision_threshold=decision_threshold,
    )


def _write(
    draft: Draft[MedicalClassifierSettings],
    linear: LinearClassifier,
    transformer: "TransformerClassifier",
    thresholds: Thresholds,
    held_out: pl.DataFrame,
) -> None:
    linear.save(draft.folder / "linear.safetensors")
    transformer.save(draft.folder / "transformer")
    record = {**as_json(thresholds), "linear": as_json(draft.settings.linear), "max_tokens": draft.settings.max_tokens}
    draft.write_json("classifier.json", record)
    write_parquet(held_out, draft.folder / "held_out.parquet")


def _measure(labels: pl.Series, linear: Floats, transformer: Floats, decisions: pl.DataFrame, target: float) -> dict[str, Any]:
    """Return the figures of the whole classifier on held-out documents, and what each stage is worth alone."""
    figures = agreement(labels, decisions["is_medical"])
    passed = decisions["decided_by"] == "transformer"
    rankings = {"linear": linear, "transformer": transformer, "mean": (linear + transformer) / 2}
    return {
        **figures,
        "target_precision": target,
        "target_precision_reached": (figures["precision"] or 0.0) >= target,
        **proportion("prefilter_pass_share", int(passed.sum()), len(passed)),
        **proportion("prefilter_recall", int((passed & labels).sum()), int(labels.sum())),
        **{f"{name}_average_precision": average_precision(labels.to_numpy(), logits) for name, logits in rankings.items()},
    }


def average_precision(labels: npt.NDArray[np.bool_], scores: Floats) -> float:
    """Return the mean, over positives, of the precision at each one's score: the area under the precision-recall curve."""
    order = np.argsort(-scores, kind="stable")
    at_or_above = np.searchsorted(-scores[order], -scores[order], side="right")  # equal scores are taken together
    precision = np.cumsum(labels[order])[at_or_above - 1] / at_or_above
    return float(precision[labels[order]].mean())


def _measure_on_gold(gold: pl.DataFrame, classifier: TwoStageClassifier, batch_size: int) -> dict[str, Any]:
    """Return the figures of the finished classifier against gold labels, each named `gold_...`; none where there is no gold."""
    if gold.is_empty():
        return {}
    decided = classifier.score(gold["text"], batch_size)["is_medical"]
    return {f"gold_{name}": value for name, value in agreement(gold["gold_is_medical"], decided).items()}


if __name__ == "__main__":
    run_payload(MedicalClassifierSettings, train_classifier, parse=TypeAdapter(MedicalClassifierSettings).validate_python)
