"""Read a crawl wherever it lies: a WARC file, or a folder of HTML files such as a website's export or mirror."""

import hashlib
import uuid
from collections.abc import Iterator
from pathlib import PurePosixPath

import fsspec
from fsspec import AbstractFileSystem

from definemed_pipeline.artifacts.manifest import Source
from definemed_pipeline.artifacts.sources import identify
from definemed_pipeline.corpus.sources.records import Page, Record, Skipped
from definemed_pipeline.corpus.sources.warc import read_warc
from definemed_pipeline.errors import UserError

HTML_SUFFIXES = (".html", ".htm", ".xhtml")
WARC_SUFFIXES = (".gz", ".zst", ".lz4", ".warc")


def read_crawl(location: str, *, max_page_bytes: int) -> Iterator[Record]:
    """Yield one record for each record of a WARC file, or for each file below a folder; raise UserError where it cannot be read."""
    try:
        filesystem, path = fsspec.core.url_to_fs(location)
        if filesystem.isdir(path):
            yield from _read_folder(filesystem, path, name=location_name(location), max_page_bytes=max_page_bytes)
        else:
            with filesystem.open(path, "rb") as file:
                yield from read_warc(file, name=PurePosixPath(path).name, max_page_bytes=max_page_bytes)
    except FileNotFoundError as error:
        raise UserError(f"there is no file or folder {location}; correct source.files in the recipe") from error
    except PermissionError as error:
        raise UserError(f"{location} cannot be read: {error}; correct its permissions or your credentials") from error


def location_name(location: str) -> str:
    """Return what a crawl is called after its location: `klinik` for `crawls/klinik.warc.gz` and for the folder `crawls/klinik/`."""
    name = PurePosixPath(location.rstrip("/")).name
    while name.endswith(WARC_SUFFIXES):
        name = name.rpartition(".")[0]
    return name


def identify_crawl(name: str, location: str) -> Source:
    """Identify a crawl by its bytes; a folder by the paths and contents of all files below it. Raise UserError where there is none."""
    filesystem, path = fsspec.core.url_to_fs(location)
    if not filesystem.isdir(path):
        return identify(name, location)
    digest = hashlib.sha256()
    for file, relative in _files(filesystem, path):
        digest.update(f"{relative}\0{identify(name, filesystem.unstrip_protocol(file)).digest}\0".encode())
    return Source(name=name, location=location, digest=digest.hexdigest())


def _files(filesystem: AbstractFileSystem, path: str) -> Iterator[tuple[str, str]]:
    """Yield each file below a folder and its path from there, as text that can be written; sorted."""
    for file in sorted(filesystem.find(path)):
        yield file, file[len(path.rstrip("/")) + 1 :].encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _read_folder(filesystem: AbstractFileSystem, path: str, *, name: str, max_page_bytes: int) -> Iterator[Record]:
    """Yield one record a file. A page saved to a file has no crawl date, and no URL but what its canonical link tells later."""
    for file, relative in _files(filesystem, path):
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
