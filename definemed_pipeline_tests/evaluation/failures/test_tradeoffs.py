from typing import Any

import polars as pl
import pytest

from definemed_pipeline.evaluation.failures.tradeoffs import in_brief, readable, tradeoffs
from definemed_pipeline.intervals import paired_macro_ratio

STAGES = ("base", "cpt", "merged")


def answers(**by_stage: list[int]) -> pl.DataFrame:
    """Return diagnosed answers of one model that differ in `language_mixing` only."""
    rows: list[dict[str, Any]] = []
    for stage, mixing in by_stage.items():
        for is_mixed in mixing:
            flags = dict.fromkeys(
                ("not_answered_properly", "truncated", "empty", "refusal", "repetitive", "verbose", "wrong_language"), False
            )
            rows.append(
                {"base_model": "qwen2", "stage": stage, **flags, "broken_format": None, "language_mixing": bool(is_mixed)}
                | {"words": 10, "words_to_reference": 1.0, "foreign_share": 0.0}
            )
    return pl.DataFrame(rows, schema_overrides={"broken_format": pl.Boolean})


def row_of(**by_stage: list[int]) -> dict[str, Any]:
    table = tradeoffs(answers(**by_stage), {}, resamples=500, seed=0)
    return table.filter(measure="language_mixing").row(0, named=True)


ALL, HALF, NONE = [1] * 40, [1, 0] * 20, [0] * 40


@pytest.mark.parametrize(
    ("stages", "cpt_effect", "merge_effect", "share"),
    [
        ((NONE, NONE, NONE), "none shown", "none shown", None),
        ((NONE, ALL, HALF), "cost", "recovered", 0.5),
        ((HALF, ALL, NONE), "cost", "gave", 2.0),
        ((NONE, HALF, ALL), "cost", "brought in", -1.0),
        ((ALL, NONE, HALF), "gain", "kept", 0.5),
        ((NONE, NONE, ALL), "none shown", "brought in", None),
        ((ALL, ALL, NONE), "none shown", "gave", None),
        ((NONE, [1, *NONE[1:]], NONE), "none shown", "none shown", None),
    ],
)
def test_what_each_step_did_is_told_by_intervals_and_not_by_bare_numbers(
    stages: tuple[list[int], ...], cpt_effect: str, merge_effect: str, share: float | None
) -> None:
    row = row_of(**dict(zip(STAGES, stages, strict=True)))
    assert (row["cpt_effect"], row["merge_effect"], row["merge_share"]) == (cpt_effect, merge_effect, pytest.approx(share))


def test_the_readable_table_says_points_percent_and_shares() -> None:
    table = readable(tradeoffs(answers(base=NONE, cpt=ALL, merged=HALF), {}, resamples=500, seed=0))
    row = table.filter(pl.col("measure") == "language mixing, %").row(0, named=True)
    assert row["cpt"] == "100.0 [91.2, 100.0]"
    assert row["base → cpt"] == "+100.0 [+100.0, +100.0]"
    assert row["CPT"] == "cost"
    assert row["merge"].startswith("recovered 50 [")
    assert "accuracy, %" not in table["measure"].to_list(), "what was not measured has no row"


def test_in_brief_it_says_what_was_done_and_leaves_out_what_does_not_show() -> None:
    row = in_brief(tradeoffs(answers(base=NONE, cpt=NONE, merged=ALL), {}, resamples=500, seed=0)).filter(
        pl.col("measure") == "language mixing, %"
    )
    assert row.row(0)[2:] == ("0.0", "0.0", "100.0", "-", "brought in +100.0 [+100.0, +100.0]")


def test_the_share_of_a_change_covers_the_truth_as_often_as_it_says() -> None:
    """300 simulated models with 100 instructions: CPT loses 60 %, the merge recovers half of it."""
    import numpy as np

    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        lost = generator.random(100) < 0.6
        recovered = lost & (generator.random(100) < 0.5)
        share = paired_macro_ratio([recovered], [lost], resamples=200, seed=0)
        covered += share.low <= 0.5 <= share.high
    assert 0.91 <= covered / 300 <= 0.98


def test_a_ratio_to_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="do not average to zero"):
        paired_macro_ratio([[1.0, 0.0]], [[0.0, 0.0]], resamples=10, seed=0)
