import shutil
from pathlib import Path

import fsspec
import polars as pl
import pytest

from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.corpus.sources.listing import list_source
from definemed_pipeline.corpus.sources.settings import ParquetSource
from definemed_pipeline.errors import UserError
from definemed_pipeline_tests.corpus.shard_files import documents, opened, register, write_shard

TEXTS = ["Ein Text", "zwei drei vier", None, "  ", "fünf"]


def test_shards_are_named_by_their_stem_and_sorted(tmp_path: Path) -> None:
    files = [write_shard(tmp_path, name, documents(TEXTS)) for name in ("001_00000", "000_00000")]
    found = list_source(ParquetSource(files=(f"{tmp_path}/*.parquet", files[0])))
    assert list(found.items()) == [("000_00000", files[1]), ("001_00000", files[0])]


def test_shards_are_found_behind_any_fsspec_url(tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe_file("/web/a.parquet", Path(write_shard(tmp_path, "a", documents(TEXTS))).read_bytes())
    (location,) = list_source(ParquetSource(files=("memory://web/*.parquet",))).values()
    (manifest,) = register(Store(str(tmp_path / "lake")), location)
    assert manifest.metrics["documents"] == 5


def test_two_files_with_one_stem_are_refused(tmp_path: Path) -> None:
    for folder in ("train", "test"):
        write_shard(tmp_path / folder, "000_00000", documents(TEXTS))
    with pytest.raises(
        UserError, match=r"test/000_00000.parquet and .*train/000_00000.parquet would both be shard '000_00000'; rename"
    ):
        list_source(ParquetSource(files=(f"{tmp_path}/*/*.parquet",)))


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{}/none-*.parquet", "finds no file; correct the path"),
        ("{}/none.parquet", "finds no file; correct the path"),
        ("{}", "is a folder; write .*/\\*.parquet"),
        ("nosuchprotocol://x/*.parquet", "cannot be listed: .*nosuchprotocol"),
    ],
)
def test_a_place_without_shards_is_refused_with_the_cure(tmp_path: Path, pattern: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        list_source(ParquetSource(files=(pattern.format(tmp_path),)))


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


def test_a_source_whose_host_is_out_of_reach_is_told_in_one_line() -> None:
    class Unreachable(fsspec.AbstractFileSystem):
        protocol = "unreachable"

        def _ls_from_cache(self, path: str) -> None:
            raise RuntimeError("Name or service not known")

        def info(self, path: str, **_: object) -> dict[str, object]:
            raise RuntimeError("Name or service not known")

    fsspec.register_implementation("unreachable", Unreachable, clobber=True)
    with pytest.raises(UserError, match=r"unreachable://host/\*\.parquet cannot be listed: Name or service not known"):
        list_source(ParquetSource(files=("unreachable://host/*.parquet",)))
