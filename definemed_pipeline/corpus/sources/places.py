"""Files and folders wherever fsspec reaches: paths, globs and URLs, listed anew whenever they are asked for, since that is cheap."""

from collections.abc import Iterator, Sequence

import fsspec
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from definemed_pipeline.artifacts.sources import content_tag
from definemed_pipeline.corpus.sources.files import SourceFile
from definemed_pipeline.errors import UserError, one_line


def list_places(patterns: Sequence[str], *, folders: bool = False) -> Iterator[SourceFile]:
    """Yield every file that patterns stand for, with `folders` also every folder, as often as it is named.

    Raise UserError where a pattern finds nothing or a place cannot be read.
    """
    for pattern in patterns:
        yield from _expand(pattern, folders=folders)


def _expand(pattern: str, *, folders: bool) -> Iterator[SourceFile]:
    """Yield what a path, glob or URL stands for."""
    try:
        filesystem, path = fsspec.core.url_to_fs(pattern)
        filesystem.invalidate_cache()  # a process that lives long would be given the listing it was given first
        if not folders and filesystem.isdir(path):
            raise UserError(f"source.files: {pattern} is a folder; write {pattern.rstrip('/')}/*.parquet")
        found = filesystem.glob(path, detail=True)
    except UserError:
        raise
    except Exception as error:  # each remote filesystem has errors of its own
        raise UserError(
            f"source.files: {pattern} cannot be listed: {one_line(error)}; correct it in the recipe, or make its host reachable"
        ) from error
    if not found:
        raise UserError(f"source.files: {pattern} finds no file; correct the path in the recipe")
    is_local = isinstance(filesystem, LocalFileSystem)
    for name, info in sorted(found.items()):
        is_folder = info["type"] == "directory"
        yield SourceFile.at(
            name if is_local else filesystem.unstrip_protocol(name),
            bytes=_size_below(filesystem, name) if is_folder else info["size"],
            digest=None if is_local or is_folder else content_tag(info),
        )


def _size_below(filesystem: AbstractFileSystem, folder: str) -> int:
    return sum(info["size"] for info in filesystem.find(folder, detail=True).values())
