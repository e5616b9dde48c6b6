"""The lake in SQL: views over the latest artifacts, by name, with partitions; mistakes are told in a line or two."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.corpus.settings import SourceSettings
from definemed_pipeline.database import asked, list_tables, write_database
from definemed_pipeline.errors import UserError
from definemed_pipeline_tests.conftest import RECIPE, build_artifact

NUMBERS = pl.DataFrame({"x": [1, 2]})


def put(store: Store, asset: str, files: Mapping[str, pl.DataFrame], **identity: Any) -> None:
    def write(draft: Draft[Any]) -> None:
        for path, frame in files.items():
            (draft.folder / path).parent.mkdir(exist_ok=True)
            frame.write_parquet(draft.folder / path)

    build_artifact(store, asset, write, SourceSettings(files=("x",)), **identity)


def filled(store: Store) -> Store:
    """Fill a lake with a corpus of two files and its statistics, and scores of two shards, one of which has a further column."""
    data = {f"data/finemed_de-0000{number}-of-00002.parquet": NUMBERS + number for number in range(2)}
    put(store, "finemed_de", {**data, "dropped.parquet": NUMBERS, "statistics/by_dump.parquet": NUMBERS})
    put(store, "classifier_scores", {"scores.parquet": NUMBERS}, partition="a")
    put(store, "classifier_scores", {"scores.parquet": NUMBERS.with_columns(y=pl.lit(0.5))}, partition="b")
    return store


def rows(store: Store, sql: str) -> list[tuple[Any, ...]]:
    with asked(store, RECIPE, sql) as answer:
        return answer.fetchall()


def test_tables_have_the_name_of_their_asset_or_their_own_behind_it(store: Store) -> None:
    assert {table.name: (table.rows, len(table.files)) for table in list_tables(filled(store), RECIPE)} == {
        "classifier_scores": (4, 2),
        "finemed_de": (4, 2),
        "finemed_de_by_dump": (2, 1),
        "finemed_de_dropped": (2, 1),
    }


def test_a_lake_in_a_folder_or_a_bucket_answers(any_store: Store) -> None:
    filled(any_store)
    assert rows(any_store, "SELECT sum(x) FROM finemed_de") == [(8,)]
    by_partition = "SELECT partition, sum(x), max(y) FROM classifier_scores GROUP BY ALL ORDER BY ALL"
    assert rows(any_store, by_partition) == [("a", 3, None), ("b", 3, 0.5)]


def test_the_newest_artifact_of_the_recipe_answers(store: Store) -> None:
    filled(store)
    put(store, "finemed_de", {"data/finemed_de-00000-of-00001.parquet": NUMBERS}, code_version="2")
    assert rows(store, "FROM finemed_de") == [(1,), (2,)]
    with pytest.raises(UserError, match="no table of recipe 'another' yet"):
        list_tables(store, "another")


def test_every_statement_that_reads_is_answered(store: Store) -> None:
    filled(store)
    assert rows(store, "DESCRIBE classifier_scores")[0][0] == "partition"
    assert len(rows(store, "SHOW TABLES")) == 4
    assert rows(store, "WITH big AS (FROM finemed_de WHERE x > 2) SELECT count(*) FROM big") == [(1,)]


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("SELEC 1", 'syntax error at or near "SELEC"'),
        ("", "one statement that reads"),
        ("SELECT 1; SELECT 2", "one statement that reads"),
        ("DROP VIEW finemed_de", "one statement that reads"),
        ("COPY (SELECT 1) TO 'x.csv'", "one statement that reads"),
        ("SELECT z FROM finemed_de", 'column "z" not found'),
        ("SELECT CAST('a' AS INT) + x FROM finemed_de", "Could not convert string 'a'"),
        (
            "FROM win_rates",
            r"win_rates does not exist(.|\n)*Tables of recipe 'test' in .*: classifier_scores, finemed_de, .*definemed run",
        ),
    ],
)
def test_what_cannot_be_answered_is_told_with_the_reason(store: Store, sql: str, told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        rows(filled(store), sql)
    assert len(str(caught.value).splitlines()) <= 2


def test_a_database_file_holds_views_that_other_programs_read(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "lake.duckdb"
    for _ in range(2):
        write_database(filled(store), RECIPE, path)
    with duckdb.connect(str(path), read_only=True) as connection:
        assert connection.sql("SELECT count(*) FROM classifier_scores WHERE partition = 'b'").fetchall() == [(2,)]
    assert [one.name for one in tmp_path.glob("*lake.duckdb*")] == ["lake.duckdb"]


def test_a_database_that_cannot_be_written_is_told(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the database .*nowhere/x\.duckdb cannot be written"):
        write_database(filled(store), RECIPE, tmp_path / "nowhere" / "x.duckdb")
