import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.corpus.assembly import assemble, benchmark_leaks, merge
from definemed_pipeline.corpus.assembly.assemble import assemble_corpus
from definemed_pipeline.corpus.settings import (
    AnnotationSettings,
    DatasetCardSettings,
    FinemedDeSettings,
    MedicalDocumentsSettings,
)
from definemed_pipeline.corpus.shards import FINEWEB2_SCHEMA
from definemed_pipeline.errors import UserError
from definemed_pipeline_tests.conftest import REAL_TEXT, build_artifact
from definemed_pipeline_tests.corpus.assembly.test_decontaminate import LONG, questions_file
from definemed_pipeline_tests.corpus.assembly.test_deduplicate import edited, text
from definemed_pipeline_tests.corpus.shard_files import (
    collect,
    contents,
    documents,
    register,
    score_by_word,
    search,
    write_shard,
)

CARD = DatasetCardSettings(
    name="Beispiel", languages=("de",), license="odc-by", source="Aus dem Netz.", field="medicine", limits=("Nur ein Test.",)
)
SECTION = FinemedDeSettings(card=CARD, min_words=10, rows_per_file=3)
QUESTIONS = ({"id": "q", "question": LONG, "choices": []}, {"id": "unseen", "question": "Ganz anderes fragt hier niemand nach"})


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
        "twice": medical(6)[:-8],
        "nearquotes": medical(5),
        "clean3": medical(3),
    }
    return {name: documents(list(texts.values()), list(texts)) for name, texts in (("s0", first), ("s1", second))}


def annotated(store: Store, gold: Mapping[str, bool | None] | None = None) -> Manifest:
    """Build the artifact in which the annotator left the gold documents it found in the shards."""
    labels = gold or {}

    def write(draft: Draft[Any]) -> None:
        pl.DataFrame(
            {
                "id": ["a sampled one", *labels],
                "role": ["sample", *["gold"] * len(labels)],
                "gold_is_medical": [None, *labels.values()],
            },
            schema={"id": pl.String, "role": pl.String, "gold_is_medical": pl.Boolean},
        ).write_parquet(draft.folder / "annotations.parquet")

    return build_artifact(store, "annotations", write, AnnotationSettings(sample_size=1_000 + len(labels)))


def gathered(
    store: Store, folder: Path, frames: Mapping[str, pl.DataFrame] | None = None
) -> tuple[list[Manifest], dict[str, str]]:
    """Build everything a corpus is assembled from, and return it with the files of questions."""
    shards = register(store, *(write_shard(folder, name, frame) for name, frame in (frames or world()).items()))
    questions = {"benchmark/b": questions_file(folder, *QUESTIONS).location}
    segments = collect(store, shards, score_by_word(store, shards))
    return [*segments, *search(store, segments, questions)], questions


def assembled(
    store: Store,
    folder: Path,
    section: FinemedDeSettings = SECTION,
    gold: Mapping[str, bool | None] | None = None,
    **frames: pl.DataFrame,
) -> Manifest:
    inputs, questions = gathered(store, folder, frames)
    inputs.append(annotated(store, gold))
    return build_artifact(store, "finemed_de", assemble_corpus, section, inputs=inputs, sources=questions)


def corpus(store: Store, manifest: Manifest) -> pl.DataFrame:
    return pl.read_parquet(store.folder(manifest) / "data" / "*.parquet")


