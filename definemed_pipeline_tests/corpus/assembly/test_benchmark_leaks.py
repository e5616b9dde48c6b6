from pathlib import Path

import polars as pl
import pytest

from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.corpus.assembly import benchmark_leaks
from definemed_pipeline.errors import UserError
from definemed_pipeline_tests.corpus.assembly.test_decontaminate import LONG, SHORT, questions_file
from definemed_pipeline_tests.corpus.shard_files import (
    collect,
    contents,
    documents,
    register,
    score_by_word,
    search,
    write_shard,
)

TEXTS = ["Medizin ohne Frage", f"Medizin: {LONG.upper()}!", "Die Brücke", f"Medizin. {LONG} {SHORT.replace('Ü', 'Ue')}"]


def segments(store: Store, folder: Path, texts: list[str] = TEXTS) -> list[Manifest]:
    shards = register(store, write_shard(folder, "s", documents(texts, [f"id{9 - number}" for number in range(len(texts))])))
    return collect(store, shards, score_by_word(store, shards))


def two_sets(folder: Path) -> dict[str, str]:
    asked = {
        "benchmark/b": {"id": "1", "question": LONG},
        "instructions/i": {"id": "1", "instruction": SHORT, "reference": "Oben"},
    }
    return {name: questions_file(folder, record, name=name).location for name, record in asked.items()}


def test_each_pair_of_document_and_question_is_a_row_with_the_place_in_the_segment(store: Store, tmp_path: Path) -> None:
    (leaks,) = search(store, segments(store, tmp_path), two_sets(tmp_path))
    assert pl.read_parquet(store.folder(leaks) / "leaks.parquet").rows() == [
        (0, "id6", "benchmark/b", "1"),
        (0, "id6", "instructions/i", "1"),
        (1, "id8", "benchmark/b", "1"),
    ]
    assert pl.read_parquet(store.folder(leaks) / "questions.parquet").rows() == [("benchmark/b", "1"), ("instructions/i", "1")]
    assert {name: leaks.metrics[name] for name in ("documents", "leaking_documents", "questions", "questions_leaked")} == {
        "documents": 3,
        "leaking_documents": 2,
        "questions": 2,
        "questions_leaked": 2,
    }


def test_how_many_documents_are_read_at_once_makes_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    monkeypatch.setattr("definemed_pipeline.corpus.assembly.segments.ROWS_PER_GROUP", 1)
    for size in (1, 2, 8):
        monkeypatch.setattr(benchmark_leaks, "GROUPS_AT_ONCE", size)
        store = Store(str(tmp_path / f"lake {size}"))
        (leaks,) = search(store, segments(store, tmp_path), two_sets(tmp_path))
        found.append(contents(store.folder(leaks)))
    assert found[0] == found[1] == found[2]


def test_a_new_benchmark_searches_again_and_leaves_the_documents_alone(store: Store, tmp_path: Path) -> None:
    collected = segments(store, tmp_path)
    (before,) = search(store, collected, two_sets(tmp_path))
    newer = {"benchmark/new": questions_file(tmp_path, {"id": "n", "question": "Medizin ohne Frage und ohne Antwort"}).location}
    (after,) = search(store, segments(store, tmp_path), {**two_sets(tmp_path), **newer})
    assert before.version != after.version
    assert [one.version for one in segments(store, tmp_path)] == [one.version for one in collected]


@pytest.mark.parametrize("texts", [[], ["Die Brücke"]])
def test_a_segment_without_documents_has_no_leaks(store: Store, tmp_path: Path, texts: list[str]) -> None:
    (leaks,) = search(store, segments(store, tmp_path, texts), two_sets(tmp_path))
    assert pl.read_parquet(store.folder(leaks) / "leaks.parquet").is_empty()
    assert leaks.metrics["questions"] == 2


def test_a_broken_file_of_questions_is_told_with_its_line(store: Store, tmp_path: Path) -> None:
    (tmp_path / "broken.jsonl").write_text('{"id": "1", "question": "Was?"}\n{"id": "2"}\n')
    with pytest.raises(UserError, match=r"benchmark/x: line 2 of .*broken\.jsonl does not fit"):
        search(store, segments(store, tmp_path), {"benchmark/x": str(tmp_path / "broken.jsonl")})
