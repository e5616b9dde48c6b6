"""The logs of a Job's pods, copied live to this process' standard output, which Dagster keeps as the step's log."""

import math
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from types import TracebackType

from urllib3.exceptions import HTTPError

from definemed_pipeline.compute.kubernetes.cluster import ApiError, Cluster, MissingError
from definemed_pipeline.compute.kubernetes.streams import Streams
from definemed_pipeline.errors import UserError

SECONDS_BETWEEN_TRIES = 1.0
SECONDS_FOR_THE_REST = 5.0
TAIL_LINES = 15


class PodLogs:
    """Follows each pod once; a stream that is cut goes on after the last line. Use as a context manager."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)  # the last lines of all
        self._threads: dict[str, threading.Thread] = {}
        self._streams = Streams()

    def follow(self, pods: Iterable[str]) -> None:
        """Begin with the pods that are not followed yet."""
        for pod in pods:
            if pod not in self._threads:
                self._threads[pod] = threading.Thread(target=self._copy, args=(pod,), daemon=True)
                self._threads[pod].start()

    def __enter__(self) -> "PodLogs":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Take what the ended pods have still to say, then hang up."""
        for thread in self._threads.values():
            thread.join(SECONDS_FOR_THE_REST if error is None else 0)
        self._streams.hang_up()
        for thread in self._threads.values():
            thread.join()

    def _copy(self, pod: str) -> None:
        last, heard = "", time.monotonic()
        while not self._streams.closing.is_set():
            is_new = False
            try:
                for stamp, line in self._lines(pod, seconds=math.ceil(time.monotonic() - heard) + 2 if last else None):
                    if stamp > last:  # seconds are coarse: the first lines may be known
                        print(f"[{pod}] {line}", flush=True)
                        self.tail.append(line)
                        last, heard, is_new = stamp, time.monotonic(), True
                if not is_new:
                    return  # the container has ended: its log would stay open otherwise
            except MissingError:
                return  # the pod is gone; what it said is in the lake
            except (ApiError, UserError, HTTPError, OSError):
                self._streams.closing.wait(SECONDS_BETWEEN_TRIES)

    def _lines(self, pod: str, seconds: int | None) -> Iterator[tuple[str, str]]:
        """Yield the time and the text of each line, from so many seconds ago."""
        rest = b""
        for data in self._streams.read(self.cluster.log(pod, seconds)):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield _stamped(line)
        if rest:  # last words without a line's end
            yield _stamped(rest)


def _stamped(line: bytes) -> tuple[str, str]:
    """Split a line of a log into its time, which sorts as text, and what was said."""
    stamp, _, text = line.decode("utf-8", "replace").partition(" ")
    return stamp, text
