from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from alflow.exploration import Walker, draw_velocities
from alflow.exploration.noise import BLOCK_STEPS, Stream, generator, thermal_noise
from alflow.exploration.walker import temperature_of
from tests.exploration.analytic import ETHANOL, WATER


def test_noise_of_a_step_does_not_depend_on_where_one_begins_to_ask() -> None:
    whole = thermal_noise(7, 3, 0, 0, 5 * BLOCK_STEPS, 4)
    for first in (1, BLOCK_STEPS - 1, BLOCK_STEPS, 2 * BLOCK_STEPS + 17):
        part = thermal_noise(7, 3, 0, first, 70, 4)
        assert np.array_equal(part, whole[first : first + 70])


def test_every_part_of_the_address_changes_the_noise() -> None:
    addresses = [(7, 3, 0), (8, 3, 0), (7, 4, 0), (7, 3, 1)]
    draws = [thermal_noise(*address, 0, 2, 3).ravel() for address in addresses]
    streams = [generator(stream, 7, 3).standard_normal(18) for stream in Stream]
    values = np.concatenate([*draws[1:], *streams])
    assert len(set(values.tolist())) == values.size


def test_noise_is_normal() -> None:
    noise = thermal_noise(0, 0, 0, 0, 4000, 9).ravel()
    # 108 000 numbers: the mean is known to 0.003, the variance to 0.0043, the kurtosis to 0.015; four times that.
    assert abs(noise.mean()) < 0.012
    assert noise.var() == pytest.approx(1.0, abs=0.018)
    assert (noise**4).mean() == pytest.approx(3.0, abs=0.12)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 0"):
        thermal_noise(-1, 0, 0, 0, 1, 1)


def test_velocities_are_maxwell_boltzmann_without_drift() -> None:
    temperatures = []
    for number in range(2000):
        walker = Walker.start(number, ETHANOL, 400.0, seed=1)
        momentum = (ETHANOL.masses[:, None] * walker.velocities).sum(axis=0)
        assert np.abs(momentum).max() < 1e-15 * 46 * 10
        temperatures.append(temperature_of(walker))
    # 24 degrees of freedom: T has the relative standard deviation √(2/24), its mean √(2/24/2000) = 0.65 %.
    assert np.mean(temperatures) == pytest.approx(400.0, rel=4 * 0.0065)
    assert np.std(temperatures) / 400.0 == pytest.approx(np.sqrt(2 / 24), rel=0.08)


def test_velocities_are_drawn_anew_at_every_reset_and_repeat_with_the_seed() -> None:
    first = draw_velocities(WATER, 300.0, seed=0, walker=1, resets=0)
    assert np.array_equal(first, draw_velocities(WATER, 300.0, seed=0, walker=1, resets=0))
    assert not np.array_equal(first, draw_velocities(WATER, 300.0, seed=0, walker=1, resets=1))
    with pytest.raises(ValueError, match="0 K"):
        draw_velocities(WATER, -1.0, seed=0, walker=1, resets=0)


def test_a_checkpoint_cannot_hold_nan_or_another_shape() -> None:
    walker = Walker.start(0, WATER, 300.0, seed=0)
    spoiled = walker.velocities.copy()
    spoiled[1, 2] = np.nan
    with pytest.raises(ValueError, match="finite"):
        replace(walker, velocities=spoiled)
    with pytest.raises(ValueError, match="shape"):
        replace(walker, velocities=np.zeros((2, 3)))
    with pytest.raises(ValueError, match="at least 0"):
        replace(walker, step=-1)


def test_a_checkpoint_survives_pickling_bit_for_bit() -> None:
    walker = Walker.start(5, ETHANOL, 300.0, seed=0)
    again = pickle.loads(pickle.dumps(walker))
    assert again == walker
    assert hash(again) == hash(walker)
    assert again != replace(walker, resets=1)
