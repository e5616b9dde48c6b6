"""Estimates with their uncertainty: Wilson intervals, bootstrap intervals, the exact McNemar test, Holm's correction.

What belongs here is statistics of measured rates and means that more than one work package reports. What is measured, and on which
units it is resampled, belongs to the work packages. Needs numpy and the standard library only.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
DRAWS_AT_ONCE = 4_000_000  # resampled units held in memory at one time, 32 MB of indices


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A measured value with its confidence interval."""

    value: float
    low: float
    high: float

    def excludes_zero(self) -> bool:
        """Tell whether the whole interval lies on one side of zero."""
        return self.low > 0 or self.high < 0

    def as_metrics(self, name: str) -> dict[str, float]:
        """Return `{name, name_low, name_high}`, the way metrics are named in manifests."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


def wilson(successes: float, trials: float, confidence: float = CONFIDENCE) -> Estimate:
    """Estimate a proportion with Wilson's score interval (Wilson 1927; recommended for small n by Brown, Cai and DasGupta 2001).

    It keeps close to its nominal coverage also near 0 and 1, where the bootstrap of an all-equal sample has no width. With no
    trials nothing is known: the value is NaN and the interval [0, 1]. Numbers that are not whole are effective ones, of a weighted sample.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials")
    if trials == 0:
        return Estimate(value=math.nan, low=0.0, high=1.0)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    proportion = successes / trials
    shrink = 1 + z * z / trials
    centre = (proportion + z * z / (2 * trials)) / shrink
    half = z / shrink * math.sqrt(proportion * (1 - proportion) / trials + z * z / (4 * trials * trials))
    # At 0 and n the bound is exactly 0 or 1; floating point leaves 1e-17 beside it.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return Estimate(value=proportion, low=low, high=high)


