"""Payloads forked from one process that has imported their libraries, so that only the first one of a command waits for them.

torch and transformers take longer to import than most stages of a small recipe take to run (benchmarks/README.md). While
`definemed run` goes on it keeps such a fork server; the UI and Kubernetes start an interpreter for each payload.

The standard library's fork server (multiprocessing) works for the one process that started it, and its children have no environment,
standard streams or exit status of their own. This one is shared by the worker processes of all runs, and what it forks can be
followed as a child process can. It needs Linux, for process descriptors, and no GPU: CUDA cannot be used in a process forked from one
that has met it, and libraries meet it when they are imported.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from definemed_pipeline.compute import fork_server
from definemed_pipeline.compute.environment import payload_environment

ADDRESS = "DEFINEMED_FORK_SERVER"  # environment variable: the path of its socket
GPU_DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # NVIDIA, the same under Windows, AMD
LONGEST_ADDRESS = 107  # bytes of a Unix socket's path
MOST_TOLD = 64  # bytes of a process id or an exit status


@contextlib.contextmanager
def forked_payloads(threads: int) -> Iterator[None]:
    """Keep a fork server for this process and those it starts. Where they have one, or payloads cannot be forked, do nothing."""
    with tempfile.TemporaryDirectory(prefix="definemed-") as folder:
        address = str(Path(folder) / "fork-server")
        if ADDRESS in os.environ or not _can_serve(address):
            yield
            return
        with socket.socket(socket.AF_UNIX) as listener:  # open in the server alone, so that nobody waits for one that was killed
            listener.bind(address)
            listener.listen()
            server = subprocess.Popen(
                [sys.executable, "-m", fork_server.__name__, str(listener.fileno())],
                env={**os.environ, **payload_environment(threads)},
                stdin=subprocess.PIPE,  # closes when this process ends, and with it the server
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # where it fails, payloads start without it and say what is wrong
                pass_fds=[listener.fileno()],
            )
        os.environ[ADDRESS] = address
        try:
            yield
        finally:
            del os.environ[ADDRESS]
            server.communicate()


def _can_serve(address: str) -> bool:
    on_gpu = any(Path(device).exists() for device in GPU_DEVICES)
    return hasattr(os, "pidfd_open") and not on_gpu and len(os.fsencode(address)) <= LONGEST_ADDRESS


class ForkedProcess:
    """A process of the fork server, with what a launcher needs of subprocess.Popen's interface."""

    def __init__(self, connection: socket.socket, stdin: int) -> None:
        """Take a connection on which the request was sent, and the writing end of the standard input that stays open with it."""
        told, descriptors, _, _ = socket.recv_fds(connection, MOST_TOLD, 1)
        if not descriptors:
            raise ConnectionError("the fork server was killed")
        self.pid = int(told)
        self._connection, self._stdin, self._process = connection, stdin, descriptors[0]
        self._status: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status, negative for a signal. Raise subprocess.TimeoutExpired where the process still runs."""
        if self._status is None:
            self._connection.settimeout(timeout)
            try:
                told = self._connection.recv(MOST_TOLD)
            except (TimeoutError, BlockingIOError) as error:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0) from error
            os.close(self._stdin)
            os.close(self._process)
            self._connection.close()
            self._status = int(told) if told else -signal.SIGKILL  # of the server, and the payload ends with its standard input
        return self._status

    def poll(self) -> int | None:
        """Return the exit status, None where the process still runs."""
        try:
            return self.wait(0.0)
        except subprocess.TimeoutExpired:
            return None

    def terminate(self) -> None:
        """Ask the process to end."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """End the process."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._process, number)


def start_payload(
    arguments: Sequence[str], environment: Mapping[str, str], output: IO[bytes]
) -> "ForkedProcess | subprocess.Popen[bytes]":
    """Do what `python -m` does with these arguments: forked where this command has a fork server, else by an interpreter of its own.

    Its standard input is a pipe that closes when this process ends.
    """
    if ADDRESS in os.environ and (forked := _fork(os.environ[ADDRESS], arguments, environment, output)):
        return forked
    return subprocess.Popen(
        [sys.executable, "-m", *arguments], env=dict(environment), stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT
    )


def _fork(address: str, arguments: Sequence[str], environment: Mapping[str, str], output: IO[bytes]) -> ForkedProcess | None:
    """Return None where the server was killed."""
    theirs, ours = os.pipe()
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(address)
        streams = (theirs, output.fileno())
        request = fork_server.Request(
            arguments=tuple(arguments), folder=os.getcwd(), environment=dict(environment), streams=streams
        )
        request.send(connection)
        return ForkedProcess(connection, ours)
    except OSError:
        connection.close()
        os.close(ours)
        return None
    finally:
        os.close(theirs)
