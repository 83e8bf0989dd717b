"""A walker: one trajectory, as the checkpoint it can be continued from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from alflow.domain import Structure
from alflow.domain.structure import FloatArray, frozen_array
from alflow.exploration.noise import Stream, generator
from alflow.units import BOLTZMANN_EV_K, EV_PER_U_ANG2_FS2

__all__ = ["NEVER", "Walker", "draw_velocities", "n_degrees_of_freedom", "temperature_of"]

NEVER: Final = -(10**9)
"""The step of something that has not happened."""


@dataclass(frozen=True, eq=False)
class Walker:
    """A walker at one step: everything needed to go on, bit for bit.

    Noise is a function of (seed, walker, resets, step), so no generator state is part of it. Two walkers are equal
    when every number is.

    Attributes:
        walker: Number of the walker in its campaign, at least 0.
        structure: Where its atoms are.
        velocities: Velocity of each atom, Å/fs, shape (atom, 3).
        step: Steps it has done in its whole life. It never goes back, not even when a reset takes the atoms back, so
            that (walker, step) names one frame.
        resets: How often it was put back with fresh velocities.
        last_flag_step: Step of its last flagged frame; ``NEVER`` if there is none.

    Raises:
        ValueError: A velocity is not finite or the shape is wrong; a checkpoint never carries NaN.
    """

    walker: int
    structure: Structure
    velocities: FloatArray
    step: int = 0
    resets: int = 0
    last_flag_step: int = NEVER

    def __post_init__(self) -> None:
        velocities = frozen_array(self.velocities)
        if velocities.shape != (len(self.structure), 3):
            expected = (len(self.structure), 3)
            raise ValueError(f"Velocities of walker {self.walker} have shape {expected}; found {velocities.shape}.")
        if not np.isfinite(velocities).all():
            raise ValueError(f"Velocities of walker {self.walker} must be finite numbers; a checkpoint has no NaN.")
        if min(self.walker, self.step, self.resets) < 0:
            raise ValueError(
                f"Walker, step and resets are at least 0; found {self.walker}, {self.step} and {self.resets}."
            )
        object.__setattr__(self, "velocities", velocities)

    @classmethod
    def start(
        cls, walker: int, structure: Structure, temperature: float, seed: int, remove_drift: bool = True
    ) -> Walker:
        """Put a new walker on a structure, with thermal velocities.

        Args:
            walker: Its number.
            structure: Where it starts.
            temperature: Temperature of its velocities, K.
            seed: The user's seed.
            remove_drift: Whether the total momentum is zero, see :func:`draw_velocities`.
        """
        return cls(walker, structure, draw_velocities(structure, temperature, seed, walker, 0, remove_drift))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Walker) and self._content() == other._content()

    def __hash__(self) -> int:
        return hash(self._content())

    def _content(self) -> tuple[object, ...]:
        numbers = (self.walker, self.step, self.resets, self.last_flag_step)
        return (*numbers, self.structure.id, self.velocities.tobytes())


def draw_velocities(
    structure: Structure, temperature: float, seed: int, walker: int, resets: int, remove_drift: bool = True
) -> FloatArray:
    """Draw velocities from the Maxwell–Boltzmann distribution.

    Each component is normal with variance k_B T / mᵢ. The projection that takes the total momentum out is orthogonal
    in mass-weighted coordinates, so what remains is exactly Maxwell–Boltzmann with 3N − 3 degrees of freedom. The
    rotation of the molecule is kept: it is thermal, too.

    Args:
        structure: The atoms.
        temperature: Temperature, K.
        seed: The user's seed.
        walker: Number of the walker.
        resets: How often the walker was reset; every reset draws anew.
        remove_drift: Take the total momentum out; False only when an outer field holds the atoms in place.

    Returns:
        Velocities, Å/fs, shape (atom, 3).

    Raises:
        ValueError: A negative temperature.
    """
    if not temperature >= 0.0:
        raise ValueError(f"A temperature is at least 0 K; found {temperature}.")
    masses = structure.masses[:, None]
    normals = generator(Stream.VELOCITIES, seed, walker, resets).standard_normal((len(structure), 3))
    velocities = normals * np.sqrt(BOLTZMANN_EV_K * temperature / (masses * EV_PER_U_ANG2_FS2))
    if remove_drift:
        velocities -= (masses * velocities).sum(axis=0) / masses.sum()
    return np.asarray(velocities, dtype=np.float64)


def n_degrees_of_freedom(n_atoms: int, remove_drift: bool = True) -> int:
    """Count the velocity components that carry heat: 3N − 3 without drift, else 3N.

    Examples:
        >>> n_degrees_of_freedom(9)
        24
    """
    return 3 * n_atoms - 3 if remove_drift else 3 * n_atoms


def temperature_of(walker: Walker, remove_drift: bool = True) -> float:
    """Kinetic temperature, K: T = 2K / (n k_B) with n degrees of freedom; 0 for a lone atom without drift."""
    n = n_degrees_of_freedom(len(walker.structure), remove_drift)
    kinetic = 0.5 * EV_PER_U_ANG2_FS2 * float((walker.structure.masses[:, None] * walker.velocities**2).sum())
    return 2.0 * kinetic / (n * BOLTZMANN_EV_K) if n > 0 else 0.0
