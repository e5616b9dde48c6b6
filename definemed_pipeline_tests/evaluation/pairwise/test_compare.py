from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.errors import UserError
from definemed_pipeline.evaluation.pairwise.compare import compare_responses
from definemed_pipeline.evaluation.pairwise.settings import WinRatesSettings
from definemed_pipeline_tests.conftest import build_artifact
from definemed_pipeline_tests.evaluation.conftest import REFERENCE, Say

IDS = "abcdefgh"
GOOD = dict.fromkeys(IDS, (REFERENCE, True))
BAD = dict.fromkeys(IDS, ("Kiel liegt am Meer.", True))
MIXED = {**GOOD, **dict.fromkeys("ab", BAD["a"])}
ANSWERS = {
    "mistral": {"base": MIXED, "cpt": BAD, "merged": GOOD},
    "qwen2": {"base": GOOD, "cpt": BAD, "merged": MIXED},
}


@pytest.fixture
def compare(store: Store, say: Say) -> Callable[..., Manifest]:
    def build(answers: dict[str, dict[str, dict[str, tuple[str, bool]]]], opponent: str = "mistral") -> Manifest:
        section = WinRatesSettings(opponent_base_model=opponent, resamples=200)
        return build_artifact(store, "win_rates", compare_responses, section, inputs=say(answers))

    return build


def rate(store: Store, manifest: Manifest, one: tuple[str, str], other: tuple[str, str]) -> dict[str, float]:
    rates = pl.read_parquet(Path(store.uri(manifest)) / "win_rates.parquet")
    return rates.row(
        by_predicate=(pl.col("base_model") == one[0])
        & (pl.col("stage") == one[1])
        & (pl.col("opponent_base_model") == other[0])
        & (pl.col("opponent_stage") == other[1]),
        named=True,
    )


def test_wins_ties_and_losses_make_the_win_rate(store: Store, compare: Callable[..., Manifest]) -> None:
    manifest = compare(ANSWERS)
    better = rate(store, manifest, ("qwen2", "base"), ("mistral", "base"))
    assert (better["wins"], better["ties"], better["losses"], better["win_rate"]) == (2, 6, 0, 0.625)
    assert better["low"] < 0.625 < better["high"]
    even = rate(store, manifest, ("qwen2", "merged"), ("mistral", "base"))
    assert (even["ties"], even["win_rate"]) == (8, 0.5)


def test_a_model_that_always_wins_is_still_uncertain(store: Store, compare: Callable[..., Manifest]) -> None:
    always = rate(store, compare(ANSWERS), ("qwen2", "base"), ("mistral", "cpt"))
    assert (always["win_rate"], always["high"]) == (1.0, 1.0)
    assert 0.5 < always["low"] < 1.0


def test_every_pair_of_models_is_there_and_the_two_sides_add_up(store: Store, compare: Callable[..., Manifest]) -> None:
    rates = pl.read_parquet(Path(store.uri(compare(ANSWERS))) / "win_rates.parquet")
    assert len(rates) == 6 * 5
    back = rates.rename(
        {
            "base_model": "opponent_base_model",
            "opponent_base_model": "base_model",
            "stage": "opponent_stage",
            "opponent_stage": "stage",
        }
    )
    both = rates.join(back, on=["base_model", "stage", "opponent_base_model", "opponent_stage"])
    assert len(both) == len(rates)
    assert (both["win_rate"] + both["win_rate_right"] == 1).all()


def test_the_verdicts_are_kept_and_add_up_to_the_rates(store: Store, compare: Callable[..., Manifest]) -> None:
    folder = Path(store.uri(compare(ANSWERS)))
    verdicts = pl.read_parquet(folder / "verdicts.parquet")
    assert len(verdicts) == 15 * len(IDS) * 2, "each pair once, each instruction in both orders"
    pair = ["base_model", "stage", "opponent_base_model", "opponent_stage"]
    points = pl.col("verdict").replace_strict({"win": 1.0, "tie": 0.5, "loss": 0.0})
    counted = verdicts.group_by(pair).agg(points.mean().alias("counted"))
    rates = pl.read_parquet(folder / "win_rates.parquet").join(counted, on=pair)
    assert rates.height == 15
    assert (rates["win_rate"] == rates["counted"]).all()


