import shutil
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.corpus.shards import FINEWEB2_SCHEMA
from definemed_pipeline.errors import UserError
from definemed_pipeline_tests.corpus.shard_files import documents, opened, register, write_shard

FINEWEB2_COLUMNS = list(FINEWEB2_SCHEMA)
TEXTS = ["Ein Text", "zwei drei vier", None, "  ", "fünf"]


def test_registering_profiles_the_documents(store: Store, tmp_path: Path) -> None:
    frame = documents(TEXTS, ids=["a", "b", "c", "c", "d"], dump=pl.Series(["x", "x", "y", None, "y"]))
    (manifest,) = register(store, write_shard(tmp_path, "s", frame))
    assert manifest.metrics == {
        "bytes": (tmp_path / "s.parquet").stat().st_size,
        "documents": 5,
        "null_texts": 1,
        "empty_texts": 1,
        "words": 6,
        "duplicate_ids": 1,
        "documents_by_dump": {"unknown": 1, "x": 2, "y": 2},
    }


def test_row_groups_carry_each_row_s_position_and_can_start_anywhere(store: Store, tmp_path: Path) -> None:
    frame = documents([str(number) for number in range(7)])
    shard = opened(store, *register(store, write_shard(tmp_path, "s", frame, rows_per_group=3)))
    groups = list(shard.row_groups(["text", "id"]))
    assert [group.height for group in groups] == [3, 3, 1]
    assert pl.concat(groups).select("row", "text").rows() == [(number, str(number)) for number in range(7)]
    assert pl.concat(shard.row_groups(["text"], start=1))["row"].to_list() == [3, 4, 5, 6]


def test_only_text_and_id_are_required_and_other_columns_of_fineweb2_read_as_null(store: Store, tmp_path: Path) -> None:
    frame = documents(TEXTS).select("id", "text").with_columns(wordlist_ratio=0.5)
    shard = opened(store, *register(store, write_shard(tmp_path, "s", frame)))
    first = next(shard.row_groups(["url", "language_score", "wordlist_ratio"]))
    assert first.schema == {"row": pl.Int64, "url": pl.String, "language_score": pl.Float64, "wordlist_ratio": pl.Float64}
    assert first["url"].null_count() == first.height
    assert shard.extra_columns == ("wordlist_ratio",)
    assert next(shard.row_groups(["url"])).rows() == [(0, None), (1, None)]


@pytest.mark.parametrize("rows_per_group", [2, None])
def test_a_file_without_documents_is_a_shard_of_none(store: Store, tmp_path: Path, rows_per_group: int | None) -> None:
    path = tmp_path / "s.parquet"
    documents([]).write_parquet(path, use_pyarrow=rows_per_group is not None)
    (manifest,) = register(store, str(path))
    assert manifest.metrics["documents"] == manifest.metrics["words"] == manifest.metrics["duplicate_ids"] == 0
    assert sum(group.height for group in opened(store, manifest).row_groups(["text"])) == 0


@pytest.mark.parametrize("share", [0.0, 0.3, 0.98])
def test_a_truncated_shard_is_refused_with_the_cure(store: Store, tmp_path: Path, share: float) -> None:
    path = Path(write_shard(tmp_path, "s", documents(TEXTS)))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(
        UserError, match=r"s.parquet cannot be read as parquet \(.*\): it is truncated or damaged; fetch it again"
    ) as error:
        register(store, str(path))
    assert "\n" not in str(error.value)


def test_a_shard_with_damaged_pages_is_refused(store: Store, tmp_path: Path) -> None:
    path = Path(write_shard(tmp_path, "s", documents([f"ein langer Text {number} " * 50 for number in range(200)])))
    content = bytearray(path.read_bytes())
    content[4:4000] = bytes(3996)
    path.write_bytes(content)
    with pytest.raises(UserError, match="truncated or damaged"):
        register(store, str(path))


def test_a_shard_is_refused_for_damage_in_a_column_that_only_later_stages_read(store: Store, tmp_path: Path) -> None:
    path = Path(write_shard(tmp_path, "s", documents(TEXTS * 40), rows_per_group=500))
    column = pq.read_metadata(path).row_group(0).column(FINEWEB2_COLUMNS.index("url"))
    start = column.dictionary_page_offset or column.data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
    path.write_bytes(content)
    with pytest.raises(UserError, match="truncated or damaged"):
        register(store, str(path))


def test_a_flipped_bit_is_found_where_the_writer_left_checksums(store: Store, tmp_path: Path) -> None:
    path, options = tmp_path / "s.parquet", {"compression": "none", "use_dictionary": False, "write_statistics": False}
    pq.write_table(documents(["Die Dosis beträgt 5 mg."]).to_arrow(), path, write_page_checksum=True, **options)
    path.write_bytes(path.read_bytes().replace("beträgt 5 mg".encode(), "beträgt 7 mg".encode(), 1))
    with pytest.raises(UserError, match="truncated or damaged"):
        register(store, str(path))


