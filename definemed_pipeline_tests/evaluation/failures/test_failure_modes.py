from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.evaluation.failures.diagnosis import FAILURES, diagnose
from definemed_pipeline.evaluation.failures.failure_modes import diagnose_responses
from definemed_pipeline.evaluation.failures.rates import failure_rates
from definemed_pipeline.evaluation.generate import SCHEMA
from definemed_pipeline_tests.conftest import build_artifact
from definemed_pipeline_tests.evaluation.conftest import REFERENCE, MicroModel, Say
from definemed_pipeline_tests.evaluation.failures.recipe import SETTINGS

LOOP = "Die Lunge ist krank und " * 6
ENGLISH = "The affected organ is the lung of the patient."
FOREIGN = ENGLISH.removesuffix(" patient.")  # a last word that German has too stays out of the span
FLAWS = {
    "proper": (REFERENCE, True),
    "empty": ("", True),
    "truncated": (REFERENCE, False),
    "looping": (LOOP, True),
    "english": (ENGLISH, True),
    "mixed": (f"{REFERENCE} Please see your doctor.", True),
    "refused": ("Das weiß ich nicht.", True),
    "kurz": (f"{REFERENCE} Sie ist sehr entzündet.", True),
    "beside the point": ("Kiel liegt am Meer.", True),
}
SOUND = {"proper": (REFERENCE, True)}
QUESTIONS = {"base": [1, 0, 0, 0] * 10, "cpt": [1, 1, 1, 0] * 10, "merged": [1, 1, 0, 0] * 10}


@pytest.fixture
def diagnosed(store: Store, say: Say) -> Callable[..., Path]:
    def build(answers: dict[str, dict[str, dict[str, tuple[str, bool]]]]) -> Path:
        inputs = [*say(answers), *(put_scores(store, base_model) for base_model in answers)]
        return Path(store.uri(build_artifact(store, "failure_modes", diagnose_responses, SETTINGS, inputs=inputs)))

    return build


def put_scores(store: Store, base_model: str) -> Manifest:
    """Put outcomes of a task in the average, of a control that is never right, and of an instruction that is always kept."""

    def write(draft: Draft[MicroModel]) -> None:
        asked = {"organe": QUESTIONS, "allgemein": {stage: [0] * 40 for stage in QUESTIONS}}
        told = {"regeln": {stage: [1] * 40 for stage in QUESTIONS}}
        for name, tasks in (("questions", asked), ("instructions", told)):
            rows = [
                {"stage": stage, "task": task, "question_id": f"{number:02}", "is_correct": bool(right)}
                for task, by_stage in tasks.items()
                for stage, outcomes in by_stage.items()
                for number, right in enumerate(outcomes)
            ]
            pl.DataFrame(rows).write_parquet(draft.folder / f"{name}.parquet")
        draft.write_json("scores.json", {"average": ["organe"]})

    return build_artifact(store, "benchmark_scores", write, MicroModel(), partition=base_model)


def test_each_flaw_is_diagnosed_as_what_it_is(diagnosed: Callable[..., Path]) -> None:
    rows = pl.read_parquet(diagnosed({"qwen2": dict.fromkeys(("base", "cpt", "merged"), FLAWS)}) / "failures.parquet")
    found = {
        row["instruction_id"]: {failure for failure in FAILURES if row[failure]}
        for row in rows.filter(stage="cpt").iter_rows(named=True)
    }
    assert found == {
        "proper": set(),
        "empty": {"empty", "not_answered_properly"},
        "truncated": {"truncated", "not_answered_properly"},
        "looping": {"repetitive", "verbose", "not_answered_properly"},
        "english": {"language_mixing", "wrong_language", "not_answered_properly"},
        "mixed": {"language_mixing"},
        "refused": {"refusal", "not_answered_properly"},
        "kurz": {"broken_format"},
        "beside the point": {"not_answered_properly"},
    }
    assert not {"instruction", "reference", "response"} & set(rows.columns)


def test_examples_can_be_read_with_what_was_found_where(diagnosed: Callable[..., Path]) -> None:
    examples = pl.read_parquet(diagnosed({"qwen2": dict.fromkeys(("base", "cpt", "merged"), FLAWS)}) / "examples.parquet")
    assert set(examples["failure"]) == set(FAILURES)
    assert examples.group_by("stage", "failure").len()["len"].max() == SETTINGS.examples
    shown = {
        (row["failure"], row["response"][finding["start"] : finding["end"]], finding["found"])
        for row in examples.iter_rows(named=True)
        for finding in row["findings"]
    }
    assert shown == {
        ("language_mixing", FOREIGN, "en"),
        ("language_mixing", "Please see your doctor", "en"),
        ("wrong_language", FOREIGN, "en"),
        ("refusal", "Das weiß ich nicht", "phrase"),
        ("repetitive", "Die Lunge ist krank", "4 words again"),
        ("broken_format", FLAWS["kurz"][0], "max_words"),
    }
    assert not examples.select(pl.col("instruction", "reference").is_null().any()).row(0)[0]


