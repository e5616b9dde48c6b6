"""Kill and stop real payload processes in one training: weights and log must be those of a run that was never disturbed."""

import functools
import json
import random
import shutil
import signal
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from definemed_pipeline.artifacts.build import build
from definemed_pipeline.artifacts.manifest import Identity, Manifest
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.errors import UserError
from definemed_pipeline.payload import MAY_RETRY, Spec
from definemed_pipeline.settings import as_json
from definemed_pipeline.training.cpt import train_checkpoint
from definemed_pipeline.training.pretrain import pretrain
from definemed_pipeline.training.processes import run_training
from definemed_pipeline.training.settings import CptCheckpointsSettings, TrainingExecutionSettings
from definemed_pipeline_tests.conftest import RECIPE, build_artifact, identity_of
from definemed_pipeline_tests.payload_process import PayloadProcess
from definemed_pipeline_tests.training.micro_training import training_job, write_base, write_corpus

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("resume")]
EPOCH = 68  # steps


class Payload:
    """One payload's process on one artifact, started as often as it takes."""

    def __init__(self, store: Store, module: str, identity: Identity, execution: Mapping[str, Any]) -> None:
        self.store, self.module, self.identity, self.execution = store, module, identity, execution

    def spec(self, scratch: Path) -> Path:
        """Write what the payload is to do on a machine with this scratch folder."""
        scratch.mkdir(parents=True, exist_ok=True)
        contents = Spec(
            lake=self.store.url,
            scratch=str(scratch),
            recipe=RECIPE,
            run_id="test",
            force=False,
            identities=(self.identity,),
            execution=self.execution,
        )
        spec = scratch / f"{self.identity.version}.json"
        spec.write_text(json.dumps(contents.to_json()))
        return spec

    @property
    def checkpoints(self) -> Path:
        return self.store.scratch / "work" / self.identity.asset / self.identity.partition / self.identity.version / "checkpoints"

    def newest_sealed_step(self) -> int:
        return max((int(path.parent.name.split("-")[1]) for path in self.checkpoints.glob("checkpoint-*/seal.json")), default=0)

    def start(self, scratch: Path | None = None, **environment: str) -> PayloadProcess:
        return PayloadProcess(
            f"definemed_pipeline.training.{self.module}", self.spec(scratch or self.store.scratch), **environment
        )

    def start_nodes(self, *, one_scratch: bool) -> list[PayloadProcess]:
        """Start the payload as two nodes, as an indexed Job does; they share the lake, and scratch or not."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            place = f"127.0.0.1:{probe.getsockname()[1]}"
        own = self.store.scratch if one_scratch else self.store.scratch / "of another node"
        told = {"DEFINEMED_NODES": "2", "DEFINEMED_MEETING_POINT": place}
        return [self.start(scratch, **told, DEFINEMED_NODE=str(node)) for node, scratch in enumerate((self.store.scratch, own))]

    def stop_after_step(self, step: int, number: signal.Signals) -> str:
        """Send a signal once a checkpoint of that step or a later one is there; return what the process said."""
        process = self.start()
        while self.newest_sealed_step() < step:
            assert process.is_running, f"the payload ended before it could be stopped: {process.said}"
            time.sleep(0.005)
        stop, status = {signal.SIGKILL: (process.kill, -signal.SIGKILL), signal.SIGTERM: (process.terminate, MAY_RETRY)}[number]
        stop()
        assert process.status(seconds=300) == status, process.said
        assert self.store.manifest(self.identity.asset, self.identity.partition, self.identity.version) is None
        return process.said

    def run_to_the_end(self) -> str:
        """Return what was said."""
        process = self.start()
        assert process.status() == 0, process.said
        return process.said

    def manifest(self) -> Manifest:
        manifest = self.store.manifest(self.identity.asset, self.identity.partition, self.identity.version)
        assert manifest is not None
        return manifest

    def files(self) -> dict[str, str]:
        return {file.path: file.sha256 for file in self.manifest().files}

    def losses(self) -> list[float]:
        lines = (self.store.folder(self.manifest()) / "log.jsonl").read_text("utf-8").splitlines()
        return [json.loads(line)["loss"] for line in lines]


class Training:
    """A continual pre-training whose payload may be started in any lake."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def payload(self, lake: str, *, processes: int = 1, checkpoint_every: int = 5) -> Payload:
        store = Store(lake, scratch=self.folder / "scratch") if "://" in lake else Store(str(self.folder / lake))
        section = CptCheckpointsSettings(
            epochs=2,
            learning_rate=1e-2,
            warmup_steps=20,
            global_batch_size=2,
            precision="float32",
            evaluate_every=60,
            evaluation_blocks=4,
        )
        base = build_artifact(store, "base_models", lambda draft: write_base(draft.folder / "model"), section, partition="micro")
        corpus = build_artifact(
            store, "cpt_corpus", lambda draft: write_corpus(draft.folder, documents=200), section, partition="micro"
        )
        identity = identity_of("cpt_checkpoints", section, partition="micro", inputs=[base, corpus])
        execution = TrainingExecutionSettings(
            processes=processes, micro_batch_size=1, activation_checkpointing="none", checkpoint_every=checkpoint_every
        )
        return Payload(store, "cpt", identity, as_json(execution))


@pytest.fixture
def training(tmp_path) -> Training:
    return Training(tmp_path)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Callable[[int], Payload]:
    """Return the finished payload of so many processes that nobody disturbed."""

    @functools.cache
    def run(processes: int) -> Payload:
        payload = Training(tmp_path_factory.mktemp("undisturbed")).payload("lake", processes=processes)
        section, execution = CptCheckpointsSettings.parse(payload.identity.settings), payload.execution
        build(
            payload.store, payload.identity, train_checkpoint, settings=section, recipe=RECIPE, run_id="test", execution=execution
        )
        return payload

    return run


