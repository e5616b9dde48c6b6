"""Win rates at equal length: judges prefer longer answers, so what a model would win without being longer is estimated beside the raw rate.

The idea is that of AlpacaEval 2 (Dubois et al. 2024, arXiv 2404.04475): a logistic regression of the verdict on who plays and on
tanh(length difference / its standard deviation), which is then read at a difference of zero. Here each pair has a regression of its own,
so that its rate does not depend on who else is in the recipe; the games of both orders enter with the order as a third
column, so that a preference for a position is not taken for one for a model; and there is no term for an instruction's difficulty, which two
games per instruction could not estimate.
"""

import math

import numpy as np
from numpy.typing import NDArray

from definemed_pipeline.evaluation.pairwise.resampling import draws, interval
from definemed_pipeline.intervals import Estimate

# A normal prior of standard deviation 3.2 on each coefficient keeps it finite where one side won everything; of a coefficient that 50
# games tell anything about it takes a hundredth.
PRIOR_PRECISION = 0.1
# Verdicts other than ties that a regression needs, the usual ten events (Peduzzi et al. 1996): of three it would say anything.
LEAST_DECIDED = 10
LARGEST_STEP = 2.0  # of a coefficient in one step: Newton's method overshoots where the curve is flat
STEPS, TOLERANCE = 50, 1e-5  # the step after one so small would be some 1e-10: convergence is quadratic


def length_controlled(
    scores: NDArray[np.float64], length_differences: NDArray[np.float64], *, resamples: int, seed: int
) -> Estimate:
    """Estimate the win rate at equal length with its interval by resampling instructions.

    `scores` has shape (instructions, orders), `length_differences` (instructions,): the model's length minus its opponent's. There must be
    two different scores. Instructions with a NaN score are left out.
    """
    is_scored = ~np.isnan(scores).any(axis=1)
    design, outcomes = _design(length_differences[is_scored], scores.shape[1]), scores[is_scored].ravel()
    count = int(is_scored.sum())
    whole = _fit(np.ones((1, count)), design, outcomes, np.zeros((1, design.shape[1])))
    pieces = [
        _at_equal_length(_fit(drawn, design, outcomes, np.repeat(whole, len(drawn), axis=0)))
        for drawn in draws(count, resamples=resamples, seed=seed)
    ]
    low, high = interval(np.concatenate(pieces), count)
    return Estimate(value=float(_at_equal_length(whole)[0]), low=float(low), high=float(high))


def _design(length_differences: NDArray[np.float64], orders: int) -> NDArray[np.float64]:
    """Return the columns one, bounded length difference, order (1 where the model stood first, -1 where second) of each game."""
    scale = float(length_differences.std()) or 1.0
    bounded = np.repeat(np.tanh(length_differences / scale), orders)
    order = np.tile(np.linspace(1.0, -1.0, orders), len(length_differences))
    return np.column_stack([np.ones_like(bounded), bounded, order])


def _fit(
    weights: NDArray[np.float64], design: NDArray[np.float64], outcomes: NDArray[np.float64], start: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Fit one logistic regression per row of `weights`, of shape (fits, instructions), by Newton's method; return (fits, coefficients)."""
    from scipy.special import expit

    orders = len(outcomes) // weights.shape[1]
    heavy = np.repeat(weights, orders, axis=1)
    width = design.shape[1]
    products = (design[:, :, None] * design[:, None, :]).reshape(len(design), width * width)
    prior, coefficients = PRIOR_PRECISION * np.eye(width), start.copy()
    for _ in range(STEPS):
        expected = expit(coefficients @ design.T)
        gradient = (heavy * (outcomes - expected)) @ design - PRIOR_PRECISION * coefficients
        curvature = ((heavy * expected * (1 - expected)) @ products).reshape(-1, width, width) + prior
        step = np.clip(np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0], -LARGEST_STEP, LARGEST_STEP)
        coefficients += step
        if np.abs(step).max() < TOLERANCE:
            return coefficients
    raise ArithmeticError(f"a logistic regression did not converge in {STEPS} steps")


def _at_equal_length(coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of both orders at a length difference of zero."""
    from scipy.special import expit

    strength, order = coefficients[:, 0], coefficients[:, 2]
    return (expit(strength + order) + expit(strength - order)) / 2


def mirrored(estimate: Estimate) -> Estimate:
    """Return the same estimate seen from the other side of the pair."""
    if math.isnan(estimate.value):
        return estimate
    return Estimate(value=1 - estimate.value, low=1 - estimate.high, high=1 - estimate.low)
