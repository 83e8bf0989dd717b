"""Archives of arrays as rMD17, MD17 and sGDML write them: one molecule, many geometries, kcal/mol and Å."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from alflow.errors import FormatError
from alflow.formats.building import build_evaluation, build_structure
from alflow.formats.entry import Entry, ReadSettings

__all__ = ["NpzSource"]

NAMES: Final = {
    "numbers": ("nuclear_charges", "z"),
    "positions": ("coords", "R"),
    "energies": ("energies", "E"),
    "forces": ("forces", "F"),
}
"""What an array is called in rMD17, and in MD17 and sGDML."""


class NpzSource:
    """An archive with ``nuclear_charges`` (atom,), ``coords`` and ``forces`` (frame, atom, 3), ``energies`` (frame,).

    Args:
        path: The file.
        settings: Units, if they are not kcal/mol and Å; charge and multiplicity.
    """

    def __init__(self, path: Path, settings: ReadSettings) -> None:
        self._path, self._settings = path, settings
        self._arrays = _arrays(path)
        self.units = settings.units(_unit(self._arrays, "e_unit", "kcal/mol"), _unit(self._arrays, "r_unit", "Ang"))
        self._numbers, self._positions, self._energies, self._forces = _checked(path, self._arrays)

    def __len__(self) -> int:
        return len(self._positions)

    def __iter__(self) -> Iterator[Entry]:
        path, units, settings = self._path, self.units, self._settings
        cell, pbc = np.zeros((3, 3)), np.zeros(3, dtype=bool)
        for number in range(len(self)):
            place = f"frame {number}"
            positions = self._positions[number] * units.length
            structure = build_structure(
                path, place, self._numbers, positions, cell, pbc, settings.charge, settings.multiplicity
            )
            energy, forces = float(self._energies[number]) * units.energy, self._forces[number] * units.force
            yield Entry(place, structure, build_evaluation(path, place, structure, energy, forces))


def _arrays(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or "expected an archive of numpy arrays"
        raise FormatError(f"{path} cannot be read: {reason}.") from None


def _unit(arrays: dict[str, Any], name: str, default: str) -> str:
    """The unit that sGDML writes down; else the one that is usual."""
    found = str(arrays[name]) if name in arrays and arrays[name].ndim == 0 else default
    return {"Angstrom": "Ang", "bohr": "Bohr", "au": "Ha"}.get(found, found)


def _checked(path: Path, arrays: dict[str, Any]) -> tuple[Any, Any, Any, Any]:
    """The four arrays, of the right shapes.

    Raises:
        FormatError: One is missing or of another shape.
    """
    found = {}
    for what, names in NAMES.items():
        name = next((name for name in names if name in arrays), None)
        if name is None:
            raise FormatError(
                f"{path} has no {' or '.join(names)}; expected nuclear_charges, coords, energies and forces, "
                f"found {', '.join(sorted(arrays)) or 'nothing'}."
            )
        if arrays[name].dtype.kind not in "iuf":
            raise FormatError(f"{path}: {name} must be numbers; found {arrays[name].dtype}.")
        found[what] = arrays[name]
    numbers, positions, forces = found["numbers"], found["positions"], found["forces"]
    energies = found["energies"].reshape(-1) if found["energies"].ndim == 2 else found["energies"]
    n_frames, n_atoms = len(np.atleast_1d(energies)), numbers.shape[-1] if numbers.ndim else 0
    if numbers.ndim != 1:
        raise FormatError(f"{path}: nuclear charges have shape (atom,), the same in all frames; found {numbers.shape}.")
    for what in ("positions", "forces"):
        if found[what].shape != (n_frames, n_atoms, 3):
            raise FormatError(
                f"{path}: {what} of {n_frames} frames of {n_atoms} atoms have shape ({n_frames}, {n_atoms}, 3); "
                f"found {found[what].shape}."
            )
    if n_frames == 0:
        raise FormatError(f"{path} holds no frame.")
    return numbers, positions.astype(np.float64), energies, forces.astype(np.float64)
