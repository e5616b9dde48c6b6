"""How the corpus's own files are written: the same rows give the same bytes."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Self

import polars as pl
import pyarrow.parquet as pq

ROWS_PER_GROUP = 10_000  # some 30 MB of text: a reader's unit of memory
Schema = Mapping[str, type[pl.DataType]]


def write_parquet(frame: pl.DataFrame, path: Path) -> None:
    """Write a frame as zstd parquet."""
    frame.write_parquet(path, compression="zstd", compression_level=3, row_group_size=ROWS_PER_GROUP, statistics=True)


class ParquetStream:
    """A parquet file that is written frame by frame, no more than a row group in memory; a context manager.

    Row groups do not depend on how the rows were cut into frames.
    """

    def __init__(self, path: Path, schema: Schema) -> None:
        self._empty = pl.DataFrame(schema=schema)
        self._held, self._rows = [self._empty], 0
        self._writer = pq.ParquetWriter(path, self._empty.to_arrow().schema, compression="zstd", compression_level=3)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._rows:
            self._writer.write_table(pl.concat(self._held).to_arrow())
        self._writer.close()

    def write(self, frame: pl.DataFrame) -> None:
        """Append a frame's rows; it has the file's columns, in any order."""
        self._held.append(frame.select(self._empty.columns))
        self._rows += frame.height
        if self._rows >= ROWS_PER_GROUP:
            whole = self._rows - self._rows % ROWS_PER_GROUP
            rows = pl.concat(self._held)
            self._writer.write_table(rows.head(whole).to_arrow(), row_group_size=ROWS_PER_GROUP)
            self._held, self._rows = [rows.slice(whole)], self._rows - whole


def row_groups(path: Path) -> Iterator[pl.DataFrame]:
    """Yield the row groups of a local file, one in memory at a time."""
    with pq.ParquetFile(path) as parquet:
        for group in range(parquet.num_row_groups):
            yield pl.DataFrame(pl.from_arrow(parquet.read_row_group(group)))


def batches(frames: Iterable[pl.DataFrame], rows: int) -> Iterator[pl.DataFrame]:
    """Join frames into ones of at least so many rows; the last holds what is left."""
    held: list[pl.DataFrame] = []
    for frame in frames:
        held.append(frame)
        if sum(part.height for part in held) >= rows:
            yield pl.concat(held)
            held = []
    if held:
        yield pl.concat(held)
