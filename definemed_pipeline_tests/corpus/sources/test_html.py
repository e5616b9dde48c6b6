"""A crawl of a clinic's site becomes FineWeb2-shaped parquet: the same bytes however it is run, and every record accounted for."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from definemed_pipeline.corpus.register import register_shard
from definemed_pipeline.corpus.shards import ASSET, FINEWEB2_SCHEMA
from definemed_pipeline.corpus.sources import html
from definemed_pipeline.corpus.sources.html import extract_pages
from definemed_pipeline.corpus.sources.html_settings import HtmlSource
from definemed_pipeline.corpus.sources.settings import ParquetSource
from definemed_pipeline.errors import UserError
from definemed_pipeline_tests.conftest import build_artifact
from definemed_pipeline_tests.corpus.sources.clinic_site import ENGLISH, GOOD_PAGES, HEART, SITE, Crawl, gzipped, page

NOTHING_REPEATED = 12  # good pages in `site`: enough for several batches and parts of the small sizes below


def site() -> Crawl:
    """Return a crawl with good pages between every kind of record that becomes no document."""
    crawl = Crawl().add_other("warcinfo", "/").add("/robots.txt", "User-agent: *", content_type="text/plain")
    for number in range(NOTHING_REPEATED):
        path, good = list(GOOD_PAGES.items())[number % len(GOOD_PAGES)]
        good = good.replace("</h1>", f"</h1><p>Haus {number}: Sie erreichen uns montags bis freitags von 8 bis 16 Uhr.</p>")
        crawl.add(f"{path}/{number}", good)
        crawl.add(f"/bild/{number}.jpg", b"\xff\xd8\xff", content_type="image/jpeg")
    crawl.add("/latin", page("Herz", HEART, head='<meta charset="utf-8">').encode("latin-1"))
    crawl.add("/gzip", gzipped(page("Herz", HEART)), Content_Encoding="gzip")
    crawl.add("/nul", page("Herz", HEART).encode().replace(b"Stent", b"St\x00ent"))
    crawl.add("/en", page("International Office", ENGLISH, lang="en")).add("/leer", page("", []))
    crawl.add("/kurz", page("Anfahrt", ["Sie erreichen uns mit der Buslinie 7 und mit der Straßenbahn."]))
    crawl.add("/liste", page("Ärzte", [f"Station {number} liegt im Erdgeschoss neben dem Labor" for number in range(80)]))
    return crawl.add("/herz/0", "<html>noch einmal</html>")


SOURCE = HtmlSource(files=("klinik.warc.gz",), seconds_per_page=1.5, max_page_bytes=3_000_000)


def extract(location: str | Path, folder: Path, **changes: object) -> tuple[dict[str, int], Path]:
    """Extract into a new folder and return the counts and the file."""
    source = HtmlSource(**{name: getattr(SOURCE, name) for name in SOURCE.__dataclass_fields__} | changes)
    checkpoints, target = folder / "checkpoints", folder / "pages.parquet"
    checkpoints.mkdir(parents=True, exist_ok=True)
    counts = extract_pages(str(location), source, target, checkpoints=checkpoints, report=lambda _: None)
    return counts, target


@pytest.fixture(scope="module")
def crawled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crawl")
    bomb = "<html><body>" + "<p><b>" * 300_000  # takes the parser minutes
    location = site().add("/bombe", bomb).save(folder / "klinik.warc.gz")
    return location, *extract(location, folder / "once")


@pytest.mark.slow
def test_every_record_is_a_document_or_counted_with_the_reason_why_not(crawled):
    _, counts, target = crawled
    skipped = {name: number for name, number in counts.items() if name.startswith("skipped:")}
    assert counts["records"] == counts["documents"] + sum(skipped.values())
    assert counts["documents"] == pq.read_metadata(target).num_rows == NOTHING_REPEATED + 3
    quality = {name: skipped.pop(name) for name in list(skipped) if name.startswith("skipped:quality:")}
    assert sum(quality.values()) == 2  # /kurz and /liste
    assert skipped == {
        "skipped:not_a_response": 1,
        "skipped:not_html": 1 + NOTHING_REPEATED,
        "skipped:wrong_language": 1,
        "skipped:no_text": 1,
        "skipped:extraction_timed_out": 1,
        "skipped:duplicate_url": 1,
    }


@pytest.mark.slow
def test_the_file_has_fineweb2s_columns_and_two_more(crawled):
    frame = pl.read_parquet(crawled[2])
    assert dict(frame.schema) == {**FINEWEB2_SCHEMA, "title": pl.String, "published": pl.String}
    first = frame.row(0, named=True)
    assert first["url"] == f"{SITE}/herz/0"
    assert first["id"] == "<urn:uuid:00000000-0000-4000-8000-000000000003>"
    assert (first["dump"], first["file_path"], first["date"]) == ("klinik", "klinik.warc.gz", "2024-05-06T07:08:09Z")
    assert first["minhash_cluster_size"] is None
    assert frame["id"].is_unique().all()
    for text in frame.filter(pl.col("url").str.contains("latin|gzip|nul"))["text"]:
        assert HEART[2] in text


@pytest.mark.slow
def test_the_pipeline_takes_the_file_as_a_shard(crawled, store):
    manifest = build_artifact(
        store,
        ASSET,
        register_shard,
        ParquetSource(files=(str(crawled[2]),)),
        partition="klinik",
        sources={"shard": str(crawled[2])},
    )
    assert manifest.metrics["documents"] == NOTHING_REPEATED + 3
    assert manifest.metrics["duplicate_ids"] == manifest.metrics["empty_texts"] == 0


@pytest.mark.slow
def test_two_processes_give_the_same_bytes_as_one(crawled, tmp_path, monkeypatch):
    location, counts, _ = crawled
    monkeypatch.setattr(html, "PAGES_PER_PART", 5)
    monkeypatch.setattr(html, "PAGES_PER_BATCH", 2)
    one, two = (extract(location, tmp_path / str(number), processes=number) for number in (1, 2))
    assert one[0] == two[0] == counts
    assert one[1].read_bytes() == two[1].read_bytes()
    assert pl.read_parquet(one[1]).equals(pl.read_parquet(crawled[2]))


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    location = site().save(tmp_path / "klinik.warc.gz")
    monkeypatch.setattr(html, "PAGES_PER_PART", 4)
    counts, undisturbed = extract(location, tmp_path / "undisturbed")
    killed = tmp_path / "killed"
    script = (
        "from pathlib import Path\n"
        "from definemed_pipeline_tests.corpus.sources.test_html import extract, html\n"
        "if __name__ == '__main__':\n"
        "    html.PAGES_PER_PART = 4\n"
        f"    extract({location!r}, Path({str(killed)!r}))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    second = killed / "checkpoints" / "part_000001.parquet"
    while not second.exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "pages.parquet").exists()
    before = {path.name: path.stat().st_mtime_ns for path in (killed / "checkpoints").glob("*.parquet")}
    assert 2 <= len(before) < len(list((tmp_path / "undisturbed" / "checkpoints").iterdir()))
    resumed, target = extract(location, killed)
    assert resumed == counts
    assert target.read_bytes() == undisturbed.read_bytes()
    for name, written in before.items():
        assert (killed / "checkpoints" / name).stat().st_mtime_ns == written, f"{name} was extracted again"


@pytest.mark.slow
def test_a_cut_file_gives_the_documents_before_the_cut(crawled, tmp_path):
    crawl = site()
    (tmp_path / "klinik.warc.gz").write_bytes(crawl.bytes()[: crawl.offsets[10] + 100])
    counts, target = extract(tmp_path / "klinik.warc.gz", tmp_path)
    assert counts == {"documents": 4, "records": 11, "skipped:damaged": 1, "skipped:not_a_response": 1, "skipped:not_html": 5}
    assert pl.read_parquet(target).equals(pl.read_parquet(crawled[2]).head(4))


def folder_of_pages(folder: Path) -> Path:
    (folder / "tief").mkdir(parents=True)
    for path, content in GOOD_PAGES.items():
        (folder / f"tief{path}.html").write_text(content)
    (folder / "Äußeres.HTM").write_bytes(page("Herz", HEART, head='<meta charset="iso-8859-1">').encode("latin-1"))
    (folder / "stil.css").write_text("p {}")
    (folder / "leer.html").touch()
    (folder / "gross.html").write_bytes(b"x" * (SOURCE.max_page_bytes + 1))
    return folder


@pytest.mark.slow
def test_a_folder_of_pages_gives_the_same_bytes_wherever_it_lies(tmp_path):
    here, there = (folder_of_pages(tmp_path / place / "klinik") for place in ("here", "there"))
    counts, target = extract(here, tmp_path / "1", dump="Export 2024")
    assert counts == {"documents": 4, "records": 7, "skipped:empty": 1, "skipped:not_html": 1, "skipped:too_large": 1}
    assert target.read_bytes() == extract(f"file://{there}/", tmp_path / "2", dump="Export 2024")[1].read_bytes()
    frame = pl.read_parquet(target)
    assert frame["file_path"].to_list() == [
        "klinik/tief/geburt.html", "klinik/tief/herz.html", "klinik/tief/knie.html", "klinik/Äußeres.HTM",
    ]  # fmt: skip
    assert frame["id"].is_unique().all()
    assert frame["dump"].unique().to_list() == ["Export 2024"]
    assert frame["date"].null_count() == 4
    assert HEART[0] in frame["text"][3]


@pytest.mark.slow
def test_a_crawl_without_a_document_gives_a_file_without_a_row(tmp_path):
    counts, target = extract(Crawl().add("/leer", "").save(tmp_path / "leer.warc.gz"), tmp_path)
    assert counts == {"records": 1, "skipped:empty": 1, "documents": 0}
    assert pl.read_parquet(target).schema == html.SCHEMA


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("fehlt.warc.gz", None, "there is no file or folder"),
        ("leer.warc", b"", "holds no WARC record and no file"),
        ("bild.warc.gz", b"\x89PNG" * 100, "holds no WARC record and no file"),
    ],
)
def test_what_is_no_crawl_is_refused_in_a_line(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as refusal:
        extract(tmp_path / name, tmp_path)
    assert name in str(refusal.value)
    assert not (tmp_path / "pages.parquet").exists()


@pytest.mark.parametrize(("key", "value"), [("language", "Deutsch"), ("files", ()), ("min_language_score", 2), ("processes", 0)])
def test_a_setting_that_cannot_be_is_refused(key, value):
    with pytest.raises(ValueError, match=key):
        HtmlSource(**{"files": ("klinik.warc.gz",), key: value})
