import dataclasses
import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.corpus.agreement import agreement
from definemed_pipeline.corpus.annotations import annotate
from definemed_pipeline.corpus.classifier_settings import ClassifierScoresSettings, LinearSettings, MedicalClassifierSettings
from definemed_pipeline.corpus.lexicon import lexicon_location
from definemed_pipeline.corpus.score import score_shard
from definemed_pipeline.corpus.settings import AnnotationSettings
from definemed_pipeline.corpus.train_classifier import average_precision, split, train_classifier
from definemed_pipeline.errors import UserError
from definemed_pipeline_tests.conftest import REAL_TEXT, build_artifact, identity_of
from definemed_pipeline_tests.corpus.classifier_world import MICRO, annotated, checkpoints, kill_when, start_payload, trained
from definemed_pipeline_tests.corpus.shard_files import contents, list_frames, register

# About 37 documents of the shard are positive for the lexicon, a dozen of them held out. Held-out precision is against its labels, and
# borderline documents, which people left undecided and the lexicon rejects, count as false there: hence a target below the aim.
REAL = MedicalClassifierSettings(epochs=6, learning_rate=1e-3, max_tokens=192, held_out_share=0.3, target_precision=0.8)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Manifest]:
    store = Store(str(tmp_path_factory.mktemp("classifier") / "lake"))
    return store, trained(store)


def test_it_finds_medicine_among_held_out_and_gold_documents(lake: tuple[Store, Manifest]) -> None:
    _, classifier = lake
    metrics = classifier.metrics
    assert metrics["target_precision_reached"]
    assert metrics["precision_low"] < metrics["precision"] <= metrics["precision_high"]
    assert min(metrics["recall"], metrics["gold_precision"], metrics["gold_recall"]) > 0.9
    assert metrics["training_positives"] + metrics["held_out_positives"] == 60
    assert metrics["training_documents"] + metrics["held_out_documents"] == 240


def test_its_files_are_those_of_the_contract_and_agree_with_its_figures(lake: tuple[Store, Manifest]) -> None:
    store, classifier = lake
    folder = store.folder(classifier)
    names = {
        "linear.safetensors",
        "classifier.json",
        "held_out.parquet",
        "transformer/config.json",
        "transformer/model.safetensors",
    }
    assert names <= set(contents(folder))
    record = json.loads((folder / "classifier.json").read_text("utf-8"))
    held_out = pl.read_parquet(folder / "held_out.parquet")
    assert held_out["id"].is_sorted()
    taken = held_out["medical_probability"] >= record["decision_threshold"]
    figures = agreement(held_out["is_medical"], taken)
    assert {name: classifier.metrics[name] for name in figures} == figures


def test_gold_documents_are_never_trained_on(lake: tuple[Store, Manifest]) -> None:
    store, classifier = lake
    held_out = pl.read_parquet(store.folder(classifier) / "held_out.parquet")["id"]
    gold = pl.read_parquet(store.folder(annotated(store)) / "annotations.parquet").filter(role="gold")["id"]
    assert not held_out.is_in(gold.implode()).any()
    assert classifier.metrics["training_documents"] + len(held_out) + len(gold) == 280


def test_training_again_gives_the_same_bytes(lake: tuple[Store, Manifest], tmp_path: Path) -> None:
    store, classifier = lake
    other = Store(str(tmp_path / "lake"))
    assert contents(other.folder(trained(other))) == contents(store.folder(classifier))


@pytest.mark.slow
def test_a_killed_training_ends_with_the_same_bytes(lake: tuple[Store, Manifest], tmp_path: Path) -> None:
    expected = lake[0].folder(lake[1])
    store = Store(str(tmp_path / "lake"))
    identity = identity_of("medical_classifier", MICRO, inputs=[annotated(store)])
    state = checkpoints(store, identity) / "transformer.pt"
    kill_when(start_payload(store, "train_classifier", identity, tmp_path), state.exists)
    assert store.manifest("medical_classifier", "_", identity.version) is None
    process = start_payload(store, "train_classifier", identity, tmp_path)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    manifest = store.require("test", "medical_classifier")
    assert contents(store.folder(manifest)) == contents(expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "value", "said"), [("epochs", 0, "epochs is 0"), ("linear", {"l3": 1}, "l3"), ("transformer", {"kind": "x"}, "x")]
)
def test_settings_that_do_not_fit_end_with_status_64(tmp_path: Path, key: str, value: object, said: str) -> None:
    store = Store(str(tmp_path / "lake"))
    identity = identity_of("medical_classifier", MICRO, inputs=[annotated(store)])
    identity = dataclasses.replace(identity, settings={**identity.settings, key: value})
    process = start_payload(store, "train_classifier", identity, tmp_path)
    _, errors = process.communicate()
    assert process.returncode == 64
    assert said in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(("positives", "negatives", "said"), [(19, 60, "19 different positive"), (60, 0, "0 different negative")])