def test_every_document_is_counted_once_under_the_first_rule_that_applies(store: Store, tmp_path: Path) -> None:
    manifest = assembled(store, tmp_path)
    dropped = pl.read_parquet(store.folder(manifest) / "dropped.parquet")
    assert dropped.select("id", "shard", "row", "reason", "detail").rows() == [
        ("leak", "s0", 1, "benchmark_leak", "benchmark/b:q"),
        ("short", "s0", 5, "too_short", "2 words"),
        ("quotes", "s0", 7, "benchmark_leak", "benchmark/b:q"),
        ("copy1", "s1", 1, "exact_duplicate", "clean1"),
        ("near2", "s1", 2, "near_duplicate", "clean2"),
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
    excused = {"copy1": True, "near2": True, "leak": True, "clean3": None}
    metrics = assembled(store, tmp_path, gold=labels | excused).metrics
    assert (metrics["gold_documents"], metrics["gold_left_out"]) == (6, 4)
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
    assert pl.read_parquet(folder / "by_domain.parquet").rows() == [("example.de", 1, 5, table["words"].sum())]
    fates = dict(pl.read_parquet(folder / "by_fate.parquet").iter_rows())
    assert fates["kept"] == 5
    assert sum(fates.values()) == manifest.metrics["documents"]
    histogram = pl.read_parquet(folder / "probability_histogram.parquet")
    assert histogram.filter(pl.col("documents") > 0).rows() == [(0.9, 0.95, 5)]
    assert histogram.height == 20
    written = json.loads((store.folder(manifest) / "statistics.json").read_text())
    assert written["corpus"]["documents"] == written["counts"]["kept"] == 5
    assert written["corpus"]["words"] == manifest.metrics["words"] == table["words"].sum()


def test_hosts_are_added_up_to_their_registered_domains(store: Store, tmp_path: Path) -> None:
    urls = [
        "https://www.klinik.de/a",
        "http://blog.Klinik.de:8080/b?x",
        "https://nutzer@arzt.co.at/c",
        "https://praxis.arzt.co.at",
        "http://10.0.0.1/d",
    ]
    frame = documents([medical(seed) for seed in range(5)]).with_columns(url=pl.Series(urls))
    folder = store.folder(assembled(store, tmp_path, s=frame)) / "statistics"
    domains = pl.read_parquet(folder / "by_domain.parquet").select("domain", "hosts", "documents")
    assert domains.rows() == [("arzt.co.at", 2, 2), ("klinik.de", 2, 2), ("10.0.0.1", 1, 1)]
    hosts = {"klinik.de", "blog.klinik.de", "arzt.co.at", "praxis.arzt.co.at", "10.0.0.1"}
    assert set(pl.read_parquet(folder / "by_host.parquet")["host"]) == hosts


def test_documents_without_url_or_dump_are_counted_as_unknown(store: Store, tmp_path: Path) -> None:
    frame = documents([medical(1), medical(2)]).with_columns(url=pl.lit(None, pl.String), dump=pl.lit(None, pl.String))
    folder = store.folder(assembled(store, tmp_path, s=frame)) / "statistics"
    assert pl.read_parquet(folder / "by_dump.parquet")["dump"].to_list() == ["unknown"]
    assert pl.read_parquet(folder / "by_host.parquet")["host"].to_list() == ["unknown"]


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    stores = [Store(str(tmp_path / name)) for name in "ab"]
    first, second = (contents(store.folder(assembled(store, tmp_path / "web"))) for store in stores)
    assert first == second


def kill(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "step",
    ["best_first", "near_duplicates", "write_merged", "_write_dropped", "_write_leaks", "write_statistics", "write_dataset_card"],
)
def test_a_rerun_after_a_kill_writes_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    untouched, killed = Store(str(tmp_path / "a")), Store(str(tmp_path / "b"))
    expected = contents(untouched.folder(assembled(untouched, tmp_path / "web")))
    with monkeypatch.context() as patch:
        patch.setattr(assemble, step, kill)
        with pytest.raises(KeyboardInterrupt):
            assembled(killed, tmp_path / "web")
    assert contents(killed.folder(assembled(killed, tmp_path / "web"))) == expected


def test_a_resumed_decontamination_forgets_nothing_that_it_had_found_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer's run that was killed and resumed knew only the leaks it found after the resumption, and let the others through."""
    untouched, killed = Store(str(tmp_path / "a")), Store(str(tmp_path / "b"))
    monkeypatch.setattr("definemed_pipeline.corpus.assembly.segments.ROWS_PER_GROUP", 2)
    monkeypatch.setattr(benchmark_leaks, "GROUPS_AT_ONCE", 1)
    expected = assembled(untouched, tmp_path / "web")

    def die_after(calls: int) -> None:
        original, made = benchmark_leaks.word_hashes, 0

        def once_more(texts: pl.Series) -> Any:
            nonlocal made
            made += 1
            if made > calls:
                raise KeyboardInterrupt
            return original(texts)

        with monkeypatch.context() as patch:
            patch.setattr(benchmark_leaks, "word_hashes", once_more)
            with pytest.raises(KeyboardInterrupt):
                assembled(killed, tmp_path / "web")

    for calls in (0, 1, 2, 4, 2):  # in each of the three batches of s0, whose leaks stand in two of them, then in two of s1
        die_after(calls)
    with monkeypatch.context() as patch:
        patch.setattr(merge._Cursor, "take", kill)
        with pytest.raises(KeyboardInterrupt):
            assembled(killed, tmp_path / "web")
    resumed = assembled(killed, tmp_path / "web")
    assert contents(killed.folder(resumed)) == contents(untouched.folder(expected))
    assert resumed.metrics == expected.metrics
    assert resumed.metrics["dropped_benchmark_leak"] == 2


def test_documents_are_taken_to_the_corpus_whatever_shards_they_stand_in(tmp_path: Path) -> None:
    """One shard, several, or the same ones the other way round: the same rows, but for the name of the shard."""
    everything = pl.concat(world().values())
    divisions = {
        "one": {"all": everything},
        "several": {f"s{number}": everything[4 * number : 4 * number + 4] for number in range(4)},
        "turned": {f"s{number}": everything[::-1][3 * number : 3 * number + 3] for number in range(5)},
    }
    found = {
        name: corpus(store := Store(str(tmp_path / name)), assembled(store, tmp_path / f"web {name}", **frames)).drop("shard")
        for name, frames in divisions.items()
    }
    assert found["one"].equals(found["several"])
    assert found["one"].equals(found["turned"])


def test_the_files_are_merged_in_row_groups_from_many_segments(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merge, "ROWS_PER_GROUP", 4)
    monkeypatch.setattr("definemed_pipeline.corpus.assembly.segments.ROWS_PER_GROUP", 3)
    frames = {
        f"s{shard}": documents(
            [medical(100 * shard + row) for row in range(8)], [f"id{(7 * (8 * shard + row)) % 24:02}" for row in range(8)]
        )
        for shard in range(3)
    }
    section = FinemedDeSettings(card=CARD, min_words=10, rows_per_file=10)
    manifest = assembled(store, tmp_path, section, **frames)
    files = sorted((store.folder(manifest) / "data").iterdir())
    groups = [
        [pq.read_metadata(file).row_group(n).num_rows for n in range(pq.read_metadata(file).num_row_groups)] for file in files
    ]
    assert groups == [[4, 4, 2], [4, 4, 2], [4]]
    assert corpus(store, manifest).select("id", "text").equals(pl.concat(frames.values()).sort("id").select("id", "text"))


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


def test_segments_signed_in_two_ways_are_refused(store: Store, tmp_path: Path) -> None:
    inputs, questions = gathered(store, tmp_path)
    shards = register(store, *(write_shard(tmp_path, name, frame) for name, frame in world().items()))
    (other,) = collect(store, shards[1:], score_by_word(store, shards[1:]), MedicalDocumentsSettings(seed=1))
    leaks = search(store, [inputs[0], other], questions)
    with pytest.raises(
        UserError, match=r"medical_documents: 1 shards \(s.\) were made with other settings or libraries .* materialize"
    ):
        build_artifact(
            store, "finemed_de", assemble_corpus, SECTION, inputs=[inputs[0], other, *leaks, annotated(store)], sources=questions
        )


def test_leaks_of_other_questions_than_the_recipe_names_are_refused(store: Store, tmp_path: Path) -> None:
    inputs, _ = gathered(store, tmp_path)
    newer = {"benchmark/b": questions_file(tmp_path, *QUESTIONS, {"id": "new", "question": LONG[::-1]}, name="newer").location}
    with pytest.raises(UserError, match=r"benchmark_leaks: 2 shards \(s0, s1\) were made for other questions"):
        build_artifact(store, "finemed_de", assemble_corpus, SECTION, inputs=[*inputs, annotated(store)], sources=newer)


def test_leaks_of_documents_that_were_collected_anew_since_are_refused(store: Store, tmp_path: Path) -> None:
    (first, second, *leaks), questions = gathered(store, tmp_path)
    shards = register(store, *(write_shard(tmp_path, name, frame) for name, frame in world().items()))
    segments = collect(store, shards, score_by_word(store, shards), MedicalDocumentsSettings(seed=1))
    assert [one.partition for one in segments] == [first.partition, second.partition]
    with pytest.raises(UserError, match=r"benchmark_leaks: 2 shards .* were made from other documents"):
        build_artifact(
            store, "finemed_de", assemble_corpus, SECTION, inputs=[*segments, *leaks, annotated(store)], sources=questions
        )


def test_documents_taken_by_another_classifier_are_refused(store: Store, tmp_path: Path) -> None:
    inputs, questions = gathered(store, tmp_path)
    classifier = build_artifact(
        store, "medical_classifier", lambda draft: draft.write_json("classifier.json", {}), AnnotationSettings()
    )
    with pytest.raises(UserError, match=r"classifier_scores: 2 shards .* were made by another classifier"):
        build_artifact(
            store, "finemed_de", assemble_corpus, SECTION, inputs=[*inputs, annotated(store), classifier], sources=questions
        )


@pytest.mark.real_text
def test_real_text_goes_through_with_counts_that_add_up(store: Store) -> None:
    shards = register(store, str(REAL_TEXT / "0*.parquet"))
    segments = collect(store, shards, score_by_word(store, shards, "krank"))
    gold = dict(pl.read_parquet(REAL_TEXT / "labels.parquet", columns=["id", "is_medical"]).iter_rows())
    manifest = build_artifact(
        store,
        "finemed_de",
        assemble_corpus,
        FinemedDeSettings(card=CARD),
        inputs=[*segments, *search(store, segments, {}), annotated(store, gold)],
    )
    metrics = manifest.metrics
    assert metrics["documents"] == 618
    assert metrics["kept"] == manifest.metrics["documents"] - metrics["not_medical"] - sum(
        count for name, count in metrics.items() if name.startswith("dropped_")
    )
    assert corpus(store, manifest)["id"].is_sorted()
