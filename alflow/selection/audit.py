"""The honest error: estimated from labels drawn at random, with an interval, and when it is good enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

__all__ = ["ErrorEstimate", "estimate_error", "stop_reached"]

_RESAMPLES = 4000


@dataclass(frozen=True)
class ErrorEstimate:
    """A mean error and the interval that holds the true one with the given confidence; unit of the errors.

    Attributes:
        mean: Mean over the audit frames.
        lower: Lower end of the interval, at least 0.
        upper: Upper end; infinite when one frame says nothing about the spread.
        n: Number of frames.
        confidence: Probability that the interval holds the true mean.
    """

    mean: float
    lower: float
    upper: float
    n: int
    confidence: float


def estimate_error(
    errors: npt.ArrayLike,
    confidence: float = 0.95,
    method: Literal["student", "bootstrap"] = "student",
    seed: int = 0,
) -> ErrorEstimate:
    """Estimate the mean error of all frames from those drawn at random.

    ``student``: mean ± t s/√n with n − 1 degrees of freedom. ``bootstrap``: quantiles of the means of resampled
    frames (Efron, Ann. Stat. 7, 1 (1979)), which follow a skewed distribution better but are too narrow for few frames.

    Args:
        errors: Error of each audit frame, at least 0, shape (frame,).
        confidence: Probability that the interval holds the true mean, between 0 and 1.
        method: How the interval is made.
        seed: Seed of the bootstrap.

    Raises:
        ValueError: No errors, one that is negative or not finite, or a confidence outside of 0 to 1.

    Examples:
        >>> estimate = estimate_error([0.02, 0.03, 0.04])
        >>> round(estimate.mean, 3), round(estimate.lower, 3), round(estimate.upper, 3)
        (0.03, 0.005, 0.055)
    """
    values = np.asarray(errors, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all() or (values < 0).any():
        raise ValueError(f"Errors are a list of at least one finite number above 0; found {errors!r}.")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"A confidence lies between 0 and 1; found {confidence}.")
    n, mean, tail = values.size, float(values.mean()), 0.5 * (1.0 - confidence)
    if n == 1:
        return ErrorEstimate(mean, 0.0, float("inf"), 1, confidence)
    if method == "student":
        reach = float(stdtrit(n - 1, 1.0 - tail)) * float(values.std(ddof=1)) / np.sqrt(n)
        lower, upper = mean - reach, mean + reach
    else:
        draws = np.random.default_rng(seed).integers(0, n, size=(_RESAMPLES, n))
        lower, upper = np.quantile(values[draws].mean(axis=1), [tail, 1.0 - tail])
    return ErrorEstimate(mean, max(0.0, float(lower)), float(upper), n, confidence)


def stop_reached(upper: float, target: float, n: int, n_minimum: int) -> bool:
    """Tell whether the error is shown to be small enough to stop.

    The upper end of the interval must be below the target, on enough audit frames for that end to be trusted. A rule
    that is asked after every training will one day be lucky; the minimum keeps that day late.

    Args:
        upper: Upper end of the error's interval.
        target: Largest mean error that is good enough, in the same unit.
        n: Audit frames the interval is made of.
        n_minimum: Audit frames needed.

    Examples:
        >>> stop_reached(upper=0.04, target=0.05, n=12, n_minimum=10)
        True
        >>> stop_reached(upper=float("nan"), target=0.05, n=12, n_minimum=10)
        False
    """
    return n >= n_minimum and upper < target
