"""Open a listed file for reading, wherever it lies; its digest says which bytes are meant.

Files of the Hub at a commit are read from a verified copy on local disk or range by range, as the recipe's `source.access` says;
everything else through fsspec. A range cannot be verified by itself: that a commit's bytes never change is the Hub's word, and the
footer that `corpus.shards` holds against the registered one.
"""

import io
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from definemed_pipeline.artifacts.sources import open_source
from definemed_pipeline.corpus.sources import hub
from definemed_pipeline.corpus.sources.hub_cache import hub_cache
from definemed_pipeline.corpus.sources.settings import ACCESS_VARIABLE

LOG = logging.getLogger(__name__)
READ_AHEAD = 4 << 20  # bytes; a row group of FineWeb2 has some megabytes
Report = Callable[[str], None]


@contextmanager
def open_file(
    location: str, digest: str, *, size: int | None = None, scratch: Path, report: Report = LOG.info
) -> Iterator[IO[bytes]]:
    """Yield a listed file opened for reading in binary; `scratch` is where copies are kept (see `hub_cache`).

    `size` in bytes, where it is known, spares a request.

    Raise UserError where it may not be read or cannot be had whole, ConnectionError where another try may succeed.
    """
    file = hub.parse_location(location)
    if file is None or not hub.can_verify(digest):
        with open_source(location) as opened:
            yield opened
        return

    def known_size() -> int:
        return hub.size_of(file, report) if size is None else size

    def complete(partial: Path, wanted: int) -> None:
        hub.fetch(file, wanted, digest, partial, report)

    if os.environ.get(ACCESS_VARIABLE) == "scan":
        with io.BufferedReader(_Ranges(file, known_size(), report), READ_AHEAD) as ranges:
            yield ranges
    else:
        with hub_cache(scratch).open(digest, known_size, complete, report) as copy:
            yield copy


class _Ranges(io.RawIOBase):
    """A remote file as bytes to seek and read in; each read is a request for a range."""

    def __init__(self, file: hub.HubPath, size: int, report: Report) -> None:
        self._file, self._size, self._report, self._position = file, size, report, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # BufferedReader passes nothing else
        end = min(self._position + len(buffer), self._size)
        if end <= self._position:
            return 0
        body = hub.fetch_range(self._file, self._position, end, self._report)
        buffer[: len(body)] = body
        self._position = end
        return len(body)
