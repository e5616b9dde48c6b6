import numpy as np
import pytest

from definemed_pipeline.evaluation.accuracy import MACRO, accuracy_of, differences_of
from definemed_pipeline.intervals import wilson


def outcomes(right: int, questions: int) -> np.ndarray:
    return np.arange(questions) < right


def test_accuracy_carries_both_intervals_and_the_macro_average_weighs_benchmarks_alike() -> None:
    found = accuracy_of({"large": outcomes(90, 100), "small": outcomes(5, 10)}, resamples=500, seed=0)
    assert found["large"]["accuracy"] == 0.9
    assert found["large"]["accuracy_low"] == wilson(90, 100).low
    assert found["large"]["bootstrap_low"] < 0.9 < found["large"]["bootstrap_high"]
    assert found[MACRO]["accuracy"] == pytest.approx(0.7)
    assert found[MACRO]["questions"] == 110


def test_differences_are_paired_and_cover_each_benchmark_and_the_average() -> None:
    base, cpt = {"a": outcomes(10, 40), "b": outcomes(5, 20)}, {"a": outcomes(30, 40), "b": outcomes(5, 20)}
    found = differences_of({"base": base, "cpt": cpt, "merged": base}, resamples=500, seed=0)
    rows = {(row["before"], row["after"], row["benchmark"]): row for row in found}
    assert len(rows) == 3 * 3
    assert rows["base", "cpt", "a"]["difference"] == 0.5
    assert rows["base", "cpt", "a"]["mcnemar_p"] == pytest.approx(2 / 2**20)
    assert rows["base", "cpt", "b"]["difference_low"] == rows["base", "cpt", "b"]["difference_high"] == 0
    assert rows["base", "cpt", MACRO]["difference"] == 0.25
    assert rows["cpt", "merged", MACRO]["difference"] == -0.25
    assert rows["base", "merged", MACRO]["mcnemar_p"] == 1.0
