"""Folders of unfinished work kept in a remote lake, so that a new process on another machine finds them.

    <url>/<name>/…files, in folders of their own… <marker>

A folder counts once its marker file is there; the marker is uploaded last and removed first.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path

import fsspec


class Mirror:
    """Named folders under one URL."""

    def __init__(self, url: str, *, marker: str) -> None:
        self.filesystem, self.root = fsspec.core.url_to_fs(url)
        self.marker = marker

    def names(self) -> list[str]:
        """Return the names of the folders that are complete, sorted."""
        self.filesystem.invalidate_cache()
        return sorted(str(path).split("/")[-2] for path in self.filesystem.glob(f"{self.root}/*/{self.marker}"))

    def upload(self, folder: Path, files: Iterable[str]) -> None:
        """Upload files of a folder under the folder's name."""
        for file in files:
            self.filesystem.put_file(str(folder / file), f"{self.root}/{folder.name}/{file}")

    def download(self, name: str, target: Path) -> None:
        """Copy a folder to `target`, which appears whole or not at all."""
        place = f"{self.root}/{name}/"
        with tempfile.TemporaryDirectory(dir=target.parent) as partial:
            copy = Path(partial) / name
            for path in self.filesystem.find(place):
                local = copy / str(path)[len(place) :]
                local.parent.mkdir(parents=True, exist_ok=True)
                self.filesystem.get_file(path, str(local))
            copy.rename(target)

    def remove(self, name: str) -> None:
        """Remove a folder, its marker first."""
        marker = f"{self.root}/{name}/{self.marker}"
        if self.filesystem.exists(marker):
            self.filesystem.rm_file(marker)
        if self.filesystem.exists(f"{self.root}/{name}"):
            self.filesystem.rm(f"{self.root}/{name}", recursive=True)
