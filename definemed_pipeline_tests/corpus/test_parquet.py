from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from definemed_pipeline.corpus.parquet import ParquetStream, batches, row_groups

SCHEMA = {"number": pl.Int64, "text": pl.String}


def frame(start: int, stop: int) -> pl.DataFrame:
    return pl.DataFrame({"text": [f"t{i}" for i in range(start, stop)], "number": range(start, stop)}, schema_overrides=SCHEMA)


@given(st.lists(st.integers(0, 30), max_size=8))
def test_rows_come_back_in_order_in_full_row_groups_however_they_were_cut(
    tmp_path_factory: pytest.TempPathFactory, heights: list[int]
) -> None:
    path, start = tmp_path_factory.mktemp("stream") / "x.parquet", 0
    with ParquetStream(path, SCHEMA, rows_per_group=10) as stream:
        for height in heights:
            stream.write(frame(start, start + height))
            start += height
    assert pl.read_parquet(path).equals(frame(0, start).select(*SCHEMA))
    assert pl.read_parquet(path).schema == SCHEMA
    metadata = pq.read_metadata(path)
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    assert sizes == [10] * (start // 10) + [start % 10] * (start % 10 > 0)
    assert [group.height for group in row_groups(path)] == sizes


def test_frames_are_joined_to_batches_of_at_least_so_many_rows() -> None:
    found = list(batches((frame(i, i + 3) for i in range(0, 21, 3)), 5))
    assert [batch.height for batch in found] == [6, 6, 6, 3]
    assert pl.concat(found).equals(frame(0, 21))


def test_a_file_without_rows_has_its_columns(tmp_path: Path) -> None:
    with ParquetStream(tmp_path / "x.parquet", SCHEMA):
        pass
    assert pl.read_parquet(tmp_path / "x.parquet").schema == SCHEMA
