"""Payload of the asset `classifier_scores`: read every document of one shard with the two-stage classifier.

Every finished row group is kept, so a killed run goes on where it stopped. The decision rule belongs in `two_stage`.
"""

import os
import time
from pathlib import Path

import polars as pl

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.corpus.classifier_settings import ClassifierScoresSettings
from definemed_pipeline.corpus.parquet import write_parquet
from definemed_pipeline.corpus.shards import Shard, open_shard
from definemed_pipeline.corpus.two_stage import SCORE_SCHEMA, TwoStageClassifier
from definemed_pipeline.payload import run_payload

SLICE = 2_000  # documents of a row group that are scored together: they bound memory and give stage 2 full batches
REPORT_SECONDS = 5.0
SCHEMA = {"id": pl.String, "row": pl.Int64, **SCORE_SCHEMA}


def score_shard(draft: Draft[ClassifierScoresSettings]) -> None:
    """Write `scores.parquet`: one row per document, in the shard's order, with both stages' probabilities and the decision."""
    shard = open_shard(draft, draft.identity.partition)
    classifier = TwoStageClassifier(draft.input("medical_classifier"))
    started = time.monotonic()
    scored = _score_row_groups(shard, classifier, draft)
    finished = [pl.read_parquet(_checkpoint(draft, group)) for group in range(shard.record.row_groups)]
    scores = pl.concat([pl.DataFrame(schema=SCHEMA), *finished])
    write_parquet(scores, draft.folder / "scores.parquet")
    seconds = time.monotonic() - started
    draft.metrics |= {
        "documents": scores.height,
        **{f"decided_by_{stage}": scores.filter(decided_by=stage).height for stage in ("empty", "linear", "transformer")},
        "positives": int(scores["is_medical"].sum()),
        "seconds": round(seconds, 1),
        "documents_per_second": round(scored / seconds, 1),
    }


def _score_row_groups(shard: Shard, classifier: TwoStageClassifier, draft: Draft[ClassifierScoresSettings]) -> int:
    """Score the row groups that have no checkpoint yet and return the number of documents scored now."""
    first = next((n for n in range(shard.record.row_groups) if not _checkpoint(draft, n).exists()), shard.record.row_groups)
    if first:
        draft.report(f"going on after {first:,} of {shard.record.row_groups:,} row groups that an earlier try finished")
    started, reported, scored = time.monotonic(), 0.0, 0
    for group, documents in enumerate(shard.row_groups(["id", "text"], start=first), start=first):
        slices = [_score(part, classifier, draft.settings.batch_size) for part in documents.iter_slices(SLICE)]
        _keep(pl.concat([pl.DataFrame(schema=SCHEMA), *slices]), _checkpoint(draft, group))
        scored += documents.height
        if time.monotonic() - reported > REPORT_SECONDS:
            reported = time.monotonic()
            rate = scored / (reported - started)
            draft.report(f"{shard.name}: {group + 1:,} of {shard.record.row_groups:,} row groups, {rate:,.0f} documents/s")
    return scored


def _score(documents: pl.DataFrame, classifier: TwoStageClassifier, batch_size: int) -> pl.DataFrame:
    return documents.select("id", "row").hstack(classifier.score(documents["text"], batch_size))


def _checkpoint(draft: Draft[ClassifierScoresSettings], group: int) -> Path:
    return draft.checkpoints / f"row_group_{group:06d}.parquet"


def _keep(scores: pl.DataFrame, path: Path) -> None:
    """Write a checkpoint so that after a kill it is there whole or not at all."""
    partial = path.with_suffix(".partial")
    scores.write_parquet(partial)
    os.replace(partial, path)


if __name__ == "__main__":
    run_payload(ClassifierScoresSettings, score_shard)
