"""A few hundred short annotated documents and a classifier small enough to train in a second."""

import json
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.artifacts.manifest import Identity, Manifest
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.corpus.classifier.certificate import certify_cascade
from definemed_pipeline.corpus.classifier.settings import (
    CascadeCertificateSettings,
    FromScratch,
    LinearSettings,
    MedicalClassifierSettings,
)
from definemed_pipeline.corpus.classifier.train_classifier import train_classifier
from definemed_pipeline.payload import Spec
from definemed_pipeline_tests.conftest import RECIPE, build_artifact
from definemed_pipeline_tests.corpus.shard_files import documents
from definemed_pipeline_tests.payload_process import PayloadProcess

MEDICAL = [
    "Lungenentzündung",
    "Herzinsuffizienz",
    "Antibiotikum",
    "Diagnose",
    "Therapie",
    "Röntgenbild",
    "Bluthochdruck",
    "Dosis",
    "Patientin",
    "Klinik",
]
OTHER = ["Brücke", "Fußball", "Rezept", "Gartenzaun", "Wahlkampf", "Bahnhof", "Konzert", "Steuer", "Urlaub", "Fahrrad"]
COMMON = [
    "und",
    "der",
    "die",
    "das",
    "mit",
    "nach",
    "wurde",
    "heute",
    "viele",
    "nicht",
    "auch",
    "über",
    "für",
    "bei",
    "einer",
    "wieder",
]
MICRO = MedicalClassifierSettings(
    linear=LinearSettings(buckets_power=14),
    transformer=FromScratch(vocabulary_size=400, hidden_size=16, layers=1, heads=2),
    epochs=6,
    learning_rate=5e-3,
    batch_size=16,
    max_tokens=24,
)
UNLABELLED = 400
CERTIFICATE = CascadeCertificateSettings(target_recall=0.9, batch_tokens=200)


def texts(count: int, *, is_medical: bool, seed: int) -> list[str]:
    """Return documents of a dozen words, some of which tell what they are about."""
    chance = random.Random(f"{seed} {is_medical}")
    return [
        " ".join(chance.sample(COMMON, 8) + chance.sample(MEDICAL if is_medical else OTHER, chance.randint(3, 9)))
        for _ in range(count)
    ]


def mixture(count: int, *, seed: int) -> list[str]:
    """Return documents of which every fourth is medical."""
    medical, other = texts(count, is_medical=True, seed=seed), texts(count, is_medical=False, seed=seed)
    return [medical[i] if i % 4 == 0 else other[i] for i in range(count)]


def annotated(store: Store, positives: int = 60, negatives: int = 180, gold: int = 40, hold_out: int = 80) -> Manifest:
    """Build annotations whose labels are true: a sample, a hold-out of which every fourth is medical, gold of which every second is.

    The sample is as rich in medicine as its numbers say, and its weights undo that: of the web they stand for, every fourth is medical.
    """
    labels = [True] * positives + [False] * negatives
    labels += [number % 4 == 0 for number in range(hold_out)] + [number % 2 == 0 for number in range(gold)]
    roles = ["sample"] * (positives + negatives) + ["hold_out"] * hold_out + ["gold"] * gold
    medical, other = texts(len(labels), is_medical=True, seed=1), texts(len(labels), is_medical=False, seed=1)
    weight = pl.when("is_medical").then(100 / max(1, positives)).otherwise(300 / max(1, negatives))
    frame = (
        documents([medical[i] if label else other[i] for i, label in enumerate(labels)])
        .with_columns(role=pl.Series(roles), is_medical=pl.Series(labels, dtype=pl.Boolean))
        .with_columns(
            gold_is_medical=pl.when(role="gold").then("is_medical"),
            inclusion_weight=pl.when(role="sample").then(weight).when(role="hold_out").then(400 / max(1, hold_out)),
        )
    )

    def write(draft: Draft[Any]) -> None:
        frame.write_parquet(draft.folder / "annotations.parquet")
        unlabelled = mixture(UNLABELLED, seed=5)
        documents(["", *unlabelled]).write_parquet(draft.folder / "unlabelled.parquet", row_group_size=50)

    return build_artifact(store, "annotations", write, LinearSettings())


def trained(store: Store, section: MedicalClassifierSettings = MICRO) -> Manifest:
    """Train the micro classifier."""
    return build_artifact(store, "medical_classifier", train_classifier, section, inputs=[annotated(store)])


def certified(store: Store, section: CascadeCertificateSettings = CERTIFICATE) -> Manifest:
    """Certify the micro classifier's cascade."""
    inputs = [annotated(store), trained(store)]
    return build_artifact(store, "cascade_certificate", certify_cascade, section, inputs=inputs)


def start_payload(store: Store, module: str, identity: Identity, folder: Path, **changes: Any) -> PayloadProcess:
    """Start a payload's process by hand."""
    spec = Spec(
        lake=store.url, scratch=str(store.scratch), recipe=RECIPE, run_id="test", force=False, identities=(identity,)
    ).to_json()
    file = folder / "spec.json"
    file.write_text(json.dumps({**spec, **changes}), "utf-8")
    return PayloadProcess(f"definemed_pipeline.corpus.classifier.{module}", file)


def kill_when(process: PayloadProcess, happened: Callable[[], bool]) -> None:
    """Send SIGKILL as soon as something happened; fail where the process ended before."""
    while not happened():
        assert process.is_running, process.said
        time.sleep(0.01)
    process.kill()
    assert process.status() == -signal.SIGKILL


def checkpoints(store: Store, identity: Identity) -> Path:
    """Return the folder where a killed try of an artifact leaves its state."""
    return store.scratch / "work" / identity.asset / identity.partition / identity.version / "checkpoints"
