import numpy as np
import pytest

from definemed_pipeline.evaluation.benchmarks.accuracy import MACRO, accuracy_of, differences_of
from definemed_pipeline.intervals import holm, wilson


def outcomes(right: int, questions: int) -> np.ndarray:
    return np.arange(questions) < right


def test_accuracy_carries_both_intervals_and_the_macro_average_weighs_benchmarks_alike() -> None:
    found = accuracy_of({"large": outcomes(90, 100), "small": outcomes(5, 10)}, resamples=500, seed=0)
    assert found["large"]["accuracy"] == 0.9
    assert found["large"]["accuracy_low"] == wilson(90, 100).low
    assert found["large"]["bootstrap_low"] < 0.9 < found["large"]["bootstrap_high"]
    assert found[MACRO]["accuracy"] == pytest.approx(0.7)
    assert found[MACRO]["questions"] == 110


def test_a_control_has_its_accuracy_and_is_in_no_average() -> None:
    tasks = {"control": outcomes(0, 50), "medicine": outcomes(8, 10)}
    found = accuracy_of(tasks, resamples=100, seed=0, average=["medicine"])
    assert found["control"]["accuracy"] == 0
    assert (found[MACRO]["accuracy"], found[MACRO]["questions"]) == (0.8, 10)
    stages = {"base": tasks, "cpt": {**tasks, "control": outcomes(50, 50)}, "merged": tasks}
    rows = differences_of(stages, resamples=100, seed=0, average=["medicine"])
    assert {row["difference"] for row in rows if row["benchmark"] == MACRO} == {0}


def test_differences_are_paired_and_cover_each_benchmark_and_the_average() -> None:
    base, cpt = {"a": outcomes(10, 40), "b": outcomes(5, 20)}, {"a": outcomes(30, 40), "b": outcomes(5, 20)}
    found = differences_of({"base": base, "cpt": cpt, "merged": base}, resamples=500, seed=0)
    rows = {(row["before"], row["after"], row["benchmark"]): row for row in found}
    assert len(rows) == 3 * 3
    assert rows["base", "cpt", "a"]["difference"] == 0.5
    assert (rows["base", "cpt", "a"]["gained"], rows["base", "cpt", "a"]["lost"]) == (20, 0)
    assert rows["base", "cpt", "a"]["mcnemar_p"] == pytest.approx(2 / 2**20)
    assert rows["base", "cpt", "a"]["bootstrap_p"] == pytest.approx(2 / 501)
    assert rows["base", "cpt", "b"]["difference_low"] == rows["base", "cpt", "b"]["difference_high"] == 0
    assert rows["base", "cpt", MACRO]["difference"] == 0.25
    assert rows["cpt", "merged", MACRO]["difference"] == -0.25
    assert rows["base", "merged", MACRO]["mcnemar_p"] == rows["base", "merged", MACRO]["bootstrap_p"] == 1.0


def test_p_values_are_corrected_for_every_comparison_of_the_table() -> None:
    generator = np.random.default_rng(0)
    stages = {stage: {name: generator.random(80) < 0.5 for name in "abc"} for stage in ("base", "cpt", "merged")}
    rows = differences_of(stages, resamples=300, seed=0)
    assert len(rows) == 3 * 4
    for test in ("mcnemar_p", "bootstrap_p"):
        assert [row[f"{test}_holm"] for row in rows] == holm([row[test] for row in rows])
