"""The website of a small clinic, as a crawl of it would meet it. Every text is our own."""

import gzip
import io
from collections.abc import Iterable
from pathlib import Path

from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

SITE = "https://www.klinik-am-see.example"
NAVIGATION = """<nav class="menu"><ul><li><a href="/">Startseite</a></li><li><a href="/kliniken">Kliniken und Zentren</a></li>
<li><a href="/besuch">Ihr Aufenthalt</a></li><li><a href="/karriere">Karriere</a></li></ul></nav>"""
FOOTER = """<footer><p>Cookies helfen uns, diese Seite zu verbessern.</p><a href="/impressum">Impressum</a></footer>"""

HEART = (
    "In unserem Herzkatheterlabor untersuchen wir die Herzkranzgefäße von Menschen, bei denen der Verdacht auf eine Durchblutungsstörung "
    "des Herzens besteht. Der Eingriff dauert in der Regel eine halbe Stunde und wird in örtlicher Betäubung durchgeführt.",
    "Vor der Untersuchung bitten wir Sie, sechs Stunden nichts zu essen. Besonders wichtig ist, dass Sie uns sagen, ob Sie Mittel zur "
    "Blutverdünnung einnehmen oder ob bei Ihnen eine Überfunktion der Schilddrüse bekannt ist.",
    "Nach dem Eingriff bleiben Sie einige Stunden zur Beobachtung auf der Station. Wurde eine Engstelle mit einem Stent versorgt, so behalten "
    "wir Sie meist eine Nacht bei uns, damit wir Ihren Kreislauf überwachen können.",
)
KNEE = (
    "Ein künstliches Kniegelenk kommt in Frage, wenn der Knorpel so weit abgenutzt ist, dass Übungen, Einlagen und Schmerzmittel nicht mehr "
    "helfen. Ob eine Operation sinnvoll ist, besprechen wir mit Ihnen anhand der Röntgenbilder und Ihrer Beschwerden im Alltag.",
    "Am Tag nach der Operation stehen Sie mit Hilfe der Physiotherapie auf und gehen die ersten Schritte an Gehstützen. Die meisten unserer "
    "Patientinnen und Patienten verlassen das Haus nach einer Woche und beginnen dann mit der Rehabilitation.",
    "Damit die Wunde gut heilt, sollten Sie das Bein in den ersten Tagen regelmäßig hochlagern und kühlen. Bitte rufen Sie uns an, wenn das "
    "Knie plötzlich heiß wird, stark anschwillt oder wenn Sie Fieber bekommen.",
)
BIRTH = (
    "Im Kreißsaal begleitet Sie während der ganzen Geburt eine Hebamme, die Sie schon aus der Sprechstunde kennen. Eine Ärztin der "
    "Frauenklinik ist jederzeit in der Nähe und kommt dazu, wenn Sie es wünschen oder wenn es nötig ist.",
    "Gegen die Schmerzen helfen Bewegung, ein warmes Bad und die Atmung, und wenn das nicht genügt, auch eine Betäubung nahe am Rückenmark. "
    "Welche Möglichkeiten es gibt, erklären wir Ihnen in Ruhe vor dem errechneten Termin.",
    "Nach der Geburt bleibt Ihr Kind bei Ihnen im Zimmer. Wir zeigen Ihnen, wie Sie es anlegen, wickeln und baden, und untersuchen es am "
    "dritten Tag noch einmal gründlich, bevor Sie gemeinsam nach Hause gehen.",
)
ENGLISH = (
    "Our international office helps patients from abroad with their appointments, with interpreters and with the cost estimate that many "
    "insurers ask for before they agree to the treatment.",
    "Please send us your most recent findings and a short letter from your doctor at home. We will answer within three working days and tell "
    "you which of our departments can take care of you.",
)
VALUES = """<table><tr><th>Wert</th><th>Normalbereich</th></tr><tr><td>Kalium</td><td>3,5 bis 5,1 mmol/l</td></tr></table>"""


def page(
    title: str, paragraphs: Iterable[str], *, head: str = '<meta charset="utf-8">', extra: str = "", lang: str = "de"
) -> str:
    """Return an HTML page with the site's boilerplate around its text."""
    text = "\n".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)
    return (
        f'<!DOCTYPE html>\n<html lang="{lang}"><head>{head}<title>{title}</title></head><body>{NAVIGATION}'
        f"<main><article><h1>{title}</h1>{text}{extra}</article></main>{FOOTER}</body></html>"
    )


GOOD_PAGES = {
    "/herz": page("Herzkatheterlabor", HEART),
    "/knie": page("Künstliches Kniegelenk", KNEE),
    "/geburt": page("Geburtshilfe", BIRTH),
}


class Crawl:
    """Write a WARC file as crawlers do, each record a gzip member of its own unless told otherwise."""

    def __init__(self, *, compressed: bool = True) -> None:
        self._buffer = io.BytesIO()
        self._writer = WARCWriter(self._buffer, gzip=compressed)
        self.offsets: list[int] = []

    def add(
        self, path: str, body: bytes | str, *, status: str = "200 OK", content_type: str | None = "text/html", **headers: str
    ) -> "Crawl":
        """Add a response; `headers` are HTTP headers with underscores for hyphens."""
        body = body.encode() if isinstance(body, str) else body
        fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
        fields += [("Content-Type", content_type)] if content_type else []
        http = StatusAndHeaders(status, fields, protocol="HTTP/1.1")
        return self._write("response", SITE + path, body, http)

    def add_other(self, kind: str, path: str, body: bytes = b"") -> "Crawl":
        """Add a record of another kind: request, metadata, revisit."""
        return self._write(kind, SITE + path, body, None)

    def _write(self, kind: str, url: str, body: bytes, http: StatusAndHeaders | None) -> "Crawl":
        self.offsets.append(self._buffer.tell())
        number = len(self.offsets)
        record = self._writer.create_warc_record(
            url,
            kind,
            payload=io.BytesIO(body),
            http_headers=http,
            warc_headers_dict={
                "WARC-Record-ID": f"<urn:uuid:00000000-0000-4000-8000-{number:012d}>",
                "WARC-Date": "2024-05-06T07:08:09Z",
            },
        )
        self._writer.write_record(record)
        return self

    def bytes(self) -> bytes:
        """Return the file so far."""
        return self._buffer.getvalue()

    def save(self, path: Path) -> str:
        """Write the file and return its path."""
        path.write_bytes(self.bytes())
        return str(path)


def chunked(body: bytes) -> bytes:
    """Return a body in HTTP's chunked transfer encoding."""
    half = len(body) // 2
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (body[:half], body[half:])) + b"0\r\n\r\n"


def gzipped(body: str) -> bytes:
    """Return a body in HTTP's gzip content encoding, the same bytes each time."""
    return gzip.compress(body.encode(), mtime=0)
