"""How the corpus's own files are written and read: the same rows give the same bytes, and one row group is in memory at a time."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self, TypeAlias

import polars as pl
import pyarrow.parquet as pq

ROWS_PER_GROUP = 10_000  # some 30 MB of text: a reader's unit of memory
Schema: TypeAlias = Mapping[str, "pl.DataType | type[pl.DataType]"]


def write_parquet(frame: pl.DataFrame, path: Path) -> None:
    """Write a frame as zstd parquet."""
    frame.write_parquet(path, compression="zstd", compression_level=3, row_group_size=ROWS_PER_GROUP, statistics=True)


class ParquetStream:
    """A parquet file that is written frame by frame, no more than a row group in memory; a context manager.

    Row groups do not depend on how the rows were cut into frames.
    """

    def __init__(self, path: Path, schema: Schema, rows_per_group: int = ROWS_PER_GROUP) -> None:
        self._empty, self._rows_per_group = pl.DataFrame(schema=schema), rows_per_group
        self._held, self._rows = [self._empty], 0
        self._writer = pq.ParquetWriter(path, self._empty.to_arrow().schema, compression="zstd", compression_level=3)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._rows:
            self._writer.write_table(pl.concat(self._held).to_arrow())
        self._writer.close()

    def write(self, frame: pl.DataFrame) -> None:
        """Append a frame's rows; it has the file's columns, in any order, in types that can be cast to the file's."""
        self._held.append(frame.select(pl.col(name).cast(dtype) for name, dtype in self._empty.schema.items()))
        self._rows += frame.height
        if self._rows >= self._rows_per_group:
            whole = self._rows - self._rows % self._rows_per_group
            rows = pl.concat(self._held)
            self._writer.write_table(rows.head(whole).to_arrow(), row_group_size=self._rows_per_group)
            self._held, self._rows = [rows.slice(whole)], self._rows - whole


def row_groups(path: Path, columns: Sequence[str] | None = None, *, start: int = 0) -> Iterator[pl.DataFrame]:
    """Yield the row groups of a local file from number `start` on, one in memory at a time; all columns, or these."""
    with pq.ParquetFile(path) as parquet:
        for group in range(start, parquet.num_row_groups):
            frame = pl.DataFrame(pl.from_arrow(parquet.read_row_group(group, columns=columns)))
            yield frame if columns is None else frame.select(columns)


def numbered_row_groups(path: Path, columns: Sequence[str], *, start: int = 0) -> Iterator[pl.DataFrame]:
    """Yield the same with `row` (i64), each row's position in the file, before the columns."""
    metadata = pq.read_metadata(path)
    row = sum(metadata.row_group(group).num_rows for group in range(start))
    for frame in row_groups(path, columns, start=start):
        yield frame.select(pl.int_range(row, row + frame.height, dtype=pl.Int64).alias("row"), *columns)
        row += frame.height


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
