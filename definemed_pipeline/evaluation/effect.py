"""Whether the paper's effect shows for a base model, said in words with the measured numbers.

The effect: continual pre-training raises accuracy in the field and costs instruction-following; merging with the base restores most of
that and keeps most of the gain. Nothing is assumed: a claim that the measurements do not carry is reported as not shown.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any

import polars as pl

from definemed_pipeline.evaluation.benchmarks.accuracy import MACRO
from definemed_pipeline.evaluation.styles import write_number
from definemed_pipeline.intervals import Estimate

MOST = 0.5  # "most" of a gain or loss is at least this share of it
FAILURE = "not_answered_properly"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One part of the effect, whether it shows, and the numbers that say so.

    `wording` names each number with the style it is written in (see `styles`), so that a page can say where each comes from.
    """

    claim: str
    holds: bool
    wording: str
    numbers: Mapping[str, float]

    @property
    def evidence(self) -> str:
        """Return the numbers in words."""
        return "".join(text if style is None else write_number(self.numbers[text], style) for text, style in self.parts())

    def parts(self) -> Iterator[tuple[str, str | None]]:
        """Yield the wording piece by piece: a text and None, or the name of a number and its style."""
        for text, name, style, _ in Formatter().parse(self.wording):
            if text:
                yield text, None
            if name is not None:
                yield name, style


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
        _change("continual pre-training raises accuracy", "accuracy", accuracy, gain, holds=gain.low > 0),
        _change("continual pre-training costs instruction-following", "answered properly", proper, loss, holds=loss.high < 0),
        _part(
            "the merge restores most of the lost instruction-following",
            holds=loss.high < 0 and recovered >= MOST * -loss.value,
            wording="answered properly {before:percent}% to {after:percent}%, ",
            numbers={"before": proper["cpt"], "after": proper["merged"]},
            part=recovered,
            whole=-loss.value,
            name="loss",
        ),
        _part(
            "the merge keeps most of the gained accuracy",
            holds=gain.low > 0 and kept >= MOST * gain.value,
            wording="accuracy {before:percent}% to {after:percent}%, ",
            numbers={"before": accuracy["base"], "after": accuracy["merged"]},
            part=kept,
            whole=gain.value,
            name="gain",
        ),
    ]


def _change(claim: str, measure: str, by_stage: Mapping[str, float], change: Estimate, *, holds: bool) -> Claim:
    """Return a claim on what continual pre-training changed."""
    wording = f"{measure} {{before:percent}}% to {{after:percent}}%, {{change:points}} points"
    return Claim(
        claim=claim,
        holds=holds,
        wording=f"{wording} (95 % interval {{low:points}} to {{high:points}}, paired)",
        numbers={
            "before": by_stage["base"],
            "after": by_stage["cpt"],
            "change": change.value,
            "low": change.low,
            "high": change.high,
        },
    )


def _part(claim: str, *, holds: bool, wording: str, numbers: Mapping[str, float], part: float, whole: float, name: str) -> Claim:
    """Return a claim on how much the merge kept or restored, as a share of the whole where there was one."""
    if whole <= 0:
        return Claim(claim=claim, holds=holds, wording=f"{wording}there was no {name}", numbers=numbers)
    return Claim(
        claim=claim,
        holds=holds,
        wording=f"{wording}{{share:whole_percent}}% of the {name}",
        numbers={**numbers, "share": part / whole},
    )


def _accuracy_difference(scores: Mapping[str, Any], before: str, after: str) -> Estimate:
    row = only(scores["differences"], before=before, after=after, benchmark=MACRO)
    return Estimate(value=row["difference"], low=row["difference_low"], high=row["difference_high"])


def _proper_difference(differences: Sequence[Mapping[str, Any]], before: str, after: str) -> Estimate:
    """Return the difference of what is answered properly: that of the failures with its sign turned."""
    row = only(differences, before=before, after=after)
    return Estimate(value=-row["difference"], low=-row["high"], high=-row["low"])


def only(rows: Sequence[Mapping[str, Any]], **wanted: str) -> Mapping[str, Any]:
    """Return the one row that has these values."""
    (row,) = (row for row in rows if all(row[key] == value for key, value in wanted.items()))
    return row
