import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.corpus.classifier import cascade
from definemed_pipeline.corpus.classifier.cascade import SCHEMA, Gate
from definemed_pipeline.corpus.classifier.score import score_shard
from definemed_pipeline.corpus.classifier.settings import ClassifierScoresSettings
from definemed_pipeline_tests.conftest import build_artifact, identity_of
from definemed_pipeline_tests.corpus.classifier_world import (
    CERTIFICATE,
    certified,
    checkpoints,
    kill_when,
    mixture,
    start_payload,
    trained,
)
from definemed_pipeline_tests.corpus.shard_files import contents, documents, register, write_shard

SECTION = ClassifierScoresSettings(batch_tokens=24, audit_share=0.2)
TEXTS: list[str | None] = [None, "", "  \n", *mixture(57, seed=7)]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, list[Manifest]]:
    store = Store(str(tmp_path_factory.mktemp("score") / "lake"))
    return store, [trained(store), certified(store)]


def shard_of(store: Store, folder: Path, texts: list[str | None], *, name: str, rows_per_group: int = 10) -> Manifest:
    (shard,) = register(store, write_shard(folder, name, documents(texts), rows_per_group=rows_per_group))
    return shard


def scored(
    classifier: tuple[Store, list[Manifest]],
    shard: Manifest,
    section: ClassifierScoresSettings = SECTION,
    *,
    force: bool = False,
) -> tuple[pl.DataFrame, Manifest]:
    store, models = classifier
    manifest = build_artifact(
        store, "classifier_scores", score_shard, section, inputs=[shard, *models], partition=shard.partition, force=force
    )
    return pl.read_parquet(store.folder(manifest) / "scores.parquet"), manifest


def test_every_document_has_one_row_in_the_shards_order(classifier: tuple[Store, list[Manifest]], tmp_path: Path) -> None:
    frame, manifest = scored(classifier, shard_of(classifier[0], tmp_path, TEXTS, name="order"))
    assert dict(frame.schema) == SCHEMA
    assert frame["row"].to_list() == list(range(60))
    assert frame["id"].to_list() == documents(TEXTS)["id"].to_list()
    metrics = manifest.metrics
    assert metrics["documents"] == 60
    assert metrics["decided_by_empty"] + metrics["decided_by_linear"] + metrics["decided_by_transformer"] == 60
    assert metrics["positives"] == frame["is_medical"].sum()
    assert metrics["rejected"] == metrics["decided_by_linear"]
    assert metrics["audited"] == frame["audited"].sum()
    assert metrics["audit_misses"] == frame["audit_missed"].sum()


def test_medicine_is_found_and_both_stages_have_their_share(classifier: tuple[Store, list[Manifest]], tmp_path: Path) -> None:
    frame, _ = scored(classifier, shard_of(classifier[0], tmp_path, TEXTS, name="share"))
    truth = pl.Series([number % 4 == 0 for number in range(57)])
    assert (frame["is_medical"][3:] == truth).mean() > 0.95
    assert set(frame["decided_by"]) == {"empty", "linear", "transformer"}
    threshold = classifier[1][0].metrics["decision_threshold"]
    assert (frame["is_medical"] == (frame["medical_probability"] >= threshold)).all()


def test_null_and_blank_texts_are_decided_by_empty(classifier: tuple[Store, list[Manifest]], tmp_path: Path) -> None:
    frame, _ = scored(classifier, shard_of(classifier[0], tmp_path, TEXTS, name="empty"))
    empty = frame.filter(decided_by="empty")
    assert empty["row"].to_list() == [0, 1, 2]
    assert empty["medical_probability"].to_list() == empty["linear_probability"].to_list() == [0, 0, 0]
    assert empty["transformer_probability"].null_count() == 3
    assert not empty["audited"].any()
    assert not empty["is_medical"].any()


