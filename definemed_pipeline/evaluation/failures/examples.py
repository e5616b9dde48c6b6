"""Failed answers to be read: the same instructions for every model as far as they failed there, drawn by a keyed hash and not by hand."""

import polars as pl

from definemed_pipeline.evaluation.failures.diagnosis import FAILURES, TEXTS
from definemed_pipeline.evaluation.responses import INSTRUCTION, MODEL
from definemed_pipeline.keyed_hash import keyed_hash


def draw_examples(diagnosed: pl.DataFrame, *, number: int, seed: int) -> pl.DataFrame:
    """Return up to `number` failed responses per model and failure with their texts, measures in brief, and findings of that failure."""
    names = diagnosed.select(pl.concat_str(*INSTRUCTION, separator="/")).to_series()
    keyed = diagnosed.with_columns(pl.Series("key", keyed_hash(names, seed)))
    drawn = [
        keyed.filter(pl.col(failure).fill_null(False))
        .sort(*MODEL, "key", *INSTRUCTION)
        .group_by(*MODEL, maintain_order=True)
        .head(number)
        .select(
            *MODEL,
            pl.lit(failure).alias("failure"),
            *INSTRUCTION,
            *TEXTS,
            "words",
            "reference_words",
            "quality",
            "is_ended",
            findings=pl.col("findings").list.filter(pl.element().struct.field("failure") == _shown_by(failure)),
        )
        for failure in FAILURES
    ]
    return pl.concat(drawn)


def _shown_by(failure: str) -> str:
    """Return the failure whose findings show another: an answer in the wrong language is one that mixes much."""
    return "language_mixing" if failure == "wrong_language" else failure