def weighted_proportion(successes: ArrayLike, weights: ArrayLike, confidence: float = CONFIDENCE) -> Estimate:
    """Estimate a proportion of a population from units that stand for different numbers of it; both have shape (units,).

    Wilson's interval for the effective sample size, as Korn and Graubard (1998) do it with the exact one: the number of equally
    weighted units that would give the same variance. It is the smaller of p(1 - p) (sum w)^2 / sum w^2 (y - p)^2, which counts rare heavy
    successes or failures as what they are, and Kish's (sum w)^2 / sum w^2, which also holds where p is 0 or 1. A bootstrap would give an
    interval without width there. Coverage is less exact than with equal weights: 91 % where all failures are ten times as heavy.
    """
    outcomes, heavy = np.asarray(successes, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    if outcomes.size == 0:
        return wilson(0, 0, confidence)
    total = heavy.sum()
    share = min(1.0, float((heavy * outcomes).sum() / total))
    effective = float(total**2 / (heavy**2).sum())
    if 0 < share < 1:
        effective = min(effective, float(share * (1 - share) * total**2 / (heavy**2 * (outcomes - share) ** 2).sum()))
    return wilson(share * effective, effective, confidence)


def bootstrap_mean(values: ArrayLike, *, resamples: int, seed: int, confidence: float = CONFIDENCE) -> Estimate:
    """Estimate a mean over independent units with the percentile bootstrap (Efron 1979). `values` has shape (units,)."""
    return bootstrap_macro_mean([values], resamples=resamples, seed=seed, confidence=confidence)


def bootstrap_macro_mean(strata: Sequence[ArrayLike], *, resamples: int, seed: int, confidence: float = CONFIDENCE) -> Estimate:
    """Estimate the unweighted average of the strata's means, each stratum resampled within itself (percentile bootstrap).

    For a macro average over benchmarks the benchmarks are fixed and their questions are the sample. Strata have shape (units,).
    """
    arrays = _strata(strata)
    means = _macro_means(arrays, resamples, seed)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Estimate(value=float(np.mean([array.mean() for array in arrays])), low=float(low), high=float(high))


def paired_difference(
    before: ArrayLike, after: ArrayLike, *, resamples: int, seed: int, confidence: float = CONFIDENCE
) -> Estimate:
    """Estimate mean(after) - mean(before) of the same units in the same order (paired bootstrap; Efron and Tibshirani 1993).

    Resampling units, not the two samples apart, takes the units' difficulty out of the uncertainty. Both have shape (units,).
    """
    return paired_macro_difference([before], [after], resamples=resamples, seed=seed, confidence=confidence)


def paired_macro_difference(
    before: Sequence[ArrayLike],
    after: Sequence[ArrayLike],
    *,
    resamples: int,
    seed: int,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Estimate the difference of two macro averages over the same units of the same strata (see `paired_difference`)."""
    return bootstrap_macro_mean(_differences(before, after), resamples=resamples, seed=seed, confidence=confidence)


def bootstrap_p(before: Sequence[ArrayLike], after: Sequence[ArrayLike], *, resamples: int, seed: int) -> float:
    """Return the two-sided p-value that two macro averages over the same units are equal, from the resamples of the interval.

    Twice the share of resampled differences on the rarer side of zero, the observed one counted in (Davison and Hinkley 1997, 4.2): below
    0.05 where the 95 % interval of `paired_macro_difference` leaves out zero, and never 0.
    """
    means = _macro_means(_strata(_differences(before, after)), resamples, seed)
    rarer = min(int(np.sum(means <= 0)), int(np.sum(means >= 0)))
    return min(1.0, 2 * (rarer + 1) / (resamples + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number (Holm 1979), in the order given: the chance of any false rejection stays below the level."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected


def paired_macro_ratio(
    parts: Sequence[ArrayLike], wholes: Sequence[ArrayLike], *, resamples: int, seed: int, confidence: float = CONFIDENCE
) -> Estimate:
    """Estimate the macro average of the parts over that of the wholes, both of the same units of the same strata (percentile bootstrap).

    Such as the share of a loss that was recovered. Where the wholes' own interval holds zero a ratio says nothing and should not be asked for.
    Units are resampled for both at once. Raise ValueError where the wholes average to zero.
    """
    generator = np.random.default_rng(seed)
    values, resampled = np.zeros(2), np.zeros((2, resamples))
    for part, whole in zip(parts, wholes, strict=True):
        both = np.asarray([part, whole], dtype=np.float64)
        values += both.mean(axis=1)
        resampled += _resampled_means(both, resamples, generator)
    if values[1] == 0:
        raise ValueError("a ratio needs wholes that do not average to zero")
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = resampled[0] / resampled[1]
    tail = (1 - confidence) / 2
    low, high = np.quantile(ratios[np.isfinite(ratios)], [tail, 1 - tail])
    return Estimate(value=float(values[0] / values[1]), low=float(low), high=float(high))


def mcnemar_p(before: ArrayLike, after: ArrayLike) -> float:
    """Return the two-sided exact p-value that two sets of paired yes/no outcomes have equal rates (McNemar 1947, binomial form).

    Only units on which the two disagree count. Under equality each is a fair coin, so the binomial is symmetric and its tail can be
    summed in whole numbers.
    """
    one, other = np.asarray(before, dtype=bool), np.asarray(after, dtype=bool)
    if one.shape != other.shape:
        raise ValueError(f"paired samples have the same units; found shapes {one.shape} and {other.shape}")
    lost, won = int(np.sum(one & ~other)), int(np.sum(~one & other))
    discordant = lost + won
    tail = sum(math.comb(discordant, k) for k in range(min(lost, won) + 1))
    return min(1.0, 2 * tail / 2**discordant)


def _differences(before: Sequence[ArrayLike], after: Sequence[ArrayLike]) -> list[NDArray[np.float64]]:
    differences = []
    for first, second in zip(before, after, strict=True):
        one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
        if one.shape != other.shape:
            raise ValueError(f"paired samples have the same units; found shapes {one.shape} and {other.shape}")
        differences.append(other - one)
    return differences


def _strata(strata: Sequence[ArrayLike]) -> list[NDArray[np.float64]]:
    arrays = [np.asarray(stratum, dtype=np.float64) for stratum in strata]
    if not arrays or any(array.ndim != 1 or array.size == 0 for array in arrays):
        raise ValueError("a mean needs at least one stratum, and in each at least one unit")
    return arrays


def _macro_means(arrays: Sequence[NDArray[np.float64]], resamples: int, seed: int) -> NDArray[np.float64]:
    """Return the averages over strata of `resamples` samples of each."""
    generator = np.random.default_rng(seed)
    means: NDArray[np.float64] = np.mean([_resampled_means(array, resamples, generator) for array in arrays], axis=0)
    return means


def _resampled_means(values: NDArray[np.float64], resamples: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Return the means over the last axis of `resamples` samples drawn from it with replacement, in pieces that fit memory."""
    units = values.shape[-1]
    rows = max(1, DRAWS_AT_ONCE // values.size)
    pieces = []
    for start in range(0, resamples, rows):
        drawn = generator.integers(units, size=(min(rows, resamples - start), units))
        pieces.append(values[..., drawn].mean(axis=-1))
    return np.concatenate(pieces, axis=-1)
