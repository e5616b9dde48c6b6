"""Win rates: every model against the opponent and against every other model, judged on the same instructions."""

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.artifacts.prompts import read_prompt
from definemed_pipeline.errors import UserError
from definemed_pipeline.evaluation.pairwise.chat_judge import RUBRIC_VARIABLES, judge_by_chat, rubric_location
from definemed_pipeline.evaluation.pairwise.human_votes import agreement, read_votes
from definemed_pipeline.evaluation.pairwise.kinship import kin_of
from definemed_pipeline.evaluation.pairwise.length_control import LEAST_DECIDED, length_controlled, mirrored
from definemed_pipeline.evaluation.pairwise.reference_judge import judge_by_reference
from definemed_pipeline.evaluation.pairwise.resampling import win_rates
from definemed_pipeline.evaluation.pairwise.settings import WinRatesSettings
from definemed_pipeline.evaluation.pairwise.strengths import strengths
from definemed_pipeline.evaluation.pairwise.verdicts import Contest, Model, Verdicts, contest_of
from definemed_pipeline.evaluation.responses import read_responses
from definemed_pipeline.evaluation.settings import ReferenceJudgeSettings
from definemed_pipeline.evaluation.stages import STAGE_PAIRS
from definemed_pipeline.intervals import Estimate, paired_difference


def judge_sources(settings: WinRatesSettings) -> dict[str, str | None]:
    """Return the files that the comparison works from, by name: the rubric of a chat judge, and people's votes where there are any."""
    rubric = None if isinstance(settings.judge, ReferenceJudgeSettings) else rubric_location(settings.judge.rubric)
    return {"rubric": rubric, "human_votes": settings.human_votes}


def compare_responses(draft: Draft[WinRatesSettings]) -> None:
    """Judge all pairs of models; write `verdicts`, `win_rates`, `win_rate_differences` and `strengths` as parquet.

    A tie counts half. Intervals are by resampling instructions, as these are the sample; the responses to each are given.
    """
    settings = draft.settings
    contest = contest_of(read_responses(draft))
    opponent = (settings.opponent_base_model, settings.opponent_stage)
    _require_opponent(opponent, contest)
    _warn_of_kin(draft, contest)
    verdicts = _judge(draft, contest)
    verdicts.table().write_parquet(draft.folder / "verdicts.parquet")
    rates = pl.DataFrame(list(_rates(verdicts, settings)), schema=_RATES).sort(list(_RATES)[:4])
    rates.write_parquet(draft.folder / "win_rates.parquet")
    changes = pl.DataFrame(list(_differences(verdicts, opponent, settings)), schema=_DIFFERENCES)
    changes.write_parquet(draft.folder / "win_rate_differences.parquet")
    _strengths(verdicts, opponent, settings).write_parquet(draft.folder / "strengths.parquet")
    draft.metrics |= {**_reliability(verdicts), "models": len(contest.models), "opponent": "/".join(opponent)}
    for row in rates.filter(opponent_base_model=opponent[0], opponent_stage=opponent[1]).iter_rows(named=True):
        name = f"{row['base_model']}_{row['stage']}_win_rate"
        draft.metrics |= {name: row["win_rate"], f"{name}_low": row["low"], f"{name}_high": row["high"]}
        draft.metrics[f"{name}_length_controlled"] = row["length_controlled"]
    _compare_with_people(draft, verdicts)


_PAIR = dict.fromkeys(("base_model", "stage", "opponent_base_model", "opponent_stage"), pl.String)
_RATES = {
    **_PAIR,
    "win_rate": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "length_controlled": pl.Float64,
    "length_controlled_low": pl.Float64,
    "length_controlled_high": pl.Float64,
    "wins": pl.Int64,
    "ties": pl.Int64,
    "losses": pl.Int64,
    "instructions": pl.Int64,
    "unreadable": pl.Int64,
    "position_consistency": pl.Float64,
}
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


def _require_opponent(opponent: Model, contest: Contest) -> None:
    if opponent not in contest.models:
        present = ", ".join(sorted({base_model for base_model, _ in contest.models}))
        raise UserError(
            f"the opponent {opponent[0]} has no responses (there are some of {present}): materialize its responses, or name another opponent_base_model"
        )


