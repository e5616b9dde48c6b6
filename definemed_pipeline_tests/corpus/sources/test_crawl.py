"""A crawl is read and identified alike wherever it lies."""

import os

import fsspec
import pytest

from definemed_pipeline.corpus.sources.crawl import read_crawl
from definemed_pipeline.corpus.sources.files import SourceFile, stem
from definemed_pipeline.corpus.sources.records import Page, Skipped
from definemed_pipeline.errors import UserError
from definemed_pipeline_tests.corpus.sources.clinic_site import GOOD_PAGES, Crawl

FILES = {"index.html": "<html>Start</html>", "haus/herz.htm": GOOD_PAGES["/herz"], "haus/stil.css": "p {}", "leer.html": ""}


@pytest.fixture
def bucket():
    filesystem = fsspec.filesystem("memory")
    yield filesystem
    filesystem.rm("/", recursive=True)


def write_files(root: str) -> str:
    for path, content in FILES.items():
        with fsspec.open(f"{root}/{path}", "w", encoding="utf-8", auto_mkdir=True) as file:
            file.write(content)
    return root


def read(location: str) -> list[Page | Skipped]:
    return list(read_crawl(location, max_page_bytes=1_000_000))


def digest_of_crawl(location: str) -> str:
    return SourceFile.at(location, bytes=0, digest=None).identify(None).digest


def test_a_bucket_is_read_like_a_disk(tmp_path, bucket):
    local, remote = write_files(str(tmp_path / "klinik")), write_files("memory://archiv/klinik")
    assert read(local) == read(remote)
    assert [record.file_path for record in read(remote) if isinstance(record, Page)] == [
        "klinik/haus/herz.htm",
        "klinik/index.html",
    ]
    assert digest_of_crawl(local) == digest_of_crawl(remote)


def test_a_warc_file_is_read_from_a_bucket(bucket):
    with fsspec.open("memory://archiv/klinik.warc.gz", "wb") as file:
        file.write(Crawl().add("/herz", GOOD_PAGES["/herz"]).bytes())
    (page,) = read("memory://archiv/klinik.warc.gz")
    assert page.file_path == "klinik.warc.gz"


def test_any_change_below_a_folder_is_another_crawl(tmp_path):
    root = tmp_path / "klinik"
    write_files(str(root))
    digests = [digest_of_crawl(str(root))]
    (root / "index.html").write_text("<html>Neu</html>")
    digests.append(digest_of_crawl(str(root)))
    (root / "index.html").rename(root / "start.html")
    digests.append(digest_of_crawl(str(root)))
    (root / "haus" / "stil.css").unlink()
    digests.append(digest_of_crawl(str(root)))
    assert len(set(digests)) == 4


def test_a_file_name_that_is_no_text_is_read(tmp_path):
    (tmp_path / "klinik").mkdir()
    with open(os.fsencode(tmp_path / "klinik") + b"/\xfcber.html", "w") as file:
        file.write("<html>Haus</html>")
    (page,) = read(str(tmp_path / "klinik"))
    assert page.file_path == "klinik/\ufffdber.html"
    assert digest_of_crawl(str(tmp_path / "klinik"))


def test_what_is_not_there_is_told_in_a_line(tmp_path):
    for work in (read, digest_of_crawl):
        with pytest.raises(UserError, match=r"there is no file .*fehlt"):
            work(str(tmp_path / "fehlt.warc.gz"))


@pytest.mark.parametrize("location", ["a/klinik.warc.gz", "s3://bucket/klinik.warc", "a/klinik/", "klinik", "/a/klinik.warc.zst"])
def test_a_crawl_is_called_after_its_location(location):
    assert stem(location) == "klinik"
