"""Units of files: factors to eV, Å, eV/Å and eV/Å³."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from alflow.errors import FormatError, did_you_mean
from alflow.units import ANG_PER_BOHR, EV_PER_HARTREE, EV_PER_KCAL_MOL, GPA_PER_EV_ANG3

__all__ = ["ENERGIES", "LENGTHS", "FileUnits"]

ENERGIES: Final = {
    "eV": 1.0,
    "meV": 1e-3,
    "Ha": EV_PER_HARTREE,
    "Ry": EV_PER_HARTREE / 2,
    "kcal/mol": EV_PER_KCAL_MOL,
    "kJ/mol": EV_PER_KCAL_MOL / 4.184,
}
"""Energies, eV."""

LENGTHS: Final = {"Ang": 1.0, "Bohr": ANG_PER_BOHR, "nm": 10.0}
"""Lengths, Å."""

PRESSURES: Final = {"GPa": 1.0 / GPA_PER_EV_ANG3, "kbar": 0.1 / GPA_PER_EV_ANG3}
"""Stresses that have a name of their own, eV/Å³."""


@dataclass(frozen=True)
class FileUnits:
    """Units of the numbers in a file.

    Attributes:
        energy: Unit of energies, eV.
        length: Unit of lengths, Å.
        force: Unit of forces, eV/Å.
        stress: Unit of stress, eV/Å³.
        text: All of them in words.

    Examples:
        >>> FileUnits.of("kcal/mol", "Ang").text
        'energies in kcal/mol, lengths in Ang, forces in kcal/mol/Ang'
        >>> round(FileUnits.of("Ha", "Bohr").force, 4)
        51.4221
    """

    energy: float
    length: float
    force: float
    stress: float
    text: str

    @classmethod
    def of(cls, energy: str, length: str, force: str | None = None, stress: str | None = None) -> FileUnits:
        """Look up units by their names.

        Args:
            energy: One of :data:`ENERGIES`.
            length: One of :data:`LENGTHS`.
            force: An energy over a length, such as ``Ha/Bohr``; by default the two above.
            stress: ``GPa``, ``kbar``, or an energy over a length cubed, such as ``eV/Ang^3``; by default the two above.

        Raises:
            FormatError: A unit is not known.
        """
        force = force or f"{energy}/{length}"
        stress = stress or f"{energy}/{length}^3"
        forces = {f"{e}/{x}": a / b for e, a in ENERGIES.items() for x, b in LENGTHS.items()}
        stresses = PRESSURES | {f"{e}/{x}^3": a / b**3 for e, a in ENERGIES.items() for x, b in LENGTHS.items()}
        return cls(
            _factor(energy, ENERGIES, "energies"),
            _factor(length, LENGTHS, "lengths"),
            _factor(force, forces, "forces", "an energy over a length, such as eV/Ang or Ha/Bohr"),
            _factor(stress, stresses, "stress", "GPa, kbar, or an energy over a length cubed, such as eV/Ang^3"),
            f"energies in {energy}, lengths in {length}, forces in {force}",
        )


def _factor(name: str, known: dict[str, float], what: str, expected: str | None = None) -> float:
    if name not in known:
        listed = expected or _listed(known)
        raise FormatError(f"{name!r} is no unit of {what} known here; expected {listed}.{did_you_mean(name, known)}")
    return known[name]


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}"
