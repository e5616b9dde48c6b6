import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.corpus import assemble
from definemed_pipeline.corpus.assemble import assemble_corpus
from definemed_pipeline.corpus.settings import FinemedDeSettings
from definemed_pipeline.corpus.shards import FINEWEB2_SCHEMA
from definemed_pipeline.errors import UserError
from definemed_pipeline_tests.conftest import REAL_TEXT, build_artifact
from definemed_pipeline_tests.corpus.shard_files import contents, documents, register, score_by_word, write_shard
from definemed_pipeline_tests.corpus.test_annotations import gold_file
from definemed_pipeline_tests.corpus.test_decontaminate import LONG, questions_file
from definemed_pipeline_tests.corpus.test_deduplicate import edited, text

SECTION = FinemedDeSettings(min_words=10, decontamination_ngram=8, rows_per_file=3)


def medical(seed: int) -> str:
    return f"Medizin {text(seed, 60)}"


def world() -> dict[str, pl.DataFrame]:
    """Two shards in which every rule has something to drop."""
    leak = f"Medizin Altklausur {LONG} {text(9, 30)}"
    first = {
        "clean1": medical(1),
        "leak": leak,
        "other1": "Die Brücke wurde eröffnet",
        "null": None,
        "empty": "",
        "short": "Medizin kurz",
        "twice": medical(4),
        "quotes": f"{medical(5)} {LONG}",
    }
    second = {
        "clean2": medical(2),
        "copy1": medical(1).upper(),
        "near2": edited(medical(2), 30),
        "twice": medical(6),
        "nearquotes": medical(5),
        "clean3": medical(3),
    }
    return {name: documents(list(texts.values()), list(texts)) for name, texts in (("s0", first), ("s1", second))}


def assembled(
    store: Store,
    folder: Path,
    section: FinemedDeSettings = SECTION,
    sources: Mapping[str, str] | None = None,
    **frames: pl.DataFrame,
) -> Manifest:
    shards = register(store, *(write_shard(folder, name, frame) for name, frame in (frames or world()).items()))
    questions = questions_file(
        folder, {"id": "q", "question": LONG, "choices": []}, {"id": "unseen", "question": "Ganz anderes fragt hier niemand nach"}
    )
    return build_artifact(
        store,
        "finemed_de",
        assemble_corpus,
        section,
        inputs=[*shards, *score_by_word(store, shards)],
        sources={"benchmark/b": questions.location, **(sources or {})},
    )


def corpus(store: Store, manifest: Manifest) -> pl.DataFrame:
    return pl.read_parquet(store.folder(manifest) / "data" / "*.parquet")


def test_every_document_is_counted_once_under_the_first_rule_that_applies(store: Store, tmp_path: Path) -> None:
    manifest = assembled(store, tmp_path)
    dropped = pl.read_parquet(store.folder(manifest) / "dropped.parquet")
    assert dropped.select("id", "shard", "row", "reason", "detail").rows() == [
        ("copy1", "s1", 1, "exact_duplicate", "clean1"),
        ("leak", "s0", 1, "benchmark_leak", "benchmark/b:q"),
        ("near2", "s1", 2, "near_duplicate", "clean2"),
        ("quotes", "s0", 7, "benchmark_leak", "benchmark/b:q"),
        ("short", "s0", 5, "too_short", "2 words"),
        ("twice", "s1", 3, "duplicate_id", "s0 row 6"),
    ]
    assert {
        name: manifest.metrics[name]
        for name in manifest.metrics
        if name in ("documents", "not_medical", "kept") or "dropped" in name
    } == {
        "documents": 14,
        "not_medical": 3,
        "dropped_too_short": 1,
        "dropped_duplicate_id": 1,
        "dropped_benchmark_leak": 2,
        "dropped_exact_duplicate": 1,
        "dropped_near_duplicate": 1,
        "kept": 5,
    }


def test_a_clean_document_is_not_lost_to_a_near_duplicate_that_leaks(store: Store, tmp_path: Path) -> None:
    assert "nearquotes" in corpus(store, assembled(store, tmp_path))["id"]


