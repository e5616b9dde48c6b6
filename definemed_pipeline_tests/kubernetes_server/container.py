"""A container as a local process: what it is told, what it says, how it ends.

A process is no container. It sees the machine's own file system, so that paths below a volume's mount path are told as the
folder they stand for (`pod_spec.py`). It has the user, the rights and the resources of the tests, whatever its security context
and its limits say. And SIGTERM ends it even where it has no handler, as it would not end a container's first process.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from definemed_pipeline_tests.kubernetes_server.container_log import ContainerLog

MARK = "KUBERNETES_SERVER_CONTAINER"  # in the environment of all processes of a container, which are found by it
CANNOT_START = 128


class Container:
    """One container of one pod, running once."""

    def __init__(self, mark: str, log: ContainerLog) -> None:
        self.mark, self.log = mark, log
        self.exit_code: int | None = None
        self.reason = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._copier: threading.Thread | None = None
        self._was_out_of_memory = False

    def start(self, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        """Start the process. Raise OSError where the command cannot be run."""
        try:
            self._process = subprocess.Popen(
                command,
                env={**environment, MARK: self.mark},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError:
            self.exit_code, self.reason = CANNOT_START, "StartError"
            self.log.end()
            raise
        self._copier = threading.Thread(target=self.log.copy, args=(self._process.stdout,), name=f"log of {self.mark}")
        self._copier.start()

    def wait(self) -> None:
        """Wait for the end of the first process; whatever it started ends with it, as in a container."""
        if self._process is None or self._copier is None:
            return
        code = self._process.wait()
        self._kill_all()
        self._copier.join()
        if self._process.stdout:
            self._process.stdout.close()
        self.exit_code = code if code >= 0 else 128 - code
        self.reason = "OOMKilled" if self._was_out_of_memory else "Error" if self.exit_code else "Completed"
        self.log.end()

    def terminate(self) -> None:
        """Ask the first process to end."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self, *, out_of_memory: bool = False) -> None:
        """End all processes at once."""
        if self._process is not None and self._process.poll() is None:
            self._was_out_of_memory = self._was_out_of_memory or out_of_memory
            self._process.kill()
            self._kill_all()

    def _kill_all(self) -> None:
        while living := list(self._processes()):
            for process in living:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.001)

    def _processes(self) -> Iterator[int]:
        mark = f"{MARK}={self.mark}".encode()
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with suppress(OSError):  # it has ended meanwhile, or is another user's
                    if mark in (folder / "environ").read_bytes().split(b"\0"):
                        yield int(folder.name)