def test_too_few_examples_of_a_class_are_refused_with_the_cure(store: Store, positives: int, negatives: int, said: str) -> None:
    with pytest.raises(UserError, match=f"{said}.*raise annotations.sample_size"):
        build_artifact(store, "medical_classifier", train_classifier, MICRO, inputs=[annotated(store, positives, negatives)])


def test_copies_of_one_document_are_no_examples(store: Store) -> None:
    def work(draft: object) -> None:
        frame = pl.read_parquet(store.folder(annotated(store)) / "annotations.parquet")
        text = pl.when(pl.col("is_medical")).then(pl.lit("Herz")).otherwise("text")
        frame.with_columns(text=text).write_parquet(draft.folder / "annotations.parquet")  # type: ignore[attr-defined]

    copies = build_artifact(store, "annotations", work, LinearSettings(l2=1.0))
    with pytest.raises(UserError, match="1 different positive"):
        build_artifact(store, "medical_classifier", train_classifier, MICRO, inputs=[copies])


def test_an_unreachable_precision_is_said_and_not_hidden(store: Store) -> None:
    def work(draft: object) -> None:
        frame = pl.read_parquet(store.folder(annotated(store)) / "annotations.parquet")
        noise = pl.Series(np.random.default_rng(0).random(frame.height) < 0.3)
        frame.with_columns(is_medical=noise).write_parquet(draft.folder / "annotations.parquet")  # type: ignore[attr-defined]

    noisy = build_artifact(store, "annotations", work, LinearSettings(l2=1.0))
    section = dataclasses.replace(MICRO, target_precision=1.0, epochs=1, held_out_share=0.5)
    metrics = build_artifact(store, "medical_classifier", train_classifier, section, inputs=[noisy]).metrics
    assert not metrics["target_precision_reached"]
    assert metrics["precision"] < 1
    assert metrics["true_positives"] + metrics["false_positives"] > 0


@given(
    st.lists(
        st.tuples(st.text("abcd", min_size=1, max_size=3), st.booleans()), min_size=1, max_size=80, unique_by=lambda d: d[0]
    ),
    st.lists(st.integers(0, 79), max_size=40),
    st.floats(0.05, 0.9),
)
def test_the_split_parts_each_class_in_proportion_and_keeps_copies_together(
    drawn: list[tuple[str, bool]], copied: list[int], share: float
) -> None:
    rows = drawn + [drawn[i % len(drawn)] for i in copied]
    sample = pl.DataFrame(rows, schema={"text": pl.String, "is_medical": pl.Boolean}, orient="row").with_row_index("id")
    training, held_out = split(sample, share)
    assert pl.concat([training, held_out]).sort("id").equals(sample)
    assert not set(training["text"]) & set(held_out["text"])
    for label in (True, False):
        total = sample.filter(is_medical=label)
        aimed, got = total.height * share, held_out.filter(is_medical=label)
        largest = total["text"].value_counts()["count"].max() if total.height else 0
        assert aimed - 1e-6 <= got.height < aimed + 1 + largest  # type: ignore[operator]


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=40).filter(lambda d: any(x for _, x in d)))
def test_average_precision_is_scikit_learns(scored: list[tuple[int, bool]]) -> None:
    scores, labels = np.array([s for s, _ in scored], dtype=float), np.array([label for _, label in scored])
    np.testing.assert_allclose(average_precision(labels, scores), average_precision_score(labels, scores))


@pytest.mark.real_text
@pytest.mark.slow
def test_trained_on_one_shard_of_real_text_it_finds_medicine_in_the_other(
    store: Store, record_property: Callable[[str, object], None]
) -> None:
    shards = register(store, str(REAL_TEXT / "*_*.parquet"))
    read_by_people = pl.read_parquet(REAL_TEXT / "labels.parquet").drop_nulls("is_medical").select("id", label="is_medical")
    decided = [_scored(store, trained_on, unseen) for trained_on, unseen in itertools.permutations(shards)]
    both = pl.concat(decided).join(read_by_people, on="id", maintain_order="left")
    figures = agreement(both["label"], both["is_medical"])
    for name in ("precision", "precision_low", "precision_high", "recall", "recall_low", "recall_high"):
        record_property(name, figures[name])
    assert (figures["precision"] or 0) >= 0.9
    assert (figures["recall"] or 0) >= 0.8


def _scored(store: Store, trained_on: Manifest, unseen: Manifest) -> pl.DataFrame:
    sources = {"lexicon": lexicon_location("de_medical")}
    section = AnnotationSettings(hold_out_size=0, unlabelled_size=0)
    inputs = [trained_on, *list_frames(store, [trained_on])]
    annotations = build_artifact(store, "annotations", annotate, section, inputs=inputs, sources=sources)
    classifier = build_artifact(store, "medical_classifier", train_classifier, REAL, inputs=[annotations])
    scores = build_artifact(
        store,
        "classifier_scores",
        score_shard,
        ClassifierScoresSettings(),
        inputs=[unseen, classifier],
        partition=unseen.partition,
    )
    return pl.read_parquet(store.folder(scores) / "scores.parquet")