def test_every_rate_has_its_interval(store: Store, compare: Callable[..., Manifest]) -> None:
    rates = pl.read_parquet(Path(store.uri(compare(ANSWERS))) / "win_rates.parquet")
    assert ((rates["low"] <= rates["win_rate"]) & (rates["win_rate"] <= rates["high"])).all()
    assert (rates["low"] < rates["high"]).all(), "few instructions are never certain, not even where all verdicts agree"
    assert rates["length_controlled"].null_count() == len(rates), "and too few for a regression on their length"


def test_the_rate_at_equal_length_stands_beside_the_raw_one_where_enough_is_decided(
    store: Store, compare: Callable[..., Manifest]
) -> None:
    ids = [f"{number:02}" for number in range(24)]
    padded = {name: (REFERENCE + " Das weiß man." * (number % 3), True) for number, name in enumerate(ids)}
    good, bad = dict.fromkeys(ids, (REFERENCE, True)), dict.fromkeys(ids, BAD["a"])
    mixed = {name: (good if number % 4 else bad)[name] for number, name in enumerate(ids)}
    manifest = compare({"mistral": {"base": mixed, "cpt": bad, "merged": padded}})
    assert rate(store, manifest, ("mistral", "cpt"), ("mistral", "merged"))["length_controlled"] == 0.0, "always lost"
    found = rate(store, manifest, ("mistral", "merged"), ("mistral", "base"))
    assert found["length_controlled_low"] <= found["length_controlled"] <= found["length_controlled_high"]
    assert found["length_controlled"] != found["win_rate"]


def test_the_strengths_rank_the_models_against_the_opponent(store: Store, compare: Callable[..., Manifest]) -> None:
    found = pl.read_parquet(Path(store.uri(compare(ANSWERS))) / "strengths.parquet")
    strength = {(row["base_model"], row["stage"]): row["strength"] for row in found.iter_rows(named=True)}
    assert strength["mistral", "base"] == 0.0
    assert strength["mistral", "merged"] == pytest.approx(strength["qwen2", "base"])
    assert strength["mistral", "merged"] > strength["qwen2", "merged"] > strength["mistral", "cpt"]
    assert found["strength"].is_sorted(descending=True)


def test_equal_answers_and_what_the_order_did_are_told(compare: Callable[..., Manifest]) -> None:
    metrics = compare(ANSWERS).metrics
    assert (metrics["instructions"], metrics["models"], metrics["games"]) == (8, 6, 15 * 8 * 2)
    assert (metrics["unreadable_verdicts"], metrics["position_consistency"], metrics["first_position_win_rate"]) == (0, 1.0, 0.5)


def test_the_merge_is_compared_with_its_base_against_the_opponent(store: Store, compare: Callable[..., Manifest]) -> None:
    changes = pl.read_parquet(Path(store.uri(compare(ANSWERS))) / "win_rate_differences.parquet")
    found = {(row["base_model"], row["before"], row["after"]): row["difference"] for row in changes.iter_rows(named=True)}
    assert len(found) == 6
    assert found["qwen2", "base", "merged"] == 0.5 - 0.625
    assert found["mistral", "base", "merged"] == 0.625 - 0.5, "the opponent against itself is even"


def test_metrics_name_the_rates_against_the_opponent(compare: Callable[..., Manifest]) -> None:
    metrics = compare(ANSWERS).metrics
    assert metrics["opponent"] == "mistral/base"
    assert metrics["qwen2_base_win_rate"] == 0.625
    assert metrics["qwen2_base_win_rate_low"] < 0.625 < metrics["qwen2_base_win_rate_high"]
    assert "mistral_base_win_rate" not in metrics


def test_responses_that_are_missing_are_named_by_base_model(compare: Callable[..., Manifest]) -> None:
    fewer = {instruction: answer for instruction, answer in GOOD.items() if instruction not in "ab"}
    with pytest.raises(UserError, match=r"responses are missing for base models qwen2 \(2\)"):
        compare({**ANSWERS, "qwen2": {"base": GOOD, "cpt": fewer, "merged": GOOD}})


def test_an_opponent_without_responses_is_named_with_the_cure(compare: Callable[..., Manifest]) -> None:
    with pytest.raises(UserError, match=r"the opponent llama has no responses .*some of mistral, qwen2"):
        compare(ANSWERS, opponent="llama")


def test_no_responses_at_all_are_refused(compare: Callable[..., Manifest]) -> None:
    with pytest.raises(UserError, match="no responses to compare"):
        compare({})