def test_verbosity_is_measured_against_the_reference_and_against_what_the_base_said(diagnosed: Callable[..., Path]) -> None:
    base = {"a": ("Die Lunge", True), "b": ("", True)}
    other = {"a": (REFERENCE, True), "b": (REFERENCE, True)}
    folder = diagnosed({"qwen2": {"base": base, "cpt": other, "merged": other}})
    rows = pl.read_parquet(folder / "failures.parquet").filter(stage="cpt")
    words = len(REFERENCE.split())
    assert rows["words_to_reference"].to_list() == [1.0, 1.0]
    assert rows["words_to_base"].to_list() == rows["tokens_to_base"].to_list() == [words / 2, None]
    means = pl.read_parquet(folder / "measures.parquet").filter(stage="cpt", measure="words_to_base")
    assert means.select("mean", "responses").row(0) == (words / 2, 1)
    change = pl.read_parquet(folder / "measure_differences.parquet").filter(measure="words", before="base", after="cpt")
    assert change["difference"].item() == words - 1


def test_rates_and_their_differences_agree_with_the_rows(store: Store, diagnosed: Callable[..., Path]) -> None:
    proper = dict.fromkeys("abcdefgh", (REFERENCE, True))
    half = {**proper, **dict.fromkeys("abcd", (REFERENCE, False))}
    none = dict.fromkeys("abcdefgh", ("", True))
    folder = diagnosed({"qwen2": {"base": proper, "cpt": none, "merged": half}})
    rates = pl.read_parquet(folder / "failure_rates.parquet").filter(failure="not_answered_properly")
    assert dict(rates.select("stage", "rate").iter_rows()) == {"base": 0.0, "cpt": 1.0, "merged": 0.5}
    assert rates["responses"].to_list() == [8, 8, 8]
    assert (rates["low"] <= rates["rate"]).all()
    assert (rates["high"] >= rates["rate"]).all()
    assert (rates["high"] > rates["low"]).all(), "also a rate of 0 or 1 is uncertain"
    changes = pl.read_parquet(folder / "failure_differences.parquet").filter(failure="not_answered_properly")
    found = {(row["before"], row["after"]): row["difference"] for row in changes.iter_rows(named=True)}
    assert found == {("base", "cpt"): 1.0, ("base", "merged"): 0.5, ("cpt", "merged"): -0.5}
    metrics = store.require("test", "failure_modes").metrics
    assert metrics["qwen2_cpt_not_answered_properly"] == 1.0
    assert metrics["qwen2_merged_truncated"] == 0.5


def test_the_rate_of_broken_forms_is_of_the_instructions_that_ask_for_one(diagnosed: Callable[..., Path]) -> None:
    folder = diagnosed({"qwen2": dict.fromkeys(("base", "cpt", "merged"), FLAWS)})
    rates = pl.read_parquet(folder / "failure_rates.parquet").filter(failure="broken_format")
    assert rates.select("rate", "responses").rows() == [(1.0, 1)] * 3
    no_forms = diagnosed({"mistral": dict.fromkeys(("base", "cpt", "merged"), SOUND)})
    assert "broken_format" not in pl.read_parquet(no_forms / "failure_rates.parquet")["failure"]


def test_the_trade_off_holds_what_was_given_cost_kept_and_recovered(diagnosed: Callable[..., Path]) -> None:
    proper = {f"{number:02}": (REFERENCE, True) for number in range(30)}
    none = dict.fromkeys(proper, ("", True))
    merged = {name: answer if int(name) % 3 else (ENGLISH, True) for name, answer in proper.items()}
    folder = diagnosed({"qwen2": {"base": proper, "cpt": none, "merged": merged}})
    rows = {row["measure"]: row for row in pl.read_parquet(folder / "tradeoffs.parquet").iter_rows(named=True)}
    assert_row(rows["accuracy"], base=0.25, cpt=0.75, merged=0.5, cpt_effect="gain", merge_effect="kept", merge_share=0.5)
    assert_row(rows["control allgemein"], base=0.0, cpt=0.0, merged=0.0, cpt_effect="none shown", merge_effect="none shown")
    assert rows["control regeln"]["merged"] == 1.0
    assert_row(
        rows["answered_properly"], base=1.0, cpt=0.0, merged=2 / 3, cpt_effect="cost", merge_effect="recovered", merge_share=2 / 3
    )
    assert_row(
        rows["language_mixing"],
        base=0.0,
        cpt=0.0,
        merged=1 / 3,
        cpt_effect="none shown",
        merge_effect="brought in",
        merge_share=None,
    )


def assert_row(row: Mapping[str, Any], **expected: Any) -> None:
    for name, value in expected.items():
        assert row[name] == (value if isinstance(value, str | None) else pytest.approx(value)), (row["measure"], name)


def test_candidates_of_a_sweep_are_diagnosed_without_a_base() -> None:
    row = {"base_model": "qwen2", "instruction_set": "fragen", "instruction_id": "a", "kind": "", "instruction": "Was ist Asthma?",
           "reference": REFERENCE, "format": None, "tokens": 6, "is_ended": True}  # fmt: skip
    answers = pl.DataFrame(
        [{**row, "stage": "t=0.3", "response": REFERENCE}, {**row, "stage": "t=0.7", "response": ENGLISH}],
        schema_overrides={"format": pl.String},
    ).select(SCHEMA.names)
    rates = failure_rates(diagnose(answers, SETTINGS)).filter(
        pl.col("failure").is_in(["language_mixing", "not_answered_properly"])
    )
    assert rates.select("stage", "failure", "rate").rows() == [
        ("t=0.3", "language_mixing", 0.0),
        ("t=0.3", "not_answered_properly", 0.0),
        ("t=0.7", "language_mixing", 1.0),
        ("t=0.7", "not_answered_properly", 1.0),
    ]
