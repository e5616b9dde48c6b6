from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.evaluation.failures import FAILURES, diagnose_responses, repetition
from definemed_pipeline.evaluation.settings import FailureModesSettings, LanguageSettings
from definemed_pipeline_tests.conftest import build_artifact
from definemed_pipeline_tests.evaluation.conftest import REFERENCE, Say

SETTINGS = FailureModesSettings(language=LanguageSettings(expected="de", foreign=("en",)), resamples=200)
LOOP = "Die Lunge ist krank und " * 6
FLAWS = {
    "proper": (REFERENCE, True),
    "empty": ("", True),
    "truncated": (REFERENCE, False),
    "looping": (LOOP, True),
    "english": ("The affected organ is the lung of the patient.", True),
    "beside the point": ("Kiel liegt am Meer.", True),
}


@pytest.fixture
def diagnose(store: Store, say: Say) -> Callable[..., Manifest]:
    def build(answers: dict[str, dict[str, dict[str, tuple[str, bool]]]]) -> Manifest:
        return build_artifact(store, "failure_modes", diagnose_responses, SETTINGS, inputs=say(answers))

    return build


def test_each_flaw_is_diagnosed_as_what_it_is(store: Store, diagnose: Callable[..., Manifest]) -> None:
    manifest = diagnose({"qwen2": {"base": FLAWS, "cpt": FLAWS, "merged": FLAWS}})
    rows = pl.read_parquet(Path(store.uri(manifest)) / "failures.parquet").filter(stage="cpt")
    found = {row["instruction_id"]: {failure for failure in FAILURES if row[failure]} for row in rows.iter_rows(named=True)}
    assert found == {
        "proper": set(),
        "empty": {"empty", "not_answered_properly"},
        "truncated": {"truncated", "not_answered_properly"},
        "looping": {"repetitive", "verbose", "not_answered_properly"},
        "english": {"language_mixing", "not_answered_properly"},
        "beside the point": {"not_answered_properly"},
    }
    assert not {"instruction", "reference", "response"} & set(rows.columns)


def test_verbosity_is_measured_against_the_reference_and_against_what_the_base_said(
    store: Store, diagnose: Callable[..., Manifest]
) -> None:
    base = {"a": ("Die Lunge", True), "b": ("", True)}
    other = {"a": (REFERENCE, True), "b": (REFERENCE, True)}
    manifest = diagnose({"qwen2": {"base": base, "cpt": other, "merged": other}})
    rows = pl.read_parquet(Path(store.uri(manifest)) / "failures.parquet").filter(stage="cpt")
    words = len(REFERENCE.split())
    assert rows["words_to_reference"].to_list() == [1.0, 1.0]
    assert rows["words_to_base"].to_list() == [words / 2, None]


def test_rates_and_their_differences_agree_with_the_rows(store: Store, diagnose: Callable[..., Manifest]) -> None:
    proper = dict.fromkeys("abcdefgh", (REFERENCE, True))
    half = {**proper, **dict.fromkeys("abcd", (REFERENCE, False))}
    none = dict.fromkeys("abcdefgh", ("", True))
    manifest = diagnose({"qwen2": {"base": proper, "cpt": none, "merged": half}})
    folder = Path(store.uri(manifest))
    rates = pl.read_parquet(folder / "failure_rates.parquet").filter(failure="not_answered_properly")
    assert dict(rates.select("stage", "rate").iter_rows()) == {"base": 0.0, "cpt": 1.0, "merged": 0.5}
    assert rates["responses"].to_list() == [8, 8, 8]
    assert (rates["low"] <= rates["rate"]).all()
    assert (rates["high"] >= rates["rate"]).all()
    assert (rates["high"] > rates["low"]).all(), "also a rate of 0 or 1 is uncertain"
    changes = pl.read_parquet(folder / "failure_differences.parquet").filter(failure="not_answered_properly")
    found = {(row["before"], row["after"]): row["difference"] for row in changes.iter_rows(named=True)}
    assert found == {("base", "cpt"): 1.0, ("base", "merged"): 0.5, ("cpt", "merged"): -0.5}
    assert manifest.metrics["qwen2_cpt_not_answered_properly"] == 1.0
    assert manifest.metrics["qwen2_merged_truncated"] == 0.5


def test_repetition_is_the_share_of_repeated_n_grams() -> None:
    assert repetition(list("abcd"), 2) == 0.0
    assert repetition(list("ababab"), 2) == 0.6  # ab ba ab ba ab: two of five are new
    assert repetition(["a"], 2) == 0.0
