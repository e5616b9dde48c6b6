"""The `html` source: WARC files and folders of HTML pages become FineWeb2-shaped parquet.

Pages are read in order by this process, extracted by several others (`workers`, `extraction`), and held to the quality rules in the end. A *part*
is a run of pages whose documents are written as one row group; finished parts are kept, so that a killed run goes on after them.
"""

import itertools
import json
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path, PurePosixPath

import fsspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from definemed_pipeline.corpus.quality import drop_reasons
from definemed_pipeline.corpus.quality_settings import QualityRules, read_rules, rules_location
from definemed_pipeline.corpus.shards import FINEWEB2_SCHEMA
from definemed_pipeline.corpus.sources.extraction import Document, PageReader, refuse_unknown_language
from definemed_pipeline.corpus.sources.folder import read_folder
from definemed_pipeline.corpus.sources.html_settings import HtmlSource
from definemed_pipeline.corpus.sources.records import Page, Record, Skipped
from definemed_pipeline.corpus.sources.warc import read_warc
from definemed_pipeline.corpus.sources.workers import Workers
from definemed_pipeline.errors import UserError

SCHEMA = {**FINEWEB2_SCHEMA, "title": pl.String, "published": pl.String}
PAGES_PER_PART, BYTES_PER_PART = 5_000, 256 << 20  # of HTML
PAGES_PER_BATCH, BYTES_PER_BATCH = 32, 4 << 20  # of HTML; what a worker is given at once
SUFFIXES = (".gz", ".zst", ".warc")
REPORT_SECONDS = 5.0
COUNTS = b"counts"  # key in the metadata of a part's file


def extract_pages(
    location: str, settings: HtmlSource, target: Path, *, checkpoints: Path, report: Callable[[str], None]
) -> dict[str, int]:
    """Write the documents of a WARC file or a folder of HTML files to `target`, in the order of the pages, and return the counts.

    Columns are FineWeb2's, with `minhash_cluster_size` null as nothing was deduplicated, then `title` and `published` (the date of
    publication that the page states, YYYY-MM-DD). The same pages give the same bytes, whatever the number of processes and wherever they lie.

    `records` = `documents` + the sum of all `skipped:<reason>`. A record is a record of the WARC file or a stretch of it that cannot be
    read, or a file of the folder. Raise UserError where there is nothing to read or a setting does not fit.
    """
    rules = read_rules(rules_location(settings.quality_rules))
    refuse_unknown_language(settings.language_code)
    name = location_name(location)
    lost = partial(_lost)
    counts: Counter[str] = Counter()
    parts: list[Path] = []
    with (
        _reading(location, settings.max_page_bytes) as records,
        Workers(partial(PageReader, settings), number=settings.processes, seconds=settings.seconds_per_page, lost=lost) as workers,
    ):
        progress = _Progress(name, report)
        for number in itertools.count():
            if (first := next(records, None)) is None:
                break
            part = _part(itertools.chain([first], records))
            path = checkpoints / f"part_{number:06d}.parquet"
            if path.exists():
                deque(part, maxlen=0)  # read on past it
            else:
                _write_part(path, *_documents(part, workers, rules, progress), dump=settings.dump or name)
            parts.append(path)
            counts.update(_counts(path))
    _refuse_unreadable(location, counts)
    _join(parts, target)
    return dict(sorted(counts.items()))
