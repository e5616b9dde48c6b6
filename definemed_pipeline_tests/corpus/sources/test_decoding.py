"""Pages whose encodings are right, missing, wrong or broken become the characters their authors meant."""

import pytest

from definemed_pipeline.corpus.sources.decoding import decode_html

TEXT = "<p>Für Ärztinnen und Ärzte: Größe, Maß – „Öl“</p>"
LATIN = "<p>Für Ärzte: Größe</p>"


def declaring(charset: str, text: str) -> str:
    return f'<html><head><meta charset="{charset}"></head><body>{text}</body></html>'


@pytest.mark.parametrize(
    ("html", "charset"),
    [
        (TEXT.encode(), None),
        (TEXT.encode(), "iso-8859-1"),
        (declaring("iso-8859-1", TEXT).encode(), None),
        (TEXT.encode("cp1252"), None),
        (TEXT.encode("cp1252"), "ISO-8859-1"),
        (declaring("utf-8", TEXT).encode("cp1252"), "utf-8"),
        (declaring("no-such-charset", TEXT).encode("cp1252"), "neither-this"),
        (declaring("hex", TEXT).encode("cp1252"), "rot13"),
        (TEXT.encode("utf-8-sig"), None),
        (TEXT.encode("utf-16"), None),
        (TEXT.encode("utf-16-le"), "utf-16-le"),
        (declaring("windows-1250", TEXT).encode("cp1250"), None),
    ],
)
def test_the_text_is_read_as_it_was_meant(html, charset):
    assert TEXT in decode_html(html, charset)


def test_latin_1_is_read_whatever_the_page_claims():
    for claim in ("utf-8", "latin1", "us-ascii", ""):
        assert LATIN in decode_html(declaring(claim, LATIN).encode("latin-1"), claim or None)


def test_one_broken_byte_does_not_spoil_the_umlauts_of_a_utf_8_page():
    html = (TEXT * 5).encode()
    assert decode_html(html + b"\xc3", "utf-8") == TEXT * 5 + "\ufffd"


def test_stray_nuls_are_dropped():
    assert decode_html(b"<p>Herz\x00insuffizienz" + b"." * 100) == "<p>Herzinsuffizienz" + "." * 100


@pytest.mark.parametrize("html", [b"\x00" * 1000, bytes(range(32)) * 100, b"\xff\xfe" + b"\x00\xd8" * 500])
def test_what_is_no_text_is_told_so(html):
    assert decode_html(html) is None


def test_lone_surrogates_do_not_come_out_of_utf_16():
    text = decode_html(b"\xff\xfe" + ("Herz" * 50).encode("utf-16-le") + b"\x00\xd8" + "Knie".encode("utf-16-le"))
    assert text.encode("utf-8").startswith(b"HerzHerz")
