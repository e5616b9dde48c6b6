"""Watches as doorbells: whatever they say, or that they break, only means that the state is to be read anew.

So no event can be missed, read twice or be out of date, however the watch ends; without any watch the state is read every few seconds.
"""

import contextlib
import threading
from collections.abc import Callable
from types import TracebackType

from urllib3.exceptions import HTTPError

from definemed_pipeline.compute.kubernetes.cluster import ApiError, Cluster, Response
from definemed_pipeline.errors import UserError

SECONDS_BETWEEN_WATCHES = 1.0
LONGEST_SILENCE = 10.0


class Doorbell:
    """Rings when a Job or one of its pods changes; use as a context manager."""

    def __init__(self, cluster: Cluster, job: str) -> None:
        self._rung, self._closing = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._open: set[Response] = set()
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
        with self._lock:
            self._closing.set()
            for response in self._open:
                response.shutdown()
        for thread in self._threads:
            thread.join()

    def _listen(self, watch: Callable[[str], Response], job: str) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(ApiError, UserError, HTTPError, OSError):  # what is wrong is told by whoever reads the state
                self._ring_at_every_word(watch(job))
            self._closing.wait(SECONDS_BETWEEN_WATCHES)

    def _ring_at_every_word(self, response: Response) -> None:
        with self._lock:
            if self._closing.is_set():
                response.close()
                return
            self._open.add(response)
        try:
            for _ in response.stream():
                self._rung.set()
        finally:
            with self._lock:
                self._open.discard(response)
            response.close()
