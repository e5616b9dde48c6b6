"""Answers of the API server that do not end (watches, logs), read by several threads until one of them hangs up on all."""

import threading
from collections.abc import Iterator

from definemed_pipeline.compute.kubernetes.cluster import Response


class Streams:
    """The streams that are open. `closing` is set once they are hung up on; what is opened later is closed at once."""

    def __init__(self) -> None:
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._open: set[Response] = set()

    def read(self, response: Response) -> Iterator[bytes]:
        """Yield what comes, until the stream ends or is hung up on."""
        with self._lock:
            if self.closing.is_set():
                response.close()
                return
            self._open.add(response)
        try:
            yield from response.stream()
        finally:
            with self._lock:
                self._open.discard(response)
            response.close()

    def hang_up(self) -> None:
        """End every stream, so that no thread waits for a word any more."""
        with self._lock:
            self.closing.set()
            for response in self._open:
                response.shutdown()
