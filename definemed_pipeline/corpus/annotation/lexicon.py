"""The lexicon: weighted words and word parts, and the score of a text by them.

A lexicon is data (YAML): the packaged ones lie in `definemed_pipeline/lexicons`, a user's anywhere. Each distinct word of a text
counts once, with the weight of the longest entry it fits. With d the sum of these weights per 100 distinct words (never below 0),
the score is d / (d + half_density), in [0, 1). Counting distinct words keeps a text from scoring high by repeating one
term, and `PRIOR_WORDS` are added to the length of every text so that a lone term in a headline does not decide.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from definemed_pipeline.artifacts.sources import packaged_location, read_yaml
from definemed_pipeline.corpus.text import fold, folded_words
from definemed_pipeline.errors import UserError

PRIOR_WORDS = 20
# Word boundaries, so that one search for literal strings tells whole words, beginnings, ends and parts from each other.
START, END = "<", ">"


@dataclass(frozen=True)
class Lexicon:
    """A lexicon ready to score. `entries`: literal (with its boundaries), weight, priority (longer entries first)."""

    entries: pl.DataFrame
    half_density: float

    def __len__(self) -> int:
        return self.entries.height

    def score(self, texts: pl.Series) -> pl.Series:
        """Return the score of each text, f64 in [0, 1); 0 for an empty or null text."""
        distinct = pl.select(folded_words(pl.lit(texts.cast(pl.String))).list.unique().alias("word")).with_row_index("document")
        words = distinct.explode("word", keep_nulls=False, empty_as_null=False)
        weights = self.word_weights(words["word"].unique())
        density = (
            distinct.select("document", words=pl.col("word").list.len())
            .join(
                words.join(weights, on="word").group_by("document").agg(pl.col("weight").sum()),
                on="document",
                how="left",
                maintain_order="left",
            )
            .select((100 * pl.col("weight").fill_null(0) / (pl.col("words") + PRIOR_WORDS)).clip(lower_bound=0))
            .to_series()
        )
        return (density / (density + self.half_density)).rename("score")

    def word_weights(self, words: pl.Series) -> pl.DataFrame:
        """Return `word`, `weight` of those distinct folded words that fit an entry."""
        literals = self.entries["literal"]
        fitting = pl.select(word=pl.lit(words)).with_columns(
            literal=pl.concat_str(pl.lit(START), "word", pl.lit(END)).str.extract_many(literals.implode(), overlapping=True)
        )
        return (
            fitting.explode("literal", keep_nulls=False, empty_as_null=False)
            .join(self.entries, on="literal")
            .group_by("word")
            .agg(pl.col("weight").sort_by("priority").last())
        )


def lexicon_location(name: str) -> str:
    """Return the location of a lexicon: a packaged one by its name, any other by its path or URL.

    Raise UserError for a name that is not packaged.
    """
    return packaged_location("lexicons", name, "lexicon")


def read_lexicon(location: str) -> Lexicon:
    """Read a lexicon from its YAML; raise UserError where an entry does not fit, naming it."""
    content = read_yaml(location, what="the lexicon")
    try:
        half_density = float(content["half_density"])
        weights = _weights(content["groups"])
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise UserError(
            f"the lexicon {location} does not fit ({error}); it needs half_density and groups of a weight and terms"
        ) from error
    if half_density <= 0 or not weights:
        raise UserError(f"the lexicon {location} needs a half_density above 0 and at least one term")
    return Lexicon(_entries(weights), half_density)


def _weights(groups: Mapping[str, Any]) -> dict[str, float]:
    """Return term -> weight over all groups; raise ValueError for a term that is no word, or listed twice."""
    weights: dict[str, float] = {}
    for group, body in groups.items():
        for term in body["terms"]:
            if not isinstance(term, str) or not term.strip("-").isalnum():
                raise ValueError(f"{term!r} in {group!r} is not one word, with or without a hyphen before and after it")
            if term in weights:
                raise ValueError(f"{term!r} is listed twice")
            weights[term] = float(body["weight"])
    return weights


def _entries(weights: Mapping[str, float]) -> pl.DataFrame:
    """Turn `term`, `term-`, `-term`, `-term-` into literals with boundaries, the longest with the highest priority."""
    term = pl.col("term")
    return (
        pl.DataFrame({"term": list(weights), "weight": list(weights.values())}, schema={"term": pl.String, "weight": pl.Float64})
        .with_columns(
            literal=pl.concat_str(
                pl.when(term.str.starts_with("-")).then(pl.lit("")).otherwise(pl.lit(START)),
                fold(term.str.strip_chars("-")),
                pl.when(term.str.ends_with("-")).then(pl.lit("")).otherwise(pl.lit(END)),
            )
        )
        .unique("literal", keep="first", maintain_order=True)
        .sort(pl.col("literal").str.len_chars(), "literal")
        .with_row_index("priority")
        .select("literal", "weight", "priority")
    )