@pytest.fixture
def killed(killed_once: Path, training: Training) -> str:
    """Return a lake where two processes were killed in the middle of an epoch."""
    shutil.copytree(killed_once, training.folder / "killed")
    return "killed"


@pytest.fixture(scope="module")
def killed_once(tmp_path_factory) -> Path:
    """Kill two processes, and see that none of them lives on."""
    others = training_processes()
    payload = Training(tmp_path_factory.mktemp("killed")).payload("lake", processes=2)
    payload.stop_after_step(random.randrange(5, EPOCH - 10), signal.SIGKILL)
    deadline = time.monotonic() + 60
    while (orphans := training_processes() - others) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not orphans
    return Path(payload.store.root)


def training_processes() -> set[int]:
    """Return the living processes of torchrun and those that it started."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue
        if b"definemed_pipeline.training.worker" in command:
            found.add(int(path.parent.name))
    return found


def test_killed_at_random_steps_twice_within_one_epoch_it_ends_with_the_same_bytes(training, undisturbed) -> None:
    payload = training.payload("killed")
    first, second = sorted(random.sample(range(5, EPOCH - 20), 2))
    payload.stop_after_step(first, signal.SIGKILL)
    payload.stop_after_step(max(second, payload.newest_sealed_step() + 1), signal.SIGKILL)
    newest = payload.checkpoints / f"checkpoint-{payload.newest_sealed_step()}"
    (part,) = (newest / "tensors").iterdir()
    with part.open("r+b") as file:
        file.truncate(1000)
    said = payload.run_to_the_end()
    assert f"{newest.name} is damaged (tensors/{part.name}): falling back to the one before" in said
    assert "going on from checkpoint-" in said
    assert payload.files() == undisturbed(1).files(), f"after kills at steps {first} and {second}"


def test_two_processes_killed_in_an_epoch_go_on_as_two_nodes_with_one_scratch_folder_to_the_same_bytes(
    training, killed, undisturbed
) -> None:
    payload = training.payload(killed)
    said = run_nodes_to_the_end(payload, one_scratch=True)
    assert "going on from checkpoint-" in said[0]
    assert "helped to build cpt_checkpoints" in said[1]
    assert payload.files() == undisturbed(2).files()


def test_two_processes_train_as_one_does_and_may_go_on_as_one(training, killed, undisturbed) -> None:
    payload = training.payload(killed, processes=1)
    assert "going on from checkpoint-" in payload.run_to_the_end()
    expected = pytest.approx(undisturbed(1).losses(), abs=1e-3)
    assert undisturbed(2).losses() == expected
    assert payload.losses() == expected


def test_stopped_on_one_machine_it_goes_on_from_the_very_step_on_another(training, bucket, undisturbed) -> None:
    payload = training.payload(bucket, checkpoint_every=50)
    said = payload.stop_after_step(50, signal.SIGTERM)
    stopped_at = payload.newest_sealed_step()
    assert stopped_at % 50
    assert f"stopped at step {stopped_at}/" in said
    assert "its checkpoint is saved" in said
    payload.store.scratch.rename(training.folder / "the first machine")
    payload = training.payload(bucket)
    said = payload.run_to_the_end()
    assert f"fetching checkpoint-{stopped_at} from the lake" in said
    assert payload.files() == undisturbed(1).files()
    place = f"{payload.store.root}/.checkpoints/cpt_checkpoints/micro/{payload.identity.version}"
    assert not payload.store.filesystem.exists(place)


def test_two_nodes_that_meet_in_a_remote_lake_go_on_after_one_of_them_was_stopped(training, undisturbed, bucket) -> None:
    payload = training.payload(bucket)
    nodes = payload.start_nodes(one_scratch=False)
    while not payload.newest_sealed_step():
        assert all(node.is_running for node in nodes), [node.said for node in nodes]
        time.sleep(0.01)
    nodes[1].terminate()  # the first one notices
    first, _ = [node.status(seconds=120) for node in nodes]
    assert first == MAY_RETRY, [node.said for node in nodes]
    assert payload.store.manifest("cpt_checkpoints", "micro", payload.identity.version) is None
    assert "going on from checkpoint-" in run_nodes_to_the_end(payload, one_scratch=False)[0]
    assert payload.files() == undisturbed(2).files()


def run_nodes_to_the_end(payload: Payload, *, one_scratch: bool) -> list[str]:
    """Return what each node said."""
    nodes = payload.start_nodes(one_scratch=one_scratch)
    assert [node.status(seconds=300) for node in nodes] == [0, 0], [node.said for node in nodes]
    return [node.said for node in nodes]


def test_what_a_user_can_cure_is_told_by_one_of_many_processes_too(tmp_path) -> None:
    job = training_job(tmp_path / "job", execution={"processes": 2}, global_batch_size=3)
    with pytest.raises(UserError, match=r"cpt_checkpoints\.global_batch_size is 3, which 2 processes cannot share evenly"):
        run_training(job, lambda _: None)


def test_pretraining_killed_in_the_middle_ends_with_the_same_bytes(store, micro) -> None:
    section = micro(architecture="mistral", steps=200, checkpoint_every=10)
    identity = identity_of("base_models", section, partition="micro", sources=section.sources())
    payload = Payload(store, "pretrain", identity, {})
    payload.stop_after_step(80, signal.SIGKILL)
    assert "going on from checkpoint-" in payload.run_to_the_end()
    files = payload.files()
    build(store, identity, pretrain, settings=section, recipe=RECIPE, run_id="test", force=True)
    assert payload.files() == files
