"""Copies of Hub files are shared, bounded, and survive kills: by threads and processes as they really run."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from definemed_pipeline.corpus.sources import hub_cache
from definemed_pipeline.corpus.sources.hub_cache import HubCache
from definemed_pipeline.corpus.sources.listing import list_source
from definemed_pipeline.errors import UserError
from definemed_pipeline_tests.corpus.sources.conftest import fineweb2
from definemed_pipeline_tests.corpus.sources.hub_server import Fault, Hub

PIECE = 10 << 20  # what the client writes at a time
READER = """
import sys, hashlib
from pathlib import Path
from definemed_pipeline.corpus.sources.opening import open_file
location, digest, scratch = sys.argv[1:]
with open_file(location, digest, scratch=Path(scratch), report=lambda text: print(text, flush=True)) as file:
    print(hashlib.file_digest(file, "sha256").hexdigest(), flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def cache(tmp_path: Path) -> HubCache:
    return HubCache(folder=tmp_path / "cache", limit=100)


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextmanager
def using(cache: HubCache, content: bytes, told: list[str] | None = None) -> Iterator[bytes]:
    """Open content by its digest, fetched from nowhere where it is not in the cache."""
    messages: list[str] = [] if told is None else told

    def fetch(partial: Path, size: int) -> None:
        messages.append(f"fetched {size}")
        partial.write_bytes(content)

    with cache.open(digest_of(content), lambda: len(content), fetch, messages.append) as file:
        yield file.read()


def kept(cache: HubCache) -> set[str]:
    return {path.name for path in cache.folder.iterdir() if not path.name.endswith(".lock")}


def reader(hub: Hub, scratch: Path) -> "subprocess.Popen[str]":
    """Start a process that reads the only file of the Hub and holds it until its standard input ends."""
    (file,) = list_source(fineweb2()).values()
    arguments = [sys.executable, "-c", READER, file.location, file.digest or "", str(scratch)]
    return subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ})


def test_the_least_recently_used_file_leaves_first_and_the_bound_holds(cache):
    first, second, third = (bytes([n]) * 40 for n in range(3))
    for content in (first, second, first, third):  # first is used again before third comes
        with using(cache, content) as read:
            assert read == content
        time.sleep(0.01)
        assert sum(path.stat().st_size for path in cache.folder.iterdir()) <= cache.limit
    assert kept(cache) == {digest_of(first), digest_of(third)}


def test_a_file_in_use_stays_although_it_is_the_oldest(cache):
    first, second, third = (bytes([n]) * 40 for n in range(3))
    with using(cache, first):
        with using(cache, second):
            pass
        with using(cache, third):
            assert kept(cache) == {digest_of(first), digest_of(third)}


def test_what_else_lies_in_the_folder_is_left_alone(cache):
    (cache.folder / "thesis").mkdir(parents=True)
    (cache.folder / "thesis.tex").write_bytes(b"x" * 500)
    for content in (b"a" * 60, b"b" * 60):
        with using(cache, content):
            pass
    assert kept(cache) == {"thesis", "thesis.tex", digest_of(b"b" * 60)}


def test_a_file_larger_than_the_bound_is_refused_with_the_cure(cache):
    with (
        pytest.raises(UserError, match=r"leaves no room .*raise source.cache_gib, or set source.access to scan"),
        using(cache, b"x" * 101),
    ):
        pass
    assert kept(cache) == set()


def test_who_holds_a_file_does_not_wait_for_room_that_it_takes_itself(cache):
    with using(cache, b"a" * 60), pytest.raises(UserError, match="leaves no room"), using(cache, b"b" * 60):
        pass


def test_who_holds_nothing_waits_until_there_is_room(cache, monkeypatch):
    monkeypatch.setattr(hub_cache, "POLL_SECONDS", 0.01)
    told: list[str] = []
    with using(cache, b"a" * 60):
        monkeypatch.setattr(hub_cache, "_IN_USE", set())  # as another process sees it

        def fetch_second() -> None:
            with using(cache, b"b" * 60, told):
                pass

        waiting = threading.Thread(target=fetch_second)
        waiting.start()
        while not told:
            time.sleep(0.01)
        assert "waiting for room" in told[0]
        assert kept(cache) == {digest_of(b"a" * 60)}
    waiting.join(30)
    assert kept(cache) == {digest_of(b"b" * 60)}