def test_the_corpus_is_sorted_and_keeps_fineweb2_s_columns_beside_ours(store: Store, tmp_path: Path) -> None:
    manifest = assembled(store, tmp_path)
    table = corpus(store, manifest)
    assert table["id"].to_list() == ["clean1", "clean2", "clean3", "nearquotes", "twice"]
    assert table.columns == [*FINEWEB2_SCHEMA, "medical_probability", "decided_by", "shard", "words"]
    sources = pl.concat(world().values())
    assert (
        table.drop("medical_probability", "decided_by", "shard", "words")
        .drop("text")
        .equals(sources.filter(pl.col("id").is_in(table["id"].implode())).unique("id", keep="first").sort("id").drop("text"))
    )
    assert table["words"].to_list() == table["text"].str.split(" ").list.len().to_list()
    files = sorted(path.name for path in (store.folder(manifest) / "data").iterdir())
    assert files == ["finemed_de-00000-of-00002.parquet", "finemed_de-00001-of-00002.parquet"]


def test_a_further_column_of_one_shard_is_kept_and_null_for_the_others(store: Store, tmp_path: Path) -> None:
    frames = world()
    frames["s1"] = frames["s1"].with_columns(wordlist_ratio=pl.lit(0.25))
    table = corpus(store, assembled(store, tmp_path, **frames))
    assert dict(table.select("id", "wordlist_ratio").iter_rows()) == {
        "clean1": None,
        "clean2": 0.25,
        "clean3": 0.25,
        "nearquotes": 0.25,
        "twice": None,
    }


def test_every_question_is_reported_with_the_documents_that_leak_it(store: Store, tmp_path: Path) -> None:
    manifest = assembled(store, tmp_path)
    table = pl.read_parquet(store.folder(manifest) / "leaks.parquet")
    assert table.rows() == [("benchmark/b", "q", 2, ["leak", "quotes"]), ("benchmark/b", "unseen", 0, None)]
    assert manifest.metrics["questions_leaked"] == 1


def test_gold_judges_the_corpus_without_copies_and_leaks(store: Store, tmp_path: Path) -> None:
    labels = {"clean1": True, "clean2": False, "short": True, "other1": False, "null": False, "empty": True}
    excused = {"copy1": True, "near2": True, "leak": True, "clean3": None, "not in any shard": True}
    metrics = assembled(store, tmp_path, sources={"gold": gold_file(tmp_path, labels | excused)}).metrics
    assert (metrics["gold_documents"], metrics["gold_left_out"]) == (6, 5)
    assert (metrics["true_positives"], metrics["false_positives"], metrics["false_negatives"], metrics["true_negatives"]) == (
        1,
        1,
        2,
        2,
    )
    assert metrics["recall"] == pytest.approx(1 / 3)
    assert metrics["recall_low"] < metrics["recall"] < metrics["recall_high"]


def test_statistics_agree_with_the_corpus(store: Store, tmp_path: Path) -> None:
    manifest = assembled(store, tmp_path)
    folder, table = store.folder(manifest) / "statistics", corpus(store, manifest)
    assert pl.read_parquet(folder / "by_dump.parquet").rows() == [("CC-MAIN-2024-10", 5, table["words"].sum())]
    assert pl.read_parquet(folder / "by_host.parquet").rows() == [("example.de", 5, table["words"].sum())]
    histogram = pl.read_parquet(folder / "probability_histogram.parquet")
    assert histogram.filter(pl.col("documents") > 0).rows() == [(0.9, 0.95, 5)]
    assert histogram.height == 20
    written = json.loads((store.folder(manifest) / "statistics.json").read_text())
    assert written["corpus"]["documents"] == written["counts"]["kept"] == 5
    assert written["corpus"]["words"] == manifest.metrics["words"] == table["words"].sum()


