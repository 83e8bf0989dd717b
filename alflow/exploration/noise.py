"""Random numbers that have an address: the same (seed, walker, resets, step) always sees the same noise.

Philox is a counter-based generator: its output is a function of a key and a counter, with no history. A walker that
is restarted from a checkpoint, in another batch, on another machine or in another order, therefore goes on with
exactly the numbers it would have seen. The bits are Philox's (Salmon et al., SC11, doi 10.1145/2063384.2063405); the
map from bits to normals is numpy's and may change between numpy's feature releases.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import numpy as np

from alflow.domain.structure import FloatArray

__all__ = ["BLOCK_STEPS", "Stream", "generator", "thermal_noise"]

BLOCK_STEPS: Final = 64
"""Steps whose noise is drawn at once; part of the address, so changing it changes every trajectory."""


class Stream(IntEnum):
    """What random numbers are for; two streams never share a number."""

    THERMOSTAT = 0
    VELOCITIES = 1
    AUDIT = 2
    RATTLE = 3


def generator(stream: Stream, seed: int, name: int, outer: int = 0, inner: int = 0) -> np.random.Generator:
    """Open the random numbers at one address.

    Args:
        stream: What they are for.
        seed: The user's seed, at least 0.
        name: Who draws: a walker or a segment, at least 0.
        outer: First part of the position in the stream, such as the number of resets.
        inner: Second part, such as the block of steps.

    Raises:
        ValueError: A negative part of the address.
    """
    address = (seed, name, outer, inner)
    if min(address) < 0:
        raise ValueError(f"Seed, name and position of a random stream are at least 0; found {address}.")
    key = np.array([seed, name], dtype=np.uint64)
    # Philox counts up in the first word, so that word is left free: 2⁶⁴ numbers per address.
    counter = np.array([0, inner, outer, int(stream)], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def thermal_noise(seed: int, walker: int, resets: int, first_step: int, n_steps: int, n_atoms: int) -> FloatArray:
    """Draw the standard normals that kick one walker during some of its steps.

    Args:
        seed: The user's seed.
        walker: Number of the walker.
        resets: How often it has been reset.
        first_step: Step after which the first row is used, counted over the walker's whole life.
        n_steps: Number of steps.
        n_atoms: Number of atoms of the walker.

    Returns:
        Standard normals, shape (step, atom, 3).

    Examples:
        The noise of a step does not depend on where one begins to ask:

        >>> early = thermal_noise(seed=1, walker=0, resets=0, first_step=0, n_steps=100, n_atoms=3)
        >>> late = thermal_noise(seed=1, walker=0, resets=0, first_step=70, n_steps=30, n_atoms=3)
        >>> bool((early[70:] == late).all())
        True
    """
    first_block = first_step // BLOCK_STEPS
    last_block = (first_step + max(n_steps, 1) - 1) // BLOCK_STEPS
    blocks = [
        generator(Stream.THERMOSTAT, seed, walker, resets, block).standard_normal((BLOCK_STEPS, n_atoms, 3))
        for block in range(first_block, last_block + 1)
    ]
    begin = first_step - first_block * BLOCK_STEPS
    return np.concatenate(blocks)[begin : begin + n_steps]
