"""Calibration: log-odds become probabilities that mean what they say about the web.

Both stages are trained with classes of equal weight, on a sample that is richer in medicine than the web, so their own log-odds are
too high by a constant and too sharp or too dull by a factor. Temperature scaling with a bias puts both right from two numbers, which a
small validation sample can bear (Guo et al. 2017; the bias for the prevalence as in Alexandari, Kundaje and Shrikumar 2020). It is an
increasing map: no ranking changes.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

BINS = 15  # of equal width, as Guo et al. (2017)
DECIMALS = 6  # of what is kept: the optimiser's last digits depend on the machine


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Calibrated log-odds are `logits / temperature + bias`."""

    temperature: float = 1.0
    bias: float = 0.0

    def __call__(self, logits: Floats) -> Floats:
        """Return calibrated log-odds of the same shape; NaN stays NaN."""
        return logits / self.temperature + self.bias


def calibrate(logits: Floats, labels: Bools, weights: Floats) -> Calibration:
    """Fit temperature and bias to labelled documents; `weights` say how many documents of the web each stands for.

    All have shape (documents,). Weighted likelihood with the log of the temperature under a standard normal prior: without it, a sample
    that the log-odds separate perfectly would ask for temperature 0. The likelihood counts as many documents as the weighted sample
    is worth (Kish's effective size). Raise ValueError where a class is missing.
    """
    from scipy.optimize import minimize

    if labels.all() or not labels.any():
        raise ValueError("calibration needs documents of both classes")
    signs = np.where(labels, 1.0, -1.0)
    counts = weights * weights.sum() / (weights**2).sum()

    def loss(point: Floats) -> tuple[float, Floats]:
        sharpened = logits * np.exp(-point[0])
        margins = signs * (sharpened + point[1])
        slopes = -counts * signs * sigmoid(-margins)
        value = (counts * np.logaddexp(0, -margins)).sum() + point[0] ** 2 / 2
        return float(value), np.array([(slopes * -sharpened).sum() + point[0], slopes.sum()])

    prevalence = weights[labels].sum() / weights.sum()
    start = np.array([0.0, np.log(prevalence / (1 - prevalence))])
    log_temperature, bias = minimize(loss, start, jac=True, method="L-BFGS-B").x
    return Calibration(temperature=round(float(np.exp(log_temperature)), DECIMALS), bias=round(float(bias), DECIMALS))


def calibration_error(probabilities: Floats, labels: Bools, weights: Floats) -> float | None:
    """Return the expected calibration error: the mean distance between probability and share of positives over BINS bins.

    All have shape (documents,); None where there is no document.
    """
    if not len(labels):
        return None
    bins = np.minimum((probabilities * BINS).astype(np.int64), BINS - 1)
    gaps = np.bincount(bins, weights * (probabilities - labels), minlength=BINS)
    return float(np.abs(gaps).sum() / weights.sum())


def sigmoid(logits: Floats) -> Floats:
    """Return the probabilities of log-odds, exact to the last digits also near 0; never overflows."""
    small = np.exp(-np.abs(logits))
    return np.asarray(np.where(logits >= 0, 1, small) / (1 + small))
