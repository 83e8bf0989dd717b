"""What every label must pass, and what is written beside it.

A *defect* means that the numbers cannot be right: the label is computed once more with a tighter field, then refused. A
*flag* is a warning that goes with the label into the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from alflow.domain.structure import FloatArray
from alflow.reference.functionals import Family

__all__ = ["FORCE_PER_GRADIENT", "SOFT_FORCE_PER_GRADIENT", "defects", "flags", "grid_noise"]

FORCE_PER_GRADIENT: Final = 13.0
"""Upper bound of force error over orbital-gradient norm, eV/Å per Ha, measured over 40 runs (3 to 13)."""

SOFT_FORCE_PER_GRADIENT: Final = 30.0
"""The same for a broken-symmetry field, whose orbitals turn easily: 27 was measured for H2 at 2 Å."""

LARGEST_NET_FORCE: Final = 1e-4
"""With the response of the grid the forces of a molecule cancel to 1e-9 eV/Å; a sum above this is a defect."""

LARGEST_TURN: Final = 1e-3
"""Part of the forces that may turn the molecule; what the noise may turn comes on top."""

NOISE_FACTOR: Final = 3.0

LARGEST_COUNT_ERROR: Final = 2e-3
"""Electrons on the grid that may be missing or too many, of each electron."""

CONTAMINATION: Final = 0.1
"""⟨S²⟩ above the exact value by more is a flag."""

SMALL_GAP_EV: Final = 0.5

_GRID_NOISE: Final[Mapping[str, tuple[float, ...]]] = {
    "lda": (0.014, 0.0023, 0.0022, 0.00012, 0.00003),
    "gga": (0.014, 0.0023, 0.0022, 0.00012, 0.00003),
    "meta-gga": (0.020, 0.0036, 0.0016, 0.0003, 0.0001),
    "restless": (0.050, 0.050, 0.050, 0.020, 0.010, 0.005),
}
"""Largest change of a force component when a molecule is turned, or its error, at levels 1 to 5 (6), eV/Å.

Measured by benchmarks/force_noise.py on water, formaldehyde and ethanol in def2-SVP; docs/labels.md. The last row is of
meta-GGAs that wiggle: twice what was found at levels 3 and 4; below, nothing was measured, and level 3's is taken.
"""


def grid_noise(family: Family, level: int, restless: bool = False) -> float:
    """Force error to be expected from the integration grid, eV/Å; none for Hartree–Fock.

    Args:
        family: What the functional is made of.
        level: Size of the grid, 1 to 9.
        restless: Whether it notices the grid much more than others of its family.

    Examples:
        >>> grid_noise("gga", 2)
        0.0023
    """
    found = _GRID_NOISE.get("restless" if restless else family, (0.0,))
    return found[min(level, len(found)) - 1]


def defects(
    positions: FloatArray,
    forces: FloatArray,
    charges: FloatArray,
    found: Mapping[str, Any],
    free: bool = True,
    net_noise: float = 0.0,
) -> list[str]:
    """Reasons why a label of a molecule cannot be right.

    Args:
        positions: Positions, Å, shape (atom, 3).
        forces: Forces, eV/Å, shape (atom, 3).
        charges: Nuclear charges the electrons see, shape (atom,); torques are taken about their center.
        found: Diagnostics: ``force_noise_ev_ang``, ``n_electrons`` and, with a grid, ``n_electrons_on_grid``.
        free: Whether it is in empty space. The cavity of a solvent is tiled in fixed directions, so that it may push
            and turn a molecule a little.
        net_noise: Noise of a force component that does not cancel in the sum over the atoms, eV/Å: that of a derivative
            without the response of the grid.

    Returns:
        A sentence for each; empty when nothing is wrong.
    """
    reasons = (
        _pushes_and_turns(positions, forces, charges, float(found["force_noise_ev_ang"]), net_noise) if free else []
    )
    counted = found.get("n_electrons_on_grid")
    if counted is not None and not abs(counted - found["n_electrons"]) <= (LARGEST_COUNT_ERROR * found["n_electrons"]):
        reasons.append(f"the grid counts {counted:.4f} electrons of {found['n_electrons']}")
    return reasons


def _pushes_and_turns(
    positions: FloatArray, forces: FloatArray, charges: FloatArray, noise: float, net_noise: float
) -> list[str]:
    reasons = []
    net = float(np.abs(forces.sum(axis=0)).max())
    if not net <= LARGEST_NET_FORCE + NOISE_FACTOR * net_noise:
        reasons.append(f"the forces add up to {net:.1e} eV/Å instead of nothing")
    arms = positions - charges @ positions / charges.sum()
    lengths = np.linalg.norm(arms, axis=1)
    torque = float(np.linalg.norm(np.cross(arms, forces).sum(axis=0)))
    limit = float((lengths * (LARGEST_TURN * np.linalg.norm(forces, axis=1) + NOISE_FACTOR * noise)).sum())
    if not torque <= limit:
        reasons.append(f"the forces turn the molecule with {torque:.1e} eV, of which noise explains {limit:.1e} eV")
    return reasons


def flags(multiplicity: int, found: Mapping[str, Any]) -> list[str]:
    """Warnings that go with a label.

    Args:
        multiplicity: 2S + 1 of the structure.
        found: Diagnostics.

    Returns:
        Any of ``externally-unstable`` (a singlet that would break its symmetry), ``broken-symmetry``,
        ``spin-contaminated``, ``small-gap`` and ``functions-dropped`` (linear dependence: fewer orbitals than basis
        functions, so that the surface may have a step here).
    """
    spin = 0.5 * (multiplicity - 1)
    broken = bool(found.get("broken_symmetry", False))
    gap = found.get("gap_ev")
    known = {
        "externally-unstable": found.get("external_stability") == "unstable" and not broken,
        "broken-symmetry": broken,
        "spin-contaminated": not broken and found["s_squared"] - spin * (spin + 1.0) > CONTAMINATION,
        "small-gap": gap is not None and gap < SMALL_GAP_EV,
        "functions-dropped": found["n_mo"] < found["n_ao"],
    }
    return [name for name, holds in known.items() if holds]
