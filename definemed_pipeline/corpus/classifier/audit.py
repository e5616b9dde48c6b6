"""The permanent audit: does the cascade still take what its certificate promises?

Of the documents that stage 1 rejects, a random share `a` is read by stage 2 as well. A document that the full sweep takes is missed with
probability 1 - r, where r is the recall relative to the full sweep. It is *seen* if it was not missed (`positives`) or was missed and audited
(`audit_misses`), so among those seen it is a miss with probability q = (1 - r) a / (r + (1 - r) a): each is a coin flip, and r >= target
means q <= q0.

The coins are looked at after every shard, so the test must hold at any time. For one q1 > q0 the likelihood ratio (q1 / q0) for a miss,
(1 - q1) / (1 - q0) for a positive has an expectation of at most 1 in each step, whatever q <= q0 is, since it is linear in q, rises, and
is 1 at q0. So its product is a nonnegative supermartingale, and so is its mean over any distribution of q1 > q0, the `evidence`: by
Ville's inequality it ever reaches 1 / alpha with a probability of at most alpha, at whatever times one looks, and though recall may differ
from shard to shard. The distribution is a beta distribution cut off at q0, for which the mean has a closed form (method of mixtures,
Robbins 1970; Howard et al. 2021). The bounds on r are the hypotheses that are not refuted so: each holds at all times by itself.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
BISECTIONS = 60
SMALLEST_MASS = 1e-290


@dataclass(frozen=True, kw_only=True)
class RunningRecall:
    """What the audit says so far; each bound holds with the confidence at all times. No estimate where it has seen no document."""

    estimate: float | None
    low: float
    high: float

    def as_metrics(self) -> dict[str, Any]:
        """Return `relative_recall` with `_low` and `_high`."""
        return {"relative_recall": self.estimate, "relative_recall_low": self.low, "relative_recall_high": self.high}


def pool(shards: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Add up the counts in the metrics of scored shards."""
    counted = ("documents", "rejected", "audited", "audit_misses", "positives")
    metrics = list(shards)
    return {"shards": len(metrics), **{name: sum(one[name] for one in metrics) for name in counted}}


def running_recall(positives: int, audit_misses: int, audit_share: float, confidence: float) -> RunningRecall:
    """Return the recall relative to the full sweep as the audit knows it; `audit_share` is above 0."""
    if positives + audit_misses == 0:
        return RunningRecall(estimate=None, low=0.0, high=1.0)
    estimate = positives / (positives + audit_misses / audit_share)
    log_limit = -np.log(1 - confidence)

    def refuted(recall: float, *, at_least: bool) -> bool:
        return bool(log_evidence(positives, audit_misses, recall, audit_share, at_least=at_least) >= log_limit)

    # From the estimate, which no evidence refutes, outwards to the first recall that is refuted.
    high = _last_unrefuted(estimate, 1.0, lambda recall: refuted(recall, at_least=True))
    low = _last_unrefuted(estimate, 0.0, lambda recall: refuted(recall, at_least=False))
    return RunningRecall(estimate=estimate, low=low, high=high)


def log_evidence(
    positives: npt.ArrayLike, audit_misses: npt.ArrayLike, recall: float, audit_share: float, *, at_least: bool = True
) -> Floats:
    """Return the log of the evidence against "recall is at least (or: at most) `recall`", elementwise over the counts.

    The mixing beta distribution has its mean at twice the miss probability under the hypothesis: most of its mass lies where recall
    is somewhat too low, which is the fault to be found early.
    """
    from scipy.special import betainc, betaincc, betaln

    seen, missed = np.asarray(positives, dtype=np.float64), np.asarray(audit_misses, dtype=np.float64)
    q0 = _miss_probability(np.clip(recall, 1e-12, 1 - 1e-12), audit_share)
    a, b = 1.0, max(1.0, 1 / (2 * q0))

    def log_mass(first: Floats | float, second: Floats | float) -> Floats:
        mass = (betaincc if at_least else betainc)(first, second, q0)
        # What floating point cannot tell from nothing is no evidence.
        return np.where(mass < SMALLEST_MASS, -np.inf, np.log(np.maximum(mass, SMALLEST_MASS)))

    mean_likelihood = betaln(a + missed, b + seen) + log_mass(a + missed, b + seen) - betaln(a, b) - log_mass(a, b)
    return np.asarray(mean_likelihood - missed * np.log(q0) - seen * np.log1p(-q0))


def _miss_probability(recall: float, audit_share: float) -> float:
    return (1 - recall) * audit_share / (recall + (1 - recall) * audit_share)


def _last_unrefuted(inside: float, end: float, refuted: Callable[[float], bool]) -> float:
    if not refuted(end):
        return end
    for _ in range(BISECTIONS):
        middle = (inside + end) / 2
        inside, end = (inside, middle) if refuted(middle) else (middle, end)
    return float(end)
