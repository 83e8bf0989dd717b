"""What a file of labels holds, one by one, and what its reader is told beforehand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from alflow.domain import Evaluation, Label, Level, Structure
from alflow.formats.file_units import FileUnits

__all__ = ["Entry", "Exported", "ReadSettings", "Source"]

Exported = tuple[Label, Mapping[str, Any]]
"""A label on its way into a file, and what else is told of it: numbers, strings, booleans."""


@dataclass(frozen=True, eq=False)
class Entry:
    """One label of a file, in alflow's units.

    Attributes:
        place: Where it stands in its file, such as ``frame 12``.
        structure: What was computed.
        evaluation: The result, with the diagnostics that the file tells.
        level: The level of theory, if alflow wrote the file; never guessed.
        told: What else the file says of where it comes from; JSON values.
    """

    place: str
    structure: Structure
    evaluation: Evaluation
    level: Level | None = None
    told: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ReadSettings:
    """What a reader is told.

    Attributes:
        energy_unit: Unit of energies, if it is not the format's own.
        force_unit: Unit of forces; by default that of energies over that of lengths.
        length_unit: Unit of lengths.
        stress_unit: Unit of stress; by default that of energies over that of lengths, cubed.
        energy_key: Name of the energy in extended XYZ, if it is not ``energy``.
        forces_key: Name of the forces there, if it is not ``forces``.
        stress_key: Name of the stress there, if it is not ``stress``.
        charge: Charge of every structure whose file says nothing of it, e.
        multiplicity: Multiplicity 2S + 1 of every structure whose file says nothing of it.
    """

    energy_unit: str | None = None
    force_unit: str | None = None
    length_unit: str | None = None
    stress_unit: str | None = None
    energy_key: str | None = None
    forces_key: str | None = None
    stress_key: str | None = None
    charge: int = 0
    multiplicity: int = 1

    def units(self, energy: str = "eV", length: str = "Ang") -> FileUnits:
        """The units of a file, given those of its format.

        Raises:
            FormatError: A unit is not known.
        """
        return FileUnits.of(self.energy_unit or energy, self.length_unit or length, self.force_unit, self.stress_unit)


class Source(Protocol):
    """A file of labels that is open to be read, as often as one likes."""

    @property
    def units(self) -> FileUnits:
        """The units its numbers are taken to have."""
        ...

    def __len__(self) -> int:
        """How many labels there are."""
        ...

    def __iter__(self) -> Iterator[Entry]:
        """Read them, in their order.

        Raises:
            FormatError: One of them is no label; the message names file and frame.
        """
        ...
