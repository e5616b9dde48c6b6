"""Passages in a language that was not asked for, found in short texts full of terms.

Language identification is sure of itself on the very words that say nothing: abbreviations, drug names, clinical Latin ("COPD GOLD III",
"Ulcus cruris"). So only the recipe's languages compete; words known to be terms are taken out before the detector is asked how sure
it is; and a passage counts from a least number of remaining words and a least confidence on. Words that already stand in the instruction or
the reference are terms of the matter too. Letters of another script need no detector.
"""

import re
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from definemed_pipeline.errors import UserError
from definemed_pipeline.evaluation.settings import LanguageSettings

SENTENCE_END = re.compile(r"(?<=[.!?:;])\s+|\n+")
WORD = re.compile(r"[^\W\d_]+(?:[-'’][^\W\d_]+)*")
LETTERS = re.compile(r"[^\W\d_]{2,}")


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A stretch of text in an unexpected language or script; `language` is its code, or the script's name."""

    text: str
    language: str
    words: int


class LanguageMixing:
    """Find passages in unexpected languages. Loads lingua's models when first used."""

    def __init__(self, settings: LanguageSettings) -> None:
        self.settings = settings
        self._whitelist = {word.casefold() for word in settings.whitelist}
        _refuse_unknown([settings.expected, *settings.foreign])

    def passages(self, text: str, *, terms: Collection[str] = ()) -> list[Passage]:
        """Return the foreign passages of a text in order. `terms` are texts whose words count as terms of the matter."""
        neutral = self._whitelist | {word for term in terms for word in words_of(term)}
        return [*self._other_scripts(text), *self._other_languages(text, neutral)]

    def _other_scripts(self, text: str) -> Iterator[Passage]:
        """Yield the runs of two or more letters of a script that does not belong here; single letters are symbols."""
        for run in LETTERS.findall(text):
            found = {unicodedata.name(letter, "UNKNOWN").split(" ")[0] for letter in run}
            if not found & set(self.settings.scripts):
                yield Passage(text=run, language=min(found).lower(), words=1)

    def _other_languages(self, text: str, neutral: set[str]) -> Iterator[Passage]:
        # lingua draws the borders of passages badly across sentences and well within one.
        for sentence in SENTENCE_END.split(text):
            for span in self._detector.detect_multiple_languages_of(sentence):
                language = span.language.iso_code_639_1.name.lower()
                passage = sentence[span.start_index : span.end_index].strip()
                telling = [word for word in WORD.findall(passage) if self._tells(word, neutral)]
                if language in self.settings.foreign and len(telling) >= self.settings.minimum_words:
                    sure = self._detector.compute_language_confidence(" ".join(telling), span.language)
                    if sure >= self.settings.minimum_confidence:
                        yield Passage(text=passage, language=language, words=len(WORD.findall(passage)))

    def _tells(self, word: str, neutral: set[str]) -> bool:
        """Tell whether a word says something about the language: neither an abbreviation nor a known term."""
        is_abbreviation = sum(letter.isupper() for letter in word) > 1  # COPD, mRNA, SARS-CoV
        return not is_abbreviation and word.casefold() not in neutral

    @cached_property
    def _detector(self) -> Any:
        from lingua import IsoCode639_1, LanguageDetectorBuilder

        codes = (self.settings.expected, *self.settings.foreign)
        return LanguageDetectorBuilder.from_iso_codes_639_1(*map(IsoCode639_1.from_str, codes)).build()


def words_of(text: str) -> list[str]:
    """Return the words of a text without case; numbers are no words."""
    return [word.casefold() for word in WORD.findall(text)]


def _refuse_unknown(codes: list[str]) -> None:
    from lingua import IsoCode639_1

    for code in codes:
        try:
            IsoCode639_1.from_str(code)
        except ValueError as error:
            raise UserError(f"language {code!r} is unknown; name it by its ISO 639-1 code, such as en") from error
