import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.corpus import parquet
from definemed_pipeline.corpus.agreement import agreement
from definemed_pipeline.corpus.annotation.annotations import SCHEMA, annotate, annotator_sources
from definemed_pipeline.corpus.annotation.chat_settings import ChatAnnotator
from definemed_pipeline.corpus.annotation.lexicon import lexicon_location, read_lexicon
from definemed_pipeline.corpus.settings import AnnotationSettings
from definemed_pipeline.corpus.shards import FINEWEB2_SCHEMA
from definemed_pipeline.errors import UserError
from definemed_pipeline_tests.chat.endpoint import Endpoint, Reply, completion, running_endpoint
from definemed_pipeline_tests.conftest import REAL_TEXT, build_artifact
from definemed_pipeline_tests.corpus.shard_files import contents, documents, list_frames, register, write_shard

MEDICAL = "Diagnose Pneumonie: Fieber und Husten, Therapie mit Antibiotika, Befund im Röntgen"
OTHER = "Die Brücke über den Fluss wurde am Sonntag feierlich eröffnet"


def web(size: int, first: int = 0) -> pl.DataFrame:
    """Return documents of which every fifth is medical."""
    numbers = range(first, first + size)
    texts = [f"{MEDICAL if number % 5 == 0 else OTHER} {number}" for number in numbers]
    return documents(texts, ids=[f"id{number}" for number in numbers])


def build(store: Store, shards: list[Manifest], section: AnnotationSettings, gold: str | None = None, **how: Any) -> Manifest:
    sources = {**annotator_sources(section.annotator), **({"gold": gold} if gold else {})}
    return build_artifact(
        store, "annotations", annotate, section, inputs=[*shards, *list_frames(store, shards)], sources=sources, **how
    )


def annotated(store: Store, shards: list[Manifest], gold: str | None = None, **section: Any) -> Manifest:
    return build(store, shards, AnnotationSettings(**{"hold_out_size": 0, "unlabelled_size": 0, **section}), gold)


def table(store: Store, manifest: Manifest, name: str = "annotations") -> pl.DataFrame:
    return pl.read_parquet(store.folder(manifest) / f"{name}.parquet")


def gold_file(folder: Path, labels: dict[str, bool | None]) -> str:
    path = folder / "gold.parquet"
    schema = {"id": pl.String, "is_medical": pl.Boolean}
    pl.DataFrame(list(labels.items()), schema=schema, orient="row").write_parquet(path)
    return str(path)


def test_annotations_carry_the_documents_their_role_stratum_weight_and_labels(store: Store, tmp_path: Path) -> None:
    shards = register(
        store,
        *(
            write_shard(
                tmp_path, name, documents([MEDICAL, OTHER, None, f"{OTHER} {name}"], ids=[f"{name}{i}" for i in range(4)])
            )
            for name in "xy"
        ),
    )
    gold = gold_file(tmp_path, {"x0": True, "x1": True, "y0": None, "x2": True, "elsewhere": False})
    manifest = annotated(store, shards, gold, sample_size=10)
    found = table(store, manifest)
    assert found.schema == SCHEMA
    assert found.columns == [
        *FINEWEB2_SCHEMA, "role", "stratum", "inclusion_weight", "annotator_score", "is_medical", "gold_is_medical",
    ]  # fmt: skip
    high, none = "CC-MAIN-2024-10/high", "CC-MAIN-2024-10/none"
    # y1 repeats the text of x1, a gold document, so it is not sampled; x2 has no text
    assert found.select("id", "role", "stratum", "inclusion_weight", "is_medical", "gold_is_medical").rows() == [
        ("x0", "gold", high, None, True, True),
        ("x1", "gold", none, None, False, True),
        ("x3", "sample", none, 1.0, False, None),
        ("y0", "gold", high, None, True, None),
        ("y3", "sample", none, 1.0, False, None),
    ]
    assert manifest.metrics["gold_not_in_shards"] == 2
    assert (found["url"].null_count(), found["text"].null_count()) == (0, 0)


