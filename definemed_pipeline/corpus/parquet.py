"""How the corpus's own files are written: the same rows give the same bytes."""

from pathlib import Path

import polars as pl

ROWS_PER_GROUP = 10_000  # some 30 MB of text: a reader's unit of memory


def write_parquet(frame: pl.DataFrame, path: Path) -> None:
    """Write a frame as zstd parquet."""
    frame.write_parquet(path, compression="zstd", compression_level=3, row_group_size=ROWS_PER_GROUP, statistics=True)
