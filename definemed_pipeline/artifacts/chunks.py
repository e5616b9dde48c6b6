"""Text that grows in the lake: numbered objects, since no object store appends.

    <folder>/00001  00002  …

A writer sends what has gathered every two seconds and at its end, and keeps what a store in trouble did not take for the next time, so
that the order holds and nothing is sent twice. A reader takes the numbers as they come. Needs the standard library and fsspec only.
"""

import logging
import threading
from collections.abc import Iterator
from types import TracebackType

from definemed_pipeline.artifacts.store import Store

SECONDS_BETWEEN_CHUNKS = 2.0
TRIES_AT_THE_END = 5
LOG = logging.getLogger(__name__)


class ChunkWriter:
    """Append text to a folder of the lake from any thread; use as a context manager, whose end sends the rest."""

    def __init__(self, store: Store, folder: str) -> None:
        self.store, self.folder = store, folder
        self._gathered: list[str] = []
        self._number = 1
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._send_repeatedly, daemon=True)

    def write(self, text: str) -> None:
        """Take text; it is sent in a moment."""
        with self._lock:
            self._gathered.append(text)

    def __enter__(self) -> "ChunkWriter":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closing.set()
        self._thread.join()
        for _ in range(TRIES_AT_THE_END):
            if self._send():
                return
        LOG.warning("%s: the last lines could not be sent", self.folder)

    def _send_repeatedly(self) -> None:
        while not self._closing.wait(SECONDS_BETWEEN_CHUNKS):
            self._send()

    def _send(self) -> bool:
        """Send what has gathered; tell whether nothing is left."""
        with self._lock:
            taken, self._gathered = self._gathered, []
        if not taken:
            return True
        try:
            self.store.write(self.store.path(self.folder, f"{self._number:05}"), "".join(taken))
        except Exception as error:
            LOG.warning("%s: %s; sent again in a moment", self.folder, error)
            with self._lock:
                self._gathered = [*taken, *self._gathered]
            return False
        self._number += 1
        return True


class ChunkReader:
    """Read what writers append below a folder, each by its own name: `<folder>/<writer>/<kind>/00001 …`."""

    def __init__(self, store: Store, folder: str, kind: str) -> None:
        self.store, self.folder, self.kind = store, folder, kind
        self._read: dict[str, int] = {}

    def new(self) -> Iterator[tuple[str, str]]:
        """Yield writer and text of every chunk that came since the last call, each writer's in order."""
        for writer in self._writers():
            while (text := self._next(writer)) is not None:
                self._read[writer] = self._read.get(writer, 0) + 1
                yield writer, text

    def _next(self, writer: str) -> str | None:
        return self.store.read(self.store.path(self.folder, writer, self.kind, f"{self._read.get(writer, 0) + 1:05}"))

    def _writers(self) -> list[str]:
        try:
            found = self.store.filesystem.ls(self.store.path(self.folder), detail=False, refresh=True)
        except FileNotFoundError:
            return []
        return sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in found)
