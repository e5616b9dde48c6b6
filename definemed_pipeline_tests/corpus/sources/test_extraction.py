"""One page becomes one document: its text, what it says about itself, and its language."""

import pytest
import trafilatura

from definemed_pipeline.corpus.sources.extraction import Document, PageReader, refuse_unknown_language
from definemed_pipeline.corpus.sources.html_settings import HtmlSource
from definemed_pipeline.corpus.sources.records import Page, Skipped
from definemed_pipeline.errors import UserError
from definemed_pipeline_tests.corpus.sources.clinic_site import ENGLISH, GOOD_PAGES, HEART, KNEE, SITE, VALUES, page


@pytest.fixture(scope="module")
def read():
    reader = PageReader(HtmlSource(files=("klinik.warc.gz",)))

    def read_one(html: str | bytes, **fields: str | None) -> Document | Skipped:
        content = html.encode() if isinstance(html, str) else html
        return reader(Page(**{"id": "<urn:uuid:1>", "url": None, "date": None, "file_path": "x", **fields, "html": content}))

    return read_one


def test_the_text_is_the_article_without_the_sites_boilerplate(read):
    document = read(page("Herzkatheterlabor", HEART, extra=VALUES))
    assert document.text.split("\n")[:4] == ["Herzkatheterlabor", *HEART]
    assert "Kalium" in document.text  # tables are text
    assert "Startseite" not in document.text
    assert "Cookies" not in document.text
    assert document.title == "Herzkatheterlabor"


def test_the_text_is_what_trafilatura_gives_with_fineweb2s_options(read):
    for html in GOOD_PAGES.values():
        wanted = trafilatura.extract(html, favor_precision=True, include_comments=False, deduplicate=False)
        assert read(html).text == wanted


def test_a_page_reads_the_same_however_often_it_was_read_before(read):
    """Trafilatura's own memory of paragraphs spans pages, and would drop these."""
    documents = [read(GOOD_PAGES["/knie"]) for _ in range(6)]
    assert documents == documents[:1] * 6
    assert KNEE[0] in documents[0].text


def test_what_the_page_says_about_itself_is_kept(read):
    head = (
        '<meta charset="utf-8"><meta property="article:published_time" content="2024-02-03T10:00:00+01:00">'
        f'<link rel="canonical" href="{SITE}/kliniken/herz">'
    )
    document = read(page("Herzkatheterlabor", HEART, head=head))
    assert (document.published, document.url, document.date) == ("2024-02-03", f"{SITE}/kliniken/herz", None)
    crawled = read(page("Herzkatheterlabor", HEART, head=head), url=f"{SITE}/herz?utm=1", date="2024-05-06T07:08:09Z")
    assert (crawled.url, crawled.date) == (f"{SITE}/herz?utm=1", "2024-05-06T07:08:09Z")


def test_a_page_was_not_published_after_it_was_crawled(read):
    head = '<meta charset="utf-8"><meta property="article:published_time" content="2031-02-03">'
    html = page("Herzkatheterlabor", HEART, head=head)
    assert read(html, date="2024-05-06T07:08:09Z").published is None


def test_the_language_is_written_as_fineweb2_writes_it(read):
    document = read(GOOD_PAGES["/geburt"])
    assert (document.language, document.language_script) == ("deu", "Latn")
    assert document.language_score > 0.99
    assert document.top_langs == f'{{"deu_Latn_score": {document.language_score}}}'


def test_lone_surrogates_in_a_pages_metadata_can_be_written(read):
    data = r'{"@context": "https://schema.org", "@type": "Article", "headline": "Herz \ud83d Labor im Haus"}'
    script = f'<script type="application/ld+json">{data}</script>'
    document = read(page("", HEART, head=f'<meta charset="utf-8">{script}'))
    assert "Labor im Haus" in document.title
    document.title.encode("utf-8")


@pytest.mark.parametrize(
    ("html", "reason"),
    [
        (page("International Office", ENGLISH, lang="en"), "wrong_language"),
        (
            page("Международный отдел", ["Мы поможем вам записаться на приём к врачу и перевести документы."] * 2),
            "wrong_language",
        ),
        (page("", []), "no_text"),
        ("<html></html>", "no_text"),
        ("<html><body>" + "<div>" * 200_000 + "Herz", "no_text"),
        (b"\x00\x01\x02\x03" * 1_000, "undecodable"),
    ],
)
def test_what_gives_no_document_is_skipped_with_its_reason(read, html, reason):
    assert read(html) == Skipped(reason)


@pytest.mark.parametrize(
    "broken", ["<table><tr><td>", "<!--", "<p title='", "</div></body></html></p>", "<svg><script>", "&#xD800;&#0;"]
)
def test_broken_markup_does_not_cost_the_text_before_it(read, broken):
    assert HEART[0] in read(page("Herz", HEART, extra=broken)).text


def test_nothing_that_a_page_holds_is_more_than_a_reason(read):
    html = page("Herz", HEART).encode()
    for at in range(0, len(html), 97):
        for change in (b"", b"\x00", b"\xff\xfe", b"<", b'"', b"<p><table>", "\u202e".encode()):
            assert isinstance(read(html[:at] + change + html[at + 5 :]), Document | Skipped)


def test_a_language_that_cannot_be_identified_is_refused():
    refuse_unknown_language("deu")
    with pytest.raises(UserError, match="'xyz' is not among the languages"):
        refuse_unknown_language("xyz")
