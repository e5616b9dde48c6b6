"""Watches as doorbells: whatever they say, or that they break, only means that the state is to be read anew.

So no event can be missed, read twice or be out of date, however the watch ends; without any watch the state is read every few seconds.
"""

import contextlib
import threading
from collections.abc import Callable
from types import TracebackType

from urllib3.exceptions import HTTPError

from definemed_pipeline.compute.kubernetes.cluster import ApiError, Cluster, Response
from definemed_pipeline.compute.kubernetes.streams import Streams
from definemed_pipeline.errors import UserError

SECONDS_BETWEEN_WATCHES = 1.0
LONGEST_SILENCE = 10.0


class Doorbell:
    """Rings when a Job or one of its pods changes; use as a context manager."""

    def __init__(self, cluster: Cluster, job: str) -> None:
        self._rung, self._streams = threading.Event(), Streams()
        watches: tuple[Callable[[str], Response], ...] = (cluster.watch_job, cluster.watch_pods)
        self._threads = [threading.Thread(target=self._listen, args=(watch, job), daemon=True) for watch in watches]

    def wait(self) -> None:
        """Return at the next ring, or after a while of silence."""
        self._rung.wait(LONGEST_SILENCE)
        self._rung.clear()

    def __enter__(self) -> "Doorbell":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._streams.hang_up()
        for thread in self._threads:
            thread.join()

    def _listen(self, watch: Callable[[str], Response], job: str) -> None:
        while not self._streams.closing.is_set():
            with contextlib.suppress(ApiError, UserError, HTTPError, OSError):  # what is wrong is told by whoever reads the state
                for _ in self._streams.read(watch(job)):
                    self._rung.set()
            self._streams.closing.wait(SECONDS_BETWEEN_WATCHES)
