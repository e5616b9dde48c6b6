"""Artifacts are built once, published whole, and survive kills, force and company, in a folder as in a bucket."""

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.artifacts.sources import identify
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.errors import UserError
from definemed_pipeline.settings import setting, settings
from definemed_pipeline_tests.conftest import RECIPE, build_artifact, identity_of


@settings
class Greeting:
    text: str = "hello"
    times: int = setting(2, at_least=1)
    source: str = setting("nowhere", location=True)


def greet(draft: Draft[Greeting]) -> None:
    (draft.folder / "sub").mkdir()
    (draft.folder / "sub" / "greeting.txt").write_text(draft.settings.text * draft.settings.times)
    draft.write_json("count.json", {"times": draft.settings.times})
    draft.metrics["times"] = draft.settings.times


def answer(draft: Draft[Greeting]) -> None:
    heard = (draft.input("greetings") / "sub" / "greeting.txt").read_text()
    (draft.folder / "answer.txt").write_text(heard[::-1])


def files_of(store: Store) -> list[str]:
    return sorted(path.removeprefix(store.root) for path in store.filesystem.find(store.root) if ".scratch" not in path)


def test_an_artifact_is_files_then_manifest_then_pointer(any_store):
    manifest = build_artifact(any_store, "greetings", greet, Greeting())
    place = f"/greetings/_/{manifest.version}"
    assert files_of(any_store) == [
        f"{place}/count.json",
        f"{place}/manifest.json",
        f"{place}/sub/greeting.txt",
        f"/greetings/_/latest-{RECIPE}.json",
    ]
    assert any_store.latest(RECIPE, "greetings") == manifest
    assert manifest.metrics == {"times": 2}


def test_a_complete_artifact_is_reused_and_not_rebuilt(any_store):
    first = build_artifact(any_store, "greetings", greet, Greeting())

    def never(draft: Draft[Greeting]) -> None:
        raise AssertionError("was built again")

    assert build_artifact(any_store, "greetings", never, Greeting()) == first


def test_an_artifact_reads_its_inputs_from_the_lake(any_store):
    first = build_artifact(any_store, "greetings", greet, Greeting(text="ab", times=1))
    second = build_artifact(any_store, "answers", answer, Greeting(), inputs=[first])
    assert (any_store.folder(second) / "answer.txt").read_text() == "ba"
    assert second.identity.inputs == (first.as_input(),)


def test_force_rebuilds_the_same_bytes(any_store):
    first = build_artifact(any_store, "greetings", greet, Greeting())
    again = build_artifact(any_store, "greetings", greet, Greeting(), force=True)
    assert (again.version, again.digest) == (first.version, first.digest)
    assert again.provenance.created_at >= first.provenance.created_at


def test_two_recipes_share_artifacts_and_not_results(any_store):
    manifest = build_artifact(any_store, "greetings", greet, Greeting())
    assert any_store.latest("another", "greetings") is None
    with pytest.raises(UserError, match=r"greetings is not in the lake .* for recipe 'another': materialize it first"):
        any_store.require("another", "greetings")
    assert any_store.require(RECIPE, "greetings") == manifest


def test_a_setting_changes_the_version_and_a_location_does_not():
    assert identity_of("a", Greeting()).version != identity_of("a", Greeting(times=3)).version
    assert identity_of("a", Greeting()).version == identity_of("a", Greeting(source="elsewhere")).version


def test_a_source_is_known_by_its_bytes(tmp_path):
    (tmp_path / "one").write_text("same")
    (tmp_path / "two").write_text("same")
    (tmp_path / "three").write_text("different")
    one, two, three = (identify("gold", str(tmp_path / name)).digest for name in ("one", "two", "three"))
    assert one == two != three
    with pytest.raises(UserError, match=r"gold: there is no file .*four; correct the path in the recipe"):
        identify("gold", str(tmp_path / "four"))


def test_a_failed_build_leaves_nothing_that_anyone_would_read(any_store):
    def fail(draft: Draft[Greeting]) -> None:
        (draft.folder / "half").write_text("half")
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        build_artifact(any_store, "greetings", fail, Greeting())
    assert files_of(any_store) == []
    manifest = build_artifact(any_store, "greetings", greet, Greeting())
    assert [file.path for file in manifest.files] == ["count.json", "sub/greeting.txt"]


def test_a_copy_of_a_remote_artifact_is_verified(bucket, tmp_path):
    store = Store(bucket, scratch=tmp_path / "here")
    manifest = build_artifact(store, "greetings", greet, Greeting())
    damaged = f"{store.root}/greetings/_/{manifest.version}/sub/greeting.txt"
    store.filesystem.pipe_file(damaged, b"damaged")
    with pytest.raises(UserError, match=r"sub/greeting.txt does not match its manifest"):
        Store(bucket, scratch=tmp_path / "elsewhere").folder(manifest)


def test_a_lake_that_cannot_be_written_is_told_with_the_cure(tmp_path):
    (tmp_path / "file").write_text("")
    store = Store(str(tmp_path / "file" / "lake"))
    with pytest.raises(UserError, match=r"the lake .* cannot be written: .* Set DEFINEMED_LAKE"):
        store.check_writable()
    with pytest.raises(UserError, match=r"cannot be written"):
        build_artifact(store, "greetings", greet, Greeting())


def test_a_full_disk_is_told_with_the_cure_and_leaves_no_artifact(store, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("definemed_pipeline.artifacts.store.shutil.move", full)
    with pytest.raises(UserError, match=r"no space is left for the lake"):
        build_artifact(store, "greetings", greet, Greeting())
    assert store.latest(RECIPE, "greetings") is None
    monkeypatch.undo()
    assert build_artifact(store, "greetings", greet, Greeting()).metrics == {"times": 2}


def slow_greet(draft: Draft[Greeting]) -> None:
    kept = draft.checkpoints / "tries"
    kept.write_text((kept.read_text() if kept.exists() else "") + "x")
    (draft.folder / "early").write_text("early")
    if kept.read_text() == "x":
        Path(draft.settings.source).touch()
        time.sleep(60)
    greet(draft)


def build_slowly(lake: str, flag: str) -> None:
    build_artifact(Store(lake), "greetings", slow_greet, Greeting(source=flag))


def test_sigkill_in_the_middle_loses_nothing_and_the_rerun_gives_the_same_bytes(tmp_path):
    undisturbed = tmp_path / "undisturbed"
    lake, flag = tmp_path / "lake", tmp_path / "started"
    process = multiprocessing.get_context("spawn").Process(target=build_slowly, args=(str(lake), str(flag)))
    process.start()
    while not flag.exists():
        time.sleep(0.02)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert Store(str(lake)).latest(RECIPE, "greetings") is None

    rerun = build_artifact(Store(str(lake)), "greetings", slow_greet, Greeting(source=str(flag)))

    def greet_early(draft: Draft[Greeting]) -> None:
        (draft.folder / "early").write_text("early")
        greet(draft)

    assert rerun.digest == build_artifact(Store(str(undisturbed)), "greetings", greet_early, Greeting()).digest
    assert not list((lake / ".scratch" / "work").rglob("tries"))


def test_two_builders_of_one_version_build_it_once(store):
    built, waited = [], []

    def count(draft: Draft[Greeting]) -> None:
        built.append(1)
        time.sleep(0.3)
        greet(draft)

    def run() -> None:
        waited.append(build_artifact(store, "greetings", count, Greeting()))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert len({manifest.digest for manifest in waited}) == 1
