"""A file is there whole or not at all."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from definemed_pipeline.artifacts.files import written_whole


def replace(path: Path, content: bytes) -> None:
    with written_whole(path) as unfinished:
        unfinished.write_bytes(content)


def test_the_old_content_stays_until_the_new_is_whole(tmp_path):
    path = tmp_path / "file"
    replace(path, b"old")
    with written_whole(path) as unfinished:
        unfinished.write_bytes(b"half")
        assert path.read_bytes() == b"old"
        unfinished.write_bytes(b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_a_failure_leaves_the_old_content_and_nothing_half_written(tmp_path):
    path = tmp_path / "file"
    replace(path, b"old")
    with pytest.raises(TypeError), written_whole(path) as unfinished, unfinished.open("wb") as file:
        file.writelines([b"half", None])
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def _killed_while_writing(path: Path) -> None:
    with written_whole(path) as unfinished:
        unfinished.write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_leaves_the_old_content(tmp_path):
    path = tmp_path / "file"
    replace(path, b"old")
    process = multiprocessing.get_context("spawn").Process(target=_killed_while_writing, args=(path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    replace(path, b"new")
    assert path.read_bytes() == b"new"


def test_two_writers_at_once_do_not_meet(tmp_path):
    path = tmp_path / "file"
    with written_whole(path) as first, written_whole(path) as second:
        first.write_bytes(b"first")
        second.write_bytes(b"second")
    assert path.read_bytes() == b"first"  # the last that finished


def test_the_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "other").write_bytes(b"")
    replace(tmp_path / "file", b"")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "other").stat().st_mode
