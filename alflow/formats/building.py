"""From the numbers of a file to a label, with errors that name file and frame; shared by all formats."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from alflow.domain import Evaluation, Level, Structure
from alflow.domain.structure import FloatArray
from alflow.errors import FormatError, StructureError

__all__ = ["build_evaluation", "build_structure", "level_from_json", "stress_of_virial", "virial_of_stress", "whole"]


def build_structure(
    path: Path, place: str, numbers: Any, positions: Any, cell: Any, pbc: Any, charge: int, multiplicity: int
) -> Structure:
    """A structure of a file; positions and cell in Å.

    Raises:
        FormatError: It is no possible structure.
    """
    try:
        return Structure(numbers, positions, cell, pbc, charge, multiplicity)
    except (StructureError, ValueError, TypeError) as error:
        raise FormatError(f"{path}, {place}: {error}") from None


def build_evaluation(
    path: Path,
    place: str,
    structure: Structure,
    energy: float,
    forces: Any,
    stress: Any = None,
    diagnostics: Mapping[str, Any] | None = None,
) -> Evaluation:
    """An evaluation of a file, in eV, eV/Å and eV/Å³.

    A molecule has no stress, whatever the file says.

    Raises:
        FormatError: Numbers that are not finite, or forces of another number of atoms.
    """
    found = np.asarray(forces, dtype=np.float64)
    if found.shape != (len(structure), 3):
        raise FormatError(
            f"{path}, {place}: {structure.formula} needs forces of shape ({len(structure)}, 3); found {found.shape}."
        )
    if not np.isfinite(energy):
        raise FormatError(f"{path}, {place}: the energy must be a finite number; found {energy}.")
    if not np.isfinite(found).all():
        atom = int(np.argwhere(~np.isfinite(found).all(axis=1))[0, 0])
        raise FormatError(f"{path}, {place}: the force on atom {atom} is not finite: {found[atom].tolist()}.")
    kept = stress if structure.is_periodic else None
    if kept is not None and not np.isfinite(kept).all():
        raise FormatError(f"{path}, {place}: the stress must be finite numbers; found {np.asarray(kept).tolist()}.")
    try:
        return Evaluation(energy, found, kept, diagnostics or {})
    except ValueError as error:
        raise FormatError(f"{path}, {place}: {error}") from None


def whole(path: Path, place: str, name: str, value: Any) -> int:
    """A charge or a multiplicity.

    Raises:
        FormatError: It is no whole number.
    """
    try:
        number = int(float(value))
        exact = number == float(value)
    except (TypeError, ValueError, OverflowError):
        exact = False
    if not exact:
        raise FormatError(f"{path}, {place}: {name} must be a whole number; found {value!r}.")
    return number


def level_from_json(path: Path, place: str, text: str, level_id: str | None = None) -> Level:
    """The level of theory that alflow wrote into a file.

    Raises:
        FormatError: It is none, or not the one its id says.
    """
    try:
        data = json.loads(text)
        level = Level(str(data["engine"]), dict(data["settings"]))
    except (ValueError, KeyError, TypeError):
        raise FormatError(f"{path}, {place}: the level of theory in the file cannot be read.") from None
    if level_id is not None and level_id != level.id:
        raise FormatError(
            f"{path}, {place}: the level of theory in the file is not the one its id says; it was altered."
        )
    return level


def stress_of_virial(virial: Any, cell: Any) -> FloatArray:
    """σ = −W/V: stress, positive under tension, of a virial in eV; both of shape (3, 3)."""
    return np.asarray(-np.asarray(virial, dtype=np.float64).reshape(3, 3) / abs(np.linalg.det(cell)))


def virial_of_stress(stress: FloatArray, cell: FloatArray) -> FloatArray:
    """W = −V σ: virial, eV, of a stress that is positive under tension; both of shape (3, 3)."""
    return np.asarray(-stress * abs(np.linalg.det(cell)))
