"""One scale for all models: Bradley-Terry strengths, in log odds against a reference model (Bradley and Terry 1952).

They are fitted by Newton's method over all resamples at once, which scipy's optimisers, made for one problem at a time, would take minutes
for. Ties count as half a win for both, which leaves the maximum of the likelihood where Davidson's model for ties has it for evenly spread ties.
"""

import numpy as np
from numpy.typing import NDArray

from definemed_pipeline.evaluation.pairwise.length_control import LARGEST_STEP, PRIOR_PRECISION, STEPS, TOLERANCE
from definemed_pipeline.evaluation.pairwise.resampling import draws, interval
from definemed_pipeline.intervals import Estimate


def strengths(
    scores: NDArray[np.float64], players: NDArray[np.int64], *, reference: int, resamples: int, seed: int
) -> list[Estimate]:
    """Estimate each model's strength minus the reference's, with intervals by resampling instructions.

    `scores` has shape (pairs, instructions), NaN where there is none; `players` (pairs, 2) names the models of each pair by number. A model
    that won or lost everything is infinitely strong or weak; a weak prior (see `length_control.py`) leaves it finite.
    """
    is_scored = ~np.isnan(scores)
    filled, mask = np.where(is_scored, scores, 0.0), is_scored.astype(np.float64)
    models = int(players.max()) + 1
    sides = np.zeros((len(players), models))
    sides[np.arange(len(players)), players[:, 0]], sides[np.arange(len(players)), players[:, 1]] = 1.0, -1.0
    whole = _fit(filled.sum(axis=1)[None], mask.sum(axis=1)[None], sides)
    pieces = [_fit(drawn @ filled.T, drawn @ mask.T, sides) for drawn in draws(scores.shape[1], resamples=resamples, seed=seed)]
    replicates = np.concatenate(pieces)
    against = replicates - replicates[:, [reference]]
    low, high = interval(against, scores.shape[1])
    values = whole[0] - whole[0, reference]
    return [Estimate(value=float(values[m]), low=float(low[m]), high=float(high[m])) for m in range(models)]


def _fit(won: NDArray[np.float64], played: NDArray[np.float64], sides: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fit strengths that sum to zero, one set per row; `won` and `played` have shape (fits, pairs), `sides` (pairs, models)."""
    from scipy.special import expit

    models = sides.shape[1]
    products = (sides[:, :, None] * sides[:, None, :]).reshape(len(sides), models * models)
    prior, found = PRIOR_PRECISION * np.eye(models), np.zeros((len(won), models))
    for _ in range(STEPS):
        expected = expit(found @ sides.T)
        gradient = (won - played * expected) @ sides - PRIOR_PRECISION * found
        curvature = ((played * expected * (1 - expected)) @ products).reshape(-1, models, models) + prior
        step = np.clip(np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0], -LARGEST_STEP, LARGEST_STEP)
        found += step
        if np.abs(step).max() < TOLERANCE:
            return found
    raise ArithmeticError(f"the strengths did not converge in {STEPS} steps")
