"""Copies of Hub files on local disk: verified before they are named, shared by all processes of the machine, bounded.

    <folder>/<key>                 a whole file; its modification time is its last use
    <folder>/<key>.<bytes>.partial a download, going on or left by a killed process; it counts as <bytes>
    <folder>/<key>.lock            held while the file is fetched

The key follows from the content, so a partial copy can be completed by anybody, at any commit. A reader holds a shared lock on the
file it reads; who evicts must get an exclusive one first. The system drops both with the process that held them.
"""

import errno
import fcntl
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from definemed_pipeline.corpus.sources.settings import CACHE_VARIABLE
from definemed_pipeline.errors import UserError

GIB = 1 << 30
PARTIAL = ".partial"
OURS = re.compile(r"[0-9a-f]{64}(\.\d+\.partial)?")  # nothing else in the folder is counted or removed
POLL_SECONDS = 1.0
_IN_USE: set[int] = set()  # descriptors of the cached files that this process reads


@dataclass(frozen=True, kw_only=True)
class HubCache:
    """At most `limit` bytes of files in one folder; the least recently used ones leave first."""

    folder: Path
    limit: int

    @contextmanager
    def open(
        self, digest: str, size: Callable[[], int], fetch: Callable[[Path, int], None], report: Callable[[str], None]
    ) -> Iterator[IO[bytes]]:
        """Yield the file of a digest, fetched first where it is not here; it stays while it is open.

        `size` is asked for and `fetch` completes and verifies a partial file only where it is not. Raise UserError where the bound
        leaves no room for it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        key = hashlib.sha256(digest.encode()).hexdigest() if ":" in digest else digest
        while (file := self._use(key)) is None:
            with self._fetching(key, report):
                if not (self.folder / key).exists():
                    self._fetch(key, size(), fetch, report)
        _IN_USE.add(file.fileno())
        try:
            yield file
        finally:
            _IN_USE.discard(file.fileno())
            file.close()

    def _use(self, key: str) -> IO[bytes] | None:
        """Open and pin a whole file, or return None where there is none."""
        try:
            file = (self.folder / key).open("rb")
        except FileNotFoundError:
            return None
        fcntl.flock(file, fcntl.LOCK_SH)
        if os.fstat(file.fileno()).st_nlink == 0:  # evicted between the two lines above
            file.close()
            return None
        os.utime(file.fileno())
        return file

    def _fetch(self, key: str, size: int, fetch: Callable[[Path, int], None], report: Callable[[str], None]) -> None:
        partial = self._reserve(key, size, report)
        try:
            fetch(partial, size)
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(partial, self.folder / key)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(
                    f"no space is left for the copies of Hub files in {self.folder}: free some, lower source.cache_gib, or set "
                    "DEFINEMED_HUB_CACHE to a larger place. What was fetched is kept"
                ) from error
            raise
        finally:
            if (stat := _stat(partial)) is not None and not stat.st_size:  # nothing that could be completed
                partial.unlink(missing_ok=True)

    @contextmanager
    def _fetching(self, key: str, report: Callable[[str], None]) -> Iterator[None]:
        lock = FileLock(self.folder / f"{key}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            report("waiting for another process that fetches the same file")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _reserve(self, key: str, size: int, report: Callable[[str], None]) -> Path:
        """Make room for a file and return its partial copy, whose name keeps the room until it is whole."""
        partial, gib = self.folder / f"{key}.{size}{PARTIAL}", self.limit / GIB
        told = False
        while size <= self.limit:
            with FileLock(self.folder / ".lock"):
                if self._make_room(size, partial):
                    partial.touch()
                    return partial
            if _IN_USE:  # waiting with a file in hand might be waiting for ourselves
                break
            if not told:
                report(f"waiting for room in {self.folder}: files in use fill its {gib:g} GiB (source.cache_gib)")
                told = True
            time.sleep(POLL_SECONDS)
        raise UserError(
            f"the copies of Hub files in {self.folder} may take {gib:g} GiB, which leaves no room for one of {size / GIB:.2g} GiB: "
            "raise source.cache_gib, or set source.access to scan"
        )

    def _make_room(self, size: int, partial: Path) -> bool:
        """Evict the least recently used files until another of `size` bytes fits; say whether it does."""
        others = [path for path in self.folder.iterdir() if OURS.fullmatch(path.name) and path != partial]
        by_use = sorted((stat.st_mtime_ns, path) for path in others if (stat := _stat(path)) is not None)
        excess = sum(_reserved(path) for _, path in by_use) + size - self.limit
        for _, path in by_use:
            if excess <= 0:
                break
            freed = _reserved(path)
            if self._evict(path):
                excess -= freed
        return excess <= 0

    def _evict(self, path: Path) -> bool:
        """Remove a file that nobody reads or fetches; return whether that freed its room."""
        try:
            if path.suffix == PARTIAL:
                with FileLock(self.folder / f"{path.name.split('.')[0]}.lock").acquire(timeout=0):
                    path.unlink()
            else:
                with path.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
        except (Timeout, BlockingIOError, FileNotFoundError):  # fetched, read, or just completed under its other name
            return False
        return True


def hub_cache(scratch: Path) -> HubCache:
    """Return this machine's cache: in DEFINEMED_HUB_CACHE or `scratch`, bounded by the recipe (see `Fineweb2Source.environment`)."""
    folder = os.environ.get("DEFINEMED_HUB_CACHE")
    limit = float(os.environ.get(CACHE_VARIABLE, "100")) * GIB
    return HubCache(folder=Path(folder) if folder else scratch / "hub_cache", limit=int(limit))


def _reserved(path: Path) -> int:
    """Return the bytes a file takes or will take."""
    if path.suffix == PARTIAL:
        return int(path.name.split(".")[1])
    stat = _stat(path)
    return stat.st_size if stat else 0


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:  # evicted or completed meanwhile
        return None