def test_documents_stand_in_the_order_of_shard_and_row_whatever_groups_they_are_read_in(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "ROWS_PER_GROUP", 16)
    shards = register(store, *(write_shard(tmp_path, f"s{i}", web(40, 40 * i), rows_per_group=6) for i in range(3)))
    manifest = annotated(store, shards, sample_size=60, hold_out_size=20, unlabelled_size=25)
    labelled, unlabelled = table(store, manifest), table(store, manifest, "unlabelled")
    for found in (labelled, unlabelled):
        numbers = found["id"].str.strip_prefix("id").cast(pl.Int64)
        assert numbers.is_sorted()
    assert labelled["role"].value_counts().sort("role").rows() == [("hold_out", 20), ("sample", 60)]
    assert (unlabelled.height, unlabelled.columns) == (25, list(FINEWEB2_SCHEMA))
    assert not set(labelled["id"]) & set(unlabelled["id"])
    everyone = pl.concat(web(40, 40 * i) for i in range(3))
    both = pl.concat([labelled.select(*FINEWEB2_SCHEMA), unlabelled])
    assert both.sort("id").equals(everyone.join(both.select("id"), on="id").sort("id"))


def test_only_the_row_groups_that_hold_a_drawn_document_are_read(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = register(store, write_shard(tmp_path, "s", web(100), rows_per_group=1))
    section = AnnotationSettings(sample_size=8, hold_out_size=0, unlabelled_size=0)
    frames = list_frames(store, shards)
    read: list[int] = []
    import pyarrow.parquet as pq

    original = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile, "read_row_group", lambda self, group, **how: (read.append(group), original(self, group, **how))[1]
    )
    sources = {"lexicon": lexicon_location("de_medical")}
    manifest = build_artifact(store, "annotations", annotate, section, inputs=[*shards, *frames], sources=sources)
    rows = table(store, manifest)["id"].str.strip_prefix("id").cast(pl.Int64).to_list()
    assert sorted(set(read)) == sorted({*rows, 0})  # 0: the only row group of the labelled documents


def test_weights_stand_for_the_web_that_each_sample_was_drawn_from(store: Store, tmp_path: Path) -> None:
    shards = register(store, *(write_shard(tmp_path, f"s{i}", web(100, 100 * i)) for i in range(2)))
    manifest = annotated(store, shards, sample_size=40, hold_out_size=25, unlabelled_size=35)
    found = table(store, manifest)
    sums = dict(found.group_by("role").agg(pl.sum("inclusion_weight")).iter_rows())
    assert sums == {"sample": pytest.approx(140), "hold_out": pytest.approx(200)}
    assert found.filter(role="hold_out")["inclusion_weight"].unique().to_list() == [8.0]
    sample = found.filter(role="sample")
    drawn = web(200).filter(
        ~pl.col("id").is_in(
            pl.concat([found.filter(role="hold_out")["id"], table(store, manifest, "unlabelled")["id"]]).implode()
        )
    )
    assert sample.filter("is_medical")["inclusion_weight"].sum() == pytest.approx(drawn["text"].str.starts_with(MEDICAL).sum())


def test_the_annotator_is_measured_on_decided_gold_documents(store: Store, tmp_path: Path) -> None:
    (shard,) = register(store, write_shard(tmp_path, "s", web(50)))
    gold = gold_file(tmp_path, {"id0": True, "id5": True, "id10": False, "id1": True, "id2": False, "id3": None, "none": True})
    manifest = annotated(store, [shard], gold, sample_size=20)
    wanted = {"sample_documents": 20, "gold_documents": 6, "gold_undecided": 1, "gold_not_in_shards": 1}
    assert wanted.items() <= manifest.metrics.items()
    assert (manifest.metrics["precision"], manifest.metrics["recall"]) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    written = json.loads((store.folder(manifest) / "agreement.json").read_text())
    assert (written["kappa"], written["f1"]) == (manifest.metrics["kappa"], manifest.metrics["f1"])
    assert not {"id0", "id5", "id10", "id1", "id2", "id3"} & set(table(store, manifest).filter(pl.col("role") != "gold")["id"])


