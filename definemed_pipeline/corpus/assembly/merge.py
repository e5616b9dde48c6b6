"""Merge the segments' documents, each sorted by id, into the corpus's files in the order of all ids.

Each text is read once and written once. In memory are one row group of the output and one row group of every segment, some 0.5 MB each.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from definemed_pipeline.corpus.assembly.segments import DOCUMENTS, Bools, Numbers, Segments, read_rows
from definemed_pipeline.corpus.parquet import ROWS_PER_GROUP, ParquetStream


def write_merged(
    segments: Segments,
    kept: Numbers,
    folder: Path,
    *,
    rows_per_file: int,
    columns: Callable[[Sequence[str]], Sequence[str]],
    report: Callable[[str], None],
) -> None:
    """Write `finemed_de-00000-of-0000N.parquet` into a new folder.

    `kept` are numbers of documents in the order of their ids, each id once. `columns` chooses from all columns of all segments; one that a segment
    lacks is null there.
    """
    folder.mkdir()
    everything = _schema(segments)
    schema = pl.Schema({name: everything[name] for name in columns(list(everything))})
    is_kept = np.zeros(len(segments), bool)
    is_kept[kept] = True
    cursors = [_Cursor(path / DOCUMENTS, is_kept[segments.of(index)], schema) for index, path in enumerate(segments.folders)]
    owners = segments.owners(kept).astype(np.int32)
    files = -(-len(kept) // rows_per_file)
    for number in range(files):
        share = owners[number * rows_per_file : (number + 1) * rows_per_file]
        with ParquetStream(folder / f"finemed_de-{number:05}-of-{files:05}.parquet", schema, ROWS_PER_GROUP) as file:
            for start in range(0, len(share), ROWS_PER_GROUP):
                counts = np.bincount(share[start : start + ROWS_PER_GROUP])
                parts = [cursors[index].take(int(counts[index])) for index in np.flatnonzero(counts)]
                file.write(pl.concat(parts).sort("id"))
        report(f"wrote file {number + 1} of {files}")


def _schema(segments: Segments) -> pl.Schema:
    """Return all columns of all segments, each in a type that holds every segment's values."""
    empty = [pl.DataFrame(pl.from_arrow(pq.read_schema(folder / DOCUMENTS).empty_table())) for folder in segments.folders]
    return pl.concat(empty, how="diagonal_relaxed").schema


class _Cursor:
    """Takes the kept documents of one segment from front to back, holding one row group of them."""

    def __init__(self, path: Path, kept: Bools, schema: pl.Schema) -> None:
        self._frames = self._read(path, kept, schema)
        self._held = pl.DataFrame(schema=schema)

    def take(self, count: int) -> pl.DataFrame:
        parts = [self._held.head(count)]
        missing = count - parts[0].height
        self._held = self._held.slice(count)
        while missing:
            self._held = next(self._frames)
            parts.append(self._held.head(missing))
            self._held = self._held.slice(parts[-1].height)
            missing -= parts[-1].height
        return pl.concat(parts)

    @staticmethod
    def _read(path: Path, kept: Bools, schema: pl.Schema) -> Iterator[pl.DataFrame]:
        present = pq.read_schema(path).names
        for _, frame in read_rows(path, kept, [name for name in schema if name in present]):
            yield frame.select(
                (pl.col(name) if name in present else pl.lit(None)).cast(dtype).alias(name) for name, dtype in schema.items()
            )
