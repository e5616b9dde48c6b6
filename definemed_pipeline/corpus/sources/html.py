"""The `html` source: WARC files and folders of HTML pages become FineWeb2-shaped parquet.

One process reads the pages in order, several others extract them (`workers`, `extraction`), and the quality rules have the last word. A *part*
is a run of pages whose documents are written as one row group; finished parts are kept, so that a killed run goes on after them.
"""

import itertools
import json
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from definemed_pipeline.artifacts.files import written_whole
from definemed_pipeline.corpus.quality.filters import drop_reasons
from definemed_pipeline.corpus.quality.settings import QualityRules, read_rules, rules_location
from definemed_pipeline.corpus.shards import FINEWEB2_SCHEMA
from definemed_pipeline.corpus.sources.crawl import read_crawl
from definemed_pipeline.corpus.sources.extraction import Document, PageReader, refuse_unknown_language
from definemed_pipeline.corpus.sources.files import stem
from definemed_pipeline.corpus.sources.html_settings import HtmlSource
from definemed_pipeline.corpus.sources.records import Page, Record, Skipped
from definemed_pipeline.corpus.sources.workers import Workers
from definemed_pipeline.errors import UserError

SCHEMA: dict[str, type[pl.DataType]] = {**FINEWEB2_SCHEMA, "title": pl.String, "published": pl.String}
PAGES_PER_PART, BYTES_PER_PART = 5_000, 256 << 20  # of HTML
PAGES_PER_BATCH, BYTES_PER_BATCH = 32, 4 << 20  # of HTML; what a worker is given at once
DOCUMENTS_JUDGED = 256  # held to the quality rules at once, while the workers go on
REPORT_SECONDS = 5.0
COUNTS = b"counts"  # key in the metadata of a part's file

Outcome = Document | Skipped


@dataclass(kw_only=True)
class _Batch:
    """Pages for one worker, and what was skipped between them."""

    part: int
    pages: list[Page] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)  # reasons


def extract_pages(
    location: str, settings: HtmlSource, target: Path, *, checkpoints: Path, report: Callable[[str], None]
) -> dict[str, int]:
    """Write the documents of a WARC file or a folder of HTML files to `target`, in the order of the pages, and return the counts.

    Columns are FineWeb2's, with `minhash_cluster_size` null as nothing was deduplicated, then `title` and `published` (the day of
    publication that the page states, YYYY-MM-DD). The same pages give the same bytes, whatever the number of processes and wherever they lie.

    `records` = `documents` + the sum of all `skipped:<reason>`. A record is a record of the WARC file or a stretch of it that cannot be
    read, or a file of the folder. Raise UserError where there is nothing to read or a setting does not fit.
    """
    rules = read_rules(rules_location(settings.quality_rules))
    refuse_unknown_language(settings.language_code)
    name = stem(location)
    batches, read_ahead = itertools.tee(
        _batches(read_crawl(location, max_page_bytes=settings.max_page_bytes), checkpoints, report)
    )
    with Workers(
        partial(PageReader, settings), number=settings.processes, seconds=settings.seconds_per_page, lost=_lost
    ) as workers:
        extracted = zip(batches, workers.map(batch.pages for batch in read_ahead), strict=False)  # ends with `batches`
        reported = _reported(extracted, name, report)
        for number, part in itertools.groupby(reported, lambda batch_and_outcomes: batch_and_outcomes[0].part):
            _write_part(_part_file(checkpoints, number), part, dump=settings.dump or name, rules=rules)
    parts = sorted(checkpoints.glob("part_*.parquet"))
    counts = Counter(records=0, documents=0)
    for part_file in parts:
        counts.update(_counts(part_file))
    _refuse_nothing(location, counts)
    _join(parts, target)
    return dict(sorted(counts.items()))


def _batches(records: Iterator[Record], checkpoints: Path, report: Callable[[str], None]) -> Iterator[_Batch]:
    """Cut the records into parts, read past those that are finished, and cut the others into batches."""
    finished = 0
    for number, part in enumerate(_runs(records, PAGES_PER_PART, BYTES_PER_PART)):
        if _part_file(checkpoints, number).exists():
            finished += 1
            deque(part, maxlen=0)
            continue
        if finished:
            report(f"going on after {finished:,} parts that an earlier try finished")
            finished = 0
        for run in _runs(part, PAGES_PER_BATCH, BYTES_PER_BATCH):
            batch = _Batch(part=number)
            for record in run:
                if isinstance(record, Page):
                    batch.pages.append(record)
                else:
                    batch.skipped[record.reason] += 1
            yield batch


