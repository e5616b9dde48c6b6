"""The tables printed after a run show what was measured, and apart from it what others published."""

import io

import numpy as np
from rich.console import Console

from definemed_pipeline.artifacts.build import Draft, build
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.evaluation.benchmarks.accuracy import accuracy_of, differences_of
from definemed_pipeline.recipe import load_recipe
from definemed_pipeline.summary import summarise
from definemed_pipeline_tests.conftest import identity_of

STAGES = ("base", "cpt", "merged")


def write_scores(draft: Draft) -> None:
    outcomes = {
        stage: {"medicine": np.arange(10) < right, "everyday": np.arange(10) < 10 - right}
        for stage, right in zip(STAGES, (3, 8, 7), strict=True)
    }
    accuracy = {stage: accuracy_of(one, resamples=100, seed=0, average=["medicine"]) for stage, one in outcomes.items()}
    differences = differences_of(outcomes, resamples=100, seed=0, average=["medicine"])
    draft.write_json("scores.json", {"average": ["medicine"], "accuracy": accuracy, "differences": differences})


def printed(store: Store, name: str, base_model: str) -> str:
    recipe = load_recipe(name)
    identity = identity_of("benchmark_scores", recipe.benchmark_scores, partition=base_model)
    build(store, identity, write_scores, settings=recipe.benchmark_scores, recipe=recipe.name, run_id="test")
    console = Console(width=200, record=True, file=io.StringIO())
    for one in summarise(store, recipe):
        console.print(one)
    return console.export_text()


def test_published_figures_stand_in_rows_of_their_own_with_their_mark_and_source(store: Store) -> None:
    text = printed(store, "paper", "mistral-7b")
    row = next(line for line in text.splitlines() if "DeFineMed-Mistral-7B-SLERP" in line)
    assert "†" in row
    assert row.split("│")[4].strip() == "56.46", "in the column of the merged model"
    assert "† published, not measured here" in text
    assert "arXiv 2604.19394" in text


def test_the_demo_shows_nothing_that_was_published(store: Store) -> None:
    text = printed(store, "demo", "demo-qwen2")
    assert "†" not in text
    assert "30.0" in text


def test_controls_are_marked_and_in_no_average(store: Store) -> None:
    lines = printed(store, "demo", "demo-qwen2").splitlines()
    assert any("everyday*" in line for line in lines)
    average = next(line for line in lines if line.startswith("│ demo-qwen2") and "everyday" not in line)
    assert "80.0" in average
