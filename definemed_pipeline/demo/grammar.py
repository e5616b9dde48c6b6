"""German noun phrases and sentence templates: what inflects, agrees and capitalises.

A template is text with slots, ``"{person.nom.der} {verb.er} {thing.acc.ein.adj} {place}."``. A ``Lexicon`` turns each slot into the
pool of phrases that fit it, once; writing a sentence is then one draw per slot. Word lists live in ``vocabulary``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from definemed_pipeline.demo.randomness import Dice

GENDERS = {"der": "m", "die": "f", "das": "n", "plural": "p"}

_DEFINITE = {
    "m": {"nom": "der", "acc": "den", "dat": "dem", "gen": "des"},
    "f": {"nom": "die", "acc": "die", "dat": "der", "gen": "der"},
    "n": {"nom": "das", "acc": "das", "dat": "dem", "gen": "des"},
    "p": {"nom": "die", "acc": "die", "dat": "den", "gen": "der"},
}
_INDEFINITE = {
    "m": {"nom": "ein", "acc": "einen", "dat": "einem"},
    "f": {"nom": "eine", "acc": "eine", "dat": "einer"},
    "n": {"nom": "ein", "acc": "ein", "dat": "einem"},
}
_AFTER_DEFINITE = {
    "m": {"nom": "e", "acc": "en", "dat": "en"},
    "f": {"nom": "e", "acc": "e", "dat": "en"},
    "n": {"nom": "e", "acc": "e", "dat": "en"},
    "p": {"nom": "en", "acc": "en", "dat": "en"},
}
_AFTER_INDEFINITE = {
    "m": {"nom": "er", "acc": "en", "dat": "en"},
    "f": {"nom": "e", "acc": "e", "dat": "en"},
    "n": {"nom": "es", "acc": "es", "dat": "en"},
}
_SLOT = re.compile(r"\{([^}]+)\}")


@dataclass(frozen=True)
class Noun:
    """A noun with its gender (m, f, n, or p for plural only) and plural; ``weak`` nouns take -n outside the nominative."""

    word: str
    gender: str
    plural: str = ""
    weak: bool = False

    def inflected(self, case: str) -> str:
        """Return the noun alone in the given case."""
        if self.weak and case != "nom":
            return self.plural
        if self.gender == "p" and case == "dat":
            return dative_plural(self.word)
        if case == "gen" and self.gender in "mn":
            return genitive_singular(self.word)
        return self.word

    def definite(self, case: str, adjective: str = "") -> str:
        """Return the noun with its definite article, and with an adjective stem where one is given."""
        middle = f"{adjective}{_AFTER_DEFINITE[self.gender][case]} " if adjective else ""
        return f"{_DEFINITE[self.gender][case]} {middle}{self.inflected(case)}"

    def indefinite(self, case: str, adjective: str = "") -> str:
        """Return the noun with its indefinite article, and with an adjective stem where one is given."""
        middle = f"{adjective}{_AFTER_INDEFINITE[self.gender][case]} " if adjective else ""
        return f"{_INDEFINITE[self.gender][case]} {middle}{self.inflected(case)}"


@dataclass(frozen=True)
class Verb:
    """A transitive verb that does not separate: infinitive, third person singular, past participle."""

    infinitive: str
    third: str
    participle: str


Words: TypeAlias = Mapping[str, Sequence[Noun] | Sequence[Verb] | Sequence[str]]
"""The words of each slot name."""


def dative_plural(plural: str) -> str:
    """Return the dative of a plural noun."""
    return plural if plural.endswith(("n", "s")) else plural + "n"


def genitive_singular(word: str) -> str:
    """Return the genitive of a masculine or neuter noun that is not weak."""
    if word == "Herz":
        return "Herzens"
    return word + ("es" if word.endswith(("t", "d", "s", "ß", "z", "sch")) else "s")


def nouns(text: str) -> tuple[Noun, ...]:
    """Read nouns from ``"der Koch, Köche; der Kollege, *Kollegen"``; an asterisk marks a weak noun."""
    found = []
    for entry in text.split(";"):
        singular, _, plural = (part.strip() for part in entry.partition(","))
        article, _, word = singular.partition(" ")
        found.append(Noun(word, GENDERS[article], plural.lstrip("*"), plural.startswith("*")))
    return tuple(found)


def verbs(text: str) -> tuple[Verb, ...]:
    """Read verbs from ``"kaufen, kauft, gekauft; ..."``."""
    return tuple(Verb(*(form.strip() for form in entry.split(","))) for entry in text.split(";"))


def phrases(text: str) -> tuple[str, ...]:
    """Read phrases separated by semicolons."""
    return tuple(entry.strip() for entry in text.split(";"))


def capitalised(sentence: str) -> str:
    """Return the sentence with a capital first letter, also behind an opening quotation mark."""
    start = 1 if sentence.startswith("„") else 0
    return sentence[:start] + sentence[start : start + 1].upper() + sentence[start + 1 :]


class Lexicon:
    """The words of one topic, and the pools of phrases its templates may draw from."""

    def __init__(self, words: Words, adjectives: Sequence[str] = ()) -> None:
        self._words = words
        self._adjectives = adjectives
        self._pools: dict[str, Sequence[str]] = {}

    def pool(self, slot: str) -> Sequence[str]:
        """Return every phrase that fits a slot such as ``thing.acc.ein.adj``, ``person.pl``, ``verb.ge`` or ``place``."""
        if slot not in self._pools:
            self._pools[slot] = self._build(slot)
        return self._pools[slot]

    def _build(self, slot: str) -> Sequence[str]:
        name, *marks = slot.split(".")
        built: list[str] = []
        for word in self._words[name]:
            if isinstance(word, Verb):
                built.append({"inf": word.infinitive, "er": word.third, "ge": word.participle}[marks[0]])
            elif isinstance(word, Noun):
                built.extend(self._noun_phrases(word, marks))
            else:
                built.append(word)
        return tuple(built)

    def _noun_phrases(self, noun: Noun, marks: Sequence[str]) -> list[str]:
        if marks[0] == "pl":
            return [noun.plural] if noun.plural else []
        if marks[0] == "bare":
            return [noun.word]
        decline = noun.definite if marks[1] == "der" else noun.indefinite
        adjectives = self._adjectives if marks[2:] == ["adj"] else ("",)
        return [decline(marks[0], adjective) for adjective in adjectives]


class Template:
    """A sentence pattern bound to a lexicon."""

    def __init__(self, pattern: str, lexicon: Lexicon) -> None:
        pieces = _SLOT.split(pattern)
        self._texts = pieces[0::2]
        self._pools = [lexicon.pool(slot) for slot in pieces[1::2]]

    def write(self, dice: Dice) -> str:
        """Write one sentence."""
        written = [self._texts[0]]
        for pool, text in zip(self._pools, self._texts[1:], strict=True):
            written.append(dice.choose(pool))
            written.append(text)
        return capitalised("".join(written))


def templates(patterns: Sequence[str], lexicon: Lexicon) -> tuple[Template, ...]:
    """Bind patterns to a lexicon."""
    return tuple(Template(pattern, lexicon) for pattern in patterns)