def test_without_gold_labels_nothing_is_claimed_about_the_annotator(store: Store, tmp_path: Path) -> None:
    (shard,) = register(store, write_shard(tmp_path, "s", web(50)))
    assert "precision" not in annotated(store, [shard], sample_size=10).metrics


def test_prevalence_is_estimated_on_the_hold_out_alone(store: Store, tmp_path: Path) -> None:
    shards = register(store, write_shard(tmp_path, "s", web(300)))
    manifest = annotated(store, shards, sample_size=40, hold_out_size=100)
    held_out = table(store, manifest).filter(role="hold_out")
    assert manifest.metrics["prevalence"] == held_out["is_medical"].mean()
    assert manifest.metrics["prevalence_low"] < 0.2 < manifest.metrics["prevalence_high"]
    assert annotated(store, shards, sample_size=40).metrics["prevalence"] is None


def test_per_score_bin_it_is_told_how_many_were_sampled_of_how_many_and_how_many_are_positive(
    store: Store, tmp_path: Path
) -> None:
    manifest = annotated(store, register(store, write_shard(tmp_path, "s", web(100))), sample_size=50)
    assert manifest.metrics["score_bins"] == [
        {"score_bin": "none", "strata": 1, "population": 80, "documents": 30, "positives": 0},
        {"score_bin": "high", "strata": 1, "population": 20, "documents": 20, "positives": 20},
    ]


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    file = write_shard(tmp_path, "s", web(50))
    stores = [Store(str(tmp_path / name)) for name in "ab"]
    first, second = (
        contents(store.folder(annotated(store, register(store, file), sample_size=10, hold_out_size=5, unlabelled_size=5)))
        for store in stores
    )
    assert first == second
    assert set(first) == {"annotations.parquet", "unlabelled.parquet", "agreement.json"}


def test_shards_without_a_text_to_sample_are_refused_with_the_cure(store: Store, tmp_path: Path) -> None:
    shards = register(store, write_shard(tmp_path, "s", documents([None, " "])))
    with pytest.raises(UserError, match="no document is left to sample: the shards hold 0 documents"):
        annotated(store, shards, sample_size=10)


def test_purely_random_samples_that_leave_nothing_are_refused_with_the_cure(store: Store, tmp_path: Path) -> None:
    shards = register(store, write_shard(tmp_path, "s", web(30)))
    with pytest.raises(
        UserError, match=r"hold 30 documents .*hold_out_size 20 and unlabelled_size 10 are drawn first; .*lower these"
    ):
        annotated(store, shards, sample_size=10, hold_out_size=20, unlabelled_size=10)


@pytest.mark.parametrize("changed", [web(30, first=500), web(29)], ids=["other documents", "the last one gone"])
def test_frames_of_another_version_of_a_shard_are_refused(store: Store, tmp_path: Path, changed: pl.DataFrame) -> None:
    old = list_frames(store, register(store, write_shard(tmp_path, "s", web(30))))
    new = register(store, write_shard(tmp_path, "s", changed))
    sources = {"lexicon": lexicon_location("de_medical")}
    section = AnnotationSettings(sample_size=30, hold_out_size=0, unlabelled_size=0)
    with pytest.raises(UserError, match=r"sampling_frames\[s\] was made from another version of shard s: materialize it again"):
        build_artifact(store, "annotations", annotate, section, inputs=[*new, *old], sources=sources)


def test_frames_made_with_different_settings_are_refused(store: Store, tmp_path: Path) -> None:
    first, second = register(store, *(write_shard(tmp_path, name, web(10, ord(name))) for name in "ab"))
    frames = [*list_frames(store, [first]), *list_frames(store, [second], seed=1)]
    sources = {"lexicon": lexicon_location("de_medical")}
    with pytest.raises(
        UserError, match=r"sampling_frames\[b\] was made with other settings or another lexicon than sampling_frames\[a\]"
    ):
        build_artifact(store, "annotations", annotate, AnnotationSettings(), inputs=[first, second, *frames], sources=sources)


