import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from definemed_pipeline.compute import forking
from definemed_pipeline.compute.forking import ADDRESS, ForkedProcess, forked_payloads, start_payload

MODULE = "definemed_pipeline_tests.compute.telling"
PROJECT = Path(__file__).parents[2]
PATIENCE_SECONDS = 300
Start = Callable[..., "ForkedProcess | subprocess.Popen[bytes]"]


@contextlib.contextmanager
def running_fork_server() -> Iterator[psutil.Process]:
    """Let payloads be forked from a server of one's own, and yield its process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(ADDRESS, raising=False)
        before = set(psutil.Process().children())
        with forked_payloads(threads=1):
            if ADDRESS not in os.environ:
                pytest.skip("payloads cannot be forked here: there is a GPU, or no process descriptor")
            (server,) = set(psutil.Process().children()) - before
            yield server


@pytest.fixture(scope="module")
def lasting_fork_server() -> Iterator[tuple[str, psutil.Process]]:
    """Keep one for several tests, so that it imports its libraries once: address and process."""
    with running_fork_server() as server:
        yield os.environ[ADDRESS], server


@pytest.fixture
def fork_server(lasting_fork_server: tuple[str, psutil.Process], monkeypatch: pytest.MonkeyPatch) -> psutil.Process:
    address, server = lasting_fork_server
    monkeypatch.setenv(ADDRESS, address)
    return server


@pytest.fixture
def output(tmp_path: Path) -> Iterator[io.BufferedRandom]:
    with (tmp_path / "output").open("w+b") as file:
        yield file


@pytest.fixture
def start(output: io.BufferedRandom) -> Start:
    def start_telling(**environment: str) -> "ForkedProcess | subprocess.Popen[bytes]":
        return start_payload([MODULE], {**os.environ, **environment}, output)

    return start_telling


def told_by(output: io.BufferedRandom) -> dict[str, Any]:
    output.seek(0)
    told: dict[str, Any] = json.loads(output.readline())
    return told


def wait_until(fulfilled: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not fulfilled():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.usefixtures("fork_server")
def test_a_forked_payload_is_what_an_interpreter_of_its_own_would_be_and_has_the_libraries_imported(
    start: Start, output: io.BufferedRandom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # not where the server was started
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    assert start(WORD="gesagt").wait() == 0
    forked = told_by(output)
    output.seek(0)
    output.truncate()
    monkeypatch.delenv(ADDRESS)
    assert start(WORD="gesagt").wait() == 0
    started = told_by(output)
    assert (forked.pop("imported"), started.pop("imported")) == (True, False)
    assert forked == started
    assert forked["title"] == ["-m", MODULE]  # what `ps` shows
    assert forked["word"] == "gesagt"
    assert output.readline() == b"said as an error\n"


@pytest.mark.slow
@pytest.mark.usefixtures("fork_server")
def test_how_a_forked_payload_ends_is_told_as_it_is_of_a_child(start: Start) -> None:
    assert start(STATUS="64").wait() == 64
    waiting = start(WAIT="1")
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(0.05)
    assert waiting.poll() is None
    waiting.terminate()
    assert waiting.wait() == waiting.poll() == -signal.SIGTERM
    waiting.kill()  # too late, and nothing happens
    killed = start(WAIT="1")
    killed.kill()
    assert killed.wait() == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.usefixtures("fork_server")
def test_several_processes_of_a_command_have_payloads_at_work_at_once(start: Start, tmp_path: Path) -> None:
    here = start(WAIT="1")
    code = (
        "import os, sys; from definemed_pipeline.compute.forking import ForkedProcess, start_payload\n"
        f"payload = start_payload([{MODULE!r}], dict(os.environ), open({str(tmp_path / 'elsewhere')!r}, 'wb'))\n"
        "assert isinstance(payload, ForkedProcess)\n"
        "sys.exit(payload.wait())"
    )
    environment = {**os.environ, "STATUS": "7"}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 7
    assert here.poll() is None
    here.terminate()
    here.wait()


def test_a_command_within_another_shares_its_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ADDRESS, "of the other")
    before = set(psutil.Process().children())
    with forked_payloads(threads=1):
        assert os.environ[ADDRESS] == "of the other"
        assert set(psutil.Process().children()) == before
    assert os.environ[ADDRESS] == "of the other"


@pytest.mark.slow
def test_a_payload_ends_with_its_launcher_and_the_server_goes_on(
    fork_server: psutil.Process, start: Start, tmp_path: Path
) -> None:
    path = tmp_path / "elsewhere"
    code = (
        "import os; from definemed_pipeline.compute.forking import start_payload\n"
        f"start_payload([{MODULE!r}], {{**os.environ, 'WAIT': '1'}}, open({str(path)!r}, 'wb')).wait()"
    )
    launcher = subprocess.Popen([sys.executable, "-c", code])
    wait_until(lambda: path.exists() and b"said" in path.read_bytes())
    launcher.kill()
    launcher.wait()
    wait_until(lambda: b"closed" in path.read_bytes() and not fork_server.children())
    assert start().wait() == 0


@pytest.mark.slow
def test_a_launcher_that_is_killed_while_it_asks_does_no_harm(fork_server: psutil.Process, start: Start) -> None:
    for sent in (b"", b"\n", b'\n{"arguments": ["'):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(os.environ[ADDRESS])
            if sent:
                socket.send_fds(connection, [sent], [0, 1])
    assert isinstance(forked := start(), ForkedProcess)
    assert forked.wait() == 0
    assert fork_server.is_running()


@pytest.mark.slow
def test_where_the_server_is_killed_its_payload_counts_as_killed_and_the_next_starts_without_it(
    output: io.BufferedRandom, start: Start
) -> None:
    with running_fork_server() as server:  # its own, to kill it
        lost = start(WAIT="1")
        wait_until(lambda: b"said" in Path(output.name).read_bytes())
        server.kill()
        assert lost.wait() == -signal.SIGKILL  # and is tried again
        wait_until(lambda: b"closed" in Path(output.name).read_bytes())
        after = start(STATUS="3")
        assert isinstance(after, subprocess.Popen)
        assert after.wait() == 3


def have_a_gpu(monkeypatch: pytest.MonkeyPatch, _: Path) -> None:
    monkeypatch.setattr(forking, "GPU_DEVICES", (sys.executable,))


def have_a_long_temporary_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / ("a" * 100)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))


@pytest.mark.parametrize("hinder", [have_a_gpu, have_a_long_temporary_folder])
def test_where_payloads_cannot_be_forked_they_start_as_interpreters(
    hinder: Callable[[pytest.MonkeyPatch, Path], None], start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(ADDRESS, raising=False)
    hinder(monkeypatch, tmp_path)
    with forked_payloads(threads=1):
        payload = start(STATUS="5")
        assert isinstance(payload, subprocess.Popen)
        assert payload.wait() == 5
