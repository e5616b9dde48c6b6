"""The listing is an artifact: made when somebody asks, known by what it was made from, and read by everybody else."""

import os
import shutil
import time
from pathlib import Path

import fsspec
import polars as pl
import pytest

from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.corpus.register import register_shard
from definemed_pipeline.corpus.shards import ASSET as SHARDS
from definemed_pipeline.corpus.sources.listing import (
    changed_shards,
    files_of,
    latest_listing,
    list_source,
    refresh_listing,
    watched_listing,
)
from definemed_pipeline.corpus.sources.settings import Fineweb2Source, ParquetSource
from definemed_pipeline.errors import UserError
from definemed_pipeline_tests.conftest import RECIPE, build_artifact
from definemed_pipeline_tests.corpus.shard_files import documents, opened, register, write_shard
from definemed_pipeline_tests.corpus.sources.conftest import fineweb2
from definemed_pipeline_tests.corpus.sources.hub_server import Fault

TEXTS = ["Ein Text", "zwei drei vier", None, "  ", "fünf"]


def refreshed(store: Store, source: ParquetSource | Fineweb2Source) -> Manifest:
    return refresh_listing(store, RECIPE, source, run_id="test")


def register_listed(store: Store, listing: Manifest, source: ParquetSource | Fineweb2Source) -> list[Manifest]:
    """Register every file of a listing as its asset does."""
    return [
        build_artifact(store, SHARDS, register_shard, source, partition=name, known_sources=(file.identify(store.scratch),))
        for name, file in files_of(store, listing).items()
    ]


# Files that fsspec reaches


def test_shards_are_named_by_their_stem_and_sorted(tmp_path: Path) -> None:
    files = [write_shard(tmp_path, name, documents(TEXTS)) for name in ("001_00000", "000_00000")]
    found = list_source(ParquetSource(files=(f"{tmp_path}/*.parquet", files[0])))
    assert [(name, file.location) for name, file in found.items()] == [("000_00000", files[1]), ("001_00000", files[0])]


