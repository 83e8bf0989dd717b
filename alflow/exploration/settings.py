"""How a segment of exploration is run and watched."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from enum import StrEnum

__all__ = ["Ensemble", "SegmentSettings"]


class Ensemble(StrEnum):
    """What stays constant: energy (NVE) or temperature (NVT, Langevin)."""

    NVE = "nve"
    NVT = "nvt"


@dataclass(frozen=True)
class SegmentSettings:
    """Settings of a segment: dynamics, what flags a frame, and what is not physics any more.

    Attributes:
        n_steps: Steps of the segment, at least 1.
        threshold: Disagreement from which a frame is flagged, eV/Å.
        temperature: Temperature of the bath and of fresh velocities, K.
        seed: The user's seed, at least 0.
        segment: Number of the segment, unique in the campaign: the address of its audit draw.
        audit: Whether to draw an audit frame.
        timestep: Δt, fs; keep it well below 2/ω_max (0.5 fs with hydrogen).
        friction: γ of the Langevin bath, 1/fs.
        ensemble: NVT or NVE.
        remove_drift: Keep every walker's total momentum at zero; False only when an outer field holds the atoms.
        ceiling: Multiple of the threshold from which a frame is not worth a label: the walker is reset.
        refractory_steps: A walker that goes on from a flagged frame is not flagged again for this many steps, unless
            it crosses the ceiling; 20 steps of 0.5 fs are 10 fs, about one C–H stretch.
        trust_lag_steps: A reset goes back to a trusted frame at least this many steps before the crossing; trusted
            frames are kept this often.
        contact_factor: Two atoms closer than this times the sum of their covalent radii are unphysical.
        temperature_factor: A kinetic temperature above this times what a thermal system exceeds with probability
            10⁻⁹ is unphysical. The tail widens as atoms get fewer (χ² with 3N − 3 degrees of freedom).
        energy_rise_per_atom: Committee energy this far above the segment's start is unphysical, eV per atom.
        detachment: A molecule's atom farther than this from every other is unphysical, Å; keep it below the cutoff of
            the potential, beyond which no member sees the atom and all of them agree. None switches it off.

    Raises:
        ValueError: A number out of range.
    """

    n_steps: int
    threshold: float
    temperature: float
    seed: int
    segment: int = 0
    audit: bool = True
    timestep: float = 0.5
    friction: float = 0.01
    ensemble: Ensemble = Ensemble.NVT
    remove_drift: bool = True
    ceiling: float = 5.0
    refractory_steps: int = 20
    trust_lag_steps: int = 20
    contact_factor: float = 0.6
    temperature_factor: float = 1.5
    energy_rise_per_atom: float = 0.5
    detachment: float | None = 4.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{field.name} must be a finite number; found {value}.")
        positive = ("threshold", "temperature", "timestep", "contact_factor", "temperature_factor")
        for name in (*positive, "energy_rise_per_atom"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0; found {getattr(self, name)}.")
        for name, least in (
            ("n_steps", 1),
            ("seed", 0),
            ("segment", 0),
            ("refractory_steps", 0),
            ("trust_lag_steps", 1),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}; found {getattr(self, name)}.")
        if self.friction < 0:
            raise ValueError(f"friction must be at least 0; found {self.friction}.")
        if self.ceiling < 1:
            raise ValueError(f"ceiling is a multiple of the threshold, at least 1; found {self.ceiling}.")
        if self.detachment is not None and not self.detachment > 0:
            raise ValueError(f"detachment must be above 0 or None; found {self.detachment}.")
        object.__setattr__(self, "ensemble", Ensemble(self.ensemble))
