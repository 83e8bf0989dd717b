"""The table of physical quantities: what each is called, its axes, its unit and its sign. One place for all of them.

At every border (configuration keys, table columns, file headers, JSON keys) a quantity's name ends in the suffix of its
unit; inside, names are bare and units are these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["QUANTITIES", "SUFFIXES", "Quantity", "unit_of"]


@dataclass(frozen=True)
class Quantity:
    """A physical quantity.

    Attributes:
        name: Its name inside alflow.
        axes: Names of its axes, outermost first; empty for a number. Vectors end in an axis ``3``.
        unit: Its unit inside alflow; ``1`` for a pure number.
        meaning: Definition and sign.
    """

    name: str
    axes: tuple[str, ...]
    unit: str
    meaning: str


SUFFIXES: Final = {
    "ev": "eV",
    "ang": "Å",
    "fs": "fs",
    "ps": "ps",
    "k": "K",
    "ev_ang": "eV/Å",
    "ev_ang2": "eV/Å²",
    "ev_ang3": "eV/Å³",
    "ang_fs": "Å/fs",
    "per_ang": "1/Å",
    "per_ps": "1/ps",
    "ang3": "Å³",
    "e": "e",
    "e_ang": "e·Å",
    "per_cm": "1/cm",
    "km_mol": "km/mol",
    "ha": "Ha",
    "s": "s",
    "mb": "MB",
}
"""Unit that the end of a name at a border stands for. Only electronic-structure tolerances are in Hartree."""

_TABLE = (
    Quantity("numbers", ("atom",), "1", "Atomic numbers; 0 where a batch is padded."),
    Quantity("positions", ("structure", "atom", "3"), "Å", "Cartesian positions, never wrapped into the cell."),
    Quantity("cell", ("structure", "3", "3"), "Å", "Cell vectors as rows; zeros for a molecule."),
    Quantity("charge", (), "e", "Total charge; positive when electrons are missing."),
    Quantity("multiplicity", (), "1", "Spin multiplicity 2S + 1."),
    Quantity("energy", ("structure",), "eV", "Potential energy as computed; baselines are terms of the potential."),
    Quantity("energies", ("member", "structure"), "eV", "Potential energy according to each member."),
    Quantity("forces", ("member", "structure", "atom", "3"), "eV/Å", "−∂E/∂r, the exact gradient."),
    Quantity("stress", ("member", "structure", "3", "3"), "eV/Å³", "Cauchy stress; positive under tension."),
    Quantity("disagreement", ("structure",), "eV/Å", "Largest |F_m − F_n| over member pairs, then over atoms."),
    Quantity("force_std", ("structure",), "eV/Å", "Largest standard deviation over members of the force on any atom."),
    Quantity("threshold", (), "eV/Å", "Disagreement from which a frame is flagged."),
    Quantity("velocities", ("structure", "atom", "3"), "Å/fs", "Velocities; total momentum zero for molecules."),
    Quantity("masses", ("atom",), "u", "Standard atomic masses."),
    Quantity("time", (), "fs", "Simulated time: step times time step."),
    Quantity("temperature", (), "K", "2 K/(n k_B) with 3N − 3 degrees of freedom for a molecule without drift."),
    Quantity("dipole", ("3",), "e·Å", "Dipole moment about the center of nuclear charge; from − to +."),
    Quantity("charges", ("atom",), "e", "Net charge of each atom, by a named scheme; they add up to the charge."),
    Quantity("atomic_dipoles", ("atom", "3"), "e·Å", "Dipole moment of each atom's share about its nucleus."),
    Quantity("polarizability", ("3", "3"), "Å³", "Polarizability volume ∂μ/∂F/4πε₀, static."),
    Quantity("hessian", ("atom · 3", "atom · 3"), "eV/Å²", "∂²E/∂r∂r, x, y and z of the first atom first."),
    Quantity("wavenumbers", ("mode",), "1/cm", "Harmonic wavenumbers ν/c, ascending; negative where imaginary."),
    Quantity("ir_intensities", ("mode",), "km/mol", "Integrated absorption of each fundamental, double harmonic."),
)

QUANTITIES: Final = {quantity.name: quantity for quantity in _TABLE}
"""Every quantity by name."""


def unit_of(name: str) -> str | None:
    """The unit that a name at a border ends in; None for a name without a unit.

    Examples:
        >>> unit_of("threshold_ev_ang"), unit_of("temperature_k"), unit_of("walkers")
        ('eV/Å', 'K', None)
    """
    matches = [suffix for suffix in SUFFIXES if name.endswith(f"_{suffix}")]
    return SUFFIXES[max(matches, key=len)] if matches else None
