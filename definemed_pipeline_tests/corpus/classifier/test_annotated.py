from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from definemed_pipeline.corpus.classifier.annotated import Texts, read_annotated
from definemed_pipeline_tests.corpus.shard_files import documents


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("annotated") / "annotations.parquet"
    texts = [None if number == 3 else f"Text {number // 2}" for number in range(25)]
    documents(texts).with_columns(
        role=pl.lit("sample"), inclusion_weight=1.0, is_medical=True, gold_is_medical=None
    ).write_parquet(path, row_group_size=7)
    return path


@settings(max_examples=50)
@given(st.sets(st.integers(0, 24)))
def test_texts_are_those_of_the_rows_in_their_order(path: Path, rows: set[int]) -> None:
    wanted = [row for row in sorted(rows) if row != 3]
    found = [text for piece in Texts(path, np.array(wanted, dtype=np.int64)) for text in piece]
    assert found == [f"Text {row // 2}" for row in wanted]


def test_they_can_be_gone_through_twice_and_come_in_row_groups(path: Path) -> None:
    texts = Texts(path, np.arange(25))
    assert [len(piece) for piece in texts] == [len(piece) for piece in texts] == [7, 7, 7, 4]


def test_labels_come_with_rows_and_equal_texts_with_equal_keys(path: Path) -> None:
    found = read_annotated(path)
    assert found["row"].to_list() == [row for row in range(25) if row != 3]
    assert "text" not in found.columns
    assert found["text_key"].n_unique() == 13
