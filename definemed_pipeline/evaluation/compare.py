"""Win rates: every model against the opponent and against every other model, judged on the same instructions."""

from collections.abc import Iterator
from itertools import permutations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.errors import UserError
from definemed_pipeline.evaluation.judge import VERDICTS, scores_against, with_quality
from definemed_pipeline.evaluation.responses import INSTRUCTION, MODEL, read_responses
from definemed_pipeline.evaluation.settings import WinRatesSettings
from definemed_pipeline.evaluation.stages import STAGE_PAIRS
from definemed_pipeline.intervals import Estimate, bootstrap_mean, paired_difference, wilson

Model = tuple[str, str]  # base model and stage


def compare_responses(draft: Draft[WinRatesSettings]) -> None:
    """Judge all pairs of models; write `verdicts.parquet`, `win_rates.parquet` and `win_rate_differences.parquet`.

    A tie counts half. Intervals are bootstrapped over instructions, as these are the sample; the responses to each are given.
    """
    settings = draft.settings
    responses = read_responses(draft)
    opponent = (settings.opponent_base_model, settings.opponent_stage)
    _require_opponent(opponent, responses)
    draft.report(f"judging {len(responses)} responses")
    judged = with_quality(responses, settings.judge)
    instructions = judged.select(INSTRUCTION).unique().sort(INSTRUCTION)
    quality = {
        (str(base_model), str(stage)): rows["quality"].to_numpy()
        for (base_model, stage), rows in judged.group_by(*MODEL, maintain_order=True)
    }
    scores = {
        (one, other): scores_against(quality[one], quality[other], settings.judge) for one, other in permutations(quality, 2)
    }

    _verdicts(instructions, quality, scores).write_parquet(draft.folder / "verdicts.parquet")
    rates = pl.DataFrame([_win_rate(one, other, pair_scores, settings) for (one, other), pair_scores in scores.items()])
    rates.write_parquet(draft.folder / "win_rates.parquet")
    changes = pl.DataFrame(list(_differences(opponent, scores, settings)), schema=_DIFFERENCES)
    changes.write_parquet(draft.folder / "win_rate_differences.parquet")

    draft.metrics |= {"instructions": len(instructions), "models": len(quality), "opponent": "/".join(opponent)}
    against = rates.filter(opponent_base_model=opponent[0], opponent_stage=opponent[1])
    for row in against.iter_rows(named=True):
        name = f"{row['base_model']}_{row['stage']}_win_rate"
        draft.metrics |= {name: row["win_rate"], f"{name}_low": row["low"], f"{name}_high": row["high"]}


_DIFFERENCES = {
    "base_model": pl.String,
    "before": pl.String,
    "after": pl.String,
    "opponent_base_model": pl.String,
    "opponent_stage": pl.String,
    "difference": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
}


def _require_opponent(opponent: Model, responses: pl.DataFrame) -> None:
    if responses.filter(base_model=opponent[0], stage=opponent[1]).is_empty():
        present = ", ".join(responses["base_model"].unique().sort().to_list())
        raise UserError(
            f"the opponent {opponent[0]} has no responses (there are some of {present}): materialize its responses, or name another opponent_base_model"
        )


def _verdicts(
    instructions: pl.DataFrame,
    quality: dict[Model, NDArray[np.float64]],
    scores: dict[tuple[Model, Model], NDArray[np.float64]],
) -> pl.DataFrame:
    """Return one row per ordered pair of models and instruction."""
    return pl.concat(
        instructions.with_columns(
            pl.lit(one[0]).alias("base_model"),
            pl.lit(one[1]).alias("stage"),
            pl.lit(other[0]).alias("opponent_base_model"),
            pl.lit(other[1]).alias("opponent_stage"),
            pl.Series("quality", quality[one]),
            pl.Series("opponent_quality", quality[other]),
            pl.Series("verdict", [VERDICTS[score] for score in pair_scores.tolist()]),
        )
        for (one, other), pair_scores in scores.items()
    )


def _win_rate(one: Model, other: Model, scores: NDArray[np.float64], settings: WinRatesSettings) -> dict[str, object]:
    estimate = _estimate(scores, settings)
    return {
        "base_model": one[0],
        "stage": one[1],
        "opponent_base_model": other[0],
        "opponent_stage": other[1],
        "win_rate": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "wins": int((scores == 1.0).sum()),
        "ties": int((scores == 0.5).sum()),
        "losses": int((scores == 0.0).sum()),
    }


def _estimate(scores: NDArray[np.float64], settings: WinRatesSettings) -> Estimate:
    """Bootstrap the mean score; where all were won or all lost, which leaves nothing to resample, use Wilson's interval."""
    if scores.min() == scores.max() != 0.5:
        return wilson(int(scores.sum()), len(scores))
    return bootstrap_mean(scores, resamples=settings.resamples, seed=settings.seed)


def _differences(
    opponent: Model, scores: dict[tuple[Model, Model], NDArray[np.float64]], settings: WinRatesSettings
) -> Iterator[dict[str, object]]:
    """Yield how the stages of each base model differ in their win rate against the opponent, paired by instruction."""
    even = np.full_like(next(iter(scores.values())), 0.5) if scores else np.empty(0)  # the opponent against itself
    base_models = sorted({one[0] for one, _ in scores})
    for base_model in base_models:
        for before, after in STAGE_PAIRS:
            first, second = (scores.get(((base_model, stage), opponent), even) for stage in (before, after))
            estimate = paired_difference(first, second, resamples=settings.resamples, seed=settings.seed)
            yield {
                "base_model": base_model,
                "before": before,
                "after": after,
                "opponent_base_model": opponent[0],
                "opponent_stage": opponent[1],
                "difference": estimate.value,
                "low": estimate.low,
                "high": estimate.high,
            }
