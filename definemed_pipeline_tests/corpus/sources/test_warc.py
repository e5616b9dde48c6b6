"""WARC files are read as crawlers write them, and as disks and broken transfers leave them."""

import io
import random
from collections import Counter

import brotli
import pytest

from definemed_pipeline.corpus.sources.records import Page, Skipped
from definemed_pipeline.corpus.sources.warc import read_warc
from definemed_pipeline_tests.corpus.sources.clinic_site import GOOD_PAGES, SITE, Crawl, chunked, gzipped

HERZ = GOOD_PAGES["/herz"]


def read(crawl: Crawl | bytes, *, max_page_bytes: int = 1_000_000) -> list[Page | Skipped]:
    data = crawl if isinstance(crawl, bytes) else crawl.bytes()
    return list(read_warc(io.BytesIO(data), name="klinik.warc.gz", max_page_bytes=max_page_bytes))


def many(pages: int, *, compressed: bool = True) -> Crawl:
    """Return a crawl of distinct pages that compress badly enough for damage to hit their text."""
    crawl = Crawl(compressed=compressed)
    for number in range(pages):
        noise = random.Random(number).randbytes(3_000).hex()
        crawl.add(f"/{number}", f"<html><body>{number} {noise}</body></html>")
    return crawl


@pytest.mark.parametrize("compressed", [True, False])
def test_a_page_comes_with_what_the_crawl_knows_of_it(compressed):
    (page,) = read(Crawl(compressed=compressed).add("/herz?a=1", HERZ, content_type="text/html; charset=UTF-8"))
    assert page == Page(
        id="<urn:uuid:00000000-0000-4000-8000-000000000001>",
        url=f"{SITE}/herz?a=1",
        date="2024-05-06T07:08:09Z",
        file_path="klinik.warc.gz",
        html=HERZ.encode(),
        charset="utf-8",
    )


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (chunked(HERZ.encode()), {"Transfer_Encoding": "chunked"}),
        (gzipped(HERZ), {"Content_Encoding": "gzip"}),
        (brotli.compress(HERZ.encode()), {"Content_Encoding": "br"}),
        (chunked(gzipped(HERZ)), {"Content_Encoding": "gzip", "Transfer_Encoding": "chunked"}),
        (HERZ.encode(), {"Content_Encoding": "gzip"}),
        (HERZ.encode(), {"Transfer_Encoding": "chunked"}),
        (HERZ.encode(), {"Content_Encoding": "never-heard-of"}),
    ],
    ids=["chunked", "gzip", "brotli", "both", "gzip undone by the crawler", "chunks undone by the crawler", "unknown"],
)
def test_encodings_are_undone_where_they_are_there(body, headers):
    (page,) = read(Crawl().add("/", body, **headers))
    assert page.html == HERZ.encode()


def test_what_is_no_page_is_skipped_with_its_reason():
    crawl = Crawl()
    crawl.add_other("warcinfo", "/").add_other("request", "/herz", b"GET / HTTP/1.1\r\n\r\n").add_other("revisit", "/herz")
    crawl.add("/alt", "", status="301 Moved Permanently", Location=f"{SITE}/neu").add("/weg", HERZ, status="404 Not Found")
    crawl.add("/leer", "").add("/logo.png", b"\x89PNG\r\n", content_type="image/png")
    crawl.add("/robots.txt", "User-agent: *", content_type="text/plain").add("/untyped.bin", b"\x01\x02", content_type=None)
    crawl.add("/gross", "x" * 2_000_000).add("/bombe", gzipped("x" * 2_000_000), Content_Encoding="gzip")
    crawl.add("/herz", HERZ).add("/herz#anfahrt", HERZ).add("/untyped.html", HERZ, content_type=None)
    records = read(crawl)
    assert Counter(record.reason for record in records if isinstance(record, Skipped)) == {
        "not_a_response": 3, "status_not_200": 2, "empty": 1, "not_html": 3, "too_large": 2, "duplicate_url": 1,
    }  # fmt: skip
    assert [record.url for record in records if isinstance(record, Page)] == [f"{SITE}/herz", f"{SITE}/untyped.html"]


