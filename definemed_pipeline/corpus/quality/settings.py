"""The limits of the quality rules: data in a YAML file, one per language. What they are applied to is in `quality.py`."""

import difflib
from dataclasses import fields
from typing import Any

import pydantic

from definemed_pipeline.artifacts.sources import packaged_location, read_yaml
from definemed_pipeline.errors import UserError
from definemed_pipeline.settings import setting, settings


@settings
class QualityRules:
    """Limits that a text must keep; a rule without a limit is switched off.

    A *token* is a word, a number or a punctuation mark; a *word* is a token with a letter or digit. A *line* is not blank and ends in a
    line feed; a *paragraph* is what stands between empty lines. A duplicate line is one that stood in the text before.
    """

    # Words (Gopher: Rae et al. 2021, appendix A)
    min_words: int | None = setting(default=None, at_least=0)
    max_words: int | None = setting(default=None, at_least=0)
    min_mean_word_length: float | None = setting(default=None, at_least=0)  # characters
    max_mean_word_length: float | None = setting(default=None, at_least=0)
    max_signs_per_token: float | None = setting(default=None, at_least=0)  # number signs / tokens, and ellipses / tokens
    min_lettered_share: float | None = setting(default=None, at_least=0, at_most=1)  # tokens with a letter / tokens
    min_stop_words: int | None = setting(default=None, at_least=0)  # different ones, spelt as in `stop_words`
    stop_words: tuple[str, ...] = ()
    # Lines and paragraphs (Gopher; FineWeb: Penedo et al. 2024)
    max_line_feeds_per_token: float | None = setting(default=None, at_least=0)
    min_punctuated_line_share: float | None = setting(
        default=None, at_least=0, at_most=1
    )  # lines that end in one of `line_ends` / lines
    line_ends: tuple[str, ...] = ()
    max_short_line_share: float | None = setting(
        default=None, at_least=0, at_most=1
    )  # lines of at most `short_line_length` / lines
    short_line_length: int = setting(default=30, at_least=0)  # characters
    max_bullet_line_share: float | None = setting(default=None, at_least=0, at_most=1)  # lines that begin with • or - / lines
    max_ellipsis_line_share: float | None = setting(default=None, at_least=0, at_most=1)  # lines that end in ... or … / lines
    max_duplicate_line_share: float | None = setting(default=None, at_least=0, at_most=1)
    max_duplicate_line_characters: float | None = setting(default=None, at_least=0, at_most=1)  # / characters but line feeds
    max_duplicate_paragraph_share: float | None = setting(default=None, at_least=0, at_most=1)
    max_duplicate_paragraph_characters: float | None = setting(default=None, at_least=0, at_most=1)  # / characters
    # Repeated n-grams of tokens (Gopher; see `repetition.py`): n -> share of the text's characters
    max_top_ngram_share: dict[int, float] = setting(factory=dict)
    max_duplicate_ngram_share: dict[int, float] = setting(factory=dict)

    def __post_init__(self) -> None:
        if len(set(self.stop_words)) < (self.min_stop_words or 0):
            raise ValueError(
                f"min_stop_words is {self.min_stop_words}; allowed: at most the {len(set(self.stop_words))} of stop_words"
            )
        if self.min_punctuated_line_share and not self.line_ends:
            raise ValueError("line_ends is empty; allowed: one or more signs, as min_punctuated_line_share asks for them")
        for name in ("max_top_ngram_share", "max_duplicate_ngram_share"):
            for n, share in getattr(self, name).items():
                if n < 1 or not 0 <= share <= 1:
                    raise ValueError(f"{name} is {share} for n = {n}; allowed: a share from 0 to 1 for n of at least 1")


def rules_location(name: str) -> str:
    """Return the location of a language's rules: packaged ones by their name (`deu_Latn`), any others by their path or URL."""
    return packaged_location("quality_rules", name, "quality_rules")


def read_rules(location: str) -> QualityRules:
    """Read rules from YAML; raise UserError where a limit is unknown or out of range, naming it and what is allowed."""
    content = read_yaml(location, what="the quality rules")
    try:
        return pydantic.TypeAdapter(QualityRules).validate_python(content)
    except pydantic.ValidationError as error:
        raise UserError(f"the quality rules {location} do not fit: {_explain(error.errors()[0])}") from None


def _explain(problem: Any) -> str:
    """Put a validation problem into one line: the limit, what is wrong, what is allowed."""
    key = ".".join(map(str, problem["loc"]))
    if problem["type"] == "unexpected_keyword_argument":
        known = [field.name for field in fields(QualityRules)]
        close = difflib.get_close_matches(key, known, n=1)
        return f"{key} is no limit; " + (f"did you mean {close[0]}?" if close else f"allowed: {', '.join(known)}")
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    return f"{key} is {problem['input']!r}; {problem['msg'][:1].lower()}{problem['msg'][1:]}".removeprefix(" is ")
