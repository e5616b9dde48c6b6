"""Files outside the lake are known by their bytes, and local ones are not read again while nobody touched them."""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from definemed_pipeline.artifacts.sources import identify
from definemed_pipeline.errors import UserError


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    return tmp_path / "scratch"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files whose content was read, in order."""
    names: list[str] = []
    digest = hashlib.file_digest

    def counted(file, algorithm: str | Callable[[], object]):
        names.append(Path(file.name).name)
        return digest(file, algorithm)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    monkeypatch.setattr("definemed_pipeline.artifacts.sources.CLOCK_NANOSECONDS", 1_000_000)  # of this machine's disk, at most
    return names


def settled(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    time.sleep(0.02)
    return str(path)


def test_a_local_file_is_read_once_while_nobody_touches_it(tmp_path, scratch, reads):
    location = settled(tmp_path / "gold", b"abc")
    digests = [identify("gold", location, scratch=scratch).digest for _ in range(3)]
    assert digests == [hashlib.sha256(b"abc").hexdigest()] * 3
    assert reads == ["gold"]


def test_a_file_is_read_again_after_its_content_its_inode_or_only_its_time_changed(tmp_path, scratch, reads):
    path = tmp_path / "gold"
    identify("gold", settled(path, b"abc"), scratch=scratch)
    assert identify("gold", settled(path, b"abd"), scratch=scratch).digest == hashlib.sha256(b"abd").hexdigest()
    os.replace(settled(tmp_path / "other", b"abe"), path)
    assert identify("gold", str(path), scratch=scratch).digest == hashlib.sha256(b"abe").hexdigest()
    os.utime(path)
    identify("gold", str(path), scratch=scratch)
    assert len(reads) == 4


def test_a_rewritten_file_of_the_same_size_whose_time_was_set_back_is_noticed(tmp_path, scratch, reads):
    path = tmp_path / "gold"
    location = settled(path, b"abc")
    stat = path.stat()
    identify("gold", location, scratch=scratch)
    path.write_bytes(b"xyz")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert identify("gold", location, scratch=scratch).digest == hashlib.sha256(b"xyz").hexdigest()


def test_a_file_touched_just_now_is_not_remembered(tmp_path, scratch):
    path = tmp_path / "gold"
    path.write_bytes(b"abc")
    identify("gold", str(path), scratch=scratch)
    assert not scratch.exists()


def test_what_is_remembered_may_be_deleted_or_damaged(tmp_path, scratch, reads):
    location = settled(tmp_path / "gold", b"abc")
    identify("gold", location, scratch=scratch)
    (kept,) = (scratch / "digests").iterdir()
    kept.write_text("")
    assert identify("gold", location, scratch=scratch).digest == hashlib.sha256(b"abc").hexdigest()
    kept.unlink()
    assert identify("gold", location, scratch=scratch).digest == hashlib.sha256(b"abc").hexdigest()
    assert len(reads) == 3


def test_a_filesystem_that_vouches_for_content_is_taken_at_its_word_and_another_is_read():
    with fsspec.open("demo://gold_labels.parquet", "rb") as file:
        content = file.read()
    assert identify("gold", "demo://gold_labels.parquet").digest == hashlib.sha256(content).hexdigest()
    fsspec.filesystem("memory").pipe_file("/gold", b"abc")
    assert identify("gold", "memory://gold").digest == hashlib.sha256(b"abc").hexdigest()


@pytest.mark.parametrize("location", ["{}/none", "{}", "{}/file/below"])
def test_a_file_that_is_not_there_is_named_with_the_cure(tmp_path, scratch, location):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=r"gold: there is no file .*; correct the path in the recipe"):
        identify("gold", location.format(tmp_path), scratch=scratch)
