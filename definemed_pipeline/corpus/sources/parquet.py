"""Parquet files as a source: paths, globs and fsspec URLs, listed anew whenever they are asked for, since that is cheap."""

from collections.abc import Iterator

import fsspec
from fsspec.implementations.local import LocalFileSystem

from definemed_pipeline.artifacts.sources import content_tag
from definemed_pipeline.corpus.sources.files import SourceFile
from definemed_pipeline.corpus.sources.settings import ParquetSource
from definemed_pipeline.errors import UserError, one_line


def list_parquet(source: ParquetSource) -> Iterator[SourceFile]:
    """Yield every file the recipe names, as often as it is named.

    Raise UserError where a pattern finds nothing or a place cannot be read.
    """
    for pattern in source.files:
        yield from _expand(pattern)


def _expand(pattern: str) -> Iterator[SourceFile]:
    """Yield the files a path, glob or URL stands for."""
    try:
        filesystem, path = fsspec.core.url_to_fs(pattern)
        if filesystem.isdir(path):
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
        yield SourceFile.at(
            name if is_local else filesystem.unstrip_protocol(name),
            bytes=info["size"],
            digest=None if is_local else content_tag(info),
        )