def _warn_of_kin(draft: Draft[WinRatesSettings], contest: Contest) -> None:
    """Say which base models are of the judge's family: such a judge is known to prefer their answers."""
    judge = draft.settings.judge
    if isinstance(judge, ReferenceJudgeSettings):
        return
    contestants = {name: _names(draft, name) for name in sorted({base_model for base_model, _ in contest.models})}
    kin = kin_of(judge.endpoint.model, contestants)
    draft.metrics["kin_of_judge"] = ", ".join(kin)
    if kin:
        draft.report(
            f"the judge {judge.endpoint.model} is of one family with {', '.join(kin)}: judges prefer their kin; name another judge, "
            "or read these win rates with that in mind"
        )


def _names(draft: Draft[WinRatesSettings], base_model: str) -> list[str]:
    """Return what a base model is called where it came from: the Hub's repository, or its architecture."""
    answered = draft.input_manifest("responses", base_model)
    origins = [one for one in answered.identity.inputs if one.asset == "base_models"]
    manifests = [draft.store.manifest(one.asset, one.partition, one.version) for one in origins]
    settings = [manifest.identity.settings for manifest in manifests if manifest is not None]
    return [str(section[key]) for section in settings for key in ("repository", "architecture") if section.get(key)]


def _judge(draft: Draft[WinRatesSettings], contest: Contest) -> Verdicts:
    judge = draft.settings.judge
    if isinstance(judge, ReferenceJudgeSettings):
        draft.report(f"judging the answers of {len(contest.models)} models to {contest.instructions.height} instructions")
        return judge_by_reference(contest, judge)
    verdicts, accounting = judge_by_chat(
        contest,
        judge,
        rubric=read_prompt(draft.source("rubric").location, variables=RUBRIC_VARIABLES),
        cache_folder=draft.store.scratch / "chat_cache",
        report=draft.report,
    )
    draft.metrics |= {f"judge_{name}": value for name, value in accounting.items()}
    return verdicts


def _rates(verdicts: Verdicts, settings: WinRatesSettings) -> Iterator[dict[str, Any]]:
    """Yield the row of each pair, seen from both sides."""
    contest, by_instruction = verdicts.contest, verdicts.by_instruction
    lengths = np.array([[len(text) for text in texts] for texts in contest.texts], dtype=np.float64)
    resampled = {"resamples": settings.resamples, "seed": settings.seed}
    raw = win_rates(by_instruction, **resampled)
    for pair, (one, other) in enumerate(contest.pairs):
        scores = by_instruction[pair]
        spread = scores[~np.isnan(scores)]
        controlled = raw[pair]  # where all verdicts are the same there is nothing that a length could explain
        if (spread != 0.5).sum() < LEAST_DECIDED:
            controlled = Estimate(value=math.nan, low=0.0, high=1.0)
        elif spread.min() < spread.max():
            longer = lengths[contest.index(one)] - lengths[contest.index(other)]
            controlled = length_controlled(verdicts.scores[pair], longer, **resampled)
        counts = [int((spread > 0.5).sum()), int((spread == 0.5).sum()), int((spread < 0.5).sum())]
        shared = {
            "instructions": spread.size,
            "unreadable": int(np.isnan(verdicts.scores[pair]).sum()),
            "position_consistency": _consistency(verdicts.scores[pair]),
        }
        yield _row(one, other, raw[pair], controlled, counts) | shared
        yield _row(other, one, mirrored(raw[pair]), mirrored(controlled), counts[::-1]) | shared


def _row(one: Model, other: Model, raw: Estimate, controlled: Estimate, counts: list[int]) -> dict[str, Any]:
    return {
        **dict(zip(_PAIR, (*one, *other), strict=True)),
        **dict(zip(("win_rate", "low", "high"), _bounds(raw), strict=True)),
        **dict(zip(("length_controlled", "length_controlled_low", "length_controlled_high"), _bounds(controlled), strict=True)),
        **dict(zip(("wins", "ties", "losses"), counts, strict=True)),
    }


