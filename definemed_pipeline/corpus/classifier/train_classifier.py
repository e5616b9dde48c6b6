"""Payload of the asset `medical_classifier`: train both stages on the annotator's labels, calibrate, choose the threshold, measure.

The stratified sample is split by a hash of the text, each class by itself. The training part trains both stages; the validation part
calibrates them and chooses the decision threshold, with inclusion weights, so that both hold for the web and not for the sample. The
purely random hold-out and the gold documents only measure. The decision rule belongs in `two_stage`.

Texts are read from the annotations a row group at a time: beside the model, memory holds labels, stage 1's counts or stage 2's tokens.
"""

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import TypeAdapter

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.corpus.agreement import agreement, proportion
from definemed_pipeline.corpus.classifier.annotated import Texts, read_annotated
from definemed_pipeline.corpus.classifier.calibration import calibration_error, sigmoid
from definemed_pipeline.corpus.classifier.linear import LinearClassifier, train_linear
from definemed_pipeline.corpus.classifier.settings import MedicalClassifierSettings
from definemed_pipeline.corpus.classifier.two_stage import DecisionRule, decide, fit_rule
from definemed_pipeline.corpus.parquet import write_parquet
from definemed_pipeline.errors import UserError
from definemed_pipeline.intervals import weighted_proportion
from definemed_pipeline.payload import run_payload
from definemed_pipeline.settings import as_json

if TYPE_CHECKING:
    from definemed_pipeline.corpus.classifier.transformer import TransformerClassifier

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

MIN_EXAMPLES = 20  # of each class; with fewer, neither a classifier nor a threshold means anything


def train_classifier(draft: Draft[MedicalClassifierSettings]) -> None:
    """Write `linear.safetensors`, `transformer/`, `classifier.json` and `validation.parquet`, and set the metrics.

    Raise UserError where the sample holds fewer than MIN_EXAMPLES documents of a class.
    """
    path = draft.input("annotations") / "annotations.parquet"
    annotated = read_annotated(path)
    sample = annotated.filter(pl.col("role") == "sample").drop_nulls("is_medical")
    _check_examples(sample)
    training, validation = split(sample, draft.settings.validation_share)
    stages = _Stages(*_train(draft, Texts(path, training["row"].to_numpy()), training["is_medical"].to_numpy()), draft)
    labels, weights = validation["is_medical"].to_numpy(), validation["inclusion_weight"].to_numpy()
    logits = stages.logits(Texts(path, validation["row"].to_numpy()))
    rule = fit_rule(*logits, labels, weights, draft.settings.target_precision)
    decisions = _decisions(*logits, rule)
    record = {"rule": rule.to_json(), "linear": as_json(draft.settings.linear), "max_tokens": draft.settings.max_tokens}
    draft.write_json("classifier.json", record)
    scored = validation.select("id", "is_medical", "inclusion_weight").hstack(decisions.drop("is_medical"))
    write_parquet(scored, draft.folder / "validation.parquet")
    draft.metrics |= {
        "training_documents": training.height,
        "training_positives": int(training["is_medical"].sum()),
        "validation_documents": validation.height,
        "validation_positives": int(labels.sum()),
        "decision_threshold": rule.decision_threshold,
        "device": stages.transformer.precision,
        **_measure_choice(labels, weights, decisions["is_medical"].to_numpy(), draft.settings.target_precision),
        **_measure_ranking(labels, weights, *logits),
    }
    hold_out = annotated.filter(pl.col("role") == "hold_out").drop_nulls("is_medical")
    draft.metrics |= _measure_hold_out(hold_out["is_medical"], *stages.logits(Texts(path, hold_out["row"].to_numpy())), rule)
    gold = annotated.filter(pl.col("role") == "gold").drop_nulls("gold_is_medical")
    draft.metrics |= _measure_gold(gold["gold_is_medical"], *stages.logits(Texts(path, gold["row"].to_numpy())), rule)


class _Stages:
    """Both trained stages."""

    def __init__(
        self, linear: LinearClassifier, transformer: "TransformerClassifier", draft: Draft[MedicalClassifierSettings]
    ) -> None:
        self.linear, self.transformer = linear, transformer
        self.batch_tokens = draft.settings.batch_size * draft.settings.max_tokens

    def logits(self, texts: Texts) -> tuple[Floats, Floats]:
        """Return the log-odds of both stages, shape (texts,) each."""
        linear = np.concatenate([np.zeros(0), *map(self.linear.logits, texts)])
        return linear, self.transformer.logits_of(self.transformer.encode(texts), self.batch_tokens)


