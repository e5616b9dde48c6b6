"""The recipe's section for failure modes: in which language answers are expected, and when one counts as failed.

Languages and fields of knowledge are values and lexicon files here, never code. Needs the standard library only.
"""

from definemed_pipeline.artifacts.sources import packaged_location
from definemed_pipeline.evaluation.settings import ReferenceJudgeSettings
from definemed_pipeline.settings import setting, settings

LEXICONS = "evaluation/failures/lexicons"


@settings
class LanguageSettings:
    """In which language answers are expected, and how spans of others are recognised (ISO 639-1 codes, see `language_mixing.py`).

    `words` names the lexicon of words of a language, `terms` those of words that tell nothing (clinical Latin, drug names, loan words):
    packaged lexicons by name, one's own by path. `scripts` are the first words of the Unicode names of letters that belong in an answer; a single letter of
    another never counts. A span has at least `minimum_words` words, at least `minimum_evidence` in nats for its language by its words one by
    one, and at least `minimum_confidence` by lingua as a whole, where only the expected and the foreign languages compete. With more than `maximum_capitalised`
    of its words capitalised it may be a row of names and does not count; raise that for a foreign language that capitalises nouns.
    """

    expected: str
    foreign: tuple[str, ...]
    words: dict[str, str] = setting(factory=dict, location=True)
    terms: tuple[str, ...] = setting(default=(), location=True)
    scripts: tuple[str, ...] = ("LATIN", "GREEK")
    minimum_words: int = setting(default=4, at_least=1)
    minimum_evidence: float = setting(default=4.0, above=0)
    minimum_confidence: float = setting(default=0.5, at_least=0.5, at_most=1)
    maximum_capitalised: float = setting(default=0.5, at_least=0, at_most=1)

    def __post_init__(self) -> None:
        if not self.foreign or self.expected in self.foreign:
            raise ValueError(f"foreign is {list(self.foreign)}; allowed: one or more languages other than {self.expected!r}")
        if unknown := self.words.keys() - {self.expected, *self.foreign}:
            raise ValueError(f"words names {', '.join(sorted(unknown))}; allowed: {', '.join((self.expected, *self.foreign))}")

    def sources(self) -> dict[str, str]:
        """Return the lexicon files by the names under which a draft finds them. Raise UserError for a name that is not packaged."""
        words = {f"words/{language}": _lexicon("words", name) for language, name in sorted(self.words.items())}
        return words | {f"terms/{number}": _lexicon("terms", name) for number, name in enumerate(self.terms)}


@settings
class FailureModesSettings:
    """When a response counts as failed, and how many failed ones are kept to be read.

    `proper_answer`: least quality, by the judge, of a proper answer; for short references about 0.5 asks for the form and the matter, 0.8 for
    every word. `wrong_language_share`: least share of foreign words of a response in the wrong language as a whole. `verbosity_ratio_limit`: words
    of a response per word of the reference. `repetition_limit`: greatest share of a response's `repetition_words`-grams that repeat an earlier
    one. `refusals` names the lexicon of refusing phrases (see `refusals.py`). `examples` are kept of each failure and model.
    """

    language: LanguageSettings
    judge: ReferenceJudgeSettings = setting(factory=ReferenceJudgeSettings)
    proper_answer: float = setting(default=0.5, above=0, at_most=1)
    wrong_language_share: float = setting(default=0.5, above=0, at_most=1)
    verbosity_ratio_limit: float = setting(default=2.0, above=1)
    repetition_words: int = setting(default=4, at_least=1)
    repetition_limit: float = setting(default=0.2, at_least=0, at_most=1)
    refusals: str | None = setting(default=None, location=True)
    examples: int = setting(default=3, at_least=0)
    resamples: int = setting(default=10_000, at_least=100)
    seed: int = setting(default=0, at_least=0)

    def sources(self) -> dict[str, str]:
        """Return the lexicon files by the names under which a draft finds them. Raise UserError for a name that is not packaged."""
        refusals = {} if self.refusals is None else {"refusals": _lexicon("refusals", self.refusals)}
        return self.language.sources() | refusals


def _lexicon(key: str, name: str) -> str:
    return packaged_location(LEXICONS, name, f"failure_modes.{key}")