def test_what_a_killed_download_left_counts_as_the_whole_file_and_can_be_evicted(cache):
    cache.folder.mkdir()
    abandoned = cache.folder / f"{digest_of(b'abandoned')}.90.partial"
    abandoned.write_bytes(b"x")
    os.utime(abandoned, (1, 1))
    with using(cache, b"y" * 20):
        assert kept(cache) == {digest_of(b"y" * 20)}


def test_a_download_that_goes_on_is_not_evicted(cache, monkeypatch):
    monkeypatch.setattr(hub_cache, "POLL_SECONDS", 0.01)
    started, finish, told = threading.Event(), threading.Event(), []

    def slow(partial: Path, _: int) -> None:
        started.set()
        finish.wait(30)
        partial.write_bytes(b"a" * 60)

    def fetch_slowly() -> None:
        with cache.open(digest_of(b"a" * 60), lambda: 60, slow, told.append) as file:
            told.append(file.read().decode())

    going_on = threading.Thread(target=fetch_slowly)
    going_on.start()
    started.wait(30)

    def fetch_another() -> None:
        with using(cache, b"b" * 60, told):
            pass

    other = threading.Thread(target=fetch_another)
    other.start()
    while not told:
        time.sleep(0.01)
    assert "waiting for room" in told[0]
    finish.set()
    going_on.join(30)
    other.join(30)
    assert "a" * 60 in told


def test_a_full_disk_is_told_with_the_cure_and_keeps_what_was_fetched(cache):
    def full(partial: Path, _: int) -> None:
        partial.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"no space is left .*DEFINEMED_HUB_CACHE"), cache.open("d" * 64, lambda: 50, full, print):
        pass
    assert kept(cache) == {f"{'d' * 64}.50.partial"}


@pytest.mark.slow
def test_two_processes_that_want_one_file_fetch_it_once(hub, scratch):
    body = random.Random(1).randbytes(1 << 20)
    hub.commit({"000_00000.parquet": body})
    processes = [reader(hub, scratch) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert all(digest_of(body) in output for output in outputs)
    assert len(hub.asked("cdn")) == 1


@pytest.mark.slow
def test_a_file_that_another_process_reads_is_not_evicted(hub, scratch):
    body = random.Random(1).randbytes(1 << 20)
    hub.commit({"000_00000.parquet": body})
    cache = HubCache(folder=scratch / "hub_cache", limit=(1 << 20) + 60)
    holding = reader(hub, scratch)
    while digest_of(body) not in holding.stdout.readline():
        assert holding.poll() is None
    with using(cache, b"a" * 60), pytest.raises(UserError, match="leaves no room"), using(cache, b"b" * 60):
        pass
    assert digest_of(body) in kept(cache)
    holding.communicate(timeout=60)
    with using(cache, b"b" * 60):
        assert digest_of(body) not in kept(cache)


@pytest.mark.slow
def test_a_download_killed_in_the_middle_goes_on_where_it_was(hub, scratch):
    body = random.Random(2).randbytes(PIECE + (3 << 20))
    hub.commit({"000_00000.parquet": body})
    hub.faults["cdn"] = [Fault(cut_after=PIECE + (1 << 20), way="silent")]
    killed = reader(hub, scratch)
    assert hub.silent.wait(120)
    partial = scratch / "hub_cache" / f"{digest_of(body)}.{len(body)}.partial"
    while not partial.exists() or partial.stat().st_size < PIECE:
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (scratch / "hub_cache" / digest_of(body)).exists()
    assert digest_of(body) in reader(hub, scratch).communicate(timeout=120)[0]
    assert [request.range for request in hub.asked("cdn")] == [None, f"bytes={PIECE}-"]
    assert (scratch / "hub_cache" / digest_of(body)).read_bytes() == body
