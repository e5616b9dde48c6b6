"""What goes wrong in the responses of each model, and how often."""

from collections.abc import Iterator, Sequence

import polars as pl

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.evaluation.judge import with_quality
from definemed_pipeline.evaluation.language import LanguageMixing, words_of
from definemed_pipeline.evaluation.responses import INSTRUCTION, MODEL, read_responses
from definemed_pipeline.evaluation.settings import FailureModesSettings, LanguageSettings
from definemed_pipeline.evaluation.stages import STAGE_PAIRS
from definemed_pipeline.intervals import mcnemar_p, paired_difference, wilson

FAILURES = ("not_answered_properly", "truncated", "empty", "repetitive", "verbose", "language_mixing")


def diagnose_responses(draft: Draft[FailureModesSettings]) -> None:
    """Diagnose every response; write `failures.parquet`, `failure_rates.parquet` and `failure_differences.parquet`."""
    settings = draft.settings
    responses = read_responses(draft)
    draft.report(f"diagnosing {len(responses)} responses")
    diagnosed = diagnose(responses, settings)
    diagnosed.write_parquet(draft.folder / "failures.parquet")
    rates = failure_rates(diagnosed)
    rates.write_parquet(draft.folder / "failure_rates.parquet")
    failure_differences(diagnosed, settings).write_parquet(draft.folder / "failure_differences.parquet")
    draft.metrics["responses"] = len(diagnosed)
    for row in rates.iter_rows(named=True):
        name = f"{row['base_model']}_{row['stage']}_{row['failure']}"
        draft.metrics |= {name: row["rate"], f"{name}_low": row["low"], f"{name}_high": row["high"]}


def diagnose(responses: pl.DataFrame, settings: FailureModesSettings) -> pl.DataFrame:
    """Return one row per response with its measures and a boolean column per failure (see `FAILURES`).

    `words_to_reference` and `words_to_base` are ratios of words, the latter to what the base stage answered (null where that is
    empty); `repetition` is the share of word n-grams that repeat an earlier one; `foreign_share` the share of words in passages of
    an unexpected language.
    """
    measured = with_quality(responses, settings.judge).with_columns(
        pl.Series("words", [len(text.split()) for text in responses["response"]], dtype=pl.Int64),
        pl.Series("_reference_words", [len(text.split()) for text in responses["reference"]], dtype=pl.Int64),
        pl.Series("repetition", [repetition(words_of(text), settings.repetition_words) for text in responses["response"]]),
        pl.Series("foreign_words", list(_foreign_words(responses, settings.language)), dtype=pl.Int64),
    )
    base = measured.filter(stage="base").select("base_model", *INSTRUCTION, pl.col("words").alias("_base_words"))
    words = pl.col("words")
    return (
        measured.join(base, on=["base_model", *INSTRUCTION], how="left")
        .with_columns(
            (words / pl.col("_reference_words")).alias("words_to_reference"),
            pl.when(pl.col("_base_words") > 0).then(words / pl.col("_base_words")).alias("words_to_base"),
            pl.when(words > 0).then(pl.col("foreign_words") / words).otherwise(0.0).clip(upper_bound=1.0).alias("foreign_share"),
        )
        .with_columns(
            ((pl.col("quality") < settings.proper_answer) | ~pl.col("is_ended")).alias("not_answered_properly"),
            (~pl.col("is_ended")).alias("truncated"),
            (words == 0).alias("empty"),
            (pl.col("repetition") > settings.repetition_limit).alias("repetitive"),
            (pl.col("words_to_reference") > settings.verbosity_ratio_limit).alias("verbose"),
            (pl.col("foreign_words") > 0).alias("language_mixing"),
        )
        .drop("_reference_words", "_base_words", "instruction", "reference", "response")
        .sort(*MODEL, *INSTRUCTION)
    )


def repetition(words: Sequence[str], size: int) -> float:
    """Return the share of a text's word n-grams that repeat an earlier one, as in the repetition filters of Gopher (Rae et al. 2021)."""
    grams = [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def failure_rates(diagnosed: pl.DataFrame) -> pl.DataFrame:
    """Return the rate of each failure per model with Wilson's interval."""
    counted = (
        diagnosed.unpivot(on=FAILURES, index=MODEL, variable_name="failure", value_name="failed")
        .group_by(*MODEL, "failure")
        .agg(pl.col("failed").sum().alias("failed"), pl.len().alias("responses"))
        .sort(*MODEL, "failure")
    )
    estimates = [wilson(failed, responses) for failed, responses in counted.select("failed", "responses").iter_rows()]
    return counted.select(
        *MODEL,
        "failure",
        pl.Series("rate", [estimate.value for estimate in estimates], dtype=pl.Float64),
        pl.Series("low", [estimate.low for estimate in estimates], dtype=pl.Float64),
        pl.Series("high", [estimate.high for estimate in estimates], dtype=pl.Float64),
        pl.col("responses").cast(pl.Int64),
    )


def failure_differences(diagnosed: pl.DataFrame, settings: FailureModesSettings) -> pl.DataFrame:
    """Return how the rate of each failure differs between the stages of a base model, paired by instruction."""
    return pl.DataFrame(list(_differences(diagnosed, settings)))


def _differences(diagnosed: pl.DataFrame, settings: FailureModesSettings) -> Iterator[dict[str, object]]:
    for (base_model,), rows in diagnosed.group_by("base_model", maintain_order=True):
        stages = {str(stage): group for (stage,), group in rows.group_by("stage", maintain_order=True)}
        for before, after in STAGE_PAIRS:
            for failure in FAILURES:
                first, second = stages[before][failure].to_numpy(), stages[after][failure].to_numpy()
                change = paired_difference(first, second, resamples=settings.resamples, seed=settings.seed)
                yield {
                    "base_model": base_model,
                    "failure": failure,
                    "before": before,
                    "after": after,
                    "difference": change.value,
                    "low": change.low,
                    "high": change.high,
                    "mcnemar_p": mcnemar_p(first, second),
                    "responses": len(first),
                }


def _foreign_words(responses: pl.DataFrame, settings: LanguageSettings) -> Iterator[int]:
    """Yield the words of each response that stand in passages of an unexpected language (lingua takes one text at a time)."""
    mixing = LanguageMixing(settings)
    for response, *terms in responses.select("response", "instruction", "reference").iter_rows():
        yield sum(passage.words for passage in mixing.passages(response, terms=terms))
