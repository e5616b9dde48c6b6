import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint.state_dict_saver import save

from definemed_pipeline.training import checkpoints
from definemed_pipeline.training.checkpoints import Checkpoints, training_tensors


class World:
    """A little model with its optimiser, and checkpoints of it."""

    def __init__(self, folder: Path, *, mirror: str | None = None, kept: int = 2) -> None:
        torch.manual_seed(1)
        self.model = torch.nn.Linear(3, 2)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.1, fused=True)
        self.said: list[str] = []
        self.checkpoints = Checkpoints(folder, mirror=mirror, kept=kept, report=self.said.append)

    def step(self) -> None:
        self.model(torch.rand(4, 3)).sum().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def tensors(self) -> dict[str, torch.Tensor]:
        return training_tensors(self.model, self.optimizer)

    def copy(self) -> dict[str, torch.Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self.tensors().items()}

    def save(self, step: int) -> None:
        self.checkpoints.save(step, self.tensors(), {"schedule": {"at": step}})
        self.checkpoints.finish()


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def world(tmp_path) -> World:
    return World(tmp_path / "checkpoints")


def steps_in(folder: Path) -> list[int]:
    return sorted(int(path.name.split("-")[1]) for path in folder.glob("checkpoint-*"))


def test_weights_and_moments_come_back_as_they_were_saved(world) -> None:
    world.step()
    world.step()
    saved = world.copy()
    world.save(2)
    world.step()
    fresh = World(world.checkpoints.folder)
    found = fresh.checkpoints.newest()
    fresh.checkpoints.load(found, fresh.tensors())
    assert same(fresh.tensors(), saved)
    assert json.loads((found / "schedule.json").read_text()) == {"at": 2}


def test_a_step_taken_while_a_checkpoint_is_written_does_not_enter_it(world, monkeypatch) -> None:
    gate = threading.Event()
    monkeypatch.setattr(checkpoints, "save", lambda *args, **kwargs: gate.wait(10) and save(*args, **kwargs))
    world.step()
    saved = world.copy()
    world.checkpoints.save(1, world.tensors(), {})
    world.step()
    gate.set()
    world.checkpoints.finish()
    world.checkpoints.load(world.checkpoints.newest(), world.tensors())
    assert same(world.tensors(), saved)


def test_random_draws_go_on_where_they_were(world) -> None:
    world.save(1)
    expected = torch.rand(3)
    torch.rand(5)
    world.checkpoints.load_random_states(world.checkpoints.newest())
    assert torch.equal(torch.rand(3), expected)


def test_a_checkpoint_holds_no_pickle(world) -> None:
    world.step()
    world.save(1)
    files = {path.suffix for path in world.checkpoints.newest().rglob("*") if path.is_file()}
    assert files == {".safetensors", ".json"}


def test_the_newest_is_the_one_of_most_steps_and_not_the_last_by_name(world) -> None:
    world.save(90)
    world.save(100)
    assert world.checkpoints.newest().name == "checkpoint-100"


def test_the_last_ones_are_kept_and_the_best(world) -> None:
    world.checkpoints.best = 2
    for step in range(1, 7):
        world.save(step)
    assert steps_in(world.checkpoints.folder) == [2, 5, 6]


def test_a_checkpoint_that_was_never_finished_does_not_count_and_is_removed(world) -> None:
    world.save(1)
    world.save(2)
    (world.checkpoints.folder / "checkpoint-2" / "seal.json").unlink()
    assert world.checkpoints.newest().name == "checkpoint-1"
    assert steps_in(world.checkpoints.folder) == [1]
    assert world.said == ["checkpoint-2 lacks seal.json: falling back to the one before"]


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("part", ["tensors/*", "random/*", "schedule.json"])
@pytest.mark.parametrize(("harm", "told"), [(truncated, "is damaged"), (flipped, "is damaged"), (Path.unlink, "lacks")])
def test_a_corrupt_newest_falls_back_to_the_one_before_and_says_so(world, part, harm: Callable[[Path], None], told) -> None:
    world.save(1)
    world.save(2)
    (harmed,) = (world.checkpoints.folder / "checkpoint-2").glob(part)
    harm(harmed)
    assert world.checkpoints.newest().name == "checkpoint-1"
    assert len(world.said) == 1
    assert world.said[0].startswith(f"checkpoint-2 {told}")


def test_a_seal_cut_short_does_not_count(world) -> None:
    world.save(1)
    (world.checkpoints.folder / "checkpoint-1" / "seal.json").write_text('{"tensors/sh', "utf-8")
    assert world.checkpoints.newest() is None


def test_without_checkpoints_there_is_none(world) -> None:
    assert world.checkpoints.newest() is None


def test_what_kept_a_checkpoint_from_being_written_is_raised(world) -> None:
    world.checkpoints.folder.write_text("a file where a folder should be")
    with pytest.raises(NotADirectoryError):
        world.save(1)


def test_a_new_machine_finds_the_checkpoint_in_a_remote_lake(bucket, tmp_path) -> None:
    first = World(tmp_path / "one", mirror=bucket)
    first.step()
    saved = first.copy()
    first.save(1)
    other = World(tmp_path / "two", mirror=bucket)
    other.checkpoints.load(other.checkpoints.newest(), other.tensors())
    assert same(other.tensors(), saved)


def test_a_local_copy_that_was_damaged_is_fetched_again(bucket, tmp_path) -> None:
    world = World(tmp_path / "one", mirror=bucket)
    world.save(1)
    truncated(world.checkpoints.folder / "checkpoint-1" / "schedule.json")
    assert world.checkpoints.newest().name == "checkpoint-1"
    assert world.said == ["fetching checkpoint-1 from the lake"]


def test_an_upload_that_was_killed_before_its_seal_does_not_count(bucket, tmp_path) -> None:
    world = World(tmp_path / "one", mirror=bucket)
    world.save(1)
    world.save(2)
    mirror = world.checkpoints.mirror
    mirror.filesystem.rm_file(f"{mirror.root}/checkpoint-2/seal.json")
    assert World(tmp_path / "two", mirror=bucket).checkpoints.newest().name == "checkpoint-1"


def test_a_remote_lake_keeps_as_few_as_the_folder(bucket, tmp_path) -> None:
    world = World(tmp_path / "one", mirror=bucket, kept=1)
    for step in range(1, 4):
        world.save(step)
    assert world.checkpoints.mirror.names() == ["checkpoint-3"]
