from __future__ import annotations

import numpy as np
import pytest

from alflow.tensors.jit import compiled
from alflow.tensors.lanes import exp, keep_positive, load, log, row_sums, sqrt, store, turn


@compiled
def _exp(x: np.ndarray, y: np.ndarray) -> None:
    for k in range(0, x.shape[1], 8):
        store(y, 0, k, exp(load(x, 0, k)))


@compiled
def _log(x: np.ndarray, y: np.ndarray) -> None:
    for k in range(0, x.shape[1], 8):
        store(y, 0, k, log(load(x, 0, k)))


@compiled
def _turned(x: np.ndarray, y: np.ndarray) -> None:
    turn(x, 1, 2, y, 0, 0)
    store(y, 8, 0, row_sums(x, 1, 2))
    store(y, 9, 0, keep_positive(load(x, 0, 0)))
    store(y, 10, 0, 2.0 - sqrt(load(x, 0, 0)) / 4.0)


@pytest.mark.parametrize(("kind", "end"), [(np.float32, 86.0), (np.float64, 700.0)])
def test_exp_is_exact_to_two_units_in_the_last_place(kind: type, end: float) -> None:
    x = np.linspace(-end, end, 80000)[None].astype(kind)
    y = np.empty_like(x)
    _exp(x, y)
    np.testing.assert_allclose(y, np.exp(x.astype(np.longdouble)).astype(kind), rtol=2 * np.finfo(kind).eps)


def test_exp_is_zero_far_below_and_keeps_nan() -> None:
    x = np.array([[-1e4, -np.inf, -709.0, np.nan, 0.0, 1.0, -0.0, 2.0]])
    y = np.empty_like(x)
    _exp(x, y)
    np.testing.assert_allclose(y, [[0.0, 0.0, 0.0, np.nan, 1.0, np.e, 1.0, np.e**2]], rtol=3e-16)


def test_log_is_exact_to_two_units_in_the_last_place() -> None:
    x = np.concatenate([np.geomspace(1e-300, 1e300, 40000), np.linspace(0.5, 2.0, 40000)])[None]
    y = np.empty_like(x)
    _log(x, y)
    # Near 1 the logarithm is as small as the rounding of its argument allows.
    np.testing.assert_allclose(y, np.log(x), rtol=5e-16, atol=1e-17)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_blocks_are_turned_and_rows_summed(kind: type) -> None:
    x = np.arange(9 * 11).reshape(9, 11).astype(kind)
    x[0, :8] = [4.0, -1.0, 0.0, np.nan, 9.0, np.inf, 1.0, 16.0]
    y = np.empty((11, 8), dtype=kind)
    _turned(x, y)
    np.testing.assert_array_equal(y[:8], x[1:9, 2:10].T)
    np.testing.assert_array_equal(y[8], x[1:9, 2:10].sum(axis=1))
    np.testing.assert_array_equal(y[9], [4.0, 0.0, 0.0, np.nan, 9.0, np.inf, 1.0, 16.0])
    np.testing.assert_array_equal(y[10], [1.5, np.nan, 2.0, np.nan, 1.25, -np.inf, 1.75, 1.0])
