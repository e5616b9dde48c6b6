"""Files outside the lake, named in the recipe by path or URL (any fsspec protocol), or by name where they come with the package."""

import hashlib
import importlib.resources
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import fsspec
import yaml
from fsspec.implementations.local import LocalFileSystem

from definemed_pipeline.artifacts.files import written_whole
from definemed_pipeline.artifacts.manifest import Source
from definemed_pipeline.errors import UserError, one_line

# What object stores and the Hub call the digest or tag of a file's content.
CONTENT_TAGS = ("sha256", "ETag", "etag", "oid", "blob_id", "md5Hash", "checksum")
# libyaml, where PyYAML came with it: without, a lexicon of some hundred terms takes 0.2 s.
YamlLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
CLOCK_NANOSECONDS = 2_000_000_000  # the coarsest clock of a file system's times (FAT)


def identify(name: str, location: str, *, scratch: Path | None = None) -> Source:
    """Identify a source by its bytes: the content tag its filesystem vouches for, else the SHA-256 of the content.

    In `scratch` the SHA-256 of local files are remembered: a file is not read again while its size, inode and times of modification
    and change are the same. Raise UserError where there is no such file.
    """
    filesystem, path = fsspec.core.url_to_fs(location)
    try:
        filesystem.invalidate_cache(path)  # what an object store said to this process before may be out of date
        info = filesystem.info(path)
        if isinstance(filesystem, LocalFileSystem):
            digest = _local_digest(Path(path), scratch)
        elif (tag := content_tag(info)) is not None:
            digest = tag
        else:
            with filesystem.open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise UserError(f"{name}: there is no file {location}; correct the path in the recipe") from error
    return Source(name=name, location=location, digest=digest)


def identify_folder(name: str, location: str, *, scratch: Path | None = None) -> Source:
    """Identify a folder by the paths and contents of all files below it."""
    filesystem, path = fsspec.core.url_to_fs(location)
    digest = hashlib.sha256()
    for file, relative in files_below(filesystem, path):
        content = identify(name, filesystem.unstrip_protocol(file), scratch=scratch).digest
        digest.update(f"{relative}\0{content}\0".encode())
    return Source(name=name, location=location, digest=digest.hexdigest())


def files_below(filesystem: fsspec.AbstractFileSystem, path: str) -> Iterator[tuple[str, str]]:
    """Yield each file below a folder and its path from there, as text that can be written; sorted."""
    for file in sorted(filesystem.find(path)):
        yield file, file[len(path.rstrip("/")) + 1 :].encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def matches(pattern: str, *, key: str, folders: bool = False) -> dict[str, dict[str, Any]]:
    """Return the location of everything a path, glob or URL stands for, with what its filesystem says of it; sorted.

    Raise UserError that names the recipe's `key` where nothing is found, where the place cannot be read, or where a folder is named
    and not wanted.
    """
    try:
        filesystem, path = fsspec.core.url_to_fs(pattern)
        filesystem.invalidate_cache()  # a process that lives long would be given the listing it was given first
        if not folders and filesystem.isdir(path):
            raise UserError(f"{key}: {pattern} is a folder; write {pattern.rstrip('/')}/*.parquet")
        found = filesystem.glob(path, detail=True)
    except UserError:
        raise
    except Exception as error:  # each remote filesystem has errors of its own
        raise UserError(
            f"{key}: {pattern} cannot be listed: {one_line(error)}; correct it in the recipe, or make its host reachable"
        ) from error
    if not found:
        raise UserError(f"{key}: {pattern} finds no file; correct the path in the recipe")
    is_local = isinstance(filesystem, LocalFileSystem)
    return {name if is_local else filesystem.unstrip_protocol(name): info for name, info in sorted(found.items())}


def open_source(location: str) -> IO[bytes]:
    """Open a source for reading in binary."""
    file: IO[bytes] = fsspec.open(location, "rb").open()
    return file


def read_yaml(location: str, *, what: str) -> Any:
    """Return what a source in YAML holds. Raise UserError, which calls it `what`, where it cannot be read."""
    try:
        with open_source(location) as file:
            return yaml.load(file, YamlLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{what} {location} cannot be read: {' '.join(str(error).split())[:200]}") from error


def packaged_location(folder: str, name: str, key: str, *, suffix: str = ".yaml") -> str:
    """Return the location of a file that a recipe's `key` names: one of the package's `folder` by its name, any other by path or URL.

    Raise UserError for a name that is not packaged.
    """
    if "/" in name or "\\" in name or name.endswith((suffix, ".yml")):
        return name
    files = importlib.resources.files("definemed_pipeline") / folder
    packaged = sorted(file.name.removesuffix(suffix) for file in files.iterdir() if file.name.endswith(suffix))
    if name not in packaged:
        raise UserError(f"{key} is {name!r}; allowed: {', '.join(packaged)}, or the path of a {suffix[1:].upper()} file")
    return str(files / f"{name}{suffix}")


def content_tag(info: Mapping[str, Any]) -> str | None:
    """Return what a filesystem's description of a file vouches for as its content, or None.

    A SHA-256 stands for itself, as that of a local file does: the same bytes are the same source wherever they lie.
    """
    for key in CONTENT_TAGS:
        if value := info.get(key):
            return str(value) if key == "sha256" else f"{key}:{value}"
    return None


def _local_digest(path: Path, scratch: Path | None) -> str:
    """Return a local file's SHA-256, from memory where the file was not touched since.

    Trusted is the system's word that a file with the same inode, size, and times of modification and change has the same bytes: the
    time of change cannot be set by a program. A file touched within the clock's last tick could be written again unseen, so its
    digest is not kept.
    """
    with path.open("rb") as file:
        before = _touched(file)
        name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()
        kept = scratch / "digests" / f"{name}.json" if scratch is not None else None
        if kept is not None and (known := _read_json(kept)) is not None and known["touched"] == before:
            return str(known["sha256"])
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        settled = time.time_ns() - max(before["mtime_ns"], before["ctime_ns"]) > CLOCK_NANOSECONDS
        if kept is not None and settled and _touched(file) == before:
            _write_json(kept, {"touched": before, "sha256": digest})
    return digest


def _touched(file: IO[bytes]) -> dict[str, int]:
    stat = os.fstat(file.fileno())
    return {"inode": stat.st_ino, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "ctime_ns": stat.st_ctime_ns}


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, ValueError):  # never kept, or cut by a power failure
        return None
    return content


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as unfinished:
        unfinished.write_text(json.dumps(value), "utf-8")
