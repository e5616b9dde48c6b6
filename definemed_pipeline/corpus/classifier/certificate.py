"""Payload of the asset `cascade_certificate`: what stage 1 alone may reject, with the proof that it costs little recall.

Stage 1 may reject what it finds less probable than a threshold. The certificate chooses the highest threshold at which the cascade
still takes `target_recall` of what the full sweep takes, with `confidence`, on documents that nobody labelled and nothing was tuned
on: what counts is the full sweep's own decision, so labels are not needed.

Why the choice does not spoil the confidence: at a threshold, a document that the full sweep takes is missed or not, independently of
others, so misses are binomial and Clopper and Pearson's (1934) bound on recall is exact. Thresholds are tested from the least to the
most rejecting, in an order fixed before by other data, up to the first that fails. The first threshold in that order whose true recall is
below the target is one fixed threshold; to certify it or any after it, its own test must err, which happens with a probability of at
most 1 - confidence (fixed-sequence testing, as in Learn then Test, Angelopoulos et al. 2021). So many thresholds cost nothing.
"""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.corpus.classifier.cascade import Gate, score_documents
from definemed_pipeline.corpus.classifier.settings import CascadeCertificateSettings
from definemed_pipeline.corpus.classifier.two_stage import TwoStageClassifier
from definemed_pipeline.corpus.parquet import numbered_row_groups, write_parquet
from definemed_pipeline.intervals import wilson
from definemed_pipeline.payload import run_payload

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]

# Of stage 1's probabilities on the validation documents, weighted as the web: from step to step stage 2 reads 3.4 % less, down to 0.1 %.
PASSING_SHARES = np.geomspace(1, 0.001, 201)
CURVE_SCHEMA = {
    "threshold": pl.Float64,
    "passed": pl.Int64,
    "passed_share": pl.Float64,
    "misses": pl.Int64,
    "recall": pl.Float64,
    "recall_low": pl.Float64,
    "tested": pl.Boolean,
    "accepted": pl.Boolean,
}


def certify_cascade(draft: Draft[CascadeCertificateSettings]) -> None:
    """Write `certificate.json`, `curve.parquet` and `sweep.parquet` (the full sweep's scores of the unlabelled documents)."""
    classifier_folder, started = draft.input("medical_classifier"), time.monotonic()
    unlabelled = draft.input("annotations") / "unlabelled.parquet"
    classifier = TwoStageClassifier(classifier_folder)
    path = draft.folder / "sweep.parquet"
    scored = score_documents(
        lambda start: numbered_row_groups(unlabelled, ["id", "text"], start=start), classifier, Gate(), draft, path
    )
    seconds = time.monotonic() - started
    validation = pl.read_parquet(classifier_folder / "validation.parquet", columns=["linear_probability", "inclusion_weight"])
    thresholds = grid(validation["linear_probability"].to_numpy(), validation["inclusion_weight"].to_numpy())
    sweep = pl.read_parquet(path, columns=["linear_probability", "decided_by", "is_medical"])
    read = sweep.filter(pl.col("decided_by") != "empty")
    curve = curve_of(read["linear_probability"], read["is_medical"], thresholds, draft.settings)
    certificate = certificate_of(curve, read.height, int(read["is_medical"].sum()), draft.settings)
    write_parquet(curve, draft.folder / "curve.parquet")
    draft.write_json("certificate.json", certificate)
    draft.report(certificate["in_words"])
    draft.metrics |= {
        **certificate,
        "seconds": round(seconds, 1),
        "documents_per_second": round(scored / seconds, 1),
        "device": classifier.transformer.precision if read.height else None,
    }


def certified_threshold(folder: Path) -> float:
    """Return the stage-1 probability below which stage 1 alone may reject; 0 where it may reject nothing."""
    threshold: float = json.loads((folder / "certificate.json").read_text("utf-8"))["threshold"]
    return threshold


def grid(probabilities: Floats32, weights: Floats) -> Floats:
    """Return the thresholds to test, rising: quantiles of stage 1's probabilities, the web's own by the weights; values of float32.

    Both have shape (documents,) and come from documents that are not those of the test.
    """
    order = np.argsort(-probabilities, kind="stable")
    passing = np.cumsum(weights[order]) / weights.sum()
    found = probabilities[order][np.minimum(np.searchsorted(passing, PASSING_SHARES - 1e-9), len(order) - 1)]
    return np.unique(found[found > 0]).astype(np.float64)


