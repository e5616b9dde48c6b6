"""A thousand damaged files go the way of every source file: each is read, skipped with a counted reason, or refused in a line or two.

Nothing else may happen: no other error, no crash, no hang, no artifact that is not whole. A file that is taken is read to its end, as later stages do.
One case by itself: `ParquetExaminer()(number)` or `CrawlExaminer()("warc", number)`.
"""

import multiprocessing
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import pytest

from definemed_pipeline.corpus.sources.workers import Workers
from definemed_pipeline_tests.corpus.damage import FAULT, READ, REFUSED, SECONDS, CrawlExaminer, Outcome, ParquetExaminer
from definemed_pipeline_tests.corpus.damaged_shards import WRITTEN

PARQUET, WARC, HTML = 600, 200, 200
BATCH = 8
_examiner: CrawlExaminer | None = None


def faults(outcomes: Sequence[Outcome]) -> str:
    return "\n".join(f"case {number}: {found.detail[-1500:]}" for number, found in enumerate(outcomes) if found.kind == FAULT)


def told(outcomes: Sequence[Outcome]) -> Counter[str]:
    """Count the outcomes, and print the counts (`pytest -rP` shows them)."""
    counts = Counter("skipped" if "skipped:" in found.detail else found.kind for found in outcomes)
    print(dict(counts))
    return counts


@pytest.mark.slow
def test_a_damaged_parquet_file_is_read_whole_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUST_BACKTRACE", "0")
    batches = [range(start, min(start + BATCH, PARQUET)) for start in range(0, PARQUET, BATCH)]
    with Workers(ParquetExaminer, number=2, seconds=SECONDS, lost=_lost) as workers:
        outcomes = [found for part in workers.map(iter(batches)) for found in part]
    assert not faults(outcomes)
    counts = told(outcomes)
    assert counts.total() == PARQUET > 2 * len(WRITTEN)
    assert min(counts[READ], counts[REFUSED]) > PARQUET // 10


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "cases"), [("warc", WARC), ("html", HTML)])
def test_a_damaged_crawl_is_read_skipped_with_a_counted_reason_or_refused(kind: str, cases: int) -> None:
    outcomes: list[Outcome] = []
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_prepare) as process:
        try:
            outcomes += process.map(_examine, [kind] * cases, range(cases))
            process.submit(_close).result()
        except BrokenProcessPool:
            outcomes.append(Outcome(FAULT, "it crashed, or took too long"))
    assert not faults(outcomes)
    assert len(outcomes) == cases
    counts = told(outcomes)
    assert min(counts[READ], counts["skipped"]) > cases // 10


def _lost(timed_out: bool) -> Outcome:
    return Outcome(FAULT, "it took too long" if timed_out else "it crashed")


def _prepare() -> None:
    global _examiner  # noqa: PLW0603 - of a process of its own
    _examiner = CrawlExaminer()


def _close() -> None:
    assert _examiner is not None
    _examiner.close()


def _examine(kind: str, number: int) -> Outcome:
    assert _examiner is not None
    return _examiner(kind, number)
