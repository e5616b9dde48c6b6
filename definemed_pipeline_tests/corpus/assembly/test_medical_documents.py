import json
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.corpus.assembly import medical_documents
from definemed_pipeline.corpus.assembly.medical_documents import ADDED, collect_medical_documents
from definemed_pipeline.corpus.assembly.minhash import signatures, signing_fingerprint
from definemed_pipeline.corpus.assembly.segments import Segments
from definemed_pipeline.corpus.shards import FINEWEB2_SCHEMA
from definemed_pipeline.corpus.text import word_hashes
from definemed_pipeline_tests.conftest import build_artifact
from definemed_pipeline_tests.corpus.shard_files import (
    MEDICAL_DOCUMENTS,
    collect,
    contents,
    documents,
    register,
    score_by_word,
    write_shard,
)

TEXTS = ["Medizin zuerst", "Die Brücke", "Medizin danach", None, "Medizin zuletzt hier"]
IDS = ["d", "b", "a", "e", "c"]


def segment(store: Store, folder: Path, frame: pl.DataFrame | None = None) -> Path:
    shards = register(store, write_shard(folder, "s", documents(TEXTS, IDS) if frame is None else frame))
    (manifest,) = collect(store, shards, score_by_word(store, shards))
    return store.folder(manifest)


def test_a_segment_holds_the_documents_that_were_taken_by_id_with_their_place_and_scores(store: Store, tmp_path: Path) -> None:
    folder = segment(store, tmp_path)
    table = pl.read_parquet(folder / "documents.parquet")
    assert table.columns == [*FINEWEB2_SCHEMA, *ADDED]
    assert table.select("id", "text", "row", "shard", "words").rows() == [
        ("a", "Medizin danach", 2, "s", 2),
        ("c", "Medizin zuletzt hier", 4, "s", 3),
        ("d", "Medizin zuerst", 0, "s", 2),
    ]
    assert table["medical_probability"].to_list() == [pytest.approx(0.9)] * 3
    assert json.loads((folder / "shard.json").read_text()) == {"documents": 5, "medical_documents": 3, "classifier": None}


def test_signatures_stand_in_the_order_of_the_documents(store: Store, tmp_path: Path) -> None:
    folder = segment(store, tmp_path)
    signed = pl.read_parquet(folder / "signatures.parquet")
    texts = pl.read_parquet(folder / "documents.parquet")
    assert signed.select("id", "row", "words").equals(texts.select("id", "row", "words"))
    assert signed.drop("id", "row", "language_score", "words").equals(signatures(word_hashes(texts["text"]), MEDICAL_DOCUMENTS))


@pytest.mark.parametrize("name", ["place", "scored_id", "a.b", "number", "meta\nzwei"])
def test_a_shards_further_column_keeps_its_name_and_values_whatever_it_is_called(store: Store, tmp_path: Path, name: str) -> None:
    frame = documents(TEXTS, IDS).with_columns(pl.Series(name, [f"von {one}" for one in IDS]))
    table = pl.read_parquet(segment(store, tmp_path, frame) / "documents.parquet")
    assert table.select("id", name).rows() == [("a", "von a"), ("c", "von c"), ("d", "von d")]


def test_documents_dealt_out_to_many_buckets_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = documents([f"Medizin {number}" for number in range(50)], [f"{(7 * number) % 50:02}" for number in range(50)])
    monkeypatch.setattr("definemed_pipeline.corpus.assembly.segments.ROWS_PER_GROUP", 4)
    found = []
    for bucket in (8, 12, 1000):
        monkeypatch.setattr(medical_documents, "BUCKET", bucket)
        folder = segment(Store(str(tmp_path / f"lake {bucket}")), tmp_path / "web", frame)
        assert pl.read_parquet(folder / "documents.parquet")["id"].to_list() == [f"{number:02}" for number in range(50)]
        found.append(pl.read_parquet(folder / "documents.parquet"))
        assert pq.read_metadata(folder / "documents.parquet").row_group(0).num_rows == 4
    assert found[0].equals(found[1])
    assert found[0].equals(found[2])


def test_a_retry_after_a_kill_writes_the_same_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    untouched, killed = Store(str(tmp_path / "a")), Store(str(tmp_path / "b"))
    expected = contents(segment(untouched, tmp_path / "web"))

    def kill(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for step in ("write_segment", "_deal", "_sorted_buckets"):
        with monkeypatch.context() as patch:
            patch.setattr(medical_documents, step, kill)
            with pytest.raises(KeyboardInterrupt):
                segment(killed, tmp_path / "web")
    (left_over,) = (Path(killed.scratch) / "work" / "medical_documents" / "s").glob("*/checkpoints/buckets/*")
    left_over.rename(left_over.with_name("000009.arrows"))  # of a try that dealt otherwise
    assert contents(segment(killed, tmp_path / "web")) == expected


@pytest.mark.parametrize("texts", [[], ["Die Brücke", None]])
def test_a_shard_without_medical_documents_is_an_empty_segment(store: Store, tmp_path: Path, texts: list[str | None]) -> None:
    folder = segment(store, tmp_path, documents(texts))
    for name in ("documents", "signatures"):
        assert pl.read_parquet(folder / f"{name}.parquet").is_empty()
    assert len(Segments(("s",), (folder,))) == 0


def test_scores_of_another_shard_are_noticed(store: Store, tmp_path: Path) -> None:
    shards = register(store, *(write_shard(tmp_path, name, documents(TEXTS[:size])) for name, size in (("s0", 4), ("s1", 5))))
    first, _ = score_by_word(store, shards)
    strange = build_artifact(
        store,
        "classifier_scores",
        lambda draft: pl.read_parquet(store.folder(first) / "scores.parquet").write_parquet(draft.folder / "scores.parquet"),
        MEDICAL_DOCUMENTS,
        partition="s1",
        inputs=[shards[1]],
    )
    with pytest.raises(ValueError, match="does not score shard s1"):
        build_artifact(
            store, "medical_documents", collect_medical_documents, MEDICAL_DOCUMENTS, partition="s1", inputs=[shards[1], strange]
        )


def test_documents_are_found_by_number_and_by_id_over_all_segments(tmp_path: Path) -> None:
    folders = []
    for name, ids in (("s0", ["b", "d"]), ("s1", []), ("s2", ["a", "b"])):
        store = Store(str(tmp_path / name))
        folders.append(segment(store, tmp_path / f"web {name}", documents([f"Medizin {one}" for one in ids], ids)))
    segments = Segments(("s0", "s1", "s2"), tuple(folders))
    assert (len(segments), segments.starts.tolist()) == (4, [0, 2, 2, 4])
    assert segments.ids(np.array([1, 2, 3])).to_list() == ["d", "a", "b"]
    assert segments.find(pl.Series(["b", "nowhere"])).rows() == [("b", 0), ("b", 3)]
    assert segments.id_ranks().tolist() == [2, 3, 1, 2]
    assert segments.owners(np.arange(4)).tolist() == [0, 0, 2, 2]
    texts = [
        (number, text)
        for numbers, part in segments.texts(np.array([1, 0, 1, 1]) > 0)
        for number, text in zip(numbers, part, strict=True)
    ]
    assert texts == [(0, "Medizin b"), (2, "Medizin a"), (3, "Medizin b")]


def test_another_way_of_hashing_words_makes_another_code_version(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signing_fingerprint()
    monkeypatch.setattr("definemed_pipeline.corpus.text.WORD_SEED", 2)
    signing_fingerprint.cache_clear()
    assert signing_fingerprint() != before
    monkeypatch.undo()
    signing_fingerprint.cache_clear()
    assert signing_fingerprint() == before
