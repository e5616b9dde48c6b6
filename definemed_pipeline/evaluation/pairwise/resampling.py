"""Uncertainty by resampling instructions: they are the sample, while the answers to one of them, and the verdicts on these, belong together.

Resampling games, as some tools do, would count both orders and all pairs of one instruction as independent and give intervals that are too
narrow. One resample is a vector of how often each instruction was drawn (Efron 1979), the same for everything measured on it.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from definemed_pipeline.intervals import CONFIDENCE, Estimate, wilson

CELLS_AT_ONCE = 2_000_000  # resamples times instructions held in memory at one time, 16 MB


def draws(instructions: int, *, resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Yield how often each instruction was drawn, in pieces of shape (resamples of the piece, instructions)."""
    generator = np.random.default_rng(seed)
    rows = max(1, CELLS_AT_ONCE // instructions)
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        drawn = generator.integers(instructions, size=(count, instructions)) + instructions * np.arange(count)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=count * instructions)
        yield counts.reshape(count, instructions).astype(np.float64)


def interval(replicates: NDArray[np.float64], instructions: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the bounds of the 95 % expanded percentile interval over the first axis (Hesterberg 2015, section 5.3).

    The plain percentiles are those of a normal distribution with the variance divided by n, and too narrow for few instructions: the tails
    are taken further out, as Student's t with n - 1 degrees of freedom and the unbiased variance would. NaN replicates are left out. Of
    few resamples, Weibull's quantiles have the tails that they should on average; numpy's usual ones have more.
    """
    from scipy.special import ndtr, stdtrit  # normal distribution, and the inverse of Student's

    n = max(2, instructions)
    tail = float(ndtr(math.sqrt(n / (n - 1)) * stdtrit(n - 1, (1 - CONFIDENCE) / 2)))
    with np.errstate(all="ignore"):
        low, high = np.nanquantile(replicates, [tail, 1 - tail], axis=0, method="weibull")
    return low, high


def win_rates(scores: NDArray[np.float64], *, resamples: int, seed: int) -> list[Estimate]:
    """Estimate the mean score of each row of `scores`, of shape (pairs, instructions), NaN where there is none.

    A row whose scores are all the same leaves nothing to resample: its interval is that of all scores being v while a share of the
    population up to Wilson's bound for none in n has any other, for all won or all lost Wilson's interval itself.
    """
    is_scored = ~np.isnan(scores)
    filled, mask = np.where(is_scored, scores, 0.0), is_scored.astype(np.float64)
    with np.errstate(invalid="ignore"):  # a row without any score
        pieces = [drawn @ filled.T / (drawn @ mask.T) for drawn in draws(scores.shape[1], resamples=resamples, seed=seed)]
    replicates = np.concatenate(pieces)
    estimates = []
    for row, own in enumerate(is_scored):
        values = scores[row, own]
        if not values.size:
            estimates.append(Estimate(value=math.nan, low=0.0, high=1.0))
        elif values.min() == values.max():
            estimates.append(_of_one_value(float(values[0]), values.size))
        else:
            low, high = interval(replicates[:, row], values.size)
            estimates.append(Estimate(value=float(values.mean()), low=float(low), high=float(high)))
    return estimates


def _of_one_value(value: float, count: int) -> Estimate:
    others = wilson(0, count).high
    return Estimate(value=value, low=value - others * value, high=value + others * (1 - value))
