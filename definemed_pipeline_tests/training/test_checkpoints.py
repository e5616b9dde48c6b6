from pathlib import Path

import pytest

from definemed_pipeline.training.checkpoints import newest_intact, seal


def checkpoint(folder: Path, step: int, *, sealed: bool = True) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    (path / "model.safetensors").write_bytes(b"weights" * step)
    (path / "optimizer.pt").write_bytes(b"moments" * step)
    if sealed:
        seal(path)
    return path


def test_the_newest_is_the_one_of_most_steps_and_not_the_last_by_name(tmp_path) -> None:
    checkpoint(tmp_path, 90)
    newest = checkpoint(tmp_path, 100)
    assert newest_intact(tmp_path) == newest


def test_a_checkpoint_that_was_never_finished_does_not_count_and_is_removed(tmp_path) -> None:
    older, unfinished = checkpoint(tmp_path, 1), checkpoint(tmp_path, 2, sealed=False)
    assert newest_intact(tmp_path) == older
    assert not unfinished.exists()


@pytest.mark.parametrize("harm", [lambda file: file.write_bytes(b"w"), lambda file: file.unlink()])
def test_a_corrupt_newest_falls_back_to_the_one_before(tmp_path, harm) -> None:
    older, newest = checkpoint(tmp_path, 1), checkpoint(tmp_path, 2)
    harm(newest / "model.safetensors")
    assert newest_intact(tmp_path) == older


def test_a_seal_cut_short_does_not_count(tmp_path) -> None:
    only = checkpoint(tmp_path, 1)
    (only / "seal.json").write_text('{"model.safe', "utf-8")
    assert newest_intact(tmp_path) is None


def test_without_checkpoints_there_is_none(tmp_path) -> None:
    assert newest_intact(tmp_path) is None
