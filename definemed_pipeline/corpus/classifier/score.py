"""Payload of the asset `classifier_scores`: read every document of one shard with the certified cascade.

A killed run goes on where it stopped. How documents go through both stages stands in `cascade`, the decision rule in `two_stage`, what
stage 1 may reject in `certificate`.
"""

import time

import polars as pl

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.corpus.classifier.cascade import Gate, score_documents
from definemed_pipeline.corpus.classifier.certificate import certified_threshold
from definemed_pipeline.corpus.classifier.settings import ClassifierScoresSettings
from definemed_pipeline.corpus.classifier.two_stage import TwoStageClassifier
from definemed_pipeline.corpus.shards import open_shard
from definemed_pipeline.payload import run_payload


def score_shard(draft: Draft[ClassifierScoresSettings]) -> None:
    """Write `scores.parquet`: one row per document, in the shard's order, with both stages' probabilities and the decision.

    The metrics count what the audit needs: `rejected` by stage 1, of these `audited` by stage 2, of these `audit_misses`, which the full
    sweep would have taken, and `positives`, which were taken.
    """
    shard = open_shard(draft, draft.identity.partition)
    classifier = TwoStageClassifier(draft.input("medical_classifier"))
    threshold = certified_threshold(draft.input("cascade_certificate"))
    started = time.monotonic()
    path = draft.folder / "scores.parquet"
    scored = score_documents(
        lambda start: shard.row_groups(["id", "text"], start=start),
        classifier,
        Gate(threshold=threshold, audit_share=draft.settings.audit_share),
        draft,
        path,
    )
    seconds = time.monotonic() - started
    draft.metrics |= {
        **count(pl.read_parquet(path, columns=["decided_by", "is_medical", "audited", "audit_missed"])),
        "prefilter_threshold": threshold,
        "audit_share": draft.settings.audit_share,
        "seconds": round(seconds, 1),
        "documents_per_second": round(scored / seconds, 1),
    }


def count(scores: pl.DataFrame) -> dict[str, int]:
    """Return how many documents each stage decided, and what came of it."""
    return {
        "documents": scores.height,
        **{f"decided_by_{stage}": scores.filter(decided_by=stage).height for stage in ("empty", "linear", "transformer")},
        "positives": int(scores["is_medical"].sum()),
        "rejected": scores.filter(decided_by="linear").height,
        "audited": int(scores["audited"].sum()),
        "audit_misses": int(scores["audit_missed"].sum()),
    }


if __name__ == "__main__":
    run_payload(ClassifierScoresSettings, score_shard)
