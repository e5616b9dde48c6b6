"""The lake: every artifact in one folder or bucket, through fsspec.

    <lake>/<asset>/<partition>/<version>/…files…  manifest.json
    <lake>/<asset>/<partition>/latest-<recipe>.json
    <lake>/.checkpoints/<asset>/<partition>/<version>/…    of work that goes on, where the lake is remote (see `mirror.py`)

Files are put in place first, the manifest last, the pointer after it: a reader that finds a manifest finds all of its files.
The pointer carries the recipe's name, so that two recipes sharing a lake share artifacts and never read each other's results.
"""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from definemed_pipeline.artifacts.files import written_whole
from definemed_pipeline.artifacts.manifest import UNPARTITIONED, File, Identity, Manifest
from definemed_pipeline.errors import UserError

CHECKPOINTS = ".checkpoints"
CHUNK = 1 << 20


class Store:
    """Read and write artifacts under one URL.

    `scratch` is a local folder for unfinished work, checkpoints, locks and copies of remote artifacts; inside a local lake by default.
    """

    def __init__(self, url: str, *, scratch: Path | None = None) -> None:
        self.filesystem, self.root = fsspec.core.url_to_fs(url)
        self.is_local = isinstance(self.filesystem, LocalFileSystem)
        self.url = self.root if self.is_local else url.rstrip("/")
        self.scratch = scratch or self._default_scratch()

    def uri(self, manifest: Manifest) -> str:
        """Return the URI of an artifact's directory."""
        return f"{self.url}/{manifest.asset}/{manifest.partition}/{manifest.version}"

    def manifest(self, asset: str, partition: str, version: str) -> Manifest | None:
        """Return the manifest of a complete artifact, or None."""
        text = self.read(self.path(asset, partition, version, "manifest.json"))
        return Manifest.from_json(text) if text is not None else None

    def latest(self, recipe: str, asset: str, partition: str = UNPARTITIONED) -> Manifest | None:
        """Return the artifact a recipe last built or reused, or None."""
        text = self.read(self.path(asset, partition, f"latest-{recipe}.json"))
        return self.manifest(asset, partition, json.loads(text)["version"]) if text is not None else None

    def require(self, recipe: str, asset: str, partition: str = UNPARTITIONED) -> Manifest:
        """Return the latest artifact or raise a UserError that says what to materialize."""
        manifest = self.latest(recipe, asset, partition)
        if manifest is None:
            name = asset if partition == UNPARTITIONED else f"{asset}[{partition}]"
            raise UserError(f"{name} is not in the lake {self.url} for recipe {recipe!r}: materialize it first")
        return manifest

    def all_latest(self, recipe: str) -> Iterator[Manifest]:
        """Yield the latest artifact of every asset and partition that a recipe has built, in their order."""
        for path in sorted(self.filesystem.glob(self.path("*", "*", f"latest-{recipe}.json"))):
            asset, partition = path.split("/")[-3:-1]
            if manifest := self.latest(recipe, asset, partition):
                yield manifest

    def folder(self, manifest: Manifest) -> Path:
        """Return a local folder with an artifact's files, copied and verified first where the lake is remote."""
        if self.is_local:
            return Path(self.uri(manifest))
        target = self.scratch / "copies" / manifest.asset / manifest.partition / f"{manifest.version}-{manifest.digest[:16]}"
        if not target.exists():
            self._copy_in(manifest, target)
        return target

    def checkpoints_url(self, identity: Identity) -> str | None:
        """Return where a remote lake keeps the checkpoints of an artifact in the making; None where scratch lies in the lake itself."""
        if self.is_local:
            return None
        return f"{self.url}/{CHECKPOINTS}/{identity.asset}/{identity.partition}/{identity.version}"

    def forget_checkpoints(self, identity: Identity) -> None:
        """Remove the checkpoints of an artifact that is published."""
        place = self.path(CHECKPOINTS, identity.asset, identity.partition, identity.version)
        if not self.is_local and self.filesystem.exists(place):
            self.filesystem.rm(place, recursive=True)

    def publish(self, staged: Path, manifest: Manifest) -> None:
        """Move finished files into the lake, then write the manifest. Raise UserError where the lake cannot be written."""
        location = (manifest.asset, manifest.partition, manifest.version)
        with self.writing():
            if self.filesystem.exists(self.path(*location, "manifest.json")):  # rebuilt by force
                self.filesystem.rm(self.path(*location), recursive=True)
            for file in manifest.files:
                self._put(staged / file.path, self.path(*location, file.path))
            self.write(self.path(*location, "manifest.json"), manifest.to_json())

    def check_writable(self) -> None:
        """Write and remove one small object; raise UserError with the cure where that fails."""
        probe = self.path(f".probe-{os.getpid()}")
        with self.writing():
            self.write(probe, "")
            self.filesystem.rm_file(probe)

    def point(self, recipe: str, manifest: Manifest) -> None:
        """Make an artifact the latest of a recipe."""
        path = self.path(manifest.asset, manifest.partition, f"latest-{recipe}.json")
        content = json.dumps({"version": manifest.version, "digest": manifest.digest}) + "\n"
        if self.read(path) != content:
            with self.writing():
                self.write(path, content)

    def path(self, *parts: str) -> str:
        """Return a place in the lake as its filesystem names it."""
        return "/".join((self.root, *parts))

    def read(self, path: str) -> str | None:
        """Return a small file's text, or None where there is none."""
        try:
            content: bytes = self.filesystem.cat_file(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return content.decode()

    def write(self, path: str, text: str) -> None:
        """Write a small file so that a reader sees the old content or the new, never a part."""
        if not self.is_local:
            self.filesystem.pipe_file(path, text.encode())  # object stores replace an object whole
            return
        folder = self._made(Path(path).parent)
        with written_whole(Path(path)) as unfinished, unfinished.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        _sync_folder(folder)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn the faults of a lake that cannot be written into one line with the cure."""
        try:
            yield
        except PermissionError as error:
            raise UserError(
                f"the lake {self.url} cannot be written: {error}. Check its permissions or set DEFINEMED_LAKE"
            ) from error
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(
                    f"no space is left for the lake {self.url}: free some, or set DEFINEMED_LAKE to a larger place. Nothing half-written is kept"
                ) from error
            if error.errno in (errno.EROFS, errno.ENOTDIR, errno.EEXIST):
                raise UserError(
                    f"the lake {self.url} cannot be written: {error}. Set DEFINEMED_LAKE to a writable place"
                ) from error
            raise

    def _default_scratch(self) -> Path:
        if self.is_local:
            return Path(self.root) / ".scratch"
        name = hashlib.sha256(self.url.encode()).hexdigest()[:12]
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(base) / "definemed" / name

    def _put(self, local: Path, path: str) -> None:
        if not self.is_local:
            self.filesystem.put_file(str(local), path)
            return
        self._made(Path(path).parent)
        with local.open("rb+") as file:
            os.fsync(file.fileno())
        shutil.move(local, path)
        _sync_folder(Path(path).parent)

    def _made(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _copy_in(self, manifest: Manifest, target: Path) -> None:
        with self.writing():
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent) as partial:
                for file in manifest.files:
                    local = Path(partial) / "files" / file.path
                    local.parent.mkdir(parents=True, exist_ok=True)
                    remote = self.path(manifest.asset, manifest.partition, manifest.version, file.path)
                    self.filesystem.get_file(remote, str(local))
                    if sha256_of(local) != file.sha256:
                        raise UserError(
                            f"{self.url}/{manifest.asset}: {file.path} does not match its manifest; rebuild it with --force"
                        )
                try:
                    os.rename(Path(partial) / "files", target)
                except OSError as error:
                    if error.errno not in (
                        errno.ENOTEMPTY,
                        errno.EEXIST,
                    ):  # another process was first, with the same bytes
                        raise


def describe_files(folder: Path) -> tuple[File, ...]:
    """Record path, size, checksum and rows of every file below a folder, sorted by path."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple(
        File(
            path=path.relative_to(folder).as_posix(),
            bytes=path.stat().st_size,
            sha256=sha256_of(path),
            rows=count_rows(path),
        )
        for path in found
    )


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def count_rows(path: Path) -> int | None:
    """Return the rows of a parquet or JSON Lines file, None for other files."""
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        return int(pq.read_metadata(path).num_rows)
    if path.suffix == ".jsonl":
        with path.open("rb") as file:
            return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(CHUNK), b""))
    return None


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power failure, so that no manifest outlives its files."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