def split(sample: pl.DataFrame, validation_share: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return training and validation documents in the sample's order: each class is divided in the same proportion.

    By `text_key`, a hash of the text, and not of the id, so that copies of a document never stand on both sides.
    """
    bounds = sample.group_by("is_medical").agg(
        bound=pl.col("text_key").sort().get((pl.len() * validation_share).ceil().cast(pl.Int64) - 1)
    )
    divided = sample.join(bounds, on="is_medical", how="left", maintain_order="left")
    validates = pl.col("text_key") <= pl.col("bound")
    training, validation = (divided.filter(side).select(sample.columns) for side in (~validates, validates))
    return training, validation


def fewer(labels: Bools, most: int) -> npt.NDArray[np.int64]:
    """Return the positions of at most `most` documents, evenly spread: all positives up to a half, the rest negatives.

    Stage 1 gives both classes equal weight in total, so the rarer one is what must not be thinned.
    """
    positives, negatives = np.flatnonzero(labels), np.flatnonzero(~labels)
    kept = min(len(positives), max(most // 2, most - len(negatives)))
    return np.sort(np.concatenate([_spread(positives, kept), _spread(negatives, min(len(negatives), most - kept))]))


def _spread(positions: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    return positions[np.arange(count) * len(positions) // max(1, count)]


def _check_examples(sample: pl.DataFrame) -> None:
    for label, name in ((True, "positive"), (False, "negative")):
        found = sample.filter(pl.col("is_medical") == label)["text_key"].n_unique()
        if found < MIN_EXAMPLES:
            raise UserError(
                f"the sample of {sample.height:,} annotated documents holds {found} different {name} ones, the classifier needs "
                f"{MIN_EXAMPLES}: raise annotations.sample_size, add shards, or look at the annotator's threshold"
            )


def _train(
    draft: Draft[MedicalClassifierSettings], texts: Texts, labels: Bools
) -> tuple[LinearClassifier, "TransformerClassifier"]:
    """Train both stages and save them, and note how long each took.

    Stage 2 is loaded again as for scoring: on a GPU with weights in bf16, so that what is calibrated is what will score.
    """
    from definemed_pipeline.corpus.classifier.transformer import (  # seconds: after all input was checked
        load_transformer,
        train_transformer,
    )

    started = time.monotonic()
    kept = fewer(labels, draft.settings.linear.max_documents)
    draft.report(f"training on {len(labels):,} documents, {labels.sum():,} of them positive; stage 1 on {len(kept):,}")
    linear = train_linear(Texts(texts.path, texts.rows[kept]), labels[kept], draft.settings.linear)
    draft.metrics |= {"linear_documents": len(kept), "linear_seconds": round(time.monotonic() - started, 1)}
    started = time.monotonic()
    transformer = train_transformer(texts, labels, draft.settings, draft.checkpoints / "transformer.pt", draft.report)
    draft.metrics["transformer_seconds"] = round(time.monotonic() - started, 1)
    linear.save(draft.folder / "linear.safetensors")
    transformer.save(draft.folder / "transformer")
    return linear, load_transformer(draft.folder / "transformer", draft.settings.max_tokens)


def _decisions(linear: Floats, transformer: Floats, rule: DecisionRule) -> pl.DataFrame:
    """Return what the full sweep decides about documents with text."""
    nothing = np.zeros(len(linear), dtype=bool)
    return decide(linear, transformer, rule, empty=nothing, rejected=nothing)


def _measure_choice(labels: Bools, weights: Floats, taken: Bools, target: float) -> dict[str, Any]:
    """Return what the threshold reaches where it was chosen: seen through the choice, hence hopeful; the hold-out is not."""
    precision = weighted_proportion(labels[taken], weights[taken])
    return {
        "target_precision": target,
        "target_precision_reached": precision.value >= target - 1e-9,
        **precision.as_metrics("validation_precision"),
        **weighted_proportion(taken[labels], weights[labels]).as_metrics("validation_recall"),
    }


def _measure_ranking(labels: Bools, weights: Floats, linear: Floats, transformer: Floats) -> dict[str, float]:
    """Return what each stage is worth alone, on validation documents, and what their mean is."""
    rankings = {"linear": linear, "transformer": transformer, "mean": (linear + transformer) / 2}
    return {f"{name}_average_precision": average_precision(labels, logits, weights) for name, logits in rankings.items()}


def _measure_hold_out(labels: pl.Series, linear: Floats, transformer: Floats, rule: DecisionRule) -> dict[str, Any]:
    """Return prevalence, precision and recall on the random hold-out, and how well probabilities are calibrated there."""
    metrics: dict[str, Any] = {"hold_out_documents": len(labels), "hold_out_positives": int(labels.sum())}
    metrics |= proportion("prevalence", int(labels.sum()), len(labels))
    metrics |= agreement(labels, _decisions(linear, transformer, rule)["is_medical"])
    calibrations = {"linear": rule.linear, "transformer": rule.transformer, "together": rule.together}
    for name, calibration in calibrations.items():
        metrics |= {f"{name}_temperature": calibration.temperature, f"{name}_bias": calibration.bias}
    first, second = rule.linear(linear), rule.transformer(transformer)
    log_odds = {
        "linear": (linear, first),
        "transformer": (transformer, second),
        "medical": ((linear + transformer) / 2, rule.together((first + second) / 2)),
    }
    for name, (before, after) in log_odds.items():
        for when, logits in (("before", before), ("after", after)):
            error = calibration_error(sigmoid(logits), labels.to_numpy(), np.ones(len(labels)))
            metrics[f"{name}_calibration_error_{when}"] = error
    return metrics


def _measure_gold(labels: pl.Series, linear: Floats, transformer: Floats, rule: DecisionRule) -> dict[str, Any]:
    """Return the figures against gold labels, each named `gold_...`; none where there is no gold."""
    figures = agreement(labels, _decisions(linear, transformer, rule)["is_medical"]) if len(labels) else {}
    return {f"gold_{name}": value for name, value in figures.items()}


def average_precision(labels: Bools, scores: Floats, weights: Floats) -> float:
    """Return the mean, over positives, of the precision at each one's score: the area under the precision-recall curve."""
    order = np.argsort(-scores, kind="stable")
    at_or_above = np.searchsorted(-scores[order], -scores[order], side="right")  # equal scores are taken together
    right = np.cumsum((weights * labels)[order])[at_or_above - 1]
    precision = right / np.cumsum(weights[order])[at_or_above - 1]
    found = labels[order]
    return float(np.average(precision[found], weights=weights[order][found]))


if __name__ == "__main__":
    run_payload(MedicalClassifierSettings, train_classifier, parse=TypeAdapter(MedicalClassifierSettings).validate_python)