def _runs(records: Iterator[Record], pages: int, size: int) -> Iterator[Iterator[Record]]:
    """Cut records into runs of at most so many pages; one that brings a run's HTML to `size` bytes is its last. Each is to be read whole."""
    while (first := next(records, None)) is not None:
        yield _run(itertools.chain([first], records), pages, size)


def _run(records: Iterator[Record], pages: int, size: int) -> Iterator[Record]:
    for record in records:
        yield record
        if isinstance(record, Page):
            pages -= 1
            size -= len(record.html)
            if pages == 0 or size <= 0:
                return


def _reported(
    extracted: Iterator[tuple[_Batch, list[Outcome]]], name: str, report: Callable[[str], None]
) -> Iterator[tuple[_Batch, list[Outcome]]]:
    """Report the progress of what passes through."""
    started = reported = time.monotonic()
    pages = documents = 0
    for batch, outcomes in extracted:
        pages += len(outcomes)
        documents += sum(isinstance(outcome, Document) for outcome in outcomes)
        if time.monotonic() - reported > REPORT_SECONDS:
            reported = time.monotonic()
            rate = pages / (reported - started)
            report(f"{name}: {pages:,} pages read, {documents:,} in the expected language, {rate:,.0f} pages/s")
        yield batch, outcomes


def _write_part(path: Path, extracted: Iterable[tuple[_Batch, list[Outcome]]], *, dump: str, rules: QualityRules) -> None:
    """Write the good documents of a part with the counts in the file's metadata, so that after a kill it is there whole or not at all."""
    counts: Counter[str] = Counter()
    documents: list[Document] = []
    kept = [pl.DataFrame(schema=SCHEMA)]
    for batch, outcomes in extracted:
        skipped = batch.skipped + Counter(outcome.reason for outcome in outcomes if isinstance(outcome, Skipped))
        counts.update({f"skipped:{reason}": number for reason, number in skipped.items()})
        counts["records"] += batch.skipped.total() + len(outcomes)
        documents += (outcome for outcome in outcomes if isinstance(outcome, Document))
        if len(documents) >= DOCUMENTS_JUDGED:
            kept.append(_good(documents, dump, rules, counts))
            documents = []
    kept.append(_good(documents, dump, rules, counts))
    frame = pl.concat(kept)
    counts["documents"] += frame.height
    table = frame.to_arrow().replace_schema_metadata({COUNTS: json.dumps(counts)})
    with written_whole(path) as unfinished:
        pq.write_table(table, unfinished, compression="zstd", compression_level=3)


def _good(documents: list[Document], dump: str, rules: QualityRules, counts: Counter[str]) -> pl.DataFrame:
    """Return the documents that keep the quality rules and count the others."""
    rows = [{**asdict(document), "dump": dump} for document in documents]
    frame = pl.DataFrame(rows, schema=SCHEMA)  # what the rows lack is null
    reasons = drop_reasons(frame["text"], rules)
    counts.update(f"skipped:quality:{reason}" for reason in reasons.drop_nulls())
    return frame.filter(reasons.is_null())


def _join(parts: list[Path], target: Path) -> None:
    """Write the parts to one file, a row group each."""
    schema = pl.DataFrame(schema=SCHEMA).to_arrow().schema
    with (
        written_whole(target) as unfinished,
        pq.ParquetWriter(unfinished, schema, compression="zstd", compression_level=3) as writer,
    ):
        for part in parts:
            table = pq.read_table(part).cast(schema)
            if table.num_rows:
                writer.write_table(table)


def _refuse_nothing(location: str, counts: Counter[str]) -> None:
    if counts["records"] == counts["skipped:damaged"]:
        raise UserError(
            f"{location} holds no WARC record and no file: it is empty, damaged, or of another kind; correct source.files"
        )


def _lost(timed_out: bool) -> Skipped:
    return Skipped("extraction_timed_out" if timed_out else "extraction_crashed")


def _part_file(checkpoints: Path, number: int) -> Path:
    return checkpoints / f"part_{number:06d}.parquet"


def _counts(path: Path) -> Counter[str]:
    return Counter(json.loads(pq.read_schema(path).metadata[COUNTS]))
