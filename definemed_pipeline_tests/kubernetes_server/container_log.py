"""A container's log, as container runtimes write it: each line with its time, and whether it ended with a newline."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from definemed_pipeline_tests.kubernetes_server.store import Clock

LONGEST_LINE = 16384  # longer ones are written in parts
SECONDS_BETWEEN_LOOKS = 0.1


@dataclass(frozen=True)
class Line:
    """One entry of a log; `is_whole` where it ended with a newline."""

    stamp: str
    text: bytes
    is_whole: bool


class ContainerLog:
    """One file, written by one thread and followed by any number."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path, self.clock = path, clock
        self._grown = threading.Condition()
        self._ended = False
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def copy(self, output: BinaryIO) -> None:
        """Write what a process says until it has no more to say."""
        with self.path.open("ab", buffering=0) as file:
            while said := output.readline(LONGEST_LINE):
                tag = b"F" if said.endswith(b"\n") else b"P"
                file.write(b"%s %s %s\n" % (self.clock.fine_stamp().encode(), tag, said.rstrip(b"\n")))
                with self._grown:
                    self._grown.notify_all()

    def end(self) -> None:
        """Tell those who follow that nothing more will come."""
        with self._grown:
            self._ended = True
            self._grown.notify_all()

    def lines(
        self, *, since: str = "", tail: int | None = None, follow: bool = False, is_cut: Callable[[], bool] = bool
    ) -> Iterator[Line]:
        """Yield the lines from a time on, or the last ones; with `follow` also those to come, until the container ends."""
        with self.path.open("rb") as file:
            earlier = [line for line in self._read(file) if line.stamp >= since]
            yield from earlier if tail is None else deque(earlier, maxlen=tail)
            while follow and not is_cut():
                with self._grown:
                    is_last = self._ended
                    new = list(self._read(file))
                    if not new and not is_last:
                        self._grown.wait(SECONDS_BETWEEN_LOOKS)
                yield from new
                if is_last:
                    return

    @staticmethod
    def _read(file: BinaryIO) -> Iterator[Line]:
        """Yield what was written since the last time."""
        while (line := file.readline()).endswith(b"\n"):
            stamp, tag, text = line[:-1].split(b" ", 2)
            yield Line(stamp.decode(), text, tag == b"F")
        file.seek(-len(line), 1)
