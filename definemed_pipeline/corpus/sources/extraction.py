"""What a worker process does with one page: characters, text and metadata, language. Whether the text is good enough is decided elsewhere.

The text is what trafilatura extracts with the options of FineWeb and FineWeb2 (datatrove's `Trafilatura` with its defaults): precision favoured, no comments,
tables kept, paragraphs that are repeated removed. There, a paragraph is repeated if the process has seen it on any page before; here, only
if the same page has it before, since otherwise the result would depend on which process reads which page.
"""

import json
import logging
from dataclasses import dataclass

from lingua import IsoCode639_3, LanguageDetector, LanguageDetectorBuilder
from trafilatura import bare_extraction
from trafilatura.deduplication import LRUCache
from trafilatura.settings import Document as Extracted
from trafilatura.utils import normalize_unicode

from definemed_pipeline.corpus.sources.decoding import decode_html
from definemed_pipeline.corpus.sources.html_settings import HtmlSource
from definemed_pipeline.corpus.sources.records import Page, Skipped
from definemed_pipeline.errors import UserError

JUDGED = 2_000  # characters: more make the detector slower, which takes some 3 ms, and hardly surer
DIGITS = 6  # of a confidence: the last ones depend on the order of a sum
LATEST = "2100-01-01"  # publication dates of a page without crawl date; htmldate's own limit is today, which changes the bytes tomorrow
SEGMENTS = 4096  # of a page, remembered to find repeated ones; trafilatura's own number


@dataclass(frozen=True, kw_only=True)
class Document:
    """A page's text in the expected language; the fields are columns of the shard."""

    text: str
    id: str
    url: str | None
    date: str | None
    file_path: str
    language: str
    language_score: float
    language_script: str
    top_langs: str
    title: str | None
    published: str | None


class PageReader:
    """Turn pages into documents. Loads the detector's models."""

    def __init__(self, settings: HtmlSource) -> None:
        for logger in ("trafilatura", "htmldate"):  # what they would report is counted
            logging.getLogger(logger).setLevel(logging.CRITICAL)
        self._settings = settings
        self._detector = _detector()

    def __call__(self, page: Page) -> Document | Skipped:
        """Return a page's document or the reason why it has none."""
        html = decode_html(page.html, page.charset)
        if html is None:
            return Skipped("undecodable")
        try:
            extracted = _extract(html, page)
        except Exception:  # of any kind: the parser's, recursion, memory
            return Skipped("extraction_failed")
        if extracted is None or not (text := _sound(normalize_unicode(extracted.text or "").strip())):
            return Skipped("no_text")
        language, score = self._language(text)
        if language != self._settings.language_code or score < self._settings.min_language_score:
            return Skipped("wrong_language")
        return Document(
            text=text,
            id=page.id,
            url=page.url or _sound(extracted.url),
            date=page.date,
            file_path=page.file_path,
            language=language,
            language_score=score,
            language_script=self._settings.script,
            top_langs=json.dumps({f"{self._settings.language}_score": score}),
            title=_sound(extracted.title),
            published=extracted.date,
        )

    def _language(self, text: str) -> tuple[str | None, float]:
        """Return the likeliest language (ISO 639-3) and the detector's confidence in it, among all that it knows.

        The middle of the text is judged: what a site repeats, perhaps in English, stands at both ends.
        """
        start = max(len(text) - JUDGED, 0) // 2
        likeliest = self._detector.compute_language_confidence_values(text[start : start + JUDGED])[0]
        return likeliest.language.iso_code_639_3.name.lower(), round(likeliest.value, DIGITS)


def refuse_unknown_language(code: str) -> None:
    """Raise UserError where the detector does not know a language (ISO 639-3)."""
    try:
        IsoCode639_3.from_str(code)
    except ValueError as error:
        raise UserError(
            f"source.language {code!r} is not among the languages that can be identified; deu, for example, is"
        ) from error


def _detector() -> LanguageDetector:
    # Pages are long enough for trigrams alone, which need a tenth of the memory.
    return LanguageDetectorBuilder.from_all_languages().with_low_accuracy_mode().with_preloaded_language_models().build()


def _extract(html: str, page: Page) -> Extracted | None:
    extracted = bare_extraction(
        html,
        url=page.url,
        favor_precision=True,
        include_comments=False,
        deduplicate=LRUCache(maxsize=SEGMENTS),
        with_metadata=True,
        date_extraction_params={
            "original_date": True,
            "extensive_search": False,  # a date in the markup or the URL, not any date in the text
            "max_date": page.date[:10] if page.date else LATEST,
        },
    )
    return extracted if isinstance(extracted, Extracted) else None


def _sound(text: str | None) -> str | None:
    """Replace what cannot be written as UTF-8: lone surrogates, which scripts in a page may spell."""
    return text and text.encode("utf-8", "replace").decode("utf-8")
