import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.corpus.classifier.certificate import (
    certificate_of,
    certified_threshold,
    contradictions,
    curve_of,
    grid,
    positives_needed,
    recall_bound,
)
from definemed_pipeline.corpus.classifier.settings import CascadeCertificateSettings
from definemed_pipeline_tests.conftest import identity_of
from definemed_pipeline_tests.corpus.classifier_world import (
    CERTIFICATE,
    UNLABELLED,
    annotated,
    certified,
    checkpoints,
    kill_when,
    start_payload,
    trained,
)
from definemed_pipeline_tests.corpus.shard_files import contents

TARGET = CascadeCertificateSettings(target_recall=0.95)
WORLDS = 1_000


# --- the statistics -----------------------------------------------------------------------------------------------------------------


def certify(probabilities: np.ndarray, taken: np.ndarray, thresholds: np.ndarray, section: CascadeCertificateSettings) -> float:
    curve = curve_of(pl.Series(probabilities.astype(np.float32)), pl.Series(taken), thresholds, section)
    return float(certificate_of(curve, len(probabilities), int(taken.sum()), section)["threshold"])


@pytest.mark.parametrize("positives", [60, 200, 500])
@pytest.mark.parametrize("steps", [np.linspace(0.001, 0.999, 400), np.array([0.0501]), np.array([0.02, 0.0501, 0.3])])
def test_in_a_thousand_worlds_a_certificate_seldom_promises_too_much(positives: int, steps: np.ndarray) -> None:
    """Stage 1's probabilities of positives are uniform, so the true recall at a threshold t is 1 - t.

    Grids with a threshold where recall lies just below the target (0.9499) are the worst case: there a false promise is likeliest.
    """
    random, broken = np.random.default_rng(positives), 0
    for _ in range(WORLDS):
        probabilities = random.random(3 * positives)
        taken = np.arange(len(probabilities)) < positives
        broken += 1 - certify(probabilities, taken, steps, TARGET) < TARGET.target_recall
    slack = 3 * np.sqrt(0.05 * 0.95 / WORLDS)
    assert broken / WORLDS <= 0.05 + slack


def test_in_the_worst_case_the_error_is_what_the_confidence_allows_and_not_far_below() -> None:
    """A single threshold with recall exactly at the target: the error is the binomial tail, so the test could not be made bolder."""
    random, positives, broken = np.random.default_rng(0), 500, 0
    for _ in range(WORLDS):
        misses = random.random(positives) < 0.05
        curve = curve_of(
            pl.Series(np.where(misses, 0.1, 0.9), dtype=pl.Float32), pl.Series([True] * positives), np.array([0.5]), TARGET
        )
        broken += bool(curve["accepted"][0])
    allowed = max(k for k in range(positives) if recall_bound(k, positives, 0.95) >= 0.95)
    expected = binom.cdf(allowed, positives, 0.05)
    assert expected <= 0.05
    assert abs(broken / WORLDS - expected) < 3 * np.sqrt(expected / WORLDS)


def test_in_worlds_with_room_the_certificate_uses_it() -> None:
    random, found = np.random.default_rng(1), []
    for _ in range(200):
        probabilities = np.concatenate([random.beta(8, 2, 500), random.beta(1, 9, 2_000)])
        found.append(certify(probabilities, np.arange(2_500) < 500, np.linspace(0.01, 0.9, 200), TARGET))
    passing = [1 - (1 - threshold) ** 9 for threshold in found]  # of the others, beta(1, 9), rejected
    assert min(passing) > 0.95


@given(st.integers(0, 400), st.integers(1, 400), st.sampled_from([0.9, 0.95, 0.99]))
def test_the_bound_is_clopper_and_pearsons(misses: int, positives: int, confidence: float) -> None:
    misses = min(misses, positives)
    bound = recall_bound(misses, positives, confidence)
    assert 0 <= bound <= 1 - misses / positives
    if misses < positives:  # at the bound, as few misses as these have a probability of exactly 1 - confidence
        assert binom.cdf(misses, positives, 1 - bound) == pytest.approx(1 - confidence, rel=1e-6)


def test_the_numbers_of_positives_that_are_known_to_suffice() -> None:
    assert positives_needed(0.99, 0.95) == 299
    assert positives_needed(0.95, 0.95) == 59
    for misses, positives in ((0, 299), (3, 773), (32, 4_400)):
        assert recall_bound(misses, positives, 0.95) >= 0.99, (misses, positives)
    assert recall_bound(0, 298, 0.95) < 0.99


