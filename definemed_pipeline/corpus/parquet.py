"""How the corpus's own files are written: the same rows give the same bytes."""

from pathlib import Path
from types import TracebackType

import polars as pl
import pyarrow.parquet as pq

ROWS_PER_GROUP = 10_000  # some 30 MB of text: a reader's unit of memory


def write_parquet(frame: pl.DataFrame, path: Path) -> None:
    """Write a frame as zstd parquet."""
    frame.write_parquet(path, compression="zstd", compression_level=3, row_group_size=ROWS_PER_GROUP, statistics=True)


class ParquetFile:
    """A zstd parquet file that is written frame by frame, so that it may be larger than memory.

    A frame becomes row groups of its own of at most `rows_per_group` rows: for the same bytes, cut the rows into the same frames.
    """

    def __init__(self, path: Path, schema: pl.Schema, rows_per_group: int = ROWS_PER_GROUP) -> None:
        self.schema, self.rows_per_group = schema, rows_per_group
        arrow = pl.DataFrame(schema=schema).to_arrow().schema
        self._writer = pq.ParquetWriter(path, arrow, compression="zstd", compression_level=3)

    def write(self, frame: pl.DataFrame) -> None:
        """Append the columns of the schema, in its order and types."""
        columns = frame.select(pl.col(name).cast(dtype) for name, dtype in self.schema.items())
        self._writer.write_table(columns.to_arrow(), row_group_size=self.rows_per_group)

    def __enter__(self) -> "ParquetFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._writer.close()
