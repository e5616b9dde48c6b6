import dataclasses
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.corpus.agreement import agreement
from definemed_pipeline.corpus.annotation.annotations import annotate
from definemed_pipeline.corpus.annotation.lexicon import lexicon_location
from definemed_pipeline.corpus.classifier.certificate import certify_cascade
from definemed_pipeline.corpus.classifier.score import score_shard
from definemed_pipeline.corpus.classifier.settings import (
    CascadeCertificateSettings,
    ClassifierScoresSettings,
    LinearSettings,
    MedicalClassifierSettings,
)
from definemed_pipeline.corpus.classifier.train_classifier import average_precision, fewer, split, train_classifier
from definemed_pipeline.corpus.classifier.two_stage import DecisionRule, TwoStageClassifier
from definemed_pipeline.corpus.settings import AnnotationSettings
from definemed_pipeline.errors import UserError
from definemed_pipeline.intervals import weighted_proportion
from definemed_pipeline_tests.conftest import REAL_TEXT, build_artifact, identity_of
from definemed_pipeline_tests.corpus.classifier_world import MICRO, annotated, checkpoints, kill_when, start_payload, trained
from definemed_pipeline_tests.corpus.shard_files import contents, list_frames, register

# About 37 documents of the shard are positive for the lexicon, a dozen of them held out. Held-out precision is against its labels, and
# borderline documents, which people left undecided and the lexicon rejects, count as false there: hence a target below the aim.
REAL = MedicalClassifierSettings(epochs=6, learning_rate=1e-3, max_tokens=192, validation_share=0.3, target_precision=0.8)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Manifest]:
    store = Store(str(tmp_path_factory.mktemp("classifier") / "lake"))
    return store, trained(store)


def test_it_finds_medicine_among_hold_out_and_gold_documents(lake: tuple[Store, Manifest]) -> None:
    _, classifier = lake
    metrics = classifier.metrics
    assert metrics["target_precision_reached"]
    assert metrics["precision_low"] < metrics["precision"] <= metrics["precision_high"]
    assert min(metrics["recall"], metrics["gold_precision"], metrics["gold_recall"]) > 0.9
    assert metrics["training_positives"] + metrics["validation_positives"] == 60
    assert metrics["training_documents"] + metrics["validation_documents"] == 240
    assert (metrics["hold_out_documents"], metrics["hold_out_positives"]) == (80, 20)


def test_its_files_are_those_of_the_contract_and_agree_with_its_figures(lake: tuple[Store, Manifest]) -> None:
    store, classifier = lake
    folder = store.folder(classifier)
    names = {
        "linear.safetensors",
        "classifier.json",
        "validation.parquet",
        "transformer/config.json",
        "transformer/model.safetensors",
    }
    assert names <= set(contents(folder))
    rule = DecisionRule.from_json(json.loads((folder / "classifier.json").read_text("utf-8"))["rule"])
    validation = pl.read_parquet(folder / "validation.parquet")
    taken = (validation["medical_probability"] >= rule.decision_threshold).to_numpy()
    assert rule.decision_threshold == classifier.metrics["decision_threshold"]
    labels, weights = validation["is_medical"].to_numpy(), validation["inclusion_weight"].to_numpy()
    precision = weighted_proportion(labels[taken], weights[taken])
    assert classifier.metrics["validation_precision_low"] == precision.low
    assert TwoStageClassifier(folder).rule == rule


def test_its_probabilities_mean_what_they_say_under_the_prevalence_of_the_web(lake: tuple[Store, Manifest]) -> None:
    store, classifier = lake
    validation = pl.read_parquet(store.folder(classifier) / "validation.parquet")
    weights = validation["inclusion_weight"].to_numpy()
    for name in ("linear_probability", "transformer_probability", "medical_probability"):
        expected = np.average(validation[name].to_numpy(), weights=weights)
        assert abs(expected - np.average(validation["is_medical"].to_numpy(), weights=weights)) < 0.02
    metrics = classifier.metrics
    for stage in ("linear", "transformer", "medical"):
        assert metrics[f"{stage}_calibration_error_after"] <= metrics[f"{stage}_calibration_error_before"] + 0.02
    assert metrics["device"].split()[0] in ("cpu", "cuda")