@given(
    st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), max_size=200),
    st.lists(st.floats(2**-20, 1, width=32), min_size=1, max_size=30, unique=True),
    st.sampled_from([0.5, 0.8, 0.95]),
)
def test_every_certificate_holds_against_its_own_data(drawn: list[tuple[float, bool]], steps: list[float], target: float) -> None:
    section = CascadeCertificateSettings(target_recall=target)
    probabilities = pl.Series([p for p, _ in drawn], dtype=pl.Float32)
    taken = pl.Series([label for _, label in drawn], dtype=pl.Boolean)
    curve = curve_of(probabilities, taken, np.sort(np.array(steps)), section)
    certificate = certificate_of(curve, len(drawn), int(taken.sum()), section)
    assert contradictions(certificate, curve) == []
    passes = probabilities >= np.float32(certificate["threshold"])
    assert certificate["misses"] == (taken & ~passes).sum()
    assert certificate["passed"] == passes.sum()
    assert certificate["recall_low"] >= target
    assert json.loads(json.dumps(certificate)) == certificate


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"threshold": 0.9}, "not the highest"),
        ({"misses": 40}, "bound recall at"),
        ({"positives": 20}, "bound recall at"),
        ({"certified": False}, "not certified exactly"),
    ],
)
def test_a_certificate_that_was_tampered_with_contradicts_itself(change: dict[str, object], said: str) -> None:
    probabilities = np.linspace(0.001, 1, 200)
    curve = curve_of(
        pl.Series(probabilities, dtype=pl.Float32), pl.Series(probabilities > 0.3), np.array([0.1, 0.2, 0.5]), TARGET
    )
    certificate = certificate_of(curve, 200, 140, TARGET)
    assert contradictions(certificate, curve) == []
    assert said in " ".join(contradictions({**certificate, **change}, curve))
    swapped = curve.with_columns(accepted=pl.Series([False, True, False]))
    assert any("after one that failed" in one for one in contradictions(certificate, swapped))


def test_the_grid_lets_ever_smaller_shares_of_the_web_pass() -> None:
    random = np.random.default_rng(0)
    probabilities = random.random(20_000).astype(np.float32)
    weights = np.where(probabilities > 0.5, 1.0, 9.0)  # the sample is richer than the web
    thresholds = grid(probabilities, weights)
    assert np.all(np.diff(thresholds) > 0)
    assert len(thresholds) > 150
    passing = [(weights * (probabilities >= np.float32(one))).sum() / weights.sum() for one in thresholds]
    steps = np.array(passing[1:-20]) / np.array(passing[:-21])
    assert steps.min() > 0.95
    assert passing[0] > 0.96
    assert passing[-1] < 0.0015


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=50))
def test_every_threshold_of_the_grid_rejects_something_or_nothing_but_never_all(drawn: list[float]) -> None:
    probabilities = np.array(drawn, dtype=np.float32)
    thresholds = grid(probabilities, np.ones(len(drawn)))
    assert np.isin(thresholds.astype(np.float32), probabilities).all()


# --- the payload --------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Manifest]:
    store = Store(str(tmp_path_factory.mktemp("certificate") / "lake"))
    return store, certified(store)


def test_its_files_agree_with_its_figures_and_its_words(lake: tuple[Store, Manifest]) -> None:
    store, manifest = lake
    folder = store.folder(manifest)
    assert set(contents(folder)) == {"certificate.json", "curve.parquet", "sweep.parquet"}
    certificate = json.loads((folder / "certificate.json").read_text("utf-8"))
    curve, sweep = (pl.read_parquet(folder / f"{name}.parquet") for name in ("curve", "sweep"))
    assert contradictions(certificate, curve) == []
    assert {name: manifest.metrics[name] for name in certificate} == certificate
    assert (certificate["documents"], sweep.height) == (UNLABELLED, UNLABELLED + 1)  # the document without text is no document
    assert certificate["positives"] == sweep["is_medical"].sum()
    assert certificate["certified"]
    assert 0 < certificate["transformer_share"] < 0.8
    assert certified_threshold(folder) == certificate["threshold"] > 0
    assert f"{certificate['positives']:,} of {UNLABELLED}" in certificate["in_words"]
    assert not sweep["audited"].any()


def test_the_grid_comes_from_other_documents_than_the_test(lake: tuple[Store, Manifest]) -> None:
    store, manifest = lake
    thresholds = pl.read_parquet(store.folder(manifest) / "curve.parquet")["threshold"]
    validation = pl.read_parquet(store.folder(trained(store)) / "validation.parquet")["linear_probability"]
    assert thresholds.is_in(validation.cast(pl.Float64).implode()).all()


def test_what_cannot_be_certified_is_said_in_words_and_stage_2_reads_everything(lake: tuple[Store, Manifest]) -> None:
    store, _ = lake
    metrics = certified(store, dataclasses.replace(CERTIFICATE, target_recall=0.99)).metrics
    assert not metrics["certified"]
    assert metrics["threshold"] == 0
    assert metrics["transformer_share"] == 1
    assert "it takes 299 without a miss at least" in metrics["in_words"]
    assert "stage 2 reads every document" in metrics["in_words"]


def test_a_target_that_no_sample_can_show_is_refused() -> None:
    with pytest.raises(ValueError, match="no finite sample"):
        CascadeCertificateSettings(target_recall=1.0)


@pytest.mark.slow
def test_a_killed_certification_goes_on_to_the_same_bytes(lake: tuple[Store, Manifest], tmp_path: Path) -> None:
    expected = contents(lake[0].folder(lake[1]))
    store = Store(str(tmp_path / "lake"))
    identity = identity_of("cascade_certificate", CERTIFICATE, inputs=[annotated(store), trained(store)])
    finished: Callable[[], bool] = lambda: any(checkpoints(store, identity).glob("row_groups_*.parquet"))  # noqa: E731
    kill_when(start_payload(store, "certificate", identity, tmp_path), finished)
    process = start_payload(store, "certificate", identity, tmp_path)
    assert process.status() == 0, process.said
    assert "going on after" in process.said
    assert contents(store.folder(store.require("test", "cascade_certificate"))) == expected
