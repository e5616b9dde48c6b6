"""Turn the bytes of an HTML page into characters, although many pages lie about their encoding."""

import re

from w3lib.encoding import html_body_declared_encoding, read_bom, resolve_encoding

WESTERN = "cp1252"  # what browsers take where nothing valid is declared, and what "ISO-8859-1" means to them
MAX_BROKEN_SHARE = 0.1  # of a text's non-ASCII characters in UTF-8; with more of them it is no UTF-8
MAX_CONTROL_SHARE = 0.05  # of the first characters; with more of them it is no text
JUDGED = 1 << 16  # characters
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ufffd]")


def decode_html(html: bytes, charset: str | None = None) -> str | None:
    """Return the characters of a page, None where they are none. `charset` is what the HTTP header claims.

    In order: a byte order mark; UTF-8 where the bytes are valid UTF-8, which by chance they hardly ever are; the HTTP header; the page's own
    declaration; UTF-8 with a few broken characters; Windows-1252.
    """
    bom_encoding, bom = read_bom(html)
    if bom_encoding and bom:
        text = html[len(bom) :].decode(bom_encoding, "replace")
    else:
        text = _decode(html, [resolve_encoding(charset) if charset else None, html_body_declared_encoding(html)])
    head = text[:JUDGED]
    if len(CONTROL.findall(head)) > MAX_CONTROL_SHARE * len(head):
        return None
    return text.replace("\x00", "")


def _decode(html: bytes, declared: list[str | None]) -> str:
    for encoding in ("utf-8", *declared):
        if encoding is not None:
            try:
                return html.decode(encoding)
            except (
                UnicodeError,
                LookupError,
            ):  # it lies, or names one of Python's codecs that is no encoding of text, such as hex
                continue
    lenient = html.decode("utf-8", "replace")
    broken = lenient.count("\ufffd")
    letters = sum(not character.isascii() for character in lenient)
    return lenient if broken <= MAX_BROKEN_SHARE * letters else html.decode(WESTERN, "replace")
