"""A payload's process, given its spec by `--spec` as a person gives it, forked as those of `definemed run` are."""

import os
import subprocess
import uuid
from pathlib import Path

from definemed_pipeline.compute.forking import start_payload


class PayloadProcess:
    """Started when it is made; what it says, on standard output and error, goes into a file beside the spec."""

    def __init__(self, module: str, spec: Path, **environment: str) -> None:
        self._output = spec.with_name(f"{uuid.uuid4()}.log")
        with self._output.open("wb") as output:
            self._process = start_payload([module, "--spec", str(spec)], {**os.environ, **environment}, output)

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @property
    def said(self) -> str:
        return self._output.read_text("utf-8")

    def kill(self) -> None:
        self._process.kill()

    def terminate(self) -> None:
        self._process.terminate()

    def status(self, *, seconds: float = 600) -> int:
        """Return the exit status when it has ended, negative for a signal; one that takes too long is killed."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise AssertionError(f"the payload did not end; it said: {self.said}") from None
