"""Read the HTML pages of a WARC file (ISO 28500), compressed record by record or not at all, however damaged.

Where the file cannot be read, reading goes on at the next record: the next gzip member that begins with a WARC header, or the next such header.
What was lost in between is counted once, as `damaged`. A file that has to be taken up again more than `MAX_RESTARTS` times is given up there.
"""

import hashlib
import re
import uuid
import zlib
from collections.abc import Iterator
from typing import IO, Literal

from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType

from definemed_pipeline.corpus.sources.records import Page, Record, Skipped

HTML_TYPES = ("text/html", "application/xhtml+xml")
HTML_BEGINS = (b"<!doctype html", b"<html")  # looked for where no type is stated
SNIFFED = 1024  # bytes
MAX_HTTP_HEADERS = 1 << 16  # bytes; a record may be longer than a page by this
WARC_HEADER, GZIP_HEADER = b"WARC/1.", b"\x1f\x8b\x08"
RECORD_BEGINS = re.compile(re.escape(WARC_HEADER) + b"|" + re.escape(GZIP_HEADER))
WINDOW = 1 << 16  # bytes searched at once for the next record
MAX_RESTARTS = 10_000  # bounds the time that a file made of nothing but beginnings takes
DAMAGED = Skipped("damaged")


def read_warc(file: IO[bytes], *, name: str, max_page_bytes: int) -> Iterator[Record]:
    """Yield one record for each WARC record and each damaged stretch, in order. `file` must be seekable; `name` is the pages' `file_path`.

    Of several pages with the same URL the first counts. Faults of the file system are raised as they are.
    """
    seen: set[bytes] = set()
    for record in _records(file, max_page_bytes + MAX_HTTP_HEADERS):
        outcome = record if isinstance(record, Skipped) else _page(record, name, max_page_bytes)
        if isinstance(outcome, Page) and outcome.url is not None:
            url = hashlib.blake2b(outcome.url.partition("#")[0].encode(), digest_size=8).digest()
            if url in seen:
                outcome = Skipped("duplicate_url")
            seen.add(url)
        yield outcome


def _records(file: IO[bytes], max_bytes: int) -> Iterator[WarcRecord | Skipped]:
    """Yield the HTTP responses with their block in memory, and for every other record the reason to skip it."""
    start: int | None = 0
    in_damage = False  # one damage may show several times: in the record it cuts short and in what follows
    for _ in range(1 + MAX_RESTARTS):
        if start is None:
            return
        file.seek(start)
        stream = _Watched(file)
        try:
            for record in ArchiveIterator(stream, parse_http=False, fsspec_args=False):
                start = record.stream_pos
                outcome = _with_block(record, max_bytes)
                if outcome is not DAMAGED or not in_damage:
                    yield outcome
                in_damage = outcome is DAMAGED
            if not in_damage and not _ends_whole(file, start):
                yield DAMAGED
            return
        except OSError:
            if stream.fault is not None:
                raise stream.fault from None
        if not in_damage:
            yield DAMAGED
        in_damage = True
        start = _next_record(file, start + 1)


def _with_block(record: WarcRecord, max_bytes: int) -> WarcRecord | Skipped:
    if "Content-Length" not in record.headers:  # which no record is without, unless its headers are cut short
        return DAMAGED
    if record.record_type != WarcRecordType.response or not record.is_http:
        return Skipped("not_a_response")
    declared = record.content_length
    if declared > max_bytes:
        return Skipped("too_large")
    record.freeze()
    return record if record.content_length == declared else DAMAGED


def _next_record(file: IO[bytes], start: int) -> int | None:
    """Return the first offset from `start` on where a record seems to begin, None where there is none."""
    overlap = len(WARC_HEADER) - 1
    while True:
        file.seek(start)
        window = file.read(WINDOW)
        for mark in RECORD_BEGINS.finditer(window):
            offset = start + mark.start()
            if mark.group() == WARC_HEADER or _begins_member(file, offset):
                return offset
        if len(window) <= overlap:
            return None
        start += len(window) - overlap


def _begins_member(file: IO[bytes], offset: int) -> bool:
    """Say whether a gzip member with a WARC record begins here, and not three bytes that look like one."""
    file.seek(offset)
    try:
        return zlib.decompressobj(wbits=31).decompress(file.read(4096), len(WARC_HEADER)) == WARC_HEADER
    except zlib.error:
        return False


def _ends_whole(file: IO[bytes], start: int) -> bool:
    """Say whether what lies from the last record's offset on is one whole gzip member, or not compressed.

    A member that is cut before its first line of text shows in no other way.
    """
    file.seek(start)
    data = file.read(WINDOW)
    if not data.startswith(GZIP_HEADER):
        return True
    member = zlib.decompressobj(wbits=31)
    while data and not member.eof:
        try:
            member.decompress(data, WINDOW)
        except zlib.error:
            return False
        data = member.unconsumed_tail or file.read(WINDOW)
    return member.eof and not (member.unused_data + file.read(WINDOW)).strip(b"\0")


def _page(record: WarcRecord, name: str, max_page_bytes: int) -> Record:
    block = record.reader.read()
    try:
        response = _response(block, "none")
    except OSError:
        return Skipped("bad_http_headers")
    html = _body(block, max_page_bytes + 1)
    content_type = record.headers.get("WARC-Identified-Payload-Type") or response.http_content_type
    if reason := _reason_against(response, html, content_type, max_page_bytes):
        return Skipped(reason)
    url = (record.headers.get("WARC-Target-URI") or "").strip("<>") or None
    date = record.headers.get("WARC-Date") if record.record_date else None
    id_ = record.record_id or f"<urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{url} {date}')}>"
    return Page(id=id_, url=url, date=date, file_path=name, html=html, charset=response.http_charset)


def _reason_against(response: WarcRecord, html: bytes, content_type: str | None, max_page_bytes: int) -> str | None:
    status = None if response.http_headers is None else response.http_headers.status_code
    if status is None:
        return "bad_http_headers"
    if status != 200:
        return "status_not_200"
    if not html:
        return "empty"
    if not _is_html(content_type, html):
        return "not_html"
    return "too_large" if len(html) > max_page_bytes else None


def _response(block: bytes, decode: Literal["all", "none"]) -> WarcRecord:
    record = WarcRecord()
    record.is_http = True
    record.set_bytes_content(block)
    record.parse_http(auto_decode=decode)
    return record


def _body(block: bytes, limit: int) -> bytes:
    """Return at most `limit` bytes of a response's body with its transfer and content encodings undone.

    Many crawlers store the body decoded and leave the header that says it is encoded; then the body is taken as it lies.
    """
    decodings: tuple[Literal["all"], Literal["none"]] = ("all", "none")
    for decode in decodings:
        try:
            reader = _response(block, decode).reader
            body = bytearray()
            while len(body) < limit and (read := reader.read(limit - len(body))):
                body += read
            return bytes(body)
        except OSError:
            continue
    return b""


def _is_html(content_type: str | None, html: bytes) -> bool:
    if content_type:
        return content_type.partition(";")[0].strip().lower() in HTML_TYPES
    return any(begin in html[:SNIFFED].lower() for begin in HTML_BEGINS)


class _Watched:
    """A seekable stream that remembers its own fault, so that it is told from damage of what it holds."""

    def __init__(self, file: IO[bytes]) -> None:
        self.fault: BaseException | None = None
        self._file = file
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def read(self, size: int = -1) -> bytes:
        try:
            return self._file.read(size)
        except BaseException as fault:
            self.fault = fault
            raise
