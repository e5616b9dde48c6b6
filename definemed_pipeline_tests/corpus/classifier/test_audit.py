import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from definemed_pipeline.corpus.classifier.audit import log_evidence, pool, running_recall

RUNS, ALPHA = 1_000, 0.05


def watched(recall: float, target: float, share: float, *, shards: int, per_shard: int, seed: int) -> np.ndarray:
    """Simulate audits that are looked at after every shard; return for each run the shard at which the alarm went off, or infinity."""
    random = np.random.default_rng(seed)
    wanted = random.poisson(per_shard, size=(RUNS, shards))
    missed = random.binomial(wanted, 1 - recall)
    positives, found = np.cumsum(wanted - missed, axis=1), np.cumsum(random.binomial(missed, share), axis=1)
    alarm = log_evidence(positives, found, target, share) >= -np.log(ALPHA)
    return np.where(alarm.any(axis=1), alarm.argmax(axis=1) + 1.0, np.inf)


@pytest.mark.parametrize(
    ("recall", "target", "share"), [(0.99, 0.99, 0.001), (0.995, 0.99, 0.001), (0.95, 0.95, 0.1), (0.9, 0.9, 1.0)]
)
def test_a_cascade_that_keeps_its_promise_is_seldom_accused_however_often_one_looks(
    recall: float, target: float, share: float
) -> None:
    alarms = np.isfinite(watched(recall, target, share, shards=300, per_shard=20_000, seed=1))
    assert alarms.mean() <= ALPHA  # Ville's inequality is met with room to spare, also by chance


def test_recall_that_goes_up_and_down_above_the_target_is_not_accused_either() -> None:
    random, target, share = np.random.default_rng(2), 0.99, 0.001
    recall = np.where(np.arange(300) % 2, target, 0.999)  # lower and higher in turn, never below
    wanted = random.poisson(20_000, size=(RUNS, 300))
    missed = random.binomial(wanted, 1 - recall)
    positives, found = np.cumsum(wanted - missed, axis=1), np.cumsum(random.binomial(missed, share), axis=1)
    assert (log_evidence(positives, found, target, share) >= -np.log(ALPHA)).any(axis=1).mean() <= ALPHA


@pytest.mark.parametrize(("recall", "within"), [(0.98, 150), (0.95, 15), (0.8, 4)])
def test_a_cascade_that_breaks_its_promise_is_found_out(recall: float, within: int) -> None:
    """Of 300 shards with 24,000 medical documents each, as FineWeb2 has them, a thousandth of the rejects being audited."""
    alarms = watched(recall, 0.99, 0.001, shards=300, per_shard=24_000, seed=3)
    assert (alarms <= within).mean() > 0.95


def test_the_running_interval_covers_the_truth_at_all_times() -> None:
    random, recall, share, covered = np.random.default_rng(4), 0.97, 0.01, 0
    for _ in range(100):
        wanted = random.poisson(6_000, size=6)
        missed = random.binomial(wanted, 1 - recall)
        positives, found = np.cumsum(wanted - missed), np.cumsum(random.binomial(missed, share))
        looks = [running_recall(int(p), int(f), share, 0.95) for p, f in zip(positives, found, strict=True)]
        assert all(look.low <= (look.estimate or 0) <= look.high for look in looks)
        covered += all(look.low <= recall <= look.high for look in looks)
    assert covered >= 0.9 * 100  # two bounds, each 95 %


@given(st.integers(0, 10**7), st.integers(0, 10**4), st.sampled_from([0.001, 0.05, 1.0]))
def test_bounds_enclose_the_estimate(positives: int, misses: int, share: float) -> None:
    found = running_recall(positives, misses, share, 0.95)
    assert 0 <= found.low <= found.high <= 1
    if positives + misses:
        assert found.estimate == pytest.approx(positives / (positives + misses / share))
        assert found.low - 1e-12 <= (found.estimate or 0) <= found.high + 1e-12


def test_before_anything_was_seen_nothing_is_known() -> None:
    found = running_recall(0, 0, 0.001, 0.95)
    assert (found.estimate, found.low, found.high) == (None, 0.0, 1.0)


@given(st.integers(0, 10**6), st.integers(0, 2_000), st.floats(0.5, 0.999))
def test_one_more_miss_is_more_evidence_and_one_more_positive_less(positives: int, misses: int, target: float) -> None:
    here = log_evidence(positives, misses, target, 0.01)
    if np.isfinite(here) and here > 0:
        assert log_evidence(positives, misses + 1, target, 0.01) > here
        assert log_evidence(positives + 1, misses, target, 0.01) < here + 1e-9


def test_shards_are_added_up() -> None:
    shard = {"documents": 100, "rejected": 90, "audited": 9, "audit_misses": 1, "positives": 5, "seconds": 1.0}
    assert pool([shard, shard]) == {
        "shards": 2,
        "documents": 200,
        "rejected": 180,
        "audited": 18,
        "audit_misses": 2,
        "positives": 10,
    }
