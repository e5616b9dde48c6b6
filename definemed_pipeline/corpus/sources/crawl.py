"""Read a crawl wherever it lies: a WARC file, or a folder of HTML files such as a website's export or mirror."""

import uuid
from collections.abc import Iterator
from pathlib import PurePosixPath

import fsspec
from fsspec import AbstractFileSystem

from definemed_pipeline.artifacts.sources import files_below
from definemed_pipeline.corpus.sources.files import stem
from definemed_pipeline.corpus.sources.records import Page, Record, Skipped
from definemed_pipeline.corpus.sources.warc import read_warc
from definemed_pipeline.errors import UserError

HTML_SUFFIXES = (".html", ".htm", ".xhtml")


def read_crawl(location: str, *, max_page_bytes: int) -> Iterator[Record]:
    """Yield one record for each record of a WARC file, or for each file below a folder; raise UserError where it cannot be read."""
    try:
        filesystem, path = fsspec.core.url_to_fs(location)
        if filesystem.isdir(path):
            yield from _read_folder(filesystem, path, name=stem(location), max_page_bytes=max_page_bytes)
        else:
            with filesystem.open(path, "rb") as file:
                yield from read_warc(file, name=PurePosixPath(path).name, max_page_bytes=max_page_bytes)
    except FileNotFoundError as error:
        raise UserError(f"there is no file or folder {location}; correct source.files in the recipe") from error
    except PermissionError as error:
        raise UserError(f"{location} cannot be read: {error}; correct its permissions or your credentials") from error


def _read_folder(filesystem: AbstractFileSystem, path: str, *, name: str, max_page_bytes: int) -> Iterator[Record]:
    """Yield one record a file. A page saved to a file has no crawl date, and no URL but what its canonical link tells later."""
    for file, relative in files_below(filesystem, path):
        if not relative.lower().endswith(HTML_SUFFIXES):
            yield Skipped("not_html")
            continue
        with filesystem.open(file, "rb") as opened:
            html = opened.read(max_page_bytes + 1)
        if not html:
            yield Skipped("empty")
        elif len(html) > max_page_bytes:
            yield Skipped("too_large")
        else:
            file_path = f"{name}/{relative}"
            id_ = f"<urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, file_path)}>"
            yield Page(id=id_, url=None, date=None, file_path=file_path, html=html)
