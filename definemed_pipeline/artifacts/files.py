"""Local files that a reader finds whole or not at all, whatever becomes of the process that writes them. Standard library only."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield the path of an unfinished file to write; it becomes `path` where the block ends well, and is removed where it fails.

    It lies in the same folder under a name of its own, so that several processes may write `path` at once: the last one stays.
    """
    unfinished = path.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
