from pathlib import Path
from typing import Any

import polars as pl
import pytest

from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.corpus.annotation.sampling_frames import FRAME_SCHEMA
from definemed_pipeline.corpus.settings import SamplingFrameSettings
from definemed_pipeline.keyed_hash import keyed_hash
from definemed_pipeline_tests.corpus.shard_files import contents, documents, list_frames, register, write_shard

MEDICAL = "Diagnose Pneumonie: Fieber und Husten, Therapie mit Antibiotika, Befund im Röntgen"
OTHER = "Die Brücke über den Fluss wurde am Sonntag feierlich eröffnet"


def frame_of(store: Store, file: str, **section: Any) -> tuple[pl.DataFrame, Manifest]:
    (manifest,) = list_frames(store, register(store, file), **section)
    return pl.read_parquet(store.folder(manifest) / "frame.parquet"), manifest


def test_every_document_with_text_stands_in_the_frame_once_in_the_order_of_its_key(store: Store, tmp_path: Path) -> None:
    file = write_shard(
        tmp_path, "s", documents([MEDICAL, None, " \n", OTHER, OTHER, "später"], ids=["a", "b", "c", "d", "e", "a"])
    )
    frame, manifest = frame_of(store, file)
    assert frame.schema == FRAME_SCHEMA
    assert frame["key"].is_sorted()
    assert frame.sort("row")["row"].to_list() == [0, 3, 4]  # of the two documents "a", the first
    assert frame.sort("row")["key"].to_list() == keyed_hash(["a", "d", "e"], 0).tolist()
    counts = {
        "documents": 3,
        "without_text": 2,
        "duplicate_ids": 1,
        "documents_by_score_bin": {"none": 2, "low": 0, "medium": 0, "high": 1},
    }
    assert counts.items() <= manifest.metrics.items()


def test_of_a_repeated_id_without_text_at_first_the_document_with_text_is_kept(store: Store, tmp_path: Path) -> None:
    frame, _ = frame_of(store, write_shard(tmp_path, "s", documents([None, OTHER], ids=["a", "a"])))
    assert frame["row"].to_list() == [1]


def test_equal_texts_have_equal_keys_and_other_texts_do_not(store: Store, tmp_path: Path) -> None:
    frame, _ = frame_of(store, write_shard(tmp_path, "s", documents([OTHER, OTHER, f"{OTHER} "])))
    first, second, third = frame.sort("row")["text_key"]
    assert first == second != third


def test_the_score_bin_is_the_range_of_the_score_of_the_beginning(store: Store, tmp_path: Path) -> None:
    file = write_shard(tmp_path, "s", documents([MEDICAL, OTHER, f"{OTHER}. {MEDICAL}"]))
    assert frame_of(store, file)[0].sort("row")["score_bin"].to_list() == [3, 0, 3]
    assert frame_of(store, file, max_characters=len(OTHER))[0].sort("row")["score_bin"].to_list() == [3, 0, 0]
    two = frame_of(store, file, score_bins={"rest": 0.0, "medicine": 0.05})[0]
    assert two.sort("row")["score_bin"].to_list() == [1, 0, 1]


def test_a_document_without_a_dump_belongs_to_an_unknown_one(store: Store, tmp_path: Path) -> None:
    frame, _ = frame_of(store, write_shard(tmp_path, "s", documents([OTHER]).drop("dump")))
    assert frame["dump"].to_list() == ["unknown"]


def test_how_the_file_is_cut_into_row_groups_and_a_second_run_change_no_byte(tmp_path: Path) -> None:
    frame = documents([f"{MEDICAL if number % 3 else OTHER} {number}" for number in range(50)])
    found = []
    for name, rows in (("a", 7), ("b", 50), ("c", 50)):
        file = write_shard(tmp_path / name, "s", frame, rows_per_group=rows)
        store = Store(str(tmp_path / name / "lake"))
        found.append(contents(store.folder(frame_of(store, file)[1])))
    assert found[0] == found[1] == found[2]


def test_a_shard_without_text_has_an_empty_frame(store: Store, tmp_path: Path) -> None:
    frame, manifest = frame_of(store, write_shard(tmp_path, "s", documents([None, ""])))
    assert frame.schema == FRAME_SCHEMA
    assert frame.is_empty()
    assert manifest.metrics["without_text"] == 2


@pytest.mark.parametrize(
    "bins", [{}, {"low": 0.1}, {"none": 0.0, "same": 0.0}, {"none": 0.0, "sure": 1.0}, {"none": -0.1, "low": 0.0}]
)
def test_score_bins_that_do_not_cover_the_scores_once_are_refused(bins: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"score_bins is .*; allowed: names with different lowest scores"):
        SamplingFrameSettings(score_bins=bins)


def test_the_order_in_which_bins_are_written_does_not_matter() -> None:
    section = SamplingFrameSettings(score_bins={"high": 0.5, "none": 0.0})
    assert section.bin_names == ("none", "high")
    assert section.bin_bounds == (0.5,)
