"""Files outside the lake, named in the recipe by path or URL (any fsspec protocol), or by name where they come with the package."""

import hashlib
import importlib.resources
from typing import IO

import fsspec
from fsspec.implementations.local import LocalFileSystem

from definemed_pipeline.artifacts.manifest import Source
from definemed_pipeline.errors import UserError

# What object stores and the Hub call the digest or tag of a file's content.
CONTENT_TAGS = ("sha256", "ETag", "etag", "oid", "blob_id", "md5Hash", "checksum")


def identify(name: str, location: str) -> Source:
    """Identify a source by its bytes: the content tag its filesystem vouches for, else the SHA-256 of the content.

    Raise UserError where there is no such file.
    """
    filesystem, path = fsspec.core.url_to_fs(location)
    try:
        info = filesystem.info(path)
        tag = None if isinstance(filesystem, LocalFileSystem) else _content_tag(info)
        if tag is None:
            with filesystem.open(path, "rb") as file:
                tag = hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise UserError(f"{name}: there is no file {location}; correct the path in the recipe") from error
    return Source(name=name, location=location, digest=tag)


def open_source(location: str) -> IO[bytes]:
    """Open a source for reading in binary."""
    file: IO[bytes] = fsspec.open(location, "rb").open()
    return file


def packaged_location(folder: str, name: str, key: str) -> str:
    """Return the location of a YAML file that a recipe's `key` names: one of the package's `folder` by its name, any other by path or URL.

    Raise UserError for a name that is not packaged.
    """
    if "/" in name or "\\" in name or name.endswith((".yaml", ".yml")):
        return name
    files = importlib.resources.files("definemed_pipeline") / folder
    packaged = sorted(file.name.removesuffix(".yaml") for file in files.iterdir() if file.name.endswith(".yaml"))
    if name not in packaged:
        raise UserError(f"{key} is {name!r}; allowed: {', '.join(packaged)}, or the path of a YAML file")
    return str(files / f"{name}.yaml")


def _content_tag(info: dict[str, object]) -> str | None:
    for key in CONTENT_TAGS:
        if value := info.get(key):
            return f"{key}:{value}"
    return None
