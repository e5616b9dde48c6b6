"""Whether the paper's effect shows for a base model, said in words with the measured numbers.

The effect: continual pre-training raises accuracy in the field and costs instruction-following; merging with the base restores most of
that and keeps most of the gain. Nothing is assumed: a claim that the measurements do not carry is reported as not shown.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from definemed_pipeline.evaluation.accuracy import MACRO
from definemed_pipeline.intervals import Estimate

MOST = 0.5  # "most" of a gain or loss is at least this share of it
FAILURE = "not_answered_properly"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One part of the effect, whether it shows, and the numbers that say so."""

    claim: str
    holds: bool
    evidence: str


def read_effect(base_model: str, *, benchmark_scores: Path, failure_modes: Path) -> list[Claim]:
    """Read the claims for a base model from the folders of its benchmark scores and of the failure modes."""
    scores = json.loads((benchmark_scores / "scores.json").read_text("utf-8"))
    differences = pl.read_parquet(failure_modes / "failure_differences.parquet")
    rates = pl.read_parquet(failure_modes / "failure_rates.parquet").filter(base_model=base_model, failure=FAILURE)
    return effect_of(
        scores,
        proper={row["stage"]: 1 - row["rate"] for row in rates.iter_rows(named=True)},
        failure_differences=differences.filter(base_model=base_model, failure=FAILURE).to_dicts(),
    )


def effect_of(
    scores: Mapping[str, Any], *, proper: Mapping[str, float], failure_differences: Sequence[Mapping[str, Any]]
) -> list[Claim]:
    """Return the claims of the effect. `proper` is the share of instructions answered properly per stage."""
    accuracy = {stage: values[MACRO]["accuracy"] for stage, values in scores["accuracy"].items()}
    gain = _accuracy_difference(scores, "base", "cpt")
    loss = _proper_difference(failure_differences, "base", "cpt")
    kept = accuracy["merged"] - accuracy["base"]
    recovered = proper["merged"] - proper["cpt"]
    return [
        Claim(
            claim="continual pre-training raises accuracy",
            holds=gain.low > 0,
            evidence=f"accuracy {accuracy['base']:.1%} to {accuracy['cpt']:.1%}, {_points(gain)}",
        ),
        Claim(
            claim="continual pre-training costs instruction-following",
            holds=loss.high < 0,
            evidence=f"answered properly {proper['base']:.1%} to {proper['cpt']:.1%}, {_points(loss)}",
        ),
        Claim(
            claim="the merge restores most of the lost instruction-following",
            holds=loss.high < 0 and recovered >= MOST * -loss.value,
            evidence=f"answered properly {proper['cpt']:.1%} to {proper['merged']:.1%}, {_share(recovered, -loss.value, 'loss')}",
        ),
        Claim(
            claim="the merge keeps most of the gained accuracy",
            holds=gain.low > 0 and kept >= MOST * gain.value,
            evidence=f"accuracy {accuracy['base']:.1%} to {accuracy['merged']:.1%}, {_share(kept, gain.value, 'gain')}",
        ),
    ]


def _accuracy_difference(scores: Mapping[str, Any], before: str, after: str) -> Estimate:
    row = _only(scores["differences"], before=before, after=after, benchmark=MACRO)
    return Estimate(value=row["difference"], low=row["difference_low"], high=row["difference_high"])


def _proper_difference(differences: Sequence[Mapping[str, Any]], before: str, after: str) -> Estimate:
    """Return the difference of what is answered properly: that of the failures with its sign turned."""
    row = _only(differences, before=before, after=after)
    return Estimate(value=-row["difference"], low=-row["high"], high=-row["low"])


def _only(rows: Sequence[Mapping[str, Any]], **wanted: str) -> Mapping[str, Any]:
    (row,) = (row for row in rows if all(row[key] == value for key, value in wanted.items()))
    return row


def _points(difference: Estimate) -> str:
    value, low, high = (
        100 * part + 0.0 for part in (difference.value, difference.low, difference.high)
    )  # + 0.0: no negative zero
    return f"{value:+.1f} points (95 % interval {low:+.1f} to {high:+.1f}, paired)"


def _share(part: float, whole: float, name: str) -> str:
    return f"{part / whole:.0%} of the {name}" if whole > 0 else f"there was no {name}"
