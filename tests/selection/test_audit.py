from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from alflow.selection import estimate_error, stop_reached


def test_the_interval_is_students() -> None:
    errors = np.random.default_rng(0).gamma(4.0, 0.01, size=15)
    estimate = estimate_error(errors, confidence=0.9)
    lower, upper = stats.t.interval(0.9, 14, loc=errors.mean(), scale=stats.sem(errors))
    assert (estimate.mean, estimate.n, estimate.confidence) == (pytest.approx(errors.mean()), 15, 0.9)
    assert (estimate.lower, estimate.upper) == (pytest.approx(lower, rel=1e-9), pytest.approx(upper, rel=1e-9))


@pytest.mark.parametrize("method", ["student", "bootstrap"])
def test_the_interval_holds_the_true_mean_about_as_often_as_it_says(method: str) -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for trial in range(400):
        estimate = estimate_error(rng.gamma(4.0, 0.01, size=40), 0.95, method, seed=trial)  # type: ignore[arg-type]
        hits += estimate.lower <= 0.04 <= estimate.upper
    # 400 trials: 1.1 % on the coverage; the skew of the errors costs one or two per cent.
    assert 0.91 <= hits / 400 <= 0.98


def test_the_bootstrap_repeats_with_its_seed() -> None:
    errors = np.random.default_rng(2).gamma(4.0, 0.01, size=30)
    assert estimate_error(errors, method="bootstrap") == estimate_error(errors, method="bootstrap")
    assert estimate_error(errors, method="bootstrap") != estimate_error(errors, method="bootstrap", seed=1)


def test_one_frame_says_nothing_about_the_spread() -> None:
    estimate = estimate_error([0.02])
    assert (estimate.mean, estimate.lower, estimate.upper) == (0.02, 0.0, math.inf)


def test_an_error_cannot_be_negative_so_neither_can_the_interval() -> None:
    assert estimate_error([0.0, 0.1]).lower == 0.0


@pytest.mark.parametrize("errors", [[], [0.1, math.nan], [-0.1], [[0.1]]])
def test_impossible_errors_are_refused(errors: list[float]) -> None:
    with pytest.raises(ValueError, match="finite number"):
        estimate_error(errors)


def test_a_confidence_is_a_probability() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        estimate_error([0.1, 0.2], confidence=95.0)


def test_stopping_needs_a_small_upper_bound_and_enough_frames() -> None:
    assert stop_reached(0.049, 0.05, n=10, n_minimum=10)
    assert not stop_reached(0.05, 0.05, n=10, n_minimum=10)
    assert not stop_reached(0.01, 0.05, n=9, n_minimum=10)
    assert not stop_reached(math.inf, 0.05, n=10, n_minimum=10)
    assert not stop_reached(math.nan, 0.05, n=10, n_minimum=10)