def test_a_failed_fetch_does_not_stand_in_the_way_of_a_later_one():
    records = read(Crawl().add("/herz", "", status="503 Service Unavailable").add("/herz", HERZ))
    assert records == [Skipped("status_not_200"), records[1]]
    assert records[1].html == HERZ.encode()


@pytest.mark.parametrize("compressed", [True, False])
def test_a_cut_file_keeps_every_page_before_the_cut(compressed):
    crawl = many(5, compressed=compressed)
    whole = read(crawl)
    ends = [crawl.offsets[4] + start for start in range(1, 40)] + list(range(crawl.offsets[3] + 1, len(crawl.bytes()), 617))
    for end in ends:
        records = read(crawl.bytes()[:end])
        complete = sum(offset < end for offset in crawl.offsets) - 1
        assert records == [*whole[:complete], Skipped("damaged")]


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("garbage", [b"garbage\r\n" * 50, bytes(5_000), b"\x1f\x8b\x08\x00" * 3, b"WARC/1.0\r\nnonsense\r\n\r\n"])
def test_garbage_between_records_costs_no_page(compressed, garbage):
    crawl = many(5, compressed=compressed)
    at = crawl.offsets[2]
    records = read(crawl.bytes()[:at] + garbage + crawl.bytes()[at:])
    assert [record for record in records if isinstance(record, Page)] == read(crawl)
    assert records.count(Skipped("damaged")) == len(records) - 5 == 1


def test_a_flipped_bit_costs_at_most_the_page_it_hits():
    crawl = many(5)
    whole = read(crawl)
    for offset in range(crawl.offsets[2] + 20, crawl.offsets[3] - 1, 97):
        damaged = bytearray(crawl.bytes())
        damaged[offset] ^= 16
        records = read(bytes(damaged))
        pages = [record for record in records if isinstance(record, Page)]
        assert [page for page in pages if page.url != f"{SITE}/2"] == [whole[0], whole[1], whole[3], whole[4]]
        assert Skipped("damaged") in records or pages != whole


def test_no_damage_of_any_kind_is_more_than_a_count():
    data = many(8).bytes()
    for seed in range(300):
        chance = random.Random(seed)
        damaged = bytearray(data)
        for _ in range(chance.randrange(1, 6)):
            at, length = chance.randrange(len(damaged)), chance.randrange(400)
            damaged[at : at + chance.randrange(400)] = chance.choice(
                [b"", bytes(length), chance.randbytes(length), data[:length]]
            )
        assert all(isinstance(record, Page | Skipped) for record in read(bytes(damaged)))


@pytest.mark.parametrize("data", [b"", b"\x00" * 3_000, b"PK\x03\x04 no such thing", HERZ.encode(), gzipped(HERZ)])
def test_what_is_no_warc_file_holds_no_page(data):
    assert read(data) in ([], [Skipped("damaged")])


@pytest.mark.parametrize("begins", [b"WARC/1.0\r\n", b"\x1f\x8b\x08", b"WARC/1.0\r\nContent-Length: 5\r\n\r\n"])
def test_a_file_of_nothing_but_beginnings_comes_to_an_end(begins):
    data = many(2).bytes()
    records = read(data + begins * 40_000)
    assert records[:2] == read(data)
    assert len(records) <= 2 + 2 * 10_001


def test_a_fault_of_the_file_system_is_no_damage():
    class Breaking(io.BytesIO):
        def read(self, size=-1):
            if self.tell() > 20_000:
                raise ConnectionResetError("the bucket is gone")
            return super().read(min(size, 4_096) if size > 0 else size)

    with pytest.raises(ConnectionResetError, match="the bucket is gone"):
        list(read_warc(Breaking(many(20).bytes()), name="x", max_page_bytes=1_000_000))
