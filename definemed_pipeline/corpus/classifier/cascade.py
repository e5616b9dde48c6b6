"""Documents through both stages: stage 1 and the tokenizer run ahead in a thread while stage 2 computes.

Scoring a shard and certifying the cascade read documents by this one way. What is decided stands in `two_stage`; what stage 1 may reject
is the caller's to say, by a `Gate`.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from definemed_pipeline.ahead import ahead
from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.artifacts.files import written_whole
from definemed_pipeline.corpus.classifier.tokens import Tokens, joined, tokens_of
from definemed_pipeline.corpus.classifier.two_stage import SCORE_SCHEMA, TwoStageClassifier, decide
from definemed_pipeline.corpus.parquet import ParquetStream, Schema, write_parquet
from definemed_pipeline.keyed_hash import keyed_hash

Bools = npt.NDArray[np.bool_]
Floats32 = npt.NDArray[np.float32]
SCHEMA: Schema = {"id": pl.String, "row": pl.Int64, **SCORE_SCHEMA}
SLICE = 2_000  # documents of a row group that stage 1 reads together: they bound memory
# What gathers before stage 2 computes: batches full of documents of like length, and no more lost by a kill. Or so many documents.
POOL_BATCHES, POOL_DOCUMENTS = 8, 50_000
REPORT_SECONDS = 5.0
AUDIT_SEED = int.from_bytes(b"audited")  # no recipe's: the audit's draw has nothing to do with the samples'


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What stage 1 rejects: documents it finds less probable than `threshold`, and the share of them that is audited."""

    threshold: float = 0.0  # rejects nothing: the full sweep
    audit_share: float = 0.0

    def rejects(self, probabilities: Floats32) -> Bools:
        """Tell which documents stage 1 rejects."""
        return probabilities < self.threshold

    def audits(self, ids: pl.Series) -> Bools:
        """Tell which of these documents would be audited as rejects: by a keyed hash of the id, the same in every run."""
        if not self.audit_share:
            return np.zeros(len(ids), dtype=bool)
        limit = np.uint64(min(round(self.audit_share * (1 << 64)), (1 << 64) - 1))
        return np.asarray(keyed_hash(ids.fill_null(""), AUDIT_SEED) <= limit)


@dataclass(frozen=True, kw_only=True)
class _Read:
    """A slice that stage 1 has read: `tokens` are those of the documents that stage 2 is to read, `waiting`."""

    documents: pl.DataFrame
    linear: npt.NDArray[np.float64]
    empty: Bools
    rejected: Bools
    waiting: Bools
    tokens: Tokens
    ends_group: int | None  # number of row groups that end with this slice


def score_documents(
    row_groups: Callable[[int], Iterable[pl.DataFrame]],
    classifier: TwoStageClassifier,
    gate: Gate,
    draft: Draft[Any],
    path: Path,
) -> int:
    """Write SCHEMA for all documents, in their order, and return how many of them were scored now.

    `row_groups(start)` yields `id`, `row` and `text`, from that row group on. Whenever stage 2 has read a pool of batches, a checkpoint is
    written at the end of the row group: a killed run goes on there, with the same batches and hence the same bytes.
    """
    finished = sorted(draft.checkpoints.glob("row_groups_*.parquet"))
    start = int(finished[-1].stem.removeprefix("row_groups_")) if finished else 0
    if start:
        draft.report(f"going on after {start:,} row groups that an earlier try finished")
    began, reported, scored = time.monotonic(), 0.0, 0
    for end, scores in _score(row_groups(start), start, classifier, gate, draft.settings.batch_tokens):
        finished.append(draft.checkpoints / f"row_groups_{end:08d}.parquet")
        with written_whole(finished[-1]) as unfinished:
            write_parquet(scores, unfinished)
        scored += scores.height
        if time.monotonic() - reported > REPORT_SECONDS:
            reported = time.monotonic()
            draft.report(f"{end:,} row groups, {scored / (reported - began):,.0f} documents/s")
    with ParquetStream(path, SCHEMA) as stream:
        for part in finished:
            stream.write(pl.read_parquet(part))
    return scored


def _score(
    groups: Iterable[pl.DataFrame], start: int, classifier: TwoStageClassifier, gate: Gate, batch_tokens: int
) -> Iterator[tuple[int, pl.DataFrame]]:
    """Yield the number of row groups read and the scores of those that have not been yielded yet."""
    pool: list[_Read] = []
    done: list[pl.DataFrame] = []
    end = start
    for part in ahead(_read_first(groups, start, classifier, gate)):
        pool.append(part)
        if _is_full(pool, batch_tokens):
            done.append(_read_second(pool, classifier, batch_tokens))
            pool = []
        if part.ends_group is not None:
            end = part.ends_group
            if done:
                yield end, pl.concat([*done, *([_read_second(pool, classifier, batch_tokens)] if pool else [])])
                pool, done = [], []
    if pool:
        yield end, _read_second(pool, classifier, batch_tokens)


def _is_full(pool: list[_Read], batch_tokens: int) -> bool:
    tokens, documents = sum(len(part.tokens.ids) for part in pool), sum(part.documents.height for part in pool)
    return tokens >= POOL_BATCHES * batch_tokens or documents >= POOL_DOCUMENTS


def _read_first(groups: Iterable[pl.DataFrame], start: int, classifier: TwoStageClassifier, gate: Gate) -> Iterator[_Read]:
    """Read slices with stage 1 and tokenize what stage 2 is to read."""
    for number, group in enumerate(groups, start + 1):
        for first in range(0, group.height, SLICE):
            documents = group.slice(first, SLICE)
            texts = documents["text"]
            empty = (texts.fill_null("").str.strip_chars() == "").to_numpy()
            linear = classifier.linear.logits(texts)
            rejected = ~empty & gate.rejects(classifier.rule.linear_probabilities(linear))
            waiting = ~empty & ~rejected
            waiting[rejected] = gate.audits(documents["id"].filter(pl.Series(rejected)))
            yield _Read(
                documents=documents.select("id", "row"),
                linear=linear,
                empty=empty,
                rejected=rejected,
                waiting=waiting,
                tokens=classifier.transformer.encode([texts.filter(pl.Series(waiting))]) if waiting.any() else tokens_of([]),
                ends_group=number if first + SLICE >= group.height else None,
            )


def _read_second(pool: list[_Read], classifier: TwoStageClassifier, batch_tokens: int) -> pl.DataFrame:
    """Let stage 2 read what is waiting, and decide all documents of the pool."""
    tokens = joined([part.tokens for part in pool])
    linear, empty, rejected, waiting = (
        np.concatenate([getattr(part, name) for part in pool]) for name in ("linear", "empty", "rejected", "waiting")
    )
    transformer = np.full(len(linear), np.nan)
    if len(tokens):
        transformer[waiting] = classifier.transformer.logits_of(tokens, batch_tokens)
    decided = decide(linear, transformer, classifier.rule, empty=empty, rejected=rejected)
    return pl.concat([part.documents for part in pool]).hstack(decided)
