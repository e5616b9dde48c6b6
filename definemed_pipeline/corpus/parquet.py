"""How the corpus's own files are written and read: the same rows give the same bytes, and one row group is in memory at a time."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

ROWS_PER_GROUP = 10_000  # some 30 MB of text: a reader's unit of memory


def write_parquet(frame: pl.DataFrame, path: Path) -> None:
    """Write a frame as zstd parquet."""
    frame.write_parquet(path, compression="zstd", compression_level=3, row_group_size=ROWS_PER_GROUP, statistics=True)


def numbered_row_groups(path: Path, columns: Sequence[str], *, start: int = 0) -> Iterator[pl.DataFrame]:
    """Yield the row groups from number `start` on: `row` (i64 position in the file) and `columns`."""
    with pq.ParquetFile(path) as parquet:
        row = sum(parquet.metadata.row_group(group).num_rows for group in range(start))
        for group in range(start, parquet.num_row_groups):
            frame = pl.DataFrame(pl.from_arrow(parquet.read_row_group(group, columns=list(columns))))
            yield frame.select(pl.int_range(row, row + frame.height, dtype=pl.Int64).alias("row"), *columns)
            row += frame.height
