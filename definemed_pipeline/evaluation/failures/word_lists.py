"""Lexicons of words: of a language, or of terms that belong to none. Reading, checking and looking up; what follows is in `evidence.py`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from definemed_pipeline.artifacts.sources import read_yaml
from definemed_pipeline.errors import UserError

KEYS = frozenset({"letters", "words", "stems", "suffixes", "beginnings", "endings"})


@dataclass(frozen=True, kw_only=True)
class WordList:
    """Words as they stand, and beginnings and endings of others; all without case. `letters` are of no other language at hand."""

    words: frozenset[str] = frozenset()
    beginnings: tuple[str, ...] = ()
    endings: tuple[str, ...] = ()
    letters: frozenset[str] = frozenset()

    def has(self, word: str) -> bool:
        """Tell whether a word (without case) stands in the list as it is."""
        return word in self.words

    def resembles(self, word: str) -> bool:
        """Tell whether a word begins or ends as the list's words do and is longer than that."""
        return any(word.startswith(one) and len(word) > len(one) + 1 for one in self.beginnings) or any(
            word.endswith(one) and len(word) > len(one) + 1 for one in self.endings
        )


def read_word_list(location: str) -> WordList:
    """Read a list from its YAML; raise UserError where it does not fit, saying how.

    `words` and `stems` are words set apart by spaces, `suffixes`, `beginnings` and `endings` lists, `letters` a text. Each stem also stands with
    each suffix; after an e that the suffix begins with, with one e.
    """
    content = _read_mapping(location)
    if unknown := set(content) - KEYS:
        raise UserError(f"{location} has the keys {', '.join(sorted(map(str, unknown)))}; allowed: {', '.join(sorted(KEYS))}")
    for key in ("suffixes", "beginnings", "endings"):
        if not isinstance(content.get(key, []), list) or not all(isinstance(one, str) and one for one in content.get(key, [])):
            raise UserError(f"{location}: {key} must be a list of texts; quote those that YAML reads otherwise, such as 'no'")
    for key in ("words", "stems", "letters"):
        if not isinstance(content.get(key, ""), str):
            raise UserError(f"{location}: {key} must be one text, words set apart by spaces")
    stems, suffixes = content.get("stems", "").lower().split(), content.get("suffixes", [])
    inflected = {_joined(stem, suffix) for stem in stems for suffix in suffixes}
    return WordList(
        words=frozenset({*content.get("words", "").lower().split(), *stems, *inflected}),
        beginnings=tuple(one.lower() for one in content.get("beginnings", [])),
        endings=tuple(one.lower() for one in content.get("endings", [])),
    )


def merged(lists: list[WordList]) -> WordList:
    """Return one list that has what any of them has."""
    return WordList(
        words=frozenset().union(*(one.words for one in lists)),
        beginnings=tuple(beginning for one in lists for beginning in one.beginnings),
        endings=tuple(ending for one in lists for ending in one.endings),
        letters=frozenset().union(*(one.letters for one in lists)),
    )


def _joined(stem: str, suffix: str) -> str:
    return stem[:-1] + suffix if stem.endswith("e") and suffix.startswith("e") else stem + suffix


def _read_mapping(location: str) -> Mapping[str, Any]:
    content = read_yaml(location, what="the lexicon")
    if not isinstance(content, dict):
        raise UserError(f"the lexicon {location} must be a mapping with some of: {', '.join(sorted(KEYS))}")
    return content
