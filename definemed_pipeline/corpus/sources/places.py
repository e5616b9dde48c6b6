"""Files and folders wherever fsspec reaches: paths, globs and URLs, listed anew whenever they are asked for, since that is cheap."""

from collections.abc import Iterator, Sequence

import fsspec

from definemed_pipeline.artifacts.sources import content_tag, matches
from definemed_pipeline.corpus.sources.files import SourceFile


def list_places(patterns: Sequence[str], *, folders: bool = False) -> Iterator[SourceFile]:
    """Yield every file that patterns stand for, with `folders` also every folder, as often as it is named.

    Raise UserError where a pattern finds nothing or a place cannot be read.
    """
    for pattern in patterns:
        for location, info in matches(pattern, key="source.files", folders=folders).items():
            is_folder = info["type"] == "directory"
            yield SourceFile.at(
                location,
                bytes=_size_below(location) if is_folder else info["size"],
                digest=None if is_folder else content_tag(info),
            )


def _size_below(folder: str) -> int:
    filesystem, path = fsspec.core.url_to_fs(folder)
    return sum(info["size"] for info in filesystem.find(path, detail=True).values())
