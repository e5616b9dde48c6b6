"""Spans of languages and scripts that were not asked for, in short texts full of terms.

Language identification is sure of itself on the very words that say nothing: abbreviations, drug names, clinical Latin ("COPD GOLD III",
"Ulcus cruris"). So words are weighed one by one first (`evidence.py`), and a span is where their evidence adds up: the best division of
a line into expected and foreign stretches when each change of language costs half of the least evidence of a span (the Viterbi path of two
states). Only then lingua is asked about the span as a whole, between the recipe's languages. Letters of another script need no detector.
"""

import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

from definemed_pipeline.errors import UserError
from definemed_pipeline.evaluation.failures.evidence import WORD, WordEvidence, key_of
from definemed_pipeline.evaluation.failures.settings import LanguageSettings
from definemed_pipeline.evaluation.failures.word_lists import merged, read_word_list

LINE = re.compile(r"[^\n\r]+")
UNDECIDED = -1.0  # nats: a word with less speaks for the expected language
LETTERS = re.compile(r"(?:[^\W\d_][\u0300-\u036f]*){2,}")


@dataclass(frozen=True, kw_only=True)
class Span:
    """A stretch of a text (offsets in characters) in an unexpected language or script; `language` is its code, or the script's name."""

    start: int
    end: int
    language: str
    words: int


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """How much of a text is foreign: by word, by line (one with a foreign span in it) and as spans in their order."""

    spans: tuple[Span, ...]
    words: int
    lines: int
    foreign_lines: int

    @property
    def foreign_words(self) -> int:
        return sum(span.words for span in self.spans)

    @property
    def foreign_share(self) -> float:
        """Return the share of words in foreign spans; 0 of an empty text."""
        return min(1.0, self.foreign_words / self.words) if self.words else 0.0


