"""What a crawl is read as: pages in their order, and the reason why a record is none."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Page:
    """One HTML page as it was served or saved, content encodings undone, characters not yet decoded.

    `id`, `url`, `date` and `file_path` mean what they mean in FineWeb2; `charset` is what the HTTP header claims.
    """

    id: str
    url: str | None
    date: str | None
    file_path: str
    html: bytes
    charset: str | None = None


@dataclass(frozen=True)
class Skipped:
    """A record that becomes no document, and the reason it is counted under."""

    reason: str


Record = Page | Skipped
