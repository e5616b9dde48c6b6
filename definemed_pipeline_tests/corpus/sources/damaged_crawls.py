"""Pages and WARC files as servers, crawlers, disks and jokers leave them: case number n is the same bytes each time it is made."""

import gzip
import random
from collections.abc import Callable

import brotli

from definemed_pipeline_tests.corpus.sources.clinic_site import BIRTH, GOOD_PAGES, HEART, KNEE, Crawl, chunked, gzipped, page

MEBI = 1 << 20
GOOD = page("Herzkatheterlabor", HEART)
SURROGATES = ("&#xD800;", "\\ud83d", "&#55357;&#56832;", "&#xDFFF;x")
CODECS = [
    "rot13",
    "hex",
    "base64",
    "zlib",
    "idna",
    "punycode",
    "unicode_escape",
    "raw_unicode_escape",
    "utf-7",
    "undefined",
    "mbcs",
    "utf-16",
    "utf-32",
    "x-user-defined",
    "cp037",
]


def html_case(number: int) -> bytes:
    """Return the bytes of a page: one of `PAGES` in turn, and behind the last of them randomly damaged ones."""
    if number < len(PAGES):
        return PAGES[number]
    chance = random.Random(number)
    return chance.choice(DAMAGES)(chance.choice(list(GOOD_PAGES.values())).encode(), chance)


def warc_case(number: int) -> bytes:
    """Return the bytes of a WARC file: one of `CRAWLS` in turn, and behind the last of them randomly damaged ones."""
    if number < len(CRAWLS):
        return CRAWLS[number]()
    chance = random.Random(number)
    crawl = Crawl(compressed=chance.random() < 0.5).add_other("warcinfo", "/")
    for path, good in GOOD_PAGES.items():
        match chance.randrange(4):
            case 0:
                crawl.add(path, gzipped(good), Content_Encoding="gzip")
            case 1:
                crawl.add(path, chunked(brotli.compress(good.encode())), Content_Encoding="br", Transfer_Encoding="chunked")
            case _:
                crawl.add(path, good)
    return chance.choice(DAMAGES)(crawl.bytes(), chance)


# Random damage


def _cut(whole: bytes, chance: random.Random) -> bytes:
    return whole[: chance.randrange(len(whole))]