class LanguageMixing:
    """Find spans in unexpected languages and scripts. Reads its lexicons at once, and loads lingua's models when first used."""

    def __init__(self, settings: LanguageSettings) -> None:
        _refuse_unknown([settings.expected, *settings.foreign])
        self.settings = settings
        self._scripts: frozenset[str | None] = frozenset({None, *settings.scripts})
        self._lists = {code: read_word_list(settings.sources()[f"words/{code}"]) for code in settings.words}
        self._terms = merged([read_word_list(place) for name, place in settings.sources().items() if name.startswith("terms/")])

    def measure(self, text: str, *, terms: Collection[str] = ()) -> Mixing:
        """Measure a text. `terms` are texts whose words tell nothing here, such as the instruction and its reference answer."""
        neutral = frozenset(word for term in terms for word in words_of(term))
        spans: list[Span] = []
        words = lines = foreign_lines = 0
        for line in LINE.finditer(text):
            found = list(WORD.finditer(line[0]))
            foreign = self._spans_of_line(line[0], found, line.start(), neutral)
            spans += foreign
            words, lines, foreign_lines = words + len(found), lines + (not line[0].isspace()), foreign_lines + bool(foreign)
        return Mixing(spans=tuple(spans), words=words, lines=lines, foreign_lines=foreign_lines)

    def spans(self, text: str, *, terms: Collection[str] = ()) -> list[Span]:
        """Return the foreign spans of a text in their order."""
        return list(self.measure(text, terms=terms).spans)

    def _spans_of_line(self, line: str, found: list[re.Match[str]], offset: int, neutral: frozenset[str]) -> list[Span]:
        spans = sorted(
            [*self._other_languages(found, neutral), *self._other_scripts(line)], key=lambda one: (one.start, -one.end)
        )
        apart: list[Span] = []
        for span in spans:
            if not apart or offset + span.start >= apart[-1].end:  # of two languages that claim a word, the one that begins first
                apart.append(replace(span, start=offset + span.start, end=offset + span.end))
        return apart

    def _other_scripts(self, line: str) -> Iterator[Span]:
        """Yield the runs of two or more letters of a script that does not belong here; single letters are symbols."""
        if line.isascii() or all(_script(sign) in self._scripts for sign in set(line)):
            return
        for run in LETTERS.finditer(line):
            scripts = {script for letter in run[0] if (script := _script(letter)) is not None}
            if scripts and not scripts & self._scripts:
                yield Span(start=run.start(), end=run.end(), language=min(map(str, scripts)).lower(), words=1)

    def _other_languages(self, found: list[re.Match[str]], neutral: frozenset[str]) -> Iterator[Span]:
        if len(found) < self.settings.minimum_words:
            return
        words = [match[0] for match in found]
        for language, evidence in self._evidence.items():
            weights = evidence.weights(words, neutral)
            for narrow in stretches(weights, least=self.settings.minimum_evidence):
                stretch = self._widened(narrow, weights)
                if self._is_span(language, [words[index] for index in stretch], evidence):
                    start, end = found[stretch.start].start(), found[stretch.stop - 1].end()
                    yield Span(start=start, end=end, language=language, words=len(stretch))

    def _widened(self, stretch: range, weights: Sequence[float]) -> range:
        """Add neighbours that do not speak for the expected language, as long as words are lacking: a short span may begin or end with a term."""
        start, stop = stretch.start, stretch.stop
        while start > 0 and stop - start < self.settings.minimum_words and weights[start - 1] > UNDECIDED:
            start -= 1
        while stop < len(weights) and stop - start < self.settings.minimum_words and weights[stop] > UNDECIDED:
            stop += 1
        return range(start, stop)

    def _is_span(self, language: str, words: Sequence[str], evidence: WordEvidence) -> bool:
        """Tell whether a stretch is long enough, no row of names or of one sign again and again, and foreign to lingua as a whole too."""
        capitalised = sum(word[0].isupper() for word in words)
        if len(words) < self.settings.minimum_words or capitalised > self.settings.maximum_capitalised * len(words):
            return False
        if sum(map(evidence.of, {key_of(word): word for word in words}.values())) < self.settings.minimum_evidence:
            return False
        telling = " ".join(word for word in words if evidence.of(word) or evidence.is_foreign(word)).lower()
        values = self._detector.compute_language_confidence_values(telling)
        sure = {one.language.iso_code_639_1.name.lower(): one.value for one in values}[language]
        return bool(sure >= self.settings.minimum_confidence)

    @cached_property
    def _evidence(self) -> Mapping[str, WordEvidence]:
        return {
            code: WordEvidence(
                expected=self.settings.expected, foreign=code, lists=self._lists, terms=self._terms, detector=self._detector
            )
            for code in self.settings.foreign
        }

    @cached_property
    def _detector(self) -> Any:
        from lingua import IsoCode639_1, LanguageDetectorBuilder

        codes = (self.settings.expected, *self.settings.foreign)
        return LanguageDetectorBuilder.from_iso_codes_639_1(*map(IsoCode639_1.from_str, codes)).build()


def stretches(weights: Sequence[float], *, least: float) -> Iterator[range]:
    """Yield the foreign stretches on the best path through log-odds, where every change of state costs half of `least`.

    A stretch begins and ends with a positive weight and adds up to `least` or more; it ends where what follows takes away as much. That is the
    Viterbi path of two states, found in one pass: on the curve of summed weights only swings of `least` or more are worth two changes.
    """
    start, end, total, peak = -1, -1, 0.0, 0.0
    for index, weight in enumerate(weights):
        if start < 0:
            if weight > 0:
                start, end, total, peak = index, index, weight, weight
            continue
        total += weight
        if total > peak:
            end, peak = index, total
        elif peak >= least and peak - total >= least:
            yield range(start, end + 1)
            start = -1
        elif peak < least and total <= 0:
            start = -1
    if start >= 0 and peak >= least:
        yield range(start, end + 1)


@lru_cache(maxsize=4096)
def _script(sign: str) -> str | None:
    """Return the script of a letter, by the first word of its Unicode name; None of what is no letter."""
    return unicodedata.name(sign, "UNKNOWN").split(" ")[0] if sign.isalpha() else None


def words_of(text: str) -> list[str]:
    """Return the words of a text as lexicons spell them; numbers are no words."""
    return [key_of(word) for word in WORD.findall(text)]


def _refuse_unknown(codes: list[str]) -> None:
    from lingua import IsoCode639_1

    for code in codes:
        try:
            IsoCode639_1.from_str(code)
        except ValueError as error:
            raise UserError(f"language {code!r} is unknown; name it by its ISO 639-1 code, such as en") from error
