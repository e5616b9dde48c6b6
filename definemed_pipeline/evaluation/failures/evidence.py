"""What a single word says about the language of an answer: log-odds of a foreign language against the expected one.

Lexicons decide where they can: a word of one language's list only speaks for it, a word of both lists, a term or an abbreviation for none. Other
words are judged by their letters (lingua's n-grams up to five), within limits, as no n-gram knows names, compounds and jargon.
"""

import math
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from definemed_pipeline.evaluation.failures.word_lists import WordList

# Letters with what combines with them, joined by hyphens and apostrophes.
WORD = re.compile(r"(?:[^\W\d_][\u0300-\u036f]*)+(?:[-'’](?:[^\W\d_][\u0300-\u036f]*)+)*")
LISTED = 2.5  # nats: a word of one list only
SINGLE_LETTER = 0.5  # in a list (a, I); most are abbreviations and numbers
UNLISTED = 1.5  # at most, by its letters
CAPITALISED = 0.5  # at most in favour of the foreign language: it may be a name
ENDING = 1.0  # a word that ends as one language's words do
REACH = 8  # words


def key_of(word: str) -> str:
    """Return a word as lexicons spell it: composed letters, without case, with a plain apostrophe."""
    return unicodedata.normalize("NFC", word).lower().replace("’", "'")


class WordEvidence:
    """Weigh words between one foreign language and the expected one; every distinct word is weighed once."""

    def __init__(self, *, expected: str, foreign: str, lists: Mapping[str, WordList], terms: WordList, detector: Any) -> None:
        from lingua import IsoCode639_1, Language

        self._languages = [Language.from_iso_code_639_1(IsoCode639_1.from_str(code)) for code in (expected, foreign)]
        self._expected, self._foreign = (lists.get(code, WordList()) for code in (expected, foreign))
        self._terms, self._detector = terms, detector
        self._by_lists: dict[str, float | None] = {}
        self._by_letters: dict[str, float] = {}

    def weights(self, words: Sequence[str], neutral: Collection[str] = frozenset()) -> list[float]:
        """Return the log-odds of each word of a line in nats: positive for the foreign language, 0 where it tells nothing.

        Where the foreign language has a list, a word with none of that list's within `REACH` words counts as expected without a look at its
        letters: no sentence does without grammatical words for so long, and most lines of an answer need no look at all.
        """
        listed = [self._listed(word) for word in words]
        near = _reached([not self._foreign.words or (weight is not None and weight > 0) for weight in listed])
        return [
            0.0
            if neutral and key_of(word) in neutral
            else weight
            if weight is not None
            else self.of(word)
            if is_near
            else -UNLISTED
            for word, weight, is_near in zip(words, listed, near, strict=True)
        ]

    def of(self, word: str) -> float:
        """Return the log-odds of one word, by lists or by letters."""
        weight = self._listed(word)
        if weight is not None:
            return weight
        found = self._by_letters.get(word)
        if found is None:
            found = self._by_letters[word] = self._weigh_letters(word, key_of(word))
        return found

    def is_foreign(self, word: str) -> bool:
        """Tell whether the foreign language has this word, whatever other has it too."""
        return self._foreign.has(key_of(word))

    def _listed(self, word: str) -> float | None:
        """Return what the lists say of a word, None where they say nothing."""
        if word in self._by_lists:
            return self._by_lists[word]
        found = self._by_lists[word] = self._look_up(word, key_of(word))
        return found

    def _look_up(self, word: str, key: str) -> float | None:
        if sum(letter.isupper() for letter in word) > 1 or self._terms.has(key):  # COPD, mRNA, SARS-CoV
            return 0.0
        in_expected, in_foreign = self._expected.has(key), self._foreign.has(key)
        if in_expected or in_foreign:
            return (LISTED if len(key) > 1 else SINGLE_LETTER) * (in_foreign - in_expected)
        if self._expected.letters & set(key):
            return -LISTED
        if self._foreign.letters & set(key):
            return LISTED
        return 0.0 if len(key) < 2 or self._terms.resembles(key) else None

    def _weigh_letters(self, word: str, key: str) -> float:
        values = {one.language: one.value for one in self._detector.compute_language_confidence_values(key)}
        expected, foreign = (max(values[language], 1e-6) for language in self._languages)
        ending = ENDING * (self._foreign.resembles(key) - self._expected.resembles(key))
        limit = CAPITALISED if word[0].isupper() else UNLISTED
        return max(-UNLISTED, min(limit, math.log(foreign / expected) + ending))


def _reached(marked: Sequence[bool]) -> list[bool]:
    """Return which positions lie within `REACH` of a marked one."""
    near = [False] * len(marked)
    for index, is_marked in enumerate(marked):
        if is_marked:
            start, stop = max(0, index - REACH), min(len(marked), index + REACH + 1)
            near[start:stop] = [True] * (stop - start)
    return near
