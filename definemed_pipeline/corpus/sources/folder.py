"""Read the HTML pages of a folder, such as a website's export or mirror."""

import uuid
from collections.abc import Iterator

from fsspec import AbstractFileSystem

from definemed_pipeline.corpus.sources.records import Page, Record, Skipped

HTML_SUFFIXES = (".html", ".htm", ".xhtml")


def read_folder(filesystem: AbstractFileSystem, path: str, *, name: str, max_page_bytes: int) -> Iterator[Record]:
    """Yield one record for each file below a folder, sorted by path; `name` stands for the folder in ids and `file_path`.

    A page saved to a file has neither crawl date nor URL; its own canonical link may tell the URL later.
    """
    for file in sorted(filesystem.find(path)):
        relative = file[len(path.rstrip("/")) + 1 :].encode("utf-8", "surrogateescape").decode("utf-8", "replace")
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
