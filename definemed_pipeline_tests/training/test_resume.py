"""SIGKILL real payload processes twice in one training: weights and log must be those of a run that was never disturbed."""

import dataclasses
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from definemed_pipeline.artifacts.build import build
from definemed_pipeline.artifacts.manifest import Identity
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.payload import Spec
from definemed_pipeline.training.cpt_corpus import pack_corpus
from definemed_pipeline.training.settings import CptCorpusSettings
from definemed_pipeline_tests.conftest import RECIPE, build_artifact, identity_of

pytestmark = pytest.mark.slow


class Payload:
    """One payload's process on one artifact, started as often as it takes."""

    def __init__(self, store: Store, module: str, identity: Identity, spec: Path) -> None:
        self.store, self.identity = store, identity
        self.command = [sys.executable, "-m", f"definemed_pipeline.training.{module}", "--spec", str(spec)]
        contents = Spec(
            lake=store.url, scratch=str(store.scratch), recipe=RECIPE, run_id="test", force=False, identities=(identity,)
        )
        spec.write_text(json.dumps(contents.to_json()))

    @property
    def checkpoints(self) -> Path:
        return self.store.scratch / "work" / self.identity.asset / self.identity.partition / self.identity.version / "checkpoints"

    def newest_sealed_step(self) -> int:
        return max((int(path.parent.name.split("-")[1]) for path in self.checkpoints.glob("checkpoint-*/seal.json")), default=0)

    def run_and_kill_after_step(self, step: int) -> None:
        process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while self.newest_sealed_step() < step:
            assert process.poll() is None, "the payload ended before it could be killed"
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert self.store.manifest(self.identity.asset, self.identity.partition, self.identity.version) is None

    def run_to_the_end(self) -> tuple[str, Mapping[str, str]]:
        done = subprocess.run(self.command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        manifest = self.store.manifest(self.identity.asset, self.identity.partition, self.identity.version)
        assert manifest is not None
        return done.stdout, {file.path: file.sha256 for file in manifest.files}


def undisturbed(store: Store, identity: Identity, work: Callable[[Any], None], section: Any) -> dict[str, str]:
    manifest = build(store, identity, work, settings=section, recipe=RECIPE, run_id="test", force=True).manifest
    return {file.path: file.sha256 for file in manifest.files}


def test_pretraining_killed_twice_ends_with_the_same_bytes(store, micro, tmp_path) -> None:
    from definemed_pipeline.training.pretrain import pretrain

    section = micro(architecture="mistral", steps=200, checkpoint_every=10)
    identity = identity_of("base_models", section, partition="micro", sources=section.sources())
    payload = Payload(store, "pretrain", identity, tmp_path / "spec.json")
    payload.run_and_kill_after_step(30)
    payload.run_and_kill_after_step(80)
    printed, files = payload.run_to_the_end()
    assert "going on from checkpoint-" in printed
    assert files == undisturbed(store, identity, pretrain, section)


def test_cpt_killed_twice_and_robbed_of_its_newest_checkpoint_ends_with_the_same_bytes(
    store, base_model, finemed_de, cpt_settings, tmp_path
) -> None:
    from definemed_pipeline.training.cpt import train_checkpoint

    base = base_model()
    corpus = build_artifact(
        store, "cpt_corpus", pack_corpus, CptCorpusSettings(sequence_length=64), partition="micro", inputs=[base, finemed_de]
    )
    section = dataclasses.replace(cpt_settings, epochs=12, gradient_accumulation=2, batch_size=1, checkpoint_every=10)
    identity = identity_of("cpt_checkpoints", section, partition="micro", inputs=[base, corpus])
    payload = Payload(store, "cpt", identity, tmp_path / "spec.json")
    payload.run_and_kill_after_step(30)
    newest = payload.checkpoints / f"checkpoint-{payload.newest_sealed_step()}"
    with (newest / "optimizer.pt").open("r+b") as file:
        file.truncate(1000)
    payload.run_and_kill_after_step(80)
    _, files = payload.run_to_the_end()
    assert files == undisturbed(store, identity, train_checkpoint, section)