def _flipped(whole: bytes, chance: random.Random) -> bytes:
    damaged = bytearray(whole)
    for _ in range(chance.choice([1, 20, 400])):
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def _overwritten(whole: bytes, chance: random.Random) -> bytes:
    start, length = chance.randrange(len(whole)), chance.choice([1, 50, 1500])
    filling = chance.choice([bytes(length), chance.randbytes(length), whole[:length], b"\xed\xa0\x80" * (length // 3)])
    return whole[:start] + filling + whole[start + len(filling) :]


def _inserted(whole: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(whole))
    return whole[:start] + chance.choice([b"\0", b"<" * 99, b"\xff\xfe", b"]]>", b"&#xD800;", b"WARC/1.0\r\n"]) + whole[start:]


DAMAGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (_cut, _flipped, _overwritten, _inserted)


# Pages


def _saying(addition: str, *, head: str = "") -> bytes:
    return page("Herz", [*HEART, addition], head='<meta charset="utf-8">' + head).encode("utf-8", "surrogatepass")


PAGES: tuple[bytes, ...] = (
    *(_saying(f"Ein halbes Zeichen: {surrogate}", head=f"<title>{surrogate}</title>") for surrogate in SURROGATES),
    *(
        _saying("", head=f'<script type="application/ld+json">{{"@type":"Article","headline":"{one}","url":"{one}"}}</script>')
        for one in SURROGATES
    ),
    *(_saying("", head=f'<link rel="canonical" href="https://x.example/{one}">') for one in (*SURROGATES, "\0", "\n", "[", "%")),
    *(
        _saying("", head=f'<meta property="article:published_time" content="{date}">')
        for date in ("0000-00-00", "9999-99-99", "2024-02-30", "99999999999", "２０２４", "\0")
    ),
    *(page("Herz", HEART, head=f'<meta charset="{codec}">').encode() for codec in CODECS),
    *(page("Herz", HEART, head=f'<meta charset="{codec}">').encode("latin-1") for codec in CODECS),
    *(GOOD.encode(codec, "replace") for codec in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7", "cp037", "ascii")),
    _saying("\ud800 roh, wie ein Programm ihn schreibt"),
    GOOD.encode().replace(b" ", b"\0"),
    GOOD.encode().replace(b"e", b"e\0"),
    b"\0" * 4096,
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b" \n\t",
    b"",
    b"<",
    b"<html>",
    b"<" * MEBI,
    b"&" * MEBI,
    b"<a " * (MEBI // 4),
    b"<!--" + GOOD.encode(),
    b"<script>" + GOOD.encode(),
    b"<p " + b"x=1 " * 100_000 + b">" + GOOD.encode(),
    b"<p title='" + b"x" * (4 * MEBI) + b"'>" + GOOD.encode(),
    b"<html><body>" + b"<p><b>" * 100_000,
    b"<html><body>" + b"<div>" * 5_000 + "".join(HEART).encode(),
    b"<table>" + b"<tr><td>Wert</td></tr>" * 20_000 + b"</table>",
    page("Lang", ["Medizin und Pflege sind die Aufgabe. " * 100_000]).encode(),
    page("Zeilen", KNEE, extra="<br>" * 100_000).encode(),
    b"<html>" + b"x" * (6 * MEBI),
    b"<html>" + b"Der Arzt. " * (10 * MEBI),
    b'<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa">'
    + b"".join(b'<!ENTITY %c "%b">' % (c, b"&%c;" % (c - 1) * 10) for c in b"bcdefghi")
    + b"]><html><body><p>&i;</p></body></html>",
    b'<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><html><body><p>' + BIRTH[0].encode() + b"&x;</p></body></html>",
    b'<?xml version="1.0" encoding="utf-99"?>' + GOOD.encode(),
    b"<frameset><frame src=x></frameset>",
    b"%PDF-1.7\n" + bytes(range(256)) * 20,
    b"PK\x03\x04" + bytes(range(256)) * 20,
    b'{"text": "kein HTML"}',
    b"Nur Text. " * 500,
    "\u202e\u0301\ufeff\ufffe".encode() * 5_000,
    gzip.compress(GOOD.encode(), mtime=0),
)


# Crawls


def _with_headers(**headers: str) -> Callable[[], bytes]:
    return lambda: Crawl().add("/herz", GOOD, **headers).add("/knie", GOOD_PAGES["/knie"]).bytes()


def _replacing(old: bytes, new: bytes) -> Callable[[], bytes]:
    """A crawl, not compressed, with something else in its headers."""

    def case() -> bytes:
        crawl = Crawl(compressed=False).add("/herz", GOOD).add("/knie", GOOD_PAGES["/knie"]).bytes()
        assert old in crawl
        return crawl.replace(old, new, 1)

    return case


def _large() -> bytes:
    return Crawl().add("/gross", b"<html>" + b"Der Arzt. " * (10 * MEBI)).add("/herz", GOOD).bytes()


def _bomb() -> bytes:
    layers = gzip.compress(gzip.compress(bytes(100 * MEBI), mtime=0), mtime=0)
    return Crawl().add("/bombe", layers, Content_Encoding="gzip, gzip").add("/herz", GOOD).bytes()


LENGTH = b"Content-Length: "
CRAWLS: tuple[Callable[[], bytes], ...] = (
    *(_with_headers(content_type=f"text/html; charset={codec}") for codec in (*CODECS, '"', "utf-8\0", "x" * 5_000)),
    *(_with_headers(Content_Encoding=coding) for coding in ("gzip", "br", "zstd", "deflate", "gzip, br", "\0", "identity")),
    *(_with_headers(status=status) for status in ("200", "abc", "", "200 \0", "999999999999999999999 OK", "-200 OK")),
    *(_replacing(LENGTH, LENGTH + digit) for digit in (b"-", b"9", b"99999999999", b"999999999999999999999", b"0x", b"\0")),
    *(
        _replacing(b"https://www.klinik-am-see.example/herz", url)
        for url in (
            b"",
            b"\xff\xfe",
            b"\xed\xa0\x80",
            b"http://[::1",
            b"x\0y",
            b"h" * 100_000,
            b"<https://x.example/>",
            b"a\r\n b",
        )
    ),
    *(_replacing(b"2024-05-06T07:08:09Z", date) for date in (b"", b"gestern", b"0000-00-00T00:00:00Z", b"\xff", b"99999-01-01")),
    *(_replacing(b"<urn:uuid:00000000-0000-4000-8000-000000000001>", one) for one in (b"", b"\xff", b"<>", b"\0", b"x" * 9_999)),
    *(_replacing(b"WARC/1.0", version) for version in (b"WARC/9.9", b"WARC/", b"warc/1.0", b"\xff")),
    *(_replacing(b"\r\n\r\n", end) for end in (b"\n\n", b"\r\n", b"", b"\0\0\0\0")),
    _large,
    _bomb,
    lambda: b"",
    GOOD.encode,
    lambda: gzipped(GOOD),
    lambda: b"PAR1" * 100,
    lambda: Crawl().add_other("warcinfo", "/").bytes(),
    lambda: Crawl().add("/herz", GOOD).bytes() * 50,
)