def _bounds(estimate: Estimate) -> tuple[float | None, float, float]:
    """Return value and bounds; what nobody knows is null, between 0 and 1."""
    return None if math.isnan(estimate.value) else estimate.value, estimate.low, estimate.high


def _consistency(scores: NDArray[np.float64]) -> float | None:
    """Return the share of instructions on which both orders say the same, of those where both can be read."""
    both = scores[~np.isnan(scores).any(axis=1)]
    return float((both[:, 0] == both[:, 1]).mean()) if len(both) else None


def _reliability(verdicts: Verdicts) -> dict[str, float | None]:
    """Return how many games there were, how many verdicts could not be read, and what the order of the answers did."""
    asked = verdicts.is_asked
    flat = verdicts.scores.reshape(-1, verdicts.scores.shape[2])[asked.any(axis=2).ravel()]
    both = flat[~np.isnan(flat).any(axis=1)]
    return {
        "instructions": verdicts.contest.instructions.height,
        "games": int(verdicts.scores.size),
        "equal_answers": int((~asked).sum()),
        "unreadable_verdicts": int(np.isnan(verdicts.scores).sum()),
        "position_consistency": _consistency(flat),
        # The score of the answer shown first, in both orders: 0.5 where the position does not matter.
        "first_position_win_rate": float((both[:, 0] + 1 - both[:, 1]).mean() / 2) if len(both) else None,
    }


def _differences(verdicts: Verdicts, opponent: Model, settings: WinRatesSettings) -> Iterator[dict[str, object]]:
    """Yield how the stages of each base model differ in their win rate against the opponent, paired by instruction."""
    for base_model in sorted({name for name, _ in verdicts.contest.models}):
        for before, after in STAGE_PAIRS:
            first, second = (_against(verdicts, (base_model, stage), opponent) for stage in (before, after))
            both = ~np.isnan(first) & ~np.isnan(second)
            if not both.any():
                continue
            estimate = paired_difference(first[both], second[both], resamples=settings.resamples, seed=settings.seed)
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


def _against(verdicts: Verdicts, model: Model, opponent: Model) -> NDArray[np.float64]:
    """Return a model's scores against the opponent by instruction; the opponent against itself is even."""
    if model == opponent:
        return np.full(verdicts.contest.instructions.height, 0.5)
    pairs = verdicts.contest.pairs
    if (model, opponent) in pairs:
        return verdicts.by_instruction[pairs.index((model, opponent))]
    return 1 - verdicts.by_instruction[pairs.index((opponent, model))]


def _strengths(verdicts: Verdicts, opponent: Model, settings: WinRatesSettings) -> pl.DataFrame:
    """Return each model's Bradley-Terry strength against the opponent's, strongest first."""
    contest = verdicts.contest
    players = np.array([[contest.index(one), contest.index(other)] for one, other in contest.pairs])
    found = strengths(
        verdicts.by_instruction,
        players,
        reference=contest.index(opponent),
        resamples=settings.resamples,
        seed=settings.seed,
    )
    rows = [
        {"base_model": model[0], "stage": model[1], "strength": one.value, "low": one.low, "high": one.high}
        for model, one in zip(contest.models, found, strict=True)
    ]
    return pl.DataFrame(rows).sort("strength", "base_model", "stage", descending=[True, False, False])


def _compare_with_people(draft: Draft[WinRatesSettings], verdicts: Verdicts) -> None:
    """Write `human_agreement.json` where the recipe names votes."""
    settings = draft.settings
    if settings.human_votes is None:
        return
    found = agreement(verdicts, read_votes(draft.source("human_votes")), resamples=settings.resamples, seed=settings.seed)
    counts = {"human_votes": found.votes, "human_votes_outdated": found.outdated, "human_votes_unread": found.unread}
    measured = found.kappa.as_metrics("kappa") | found.share.as_metrics("human_agreement")
    known = {name: None if math.isnan(value) else value for name, value in measured.items()}
    draft.write_json("human_agreement.json", {**counts, **known, "judge": asdict(settings.judge)["kind"]})
    draft.metrics |= {**counts, **known}
