"""What is measured of each answer, and which failures it shows: answers in, one row per answer out.

For answers of any models: the column `stage` may hold candidates too, and where none is called `base` the ratios to the base are null.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from definemed_pipeline.evaluation.failures.formats import broken_formats
from definemed_pipeline.evaluation.failures.language_mixing import LanguageMixing, Mixing, words_of
from definemed_pipeline.evaluation.failures.refusals import Refusals, read_refusals
from definemed_pipeline.evaluation.failures.settings import FailureModesSettings
from definemed_pipeline.evaluation.failures.verbosity import first_repetition, markdown_share, repetition
from definemed_pipeline.evaluation.judge import with_quality
from definemed_pipeline.evaluation.responses import INSTRUCTION, MODEL

FAILURES = (
    "not_answered_properly",
    "truncated",
    "empty",
    "refusal",
    "broken_format",
    "repetitive",
    "verbose",
    "language_mixing",
    "wrong_language",
)
MEASURES = (
    "quality",
    "words",
    "tokens",
    "words_to_reference",
    "words_to_base",
    "tokens_to_base",
    "repetition",
    "markdown_share",
    "foreign_share",
    "foreign_line_share",
)
TEXTS = ("instruction", "reference", "response")
FINDING = pl.Struct({"failure": pl.String, "start": pl.Int64, "end": pl.Int64, "found": pl.String})
MEASURED: dict[str, Any] = {
    "words": pl.Int64,
    "reference_words": pl.Int64,
    "repetition": pl.Float64,
    "markdown_share": pl.Float64,
    "foreign_words": pl.Int64,
    "foreign_share": pl.Float64,
    "foreign_line_share": pl.Float64,
    "refusal": pl.Boolean,
    "broken_format": pl.Boolean,
    "findings": pl.List(FINDING),
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Where in an answer a failure shows (offsets in characters), and what was found there."""

    failure: str
    start: int
    end: int
    found: str


def diagnose(responses: pl.DataFrame, settings: FailureModesSettings) -> pl.DataFrame:
    """Return the responses with their measures (see `MEASURES`), a boolean column per failure (see `FAILURES`), and `findings`.

    `responses` has the columns of `generate.SCHEMA`. `words_to_reference`, `words_to_base` and `tokens_to_base` are ratios, the latter two to what
    the base stage answered (null where that is empty); `repetition` is the share of word n-grams that repeat an earlier one;
    `markdown_share` and `foreign_line_share` are of lines, `foreign_share` of words. `broken_format` is null where no form was asked for. `findings`
    tell where: of foreign spans, refusals, the first repetition, and broken forms.
    """
    measured = pl.DataFrame(list(_measured(responses, settings)), schema=MEASURED, orient="row")
    rows = pl.concat([with_quality(responses, settings.judge), measured], how="horizontal")
    base = rows.filter(stage="base").select("base_model", *INSTRUCTION, base_words="words", base_tokens="tokens")
    return (
        rows.join(base, on=["base_model", *INSTRUCTION], how="left")
        .with_columns(
            words_to_reference=_ratio("words", "reference_words"),
            words_to_base=_ratio("words", "base_words"),
            tokens_to_base=_ratio("tokens", "base_tokens"),
        )
        .with_columns(
            not_answered_properly=(pl.col("quality") < settings.proper_answer) | ~pl.col("is_ended"),
            truncated=~pl.col("is_ended"),
            empty=pl.col("words") == 0,
            repetitive=pl.col("repetition") > settings.repetition_limit,
            verbose=(pl.col("words_to_reference") > settings.verbosity_ratio_limit).fill_null(False),
            language_mixing=pl.col("foreign_words") > 0,
            wrong_language=pl.col("foreign_share") >= settings.wrong_language_share,
        )
        .drop("base_words", "base_tokens")
        .sort(*MODEL, *INSTRUCTION)
    )


def _ratio(part: str, whole: str) -> pl.Expr:
    return pl.when(pl.col(whole) > 0).then(pl.col(part) / pl.col(whole))


def _measured(responses: pl.DataFrame, settings: FailureModesSettings) -> Iterator[Mapping[str, Any]]:
    mixing = LanguageMixing(settings.language)
    refusals = read_refusals(settings.sources()["refusals"]) if settings.refusals is not None else None
    for row in responses.select(*TEXTS, "format").iter_rows(named=True):
        yield _measure(row, settings, mixing.measure(row["response"], terms=[row["instruction"], row["reference"]]), refusals)


def _measure(
    row: Mapping[str, Any], settings: FailureModesSettings, mixing: Mixing, refusals: Refusals | None
) -> Mapping[str, Any]:
    response = row["response"]
    words = words_of(response)
    refused = refusals.find(response) if refusals is not None else None
    broken = broken_formats(response, json.loads(row["format"])) if row["format"] is not None else None
    repeated = repetition(words, settings.repetition_words)
    findings = [
        *(Finding(failure="language_mixing", start=span.start, end=span.end, found=span.language) for span in mixing.spans),
        *([Finding(failure="refusal", start=refused[0], end=refused[1], found="phrase")] if refused else []),
        *([_first_repetition(response, settings.repetition_words)] if repeated > settings.repetition_limit else []),
        *(Finding(failure="broken_format", start=0, end=len(response), found=name) for name in broken or []),
    ]
    return {
        "words": len(response.split()),
        "reference_words": len(row["reference"].split()),
        "repetition": repeated,
        "markdown_share": markdown_share(response),
        "foreign_words": mixing.foreign_words,
        "foreign_share": mixing.foreign_share,
        "foreign_line_share": mixing.foreign_lines / mixing.lines if mixing.lines else 0.0,
        "refusal": refused is not None,
        "broken_format": None if broken is None else bool(broken),
        "findings": [vars(finding) for finding in findings],
    }


def _first_repetition(response: str, size: int) -> Finding:
    start, end = first_repetition(response, size)
    return Finding(failure="repetitive", start=start, end=end, found=f"{size} words again")