@pytest.mark.parametrize("column", ["text", "url"])
@pytest.mark.parametrize("value", [b"\xff\xfe", b"ein \xed\xa0\x80 halbes Zeichen"])
def test_strings_that_are_no_utf_8_are_refused(store: Store, tmp_path: Path, column: str, value: bytes) -> None:
    table = documents(["eins", "zwei"]).to_arrow()
    values = pa.array([b"eins", value])
    claimed = pa.Array.from_buffers(pa.string(), 2, values.buffers())
    pq.write_table(table.set_column(table.schema.get_field_index(column), column, claimed), tmp_path / "s.parquet")
    with pytest.raises(
        UserError, match=r"cannot be read as parquet \(.*Invalid UTF8 sequence.*truncated or damaged; fetch it again"
    ):
        register(store, str(tmp_path / "s.parquet"))


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("text", pa.array(["x"]), "column 'text' is there 2 times"),
        (
            "notes",
            pa.array([Decimal("0.5")], pa.decimal256(60, 2)),
            r"column 'notes' is decimal256\(60, 2\), and polars takes no such",
        ),
        ("nul\0", pa.array(["x"]), r"column 'nul\\x00' is string, and polars takes no such type or name"),
        ("", pa.array(["x"]), "column '' is string, and polars takes no such type or name"),
    ],
)
def test_a_further_column_that_cannot_be_held_is_named(
    store: Store, tmp_path: Path, name: str, values: pa.Array, message: str
) -> None:
    pq.write_table(documents(["eins"]).to_arrow().append_column(name, values), tmp_path / "s.parquet")
    with pytest.raises(UserError, match=message + ".* Correct the file or leave it out of source.files"):
        register(store, str(tmp_path / "s.parquet"))


def test_a_number_that_does_not_fit_is_told_with_its_column(store: Store, tmp_path: Path) -> None:
    frame = documents(["eins"], minhash_cluster_size=pl.lit(1 << 63, pl.UInt64))
    with pytest.raises(UserError, match=r"s.parquet holds what does not fit \(.*minhash_cluster_size.*\); correct the file"):
        register(store, write_shard(tmp_path, "s", frame))


def test_all_missing_and_mistyped_columns_are_named_at_once(store: Store, tmp_path: Path) -> None:
    frame = documents(TEXTS).drop("text").with_columns(id=pl.int_range(5), language_score=pl.lit("high"))
    with pytest.raises(
        UserError, match=r"column text is missing; column id is int64, not string; column language_score is .*string, not float64"
    ):
        register(store, write_shard(tmp_path, "s", frame))


def test_a_column_the_pipeline_would_overwrite_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="column medical_probability would be overwritten"):
        register(store, write_shard(tmp_path, "s", documents(TEXTS, medical_probability=pl.lit(0.5))))


def test_documents_without_an_id_are_refused(store: Store, tmp_path: Path) -> None:
    frame = documents(["a", "b"]).with_columns(id=pl.Series(["x", None]))
    with pytest.raises(UserError, match="1 documents have no id"):
        register(store, write_shard(tmp_path, "s", frame))


def test_a_file_changed_since_it_was_registered_is_refused(store: Store, tmp_path: Path) -> None:
    path = write_shard(tmp_path, "s", documents(TEXTS))
    shard = opened(store, *register(store, path))
    write_shard(tmp_path, "s", documents([*TEXTS[:-1], "sechs"]))
    with pytest.raises(UserError, match=r"was changed since it was registered: materialize fineweb2_shards\[s\] again"):
        next(shard.row_groups(["text"]))


def test_a_file_that_is_gone_is_named_with_the_cure(store: Store, tmp_path: Path) -> None:
    path = write_shard(tmp_path, "s", documents(TEXTS))
    shard = opened(store, *register(store, path))
    Path(path).unlink()
    with pytest.raises(UserError, match=r"there is no file .*s.parquet; put it back"):
        next(shard.row_groups(["text"]))


def test_moving_a_file_changes_no_digest(tmp_path: Path) -> None:
    here = write_shard(tmp_path / "here", "s", documents(TEXTS))
    there = shutil.copy(here, tmp_path / "s.parquet")
    digests = [register(Store(str(tmp_path / lake)), str(path))[0].digest for lake, path in (("a", here), ("b", there))]
    assert digests[0] == digests[1]


def test_chosen_rows_are_read_in_order_from_the_row_groups_that_hold_them(store: Store, tmp_path: Path) -> None:
    frame = documents([str(number) for number in range(20)])
    shard = opened(store, *register(store, write_shard(tmp_path, "s", frame, rows_per_group=4)))
    found = list(shard.rows(pl.Series([17, 1, 3, 16]), ["text", "url"]))
    assert [part["row"].to_list() for part in found] == [[1, 3], [16, 17]]
    assert found[0].columns == ["row", "text", "url"]
    assert pl.concat(found)["text"].to_list() == ["1", "3", "16", "17"]
    assert list(shard.rows(pl.Series([], dtype=pl.Int64), ["text"])) == []


def test_rows_of_a_file_changed_since_it_was_registered_are_refused(store: Store, tmp_path: Path) -> None:
    path = write_shard(tmp_path, "s", documents(TEXTS))
    shard = opened(store, *register(store, path))
    write_shard(tmp_path, "s", documents([*TEXTS[:-1], "sechs"]))
    with pytest.raises(UserError, match=r"was changed since it was registered"):
        next(shard.rows(pl.Series([0]), ["text"]))