def test_shards_are_found_behind_any_fsspec_url(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/web/a.parquet", Path(write_shard(tmp_path, "a", documents(TEXTS))).read_bytes())
    (file,) = list_source(ParquetSource(files=("memory://web/*.parquet",))).values()
    (manifest,) = register(Store(str(tmp_path / "lake")), file.location)
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


def test_a_listing_of_local_files_is_the_same_artifact_until_a_file_comes_or_goes(store: Store, tmp_path: Path) -> None:
    source = ParquetSource(files=(f"{tmp_path}/web/*.parquet",))
    write_shard(tmp_path / "web", "a", documents(TEXTS))
    first, again = refreshed(store, source), refreshed(store, source)
    write_shard(tmp_path / "web", "b", documents(TEXTS))
    more = refreshed(store, source)
    assert first.version == again.version != more.version
    table = pl.read_parquet(store.folder(more) / "files.parquet")
    assert table["partition"].to_list() == ["a", "b"]
    assert table["bytes"][0] == (tmp_path / "web" / "a.parquet").stat().st_size
    assert table["digest"].null_count() == table["revision"].null_count() == 2
    assert more.metrics == {"files": 2, "source_bytes": table["bytes"].sum()}


def test_everybody_else_reads_the_latest_listing_and_a_watcher_looks_anew(store: Store, tmp_path: Path) -> None:
    source = ParquetSource(files=(f"{tmp_path}/web/*.parquet",))
    write_shard(tmp_path / "web", "a", documents(TEXTS))
    made = latest_listing(store, RECIPE, source, run_id="test")  # there was none
    write_shard(tmp_path / "web", "b", documents(TEXTS))
    assert latest_listing(store, RECIPE, source, run_id="test") == made
    assert list(files_of(store, watched_listing(store, RECIPE, source, run_id="test"))) == ["a", "b"]
    assert list(files_of(store, latest_listing(store, RECIPE, source, run_id="test"))) == ["a", "b"]


def test_a_recipe_with_another_source_gets_another_listing(store: Store, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_shard(tmp_path / name, name, documents(TEXTS))
    for name in ("a", "b"):
        source = ParquetSource(files=(f"{tmp_path}/{name}/*.parquet",))
        assert list(files_of(store, latest_listing(store, RECIPE, source, run_id="test"))) == [name]


def test_a_shard_depends_on_its_own_file_and_not_on_the_listing(store: Store, tmp_path: Path) -> None:
    source = ParquetSource(files=(f"{tmp_path}/web/*.parquet",))
    write_shard(tmp_path / "web", "a", documents(TEXTS))
    (before,) = register_listed(store, refreshed(store, source), source)
    write_shard(tmp_path / "web", "b", documents(TEXTS))
    after, _ = register_listed(store, refreshed(store, source), source)
    assert after.version == before.version
    assert not after.identity.inputs


def test_new_and_changed_local_files_are_told_apart_from_those_only_touched(store: Store, tmp_path: Path) -> None:
    web = tmp_path / "web"
    source = ParquetSource(files=(f"{web}/*.parquet",))
    for name in ("same", "touched", "rewritten"):
        write_shard(web, name, documents(TEXTS))
    listing = refreshed(store, source)
    assert changed_shards(store, RECIPE, listing) == (["rewritten", "same", "touched"], [])
    register_listed(store, listing, source)
    assert changed_shards(store, RECIPE, listing) == ([], [])
    os.utime(web / "touched.parquet")
    write_shard(web, "rewritten", documents([*TEXTS[:-1], "six!"]))
    write_shard(web, "new", documents(TEXTS))
    assert changed_shards(store, RECIPE, refreshed(store, source)) == (["new"], ["rewritten"])


def test_what_did_not_change_is_not_read_again(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ParquetSource(files=(f"{tmp_path}/web/*.parquet",))
    write_shard(tmp_path / "web", "a", documents(TEXTS))
    monkeypatch.setattr("definemed_pipeline.artifacts.sources.CLOCK_NANOSECONDS", 1_000_000)
    time.sleep(0.02)
    listing = refreshed(store, source)
    register_listed(store, listing, source)
    monkeypatch.setattr("hashlib.file_digest", lambda *_: pytest.fail("the file was read"))
    assert changed_shards(store, RECIPE, listing) == ([], [])


def test_an_object_store_vouches_for_its_files(store: Store, tmp_path: Path, bucket: str) -> None:
    import boto3

    def put(name: str, texts: list[str | None]) -> None:
        """Upload as another program would, unseen by the file system this process has open."""
        client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
        client.upload_file(write_shard(tmp_path, name, documents(texts)), bucket.split("/")[2], f"lake/web/{name}.parquet")

    source = ParquetSource(files=(f"{bucket}/web/*.parquet",))
    put("a", TEXTS)
    listing = refreshed(store, source)
    assert (files_of(store, listing)["a"].digest or "").startswith("ETag:")
    register_listed(store, listing, source)
    assert changed_shards(store, RECIPE, listing) == ([], [])
    put("a", TEXTS[:2])
    put("b", TEXTS)
    listing = refreshed(store, source)
    assert changed_shards(store, RECIPE, listing) == (["b"], ["a"])
    register_listed(store, listing, source)
    assert changed_shards(store, RECIPE, listing) == ([], [])


# The Hub


def shard_bytes(folder: Path, texts: list[str | None]) -> bytes:
    return Path(write_shard(folder, "any", documents(texts))).read_bytes()


def test_a_pinned_commit_is_listed_once_ever(hub, store, tmp_path):
    source = fineweb2(hub.commit({"a.parquet": b"x"}))
    first = refreshed(store, source)
    hub.requests.clear()
    again = refreshed(store, source)
    assert again == first == latest_listing(store, RECIPE, source, run_id="test")
    assert refresh_listing(store, "another-recipe", source, run_id="test") == first
    assert hub.requests == []


def test_a_branch_that_did_not_move_costs_one_request_and_none_is_made_for_a_watcher(hub, store):
    hub.commit({"a.parquet": b"x"})
    first = refreshed(store, fineweb2())
    hub.requests.clear()
    assert refreshed(store, fineweb2()) == first
    assert [request.place for request in hub.requests] == ["revision"]
    assert watched_listing(store, RECIPE, fineweb2(), run_id="test") == first
    assert len(hub.requests) == 1


def test_a_branch_that_moved_tells_new_and_changed_files_and_leaves_the_others_as_they_are(hub, store, tmp_path):
    same, old, new = (shard_bytes(tmp_path, texts) for texts in (["gleich"], ["alt"], ["neu"]))
    hub.commit({"same.parquet": same, "changed.parquet": old})
    source = fineweb2()
    before = register_listed(store, refreshed(store, source), source)
    hub.commit({"changed.parquet": new, "new.parquet": new})
    listing = refreshed(store, source)
    assert changed_shards(store, RECIPE, listing) == (["new"], ["changed"])
    after = {manifest.partition: manifest for manifest in register_listed(store, listing, source)}
    assert after["same"].version == next(one.version for one in before if one.partition == "same")
    assert changed_shards(store, RECIPE, listing) == ([], [])


def test_how_files_are_read_changes_neither_listing_nor_shards(hub, store, tmp_path, monkeypatch):
    body = shard_bytes(tmp_path, ["eins", "zwei", "drei"])
    sha = hub.commit({"a.parquet": body})
    listings, shards = [], []
    for access in ("download", "scan"):
        source = fineweb2(sha, access=access)
        for name, value in source.environment().items():
            monkeypatch.setenv(name, value)
        listings.append(refreshed(store, source).version)
        (manifest,) = register_listed(store, refreshed(store, source), source)
        frame = pl.concat(opened(store, manifest).row_groups(["text"]))
        assert frame["text"].to_list() == ["eins", "zwei", "drei"]
        shards.append(manifest.version)
        shutil.rmtree(store.scratch / "hub_cache", ignore_errors=True)
    assert listings[0] == listings[1]
    assert shards[0] == shards[1]
    assert any(request.range for request in hub.asked("cdn"))  # the second time in ranges


def test_a_copy_that_left_the_cache_is_fetched_again_when_the_shard_is_read(hub, store, tmp_path):
    hub.commit({"a.parquet": shard_bytes(tmp_path, TEXTS)})
    (manifest,) = register_listed(store, refreshed(store, fineweb2()), fineweb2())
    shutil.rmtree(store.scratch / "hub_cache")
    assert pl.concat(opened(store, manifest).row_groups(["text"]))["text"].to_list() == TEXTS
    assert len(hub.asked("cdn")) == 2


def test_a_file_of_the_hub_that_is_no_parquet_is_refused_as_any_other(hub, store):
    hub.commit({"a.parquet": b"no parquet" * 10})
    with pytest.raises(UserError, match=r"a.parquet cannot be read as parquet"):
        register_listed(store, refreshed(store, fineweb2()), fineweb2())


def test_a_hub_that_fails_leaves_no_listing_and_the_latest_one_in_place(hub, store):
    hub.commit({"a.parquet": b"x"})
    first = refreshed(store, fineweb2())
    hub.commit({"b.parquet": b"y"})
    hub.faults["tree"] = [Fault(status=403)]
    with pytest.raises(UserError, match="HTTP 403"):
        refreshed(store, fineweb2())
    assert store.latest(RECIPE, "source_files") == first
    assert list(files_of(store, refreshed(store, fineweb2()))) == ["a", "b"]