def test_a_document_scores_the_same_however_the_shard_is_cut(classifier: tuple[Store, list[Manifest]], tmp_path: Path) -> None:
    cut = [
        scored(classifier, shard_of(classifier[0], tmp_path, TEXTS, name=f"cut{rows}", rows_per_group=rows))[0]
        for rows in (60, 7, 1)
    ]
    for other in cut[1:]:
        assert other["linear_probability"].equals(cut[0]["linear_probability"])
        assert other["is_medical"].equals(cut[0]["is_medical"])
        difference = (other["medical_probability"] - cut[0]["medical_probability"]).abs().max()
        assert difference <= np.float32(1.5e-6)  # type: ignore[operator]


def test_a_shard_without_documents_has_no_scores(classifier: tuple[Store, list[Manifest]], tmp_path: Path) -> None:
    frame, manifest = scored(classifier, shard_of(classifier[0], tmp_path, [], name="nothing"))
    assert frame.is_empty()
    assert dict(frame.schema) == SCHEMA
    assert manifest.metrics["documents"] == 0


class KilledError(Exception):
    pass


def test_finished_row_groups_are_not_scored_again(
    classifier: tuple[Store, list[Manifest]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = shard_of(classifier[0], tmp_path, TEXTS, name="resumed")
    read_second, rows = cascade._read_second, []

    def read_until_killed(pool: list[cascade._Read], *rest: object) -> pl.DataFrame:
        if len(rows) > 30:
            raise KilledError
        rows.extend(row for part in pool for row in part.documents["row"])
        return read_second(pool, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(cascade, "_read_second", read_until_killed)
    with pytest.raises(KilledError):
        scored(classifier, shard)
    monkeypatch.setattr(
        cascade, "_read_second", lambda pool, *rest: rows.extend(pool[0].documents["row"]) or read_second(pool, *rest)
    )
    resumed, _ = scored(classifier, shard)
    monkeypatch.setattr(cascade, "_read_second", read_second)
    whole, _ = scored(classifier, shard, force=True)
    assert resumed.equals(whole)
    assert len(rows) == len(set(rows))  # what stage 2 had read was not read again


@pytest.mark.slow
def test_a_killed_process_leaves_off_and_its_successor_ends_with_the_same_bytes(
    classifier: tuple[Store, list[Manifest]], tmp_path: Path
) -> None:
    store, models = classifier
    shard = shard_of(store, tmp_path, [None, *mixture(599, seed=8)], name="killed", rows_per_group=5)
    identity = identity_of("classifier_scores", SECTION, inputs=[shard, *models], partition=shard.partition)
    finished = checkpoints(store, identity)
    kill_when(start_payload(store, "score", identity, tmp_path), lambda: len(list(finished.glob("*.parquet"))) >= 10)
    assert 10 <= len(list(finished.glob("*.parquet"))) < 120
    assert store.manifest("classifier_scores", shard.partition, identity.version) is None
    process = start_payload(store, "score", identity, tmp_path)
    assert process.status() == 0, process.said
    assert "going on after" in process.said
    resumed = contents(store.folder(store.require("test", "classifier_scores", shard.partition)))
    _, uninterrupted = scored(classifier, shard, force=True)
    assert contents(store.folder(uninterrupted)) == resumed


@pytest.mark.slow
def test_of_two_shards_in_one_payload_a_kill_costs_the_second_only_what_was_in_the_making(
    classifier: tuple[Store, list[Manifest]], tmp_path: Path
) -> None:
    store, models = classifier
    shards = [shard_of(store, tmp_path, mixture(300, seed=seed), name=f"pair{seed}", rows_per_group=5) for seed in (10, 11)]
    first, second = (
        identity_of("classifier_scores", SECTION, inputs=[shard, *models], partition=shard.partition) for shard in shards
    )
    both = {"identities": [dataclasses.asdict(identity) for identity in (first, second)]}
    begun = lambda: any(checkpoints(store, second).glob("*.parquet"))  # noqa: E731
    kill_when(start_payload(store, "score", first, tmp_path, **both), begun)
    published = store.manifest("classifier_scores", first.partition, first.version)
    assert published is not None
    process = start_payload(store, "score", first, tmp_path, **both)
    assert process.status() == 0, process.said
    assert "reused classifier_scores" in process.said
    assert "going on after" in process.said
    resumed = [contents(store.folder(store.require("test", "classifier_scores", shard.partition))) for shard in shards]
    assert resumed == [contents(store.folder(scored(classifier, shard, force=True)[1])) for shard in shards]


@pytest.mark.slow
def test_a_spec_that_does_not_fit_ends_with_status_64(classifier: tuple[Store, list[Manifest]], tmp_path: Path) -> None:
    store, models = classifier
    shard = shard_of(store, tmp_path, TEXTS, name="spec")
    identity = identity_of("classifier_scores", SECTION, inputs=[shard, *models], partition=shard.partition)
    wrong = dataclasses.replace(identity, settings={"batch_tokens": 0})
    for name, change in ((identity, {"lakes": "x"}), (wrong, {})):
        process = start_payload(store, "score", name, tmp_path, **change)
        assert process.status() == 64, process.said
        assert "Traceback" not in process.said


def test_stage_2_and_its_libraries_are_not_loaded_before_a_document_gets_there() -> None:
    command = "import sys, definemed_pipeline.corpus.classifier.score; print({'torch', 'transformers', 'sklearn', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_audit_reads_a_random_share_of_the_rejects_and_changes_no_decision(
    classifier: tuple[Store, list[Manifest]], tmp_path: Path
) -> None:
    shard = shard_of(classifier[0], tmp_path, mixture(400, seed=9), name="audit", rows_per_group=100)
    none, some, all_of_them = (
        scored(classifier, shard, dataclasses.replace(SECTION, audit_share=share))[0] for share in (0.0, 0.2, 1.0)
    )
    decisions = ["id", "linear_probability", "medical_probability", "decided_by", "is_medical"]
    assert some.select("id", "decided_by", "is_medical").equals(none.select("id", "decided_by", "is_medical"))
    rejected = none.filter(decided_by="linear").height
    assert rejected > 100
    assert not none["audited"].any()
    assert (all_of_them["audited"] == (all_of_them["decided_by"] == "linear")).all()
    assert 0.1 * rejected < some["audited"].sum() < 0.3 * rejected
    assert not (some["audited"] & ~all_of_them["audited"]).any()
    assert all_of_them.filter("audited")["transformer_probability"].null_count() == 0
    left = none.filter(decided_by="linear").select(decisions)
    assert some.filter(decided_by="linear").select(decisions).equals(left)


def test_who_is_audited_follows_from_the_id_alone() -> None:
    ids = pl.Series([f"<urn:uuid:{number}>" for number in range(20_000)])
    gate = Gate(threshold=0.5, audit_share=0.05)
    chosen = gate.audits(ids)
    assert abs(chosen.mean() - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 20_000)
    assert (gate.audits(ids.reverse())[::-1] == chosen).all()
    assert (chosen <= Gate(audit_share=0.1).audits(ids)).all()


def test_without_a_certified_threshold_stage_2_reads_everything(classifier: tuple[Store, list[Manifest]], tmp_path: Path) -> None:
    store, (model, _) = classifier
    nothing = certified(store, dataclasses.replace(CERTIFICATE, target_recall=0.999))
    assert not nothing.metrics["certified"]
    shard = shard_of(store, tmp_path, TEXTS, name="sweep")
    frame, _ = scored((store, [model, nothing]), shard)
    assert frame["decided_by"].value_counts(sort=True).rows() == [("transformer", 57), ("empty", 3)]
    gated, _ = scored(classifier, shard)
    assert gated.filter("is_medical").equals(frame.filter("is_medical")) or gated["is_medical"].sum() < frame["is_medical"].sum()
