"""Kill and stop real payload processes in one training: weights and log must be those of a run that was never disturbed."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from definemed_pipeline.artifacts.manifest import Identity
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.payload import MAY_RETRY, Spec
from definemed_pipeline.settings import as_json
from definemed_pipeline.training.settings import CptCheckpointsSettings, TrainingExecutionSettings
from definemed_pipeline_tests.conftest import RECIPE, build_artifact, identity_of
from definemed_pipeline_tests.training.micro_training import write_base, write_blocks, write_corpus

pytestmark = pytest.mark.slow
EPOCH = 137  # steps


class Payload:
    """One payload's process on one artifact, started as often as it takes."""

    def __init__(self, store: Store, module: str, identity: Identity, execution: Mapping[str, Any]) -> None:
        self.store, self.identity = store, identity
        spec = store.scratch / f"{identity.version}.json"
        spec.parent.mkdir(parents=True, exist_ok=True)
        contents = Spec(
            lake=store.url,
            scratch=str(store.scratch),
            recipe=RECIPE,
            run_id="test",
            force=False,
            identities=(identity,),
            execution=execution,
        )
        spec.write_text(json.dumps(contents.to_json()))
        self.command = [sys.executable, "-m", f"definemed_pipeline.training.{module}", "--spec", str(spec)]

    @property
    def checkpoints(self) -> Path:
        return self.store.scratch / "work" / self.identity.asset / self.identity.partition / self.identity.version / "checkpoints"

    def newest_sealed_step(self) -> int:
        return max((int(path.parent.name.split("-")[1]) for path in self.checkpoints.glob("checkpoint-*/seal.json")), default=0)

    def start(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def stop_after_step(self, step: int, number: signal.Signals) -> str:
        """Send a signal once a checkpoint of that step or a later one is there; return what the process said."""
        process = self.start()
        while self.newest_sealed_step() < step:
            assert process.poll() is None, f"the payload ended before it could be stopped: {process.communicate()[0]}"
            time.sleep(0.005)
        process.send_signal(number)
        said, _ = process.communicate(timeout=60)
        assert process.returncode == {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: MAY_RETRY}[number], said
        assert self.store.manifest(self.identity.asset, self.identity.partition, self.identity.version) is None
        return said

    def run_to_the_end(self) -> tuple[str, dict[str, str]]:
        """Return what was said and the checksums of the artifact's files."""
        process = self.start()
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said
        manifest = self.store.manifest(self.identity.asset, self.identity.partition, self.identity.version)
        assert manifest is not None
        return said, {file.path: file.sha256 for file in manifest.files}


class Training:
    """A continual pre-training whose payload may be started in any lake."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def payload(self, lake: str, *, execution: Mapping[str, Any], **settings: Any) -> Payload:
        store = Store(lake, scratch=self.folder / "scratch") if "://" in lake else Store(str(self.folder / lake))
        section = CptCheckpointsSettings(
            epochs=2, learning_rate=1e-2, warmup_steps=20, global_batch_size=2, precision="float32", evaluate_every=60,
            evaluation_blocks=4, **settings,
        )  # fmt: skip
        base = build_artifact(store, "base_models", lambda draft: write_base(draft.folder / "model"), section, partition="micro")

        def pack(draft: Any) -> None:
            write_corpus(draft.folder)
            for path in (draft.folder / "train").iterdir():
                path.unlink()
            (draft.folder / "train").rmdir()
            write_blocks(draft.folder / "train", documents=400)

        corpus = build_artifact(store, "cpt_corpus", pack, section, partition="micro")
        identity = identity_of("cpt_checkpoints", section, partition="micro", inputs=[base, corpus])
        chosen = TrainingExecutionSettings(
            **{"micro_batch_size": 1, "activation_checkpointing": "none", "checkpoint_every": 5, **execution}
        )
        return Payload(store, "cpt", identity, as_json(chosen))


@pytest.fixture
def training(tmp_path) -> Training:
    return Training(tmp_path)


def training_processes() -> set[int]:
    """Return the living processes that torchrun or one of its children runs as."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue
        if b"definemed_pipeline.training.worker" in command:
            found.add(int(path.parent.name))
    return found


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_at_random_steps_twice_within_one_epoch_it_ends_with_the_same_bytes(training, processes) -> None:
    execution = {"processes": processes}
    _, undisturbed = training.payload("undisturbed", execution=execution).run_to_the_end()
    payload = training.payload("killed", execution=execution)
    first, second = sorted(random.sample(range(5, EPOCH - 20), 2))
    payload.stop_after_step(first, signal.SIGKILL)
    payload.stop_after_step(max(second, payload.newest_sealed_step() + 1), signal.SIGKILL)
    said, files = payload.run_to_the_end()
    assert "going on from checkpoint-" in said
    assert files == undisturbed, f"after kills at steps {first} and {second}"


@pytest.mark.parametrize("processes", [1, 2])
def test_sigterm_saves_the_very_step_and_ends_with_the_code_to_retry(training, processes) -> None:
    execution = {"processes": processes, "checkpoint_every": 50}
    _, undisturbed = training.payload("undisturbed", execution=execution).run_to_the_end()
    payload = training.payload("stopped", execution=execution)
    said = payload.stop_after_step(50, signal.SIGTERM)
    stopped_at = payload.newest_sealed_step()
    assert stopped_at % 50
    assert "stopped" in said
    said, files = payload.run_to_the_end()
    assert f"going on from checkpoint-{stopped_at}" in said
    assert files == undisturbed


def test_robbed_of_its_newest_checkpoint_it_says_so_and_ends_with_the_same_bytes(training) -> None:
    _, undisturbed = training.payload("undisturbed", execution={}).run_to_the_end()
    payload = training.payload("robbed", execution={})
    payload.stop_after_step(30, signal.SIGKILL)
    newest = payload.checkpoints / f"checkpoint-{payload.newest_sealed_step()}"
    (part,) = (newest / "tensors").iterdir()
    with part.open("r+b") as file:
        file.truncate(1000)
    said, files = payload.run_to_the_end()
    assert f"{newest.name} is damaged" in said
    assert "falling back to the one before" in said
    assert files == undisturbed


def test_begun_on_one_machine_it_goes_on_from_the_lake_on_another(training, bucket) -> None:
    _, undisturbed = training.payload("undisturbed", execution={}).run_to_the_end()
    payload = training.payload(bucket, execution={})
    said = payload.stop_after_step(30, signal.SIGTERM)
    assert "its checkpoint is saved" in said
    payload.store.scratch.rename(training.folder / "the first machine")
    payload = training.payload(bucket, execution={})
    said, files = payload.run_to_the_end()
    assert "from the lake" in said
    assert "going on from checkpoint-" in said
    assert files == undisturbed
    assert not payload.store.filesystem.exists(
        f"{payload.store.root}/.checkpoints/cpt_checkpoints/micro/{payload.identity.version}"
    )


def test_two_processes_train_as_one_does_and_may_go_on_as_one(training) -> None:
    rows = {}
    for name, numbers in {"one": [1], "two": [2], "two, then one": [2, 1]}.items():
        for processes in numbers:
            payload = training.payload(name, execution={"processes": processes})
            if processes != numbers[-1]:
                payload.stop_after_step(30, signal.SIGKILL)
        payload.run_to_the_end()
        manifest = payload.store.manifest("cpt_checkpoints", "micro", payload.identity.version)
        assert manifest.metrics["processes"] == numbers[-1]
        lines = (payload.store.folder(manifest) / "log.jsonl").read_text().splitlines()
        rows[name] = [json.loads(line)["loss"] for line in lines]
    assert rows["two"] == pytest.approx(rows["one"], abs=1e-3)
    assert rows["two, then one"] == pytest.approx(rows["one"], abs=1e-3)


def test_when_the_payload_dies_none_of_its_processes_outlives_it(training) -> None:
    before = training_processes()
    payload = training.payload("killed", execution={"processes": 2})
    payload.stop_after_step(10, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while training_processes() - before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert training_processes() <= before


def test_what_a_user_can_cure_is_told_by_one_of_many_processes_too(training) -> None:
    payload = training.payload("undivided", execution={"processes": 3})
    process = payload.start()
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 64
    assert "cpt_checkpoints.global_batch_size is 2, which 3 processes cannot share evenly" in said.splitlines()[-1]


def test_pretraining_killed_twice_ends_with_the_same_bytes(store, micro, tmp_path) -> None:
    section = micro(architecture="mistral", steps=200, checkpoint_every=10)
    identity = identity_of("base_models", section, partition="micro", sources=section.sources())
    _, undisturbed = Payload(Store(str(tmp_path / "undisturbed")), "pretrain", identity, {}).run_to_the_end()
    payload = Payload(store, "pretrain", identity, {})
    payload.stop_after_step(30, signal.SIGKILL)
    payload.stop_after_step(80, signal.SIGKILL)
    said, files = payload.run_to_the_end()
    assert "going on from checkpoint-" in said
    assert files == undisturbed