def curve_of(
    probabilities: pl.Series, is_taken: pl.Series, thresholds: Floats, settings: CascadeCertificateSettings
) -> pl.DataFrame:
    """Return CURVE_SCHEMA, a row per threshold: what it lets pass and misses, the bound on recall, and whether it is accepted.

    `probabilities` (stage 1's) and `is_taken` (by the full sweep) are of the unlabelled documents. `tested` are the thresholds up to
    the first that fails; those before it are `accepted`.
    """
    ordered, taken = np.sort(probabilities.to_numpy()), np.sort(probabilities.filter(is_taken).to_numpy())
    passed = len(ordered) - np.searchsorted(ordered, thresholds.astype(np.float32))
    misses = np.searchsorted(taken, thresholds.astype(np.float32))
    bounds = np.array([recall_bound(int(missed), len(taken), settings.confidence) for missed in misses])
    accepted = np.logical_and.accumulate(bounds >= settings.target_recall)
    return pl.DataFrame(
        {
            "threshold": thresholds,
            "passed": passed,
            "passed_share": passed / max(1, len(ordered)),
            "misses": misses,
            "recall": [None if not len(taken) else 1 - int(missed) / len(taken) for missed in misses],
            "recall_low": bounds,
            "tested": np.append(True, accepted)[: len(accepted)],
            "accepted": accepted,
        },
        schema=CURVE_SCHEMA,
    )


def recall_bound(misses: int, positives: int, confidence: float) -> float:
    """Return the lower bound on recall by Clopper and Pearson (1934), one-sided: exact, 0 where nothing was found."""
    from scipy.special import betaincinv

    found = positives - misses
    return float(betaincinv(found, misses + 1, 1 - confidence)) if found else 0.0


def positives_needed(target_recall: float, confidence: float) -> int:
    """Return how many positives without a single miss certify the target: the least n with target ** n <= 1 - confidence."""
    return math.ceil(math.log(1 - confidence) / math.log(target_recall) - 1e-12)


def certificate_of(curve: pl.DataFrame, documents: int, positives: int, settings: CascadeCertificateSettings) -> dict[str, Any]:
    """Return the certificate: the last accepted threshold with its figures, or that stage 2 must read everything."""
    accepted = curve.filter("accepted")
    stated = {
        "target_recall": settings.target_recall,
        "confidence": settings.confidence,
        "documents": documents,
        "positives": positives,
        "certified": not accepted.is_empty(),
    }
    if accepted.is_empty():
        reads_all = {"threshold": 0.0, "misses": 0, "recall": 1.0, "recall_low": 1.0, "passed": documents}
        chosen = {**reads_all, "transformer_share": 1.0, "transformer_share_low": 1.0, "transformer_share_high": 1.0}
    else:
        last = accepted.row(-1, named=True)
        chosen = {name: last[name] for name in ("threshold", "misses", "recall", "recall_low", "passed")}
        chosen |= wilson(last["passed"], documents).as_metrics("transformer_share")
    certificate = stated | chosen
    return certificate | {"in_words": in_words(certificate)}


def in_words(certificate: Mapping[str, Any]) -> str:
    """Say what the certificate means, in one or two sentences."""
    target, sure = certificate["target_recall"], certificate["confidence"]
    population = f"The full sweep takes {certificate['positives']:,} of {certificate['documents']:,} unseen documents of the web."
    if not certificate["certified"]:
        needed = positives_needed(target, sure)
        return (
            f"{population} That does not certify a recall of {target:.2%} with {sure:.1%} confidence at any threshold (it takes {needed:,} "
            f"without a miss at least), so stage 1 rejects nothing and stage 2 reads every document."
        )
    return (
        f"{population} Where stage 1 rejects what it finds less probable than {certificate['threshold']:.3g}, {certificate['misses']:,} of them "
        f"are missed: with {sure:.1%} confidence the cascade takes at least {certificate['recall_low']:.2%} of what the full sweep takes "
        f"(target {target:.2%}), and stage 2 reads {certificate['transformer_share']:.2%} of the documents."
    )


def contradictions(certificate: Mapping[str, Any], curve: pl.DataFrame) -> list[str]:
    """Return in what a certificate contradicts itself or its curve, as sentences; none where it holds."""
    positives, accepted, found = certificate["positives"], curve.filter("accepted"), []
    if curve["accepted"].to_list() != sorted(curve["accepted"], reverse=True):
        found.append("a threshold is accepted after one that failed")
    if not curve["threshold"].is_sorted() or not curve["misses"].is_sorted():
        found.append("thresholds or misses do not rise")
    if certificate["certified"] != (not accepted.is_empty()):
        found.append("it is not certified exactly where a threshold is accepted")
    if certificate["threshold"] != (accepted["threshold"].max() or 0.0):
        found.append("its threshold is not the highest that is accepted")
    bound = recall_bound(certificate["misses"], positives, certificate["confidence"])
    if certificate["certified"] and not (
        bound >= certificate["target_recall"] and math.isclose(bound, certificate["recall_low"])
    ):
        found.append(f"{certificate['misses']} misses of {positives} positives bound recall at {bound:.6f}")
    return found


if __name__ == "__main__":
    run_payload(CascadeCertificateSettings, certify_cascade)