@pytest.mark.real_text
def test_the_lexicon_finds_medicine_in_real_text(record_property: Callable[[str, object], None]) -> None:
    web = (
        pl.read_parquet(REAL_TEXT / "0*.parquet")
        .join(pl.read_parquet(REAL_TEXT / "labels.parquet"), on="id")
        .drop_nulls("is_medical")
    )
    scores = read_lexicon(lexicon_location("de_medical")).score(web["text"])
    figures = agreement(web["is_medical"], scores >= AnnotationSettings().annotator.threshold)
    record_property("annotator", figures)
    assert figures["precision"] is not None
    assert figures["precision"] >= 0.90
    assert figures["recall"] is not None
    assert figures["recall"] >= 0.80


def opinion(question: str) -> Reply:
    """What a model says: it knows therapy from games, and leaves open what is neither."""
    verdict = "ja" if "Therapie" in question else "nein" if "Spiel" in question else "Das kommt darauf an."
    return completion(verdict, prompt_tokens=100, completion_tokens=2)


def chat_annotated(store: Store, shards: list[Manifest], endpoint: Endpoint, size: int, **how: Any) -> Manifest:
    prices = {"price_per_million_prompt_tokens": 2.0, "price_per_million_completion_tokens": 10.0}
    annotator = ChatAnnotator(endpoint=endpoint.settings(**prices))
    section = AnnotationSettings(annotator=annotator, sample_size=size, hold_out_size=0, unlabelled_size=0)
    return build(store, shards, section, **how)


def test_a_chat_model_annotates_and_those_with_a_verdict_stand_for_those_without(store: Store, tmp_path: Path) -> None:
    """The chat annotator inside the asset's work function, against a real server; documents without a verdict train nothing."""
    frame = documents([f"{word} {number}" for number in range(4) for word in ("Therapie", "Spiel", "Weder noch")])
    shards = register(store, write_shard(tmp_path, "000_00000", frame))
    with running_endpoint(opinion) as endpoint:
        manifest = chat_annotated(store, shards, endpoint, 12)
    found = table(store, manifest)
    assert found["is_medical"].to_list().count(True) == found["is_medical"].to_list().count(False) == 4
    wanted = {"without_verdict": 4, "unparseable": 4, "requests": 12, "prompt_tokens": 1200, "completion_tokens": 24}
    assert wanted.items() <= manifest.metrics.items()
    assert manifest.metrics["cost"] == pytest.approx((1200 * 2 + 24 * 10) / 1e6)
    assert found["inclusion_weight"].sum() == pytest.approx(12)


def test_a_forced_rebuild_and_a_larger_sample_ask_only_what_was_not_asked_before(store: Store, tmp_path: Path) -> None:
    frame = documents([f"{word} {number}" for number in range(15) for word in ("Therapie", "Spiel")])
    shards = register(store, write_shard(tmp_path, "s", frame))
    with running_endpoint(opinion) as endpoint:
        small = chat_annotated(store, shards, endpoint, 10)
        assert len(endpoint.questions) == 10
        again = chat_annotated(store, shards, endpoint, 10, force=True)
        assert (len(endpoint.questions), again.metrics["cached"]) == (10, 10)
        assert again.digest == small.digest
        chat_annotated(store, shards, endpoint, 20)
        assert len(endpoint.questions) == 20


def test_an_endpoint_that_goes_away_keeps_what_was_answered_for_the_next_try(store: Store, tmp_path: Path) -> None:
    shards = register(store, write_shard(tmp_path, "s", documents([f"Therapie {number}" for number in range(20)])))
    with running_endpoint(opinion) as endpoint:
        endpoint.first(*([opinion("Therapie")] * 8), then=lambda _: Reply(status=503))
        with pytest.raises(ConnectionError, match="was given up: HTTP 503"):
            chat_annotated(store, shards, endpoint, 20)
        assert not store.filesystem.exists(f"{store.url}/annotations")
        endpoint.reply = opinion
        manifest = chat_annotated(store, shards, endpoint, 20)
    assert manifest.metrics["cached"] == 8
    assert table(store, manifest).height == 20