def test_documents_without_url_or_dump_are_counted_as_unknown(store: Store, tmp_path: Path) -> None:
    frame = documents([medical(1), medical(2)]).with_columns(url=pl.lit(None, pl.String), dump=pl.lit(None, pl.String))
    folder = store.folder(assembled(store, tmp_path, s=frame)) / "statistics"
    assert pl.read_parquet(folder / "by_dump.parquet")["dump"].to_list() == ["unknown"]
    assert pl.read_parquet(folder / "by_host.parquet")["host"].to_list() == ["unknown"]


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    stores = [Store(str(tmp_path / name)) for name in "ab"]
    first, second = (contents(store.folder(assembled(store, tmp_path / "web"))) for store in stores)
    assert first == second


def test_a_rerun_after_a_kill_writes_the_same_bytes_and_still_finds_the_leaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    untouched, killed = Store(str(tmp_path / "a")), Store(str(tmp_path / "b"))
    expected = contents(untouched.folder(assembled(untouched, tmp_path / "web")))

    def kill(*_: Any) -> None:
        raise KeyboardInterrupt

    for step in ("find_duplicates", "_write_data", "write_statistics"):
        with monkeypatch.context() as patch:
            patch.setattr(assemble, step, kill)
            with pytest.raises(KeyboardInterrupt):
                assembled(killed, tmp_path / "web")
    assert contents(killed.folder(assembled(killed, tmp_path / "web"))) == expected


def test_a_shard_taken_whole_is_not_read_again_after_a_kill(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: dict[str, float] = {}

    def look(draft: Draft[Any], *_: Any) -> None:
        kept.update({path.name: path.stat().st_mtime_ns for path in (draft.checkpoints / "taken").iterdir()})
        raise KeyboardInterrupt

    monkeypatch.setattr(assemble, "_count", lambda *arguments: look(arguments[-1]))
    seen = []
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            assembled(store, tmp_path)
        seen.append(dict(kept))
    assert seen[0] == seen[1]
    assert seen[0].keys() == {"s0.parquet", "s1.parquet"}


@pytest.mark.parametrize("texts", [[], [None, ""], ["Die Brücke"], ["Medizin kurz"]])
def test_a_corpus_of_nothing_is_refused_and_says_where_the_documents_went(
    store: Store, tmp_path: Path, texts: list[str | None]
) -> None:
    with pytest.raises(
        UserError, match=rf"no document is left for finemed_de: of {len(texts)} documents went not_medical .*too_short"
    ):
        assembled(store, tmp_path, s=documents(texts))


def test_an_empty_shard_beside_full_ones_changes_nothing(store: Store, tmp_path: Path) -> None:
    assert assembled(store, tmp_path, **world(), s2=documents([])).metrics["kept"] == 5


def test_scores_of_another_shard_are_noticed(store: Store, tmp_path: Path) -> None:
    first, second = register(store, *(write_shard(tmp_path, name, frame) for name, frame in world().items()))
    (scores,) = score_by_word(store, [first])
    strange = build_artifact(
        store,
        "classifier_scores",
        lambda draft: pl.read_parquet(store.folder(scores) / "scores.parquet").write_parquet(draft.folder / "scores.parquet"),
        SECTION,
        partition=second.partition,
        inputs=[second],
    )
    with pytest.raises(ValueError, match="does not score shard s1"):
        build_artifact(store, "finemed_de", assemble_corpus, SECTION, inputs=[first, second, scores, strange])


@pytest.mark.real_text
def test_real_text_goes_through_with_counts_that_add_up(store: Store) -> None:
    shards = register(store, str(REAL_TEXT / "0*.parquet"))
    scores = score_by_word(store, shards, "krank")
    manifest = build_artifact(
        store,
        "finemed_de",
        assemble_corpus,
        FinemedDeSettings(),
        inputs=[*shards, *scores],
        sources={"gold": str(REAL_TEXT / "labels.parquet")},
    )
    metrics = manifest.metrics
    assert metrics["documents"] == 618
    assert metrics["kept"] == manifest.metrics["documents"] - metrics["not_medical"] - sum(
        count for name, count in metrics.items() if name.startswith("dropped_")
    )
    assert corpus(store, manifest)["id"].is_sorted()