def test_gold_and_hold_out_documents_are_never_trained_on(lake: tuple[Store, Manifest]) -> None:
    store, classifier = lake
    validation = pl.read_parquet(store.folder(classifier) / "validation.parquet")["id"]
    others = pl.read_parquet(store.folder(annotated(store)) / "annotations.parquet").filter(pl.col("role") != "sample")["id"]
    assert not validation.is_in(others.implode()).any()
    assert classifier.metrics["training_documents"] + len(validation) + len(others) == 360


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
    assert process.status() == 0, process.said
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
    assert process.status() == 64
    assert said in process.said
    assert "Traceback" not in process.said


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
        frame = pl.read_parquet(store.folder(annotated(store)) / "annotations.parquet").with_columns(inclusion_weight=1.0)
        both = [frame.with_columns(is_medical=pl.lit(label)) for label in (True, False)]  # nobody can tell these apart
        pl.concat(both).write_parquet(draft.folder / "annotations.parquet")  # type: ignore[attr-defined]

    noisy = build_artifact(store, "annotations", work, LinearSettings(l2=1.0))
    section = dataclasses.replace(MICRO, target_precision=1.0, epochs=1, validation_share=0.5)
    metrics = build_artifact(store, "medical_classifier", train_classifier, section, inputs=[noisy]).metrics
    assert not metrics["target_precision_reached"]
    assert metrics["validation_precision"] == pytest.approx(0.5)
    assert metrics["true_positives"] + metrics["false_positives"] > 0


def test_without_a_hold_out_its_figures_are_unknown_and_not_invented(store: Store) -> None:
    metrics = build_artifact(store, "medical_classifier", train_classifier, MICRO, inputs=[annotated(store, hold_out=0)]).metrics
    assert metrics["hold_out_documents"] == 0
    assert metrics["precision"] is metrics["recall"] is metrics["medical_calibration_error_after"] is None
    assert metrics["gold_precision"] > 0.9


def test_stage_1_is_fitted_on_no_more_documents_than_it_may(store: Store) -> None:
    section = dataclasses.replace(MICRO, epochs=1, linear=dataclasses.replace(MICRO.linear, max_documents=100))
    metrics = build_artifact(store, "medical_classifier", train_classifier, section, inputs=[annotated(store)]).metrics
    assert metrics["linear_documents"] == 100
    assert metrics["training_documents"] > 100
    assert metrics["linear_average_precision"] > 0.8


@given(st.lists(st.booleans(), min_size=1, max_size=80), st.integers(1, 90))
def test_thinning_keeps_the_rarer_class(drawn: list[bool], most: int) -> None:
    labels = np.array(drawn)
    kept = fewer(labels, most)
    assert len(kept) == min(most, len(labels))
    assert np.all(np.diff(kept) > 0)
    positives, negatives = labels[kept].sum(), (~labels[kept]).sum()
    assert positives in (labels.sum(), max(most // 2, most - (~labels).sum()))
    assert negatives in ((~labels).sum(), most - positives)


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), min_size=1, max_size=80), st.floats(0.05, 0.9))
def test_the_split_parts_each_class_in_proportion_and_keeps_copies_together(rows: list[tuple[int, bool]], share: float) -> None:
    rows = [(key * 2 + label, label) for key, label in rows]  # copies have one label, as a deterministic annotator gives it
    sample = pl.DataFrame(rows, schema={"text_key": pl.UInt64, "is_medical": pl.Boolean}, orient="row").with_row_index("id")
    training, validation = split(sample, share)
    assert pl.concat([training, validation]).sort("id").equals(sample)
    assert training["id"].is_sorted()
    assert validation["id"].is_sorted()
    assert not set(training["text_key"]) & set(validation["text_key"])
    for label in (True, False):
        total = sample.filter(is_medical=label)
        aimed, got = total.height * share, validation.filter(is_medical=label)
        largest = total["text_key"].value_counts()["count"].max() if total.height else 0
        assert aimed - 1e-6 <= got.height < aimed + 1 + largest  # type: ignore[operator]


@given(
    st.lists(st.tuples(st.integers(0, 8), st.booleans(), st.integers(1, 9)), min_size=1, max_size=40).filter(
        lambda drawn: any(label for _, label, _ in drawn)
    )
)
def test_average_precision_is_scikit_learns(scored: list[tuple[int, bool, int]]) -> None:
    scores, labels, weights = (np.array(column) for column in zip(*scored, strict=True))
    expected = average_precision_score(labels, scores, sample_weight=weights)
    np.testing.assert_allclose(average_precision(labels, scores.astype(float), weights.astype(float)), expected)


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
    section = AnnotationSettings(hold_out_size=0, unlabelled_size=10)  # too few for a certificate: stage 2 reads everything
    inputs = [trained_on, *list_frames(store, [trained_on])]
    annotations = build_artifact(store, "annotations", annotate, section, inputs=inputs, sources=sources)
    classifier = build_artifact(store, "medical_classifier", train_classifier, REAL, inputs=[annotations])
    certificate = build_artifact(
        store, "cascade_certificate", certify_cascade, CascadeCertificateSettings(), inputs=[annotations, classifier]
    )
    scores = build_artifact(
        store,
        "classifier_scores",
        score_shard,
        ClassifierScoresSettings(),
        inputs=[unseen, classifier, certificate],
        partition=unseen.partition,
    )
    return pl.read_parquet(store.folder(scores) / "scores.parquet")
