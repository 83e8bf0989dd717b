"""Folders of DeePMD-kit: ``type.raw``, ``type_map.raw``, ``nopbc`` and ``set.*/{coord,box,energy,force,virial}.npy``.

One folder, called a system, holds frames of the same atoms in the same order; a data set of several kinds is a folder
of such folders. Units are eV and Å; the virial is W = −V σ, eV, with the stress σ positive under tension.
What DeePMD-kit has no file for (charge, multiplicity, the level of theory, provenance) stands in ``alflow.json`` and
``set.*/alflow.jsonl``, which it does not read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from alflow.domain import Label, Level
from alflow.domain.elements import SYMBOLS, atomic_number
from alflow.domain.identity import canonical_json
from alflow.errors import FormatError, StructureError
from alflow.formats.building import (
    build_evaluation,
    build_structure,
    level_from_json,
    stress_of_virial,
    virial_of_stress,
)
from alflow.formats.entry import Entry, Exported, ReadSettings

__all__ = ["DeepmdSource", "is_exported", "write_deepmd"]

FRAMES_PER_SET: Final = 5000
"""Frames in one ``set.*`` folder; as many labels as are kept in memory of each kind of structure."""


class DeepmdSource:
    """A system, or a folder with systems anywhere below it.

    Args:
        path: The folder.
        settings: Units, if they are not eV and Å; charge and multiplicity of systems that say nothing of them.
    """

    def __init__(self, path: Path, settings: ReadSettings) -> None:
        self._path, self._settings = path, settings
        self.units = settings.units()
        found = sorted(file.parent for file in path.rglob("type.raw"))
        if not found:
            raise FormatError(f"{path} holds no type.raw; expected a system of DeePMD-kit, or a folder with some.")
        self._systems = [_System.of(folder, settings) for folder in found]

    @cached_property
    def _n_frames(self) -> int:
        return sum(len(_load(part, "energy")) for system in self._systems for part in system.sets)

    def __len__(self) -> int:
        return self._n_frames

    def __iter__(self) -> Iterator[Entry]:
        for system in self._systems:
            for part in system.sets:
                yield from self._entries(system, part)

    def _entries(self, system: _System, part: Path) -> Iterator[Entry]:
        n_atoms, units = len(system.numbers), self.units
        energies = _load(part, "energy").reshape(-1)
        sizes = {"coord": 3 * n_atoms, "force": 3 * n_atoms}
        if system.periodic or system.cells:
            sizes["box"] = 9
        if system.periodic and (part / "virial.npy").exists():
            sizes["virial"] = 9
        arrays = {name: _checked(part, name, len(energies), size) for name, size in sizes.items()}
        stories = _stories(part, len(energies))
        for number, energy in enumerate(energies):
            place = f"frame {number}"
            cell = arrays["box"][number].reshape(3, 3) * units.length if "box" in arrays else np.zeros((3, 3))
            positions = arrays["coord"][number].reshape(n_atoms, 3) * units.length
            periodic = [system.periodic] * 3
            structure = build_structure(
                part, place, system.numbers, positions, cell, periodic, system.charge, system.multiplicity
            )
            stress = None
            if "virial" in arrays:
                stress = stress_of_virial(arrays["virial"][number] * units.energy, structure.cell)
            forces = arrays["force"][number].reshape(n_atoms, 3) * units.force
            told = dict(stories[number])
            diagnostics = told.pop("diagnostics", {})
            evaluation = build_evaluation(
                part, place, structure, float(energy) * units.energy, forces, stress, diagnostics
            )
            where = f"{part.relative_to(self._path)} frame {number}" if part != self._path else place
            yield Entry(where, structure, evaluation, system.level, told)


@dataclass(frozen=True)
class _System:
    """What all frames of one folder have in common."""

    folder: Path
    sets: tuple[Path, ...]
    numbers: tuple[int, ...]
    periodic: bool
    cells: bool
    charge: int
    multiplicity: int
    level: Level | None

    @classmethod
    def of(cls, folder: Path, settings: ReadSettings) -> _System:
        if list(folder.glob("set.*/real_atom_types.npy")):
            raise FormatError(
                f"{folder} is a mixed system (real_atom_types.npy); convert it to one folder for each composition, "
                "for instance with dpdata."
            )
        names = _words(folder / "type_map.raw") if (folder / "type_map.raw").exists() else []
        if not names:
            raise FormatError(
                f"{folder} has no type_map.raw, and numbers say nothing of elements: write one, a symbol a line."
            )
        try:
            types = [int(word) for word in _words(folder / "type.raw")]
            numbers = tuple(atomic_number(names[number]) for number in types)
        except (ValueError, IndexError, StructureError) as error:
            raise FormatError(
                f"{folder}: type.raw must hold one number from 0 to {len(names) - 1} for each atom, and type_map.raw "
                f"a symbol for each number ({error})."
            ) from None
        sets = tuple(sorted(part for part in folder.glob("set.*") if (part / "coord.npy").exists()))
        if not sets:
            raise FormatError(f"{folder} has no set.* folder with a coord.npy; alflow reads npy, not raw text.")
        own = folder / "alflow.json"
        told = _read_json(own, own.read_text(encoding="utf-8")) if own.exists() else {}
        level = None
        if "level_id" in told:
            level = level_from_json(folder, "alflow.json", canonical_json(told["level"]), told["level_id"])
        charge, multiplicity = told.get("charge", settings.charge), told.get("multiplicity", settings.multiplicity)
        periodic = not (folder / "nopbc").exists()
        return cls(folder, sets, numbers, periodic, bool(told.get("cells")), charge, multiplicity, level)


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{path} cannot be read ({error}).") from None


def _read_json(path: Path, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise FormatError(f"{path} cannot be read as JSON.")
    return found


def _load(part: Path, name: str) -> Any:
    path = part / f"{name}.npy"
    if not path.exists():
        raise FormatError(f"{part} has no {name}.npy; a label needs coord, energy and force (box too, with a cell).")
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        raise FormatError(f"{path} cannot be read as an array of numpy.") from None
    if array.dtype.kind not in "iuf" or array.ndim == 0:
        raise FormatError(f"{path} must hold numbers, one row for each frame; found {array.dtype}, {array.shape}.")
    return array


def _checked(part: Path, name: str, n_frames: int, size: int) -> Any:
    array = _load(part, name)
    if array.size != n_frames * size or len(array) != n_frames:
        raise FormatError(
            f"{part / name}.npy: {n_frames} frames need the shape ({n_frames}, {size}); found {array.shape}."
        )
    return array.reshape(n_frames, size).astype(np.float64)


def _stories(part: Path, n_frames: int) -> list[dict[str, Any]]:
    path = part / "alflow.jsonl"
    if not path.exists():
        return [{}] * n_frames
    stories = [_read_json(path, line) for line in path.read_text(encoding="utf-8").splitlines()]
    if len(stories) != n_frames:
        raise FormatError(f"{path} has {len(stories)} lines for {n_frames} frames.")
    return stories


def is_exported(folder: Path) -> bool:
    """Whether a folder is one that :func:`write_deepmd` made, so that it may be replaced."""
    return folder.is_dir() and next(folder.glob("*/alflow.json"), None) is not None


def write_deepmd(path: Path, rows: Iterable[Exported]) -> int:
    """Write labels as one system for each kind of structure, below one folder.

    Args:
        path: The folder; made.
        rows: Each label with what else is told of it.

    Returns:
        How many were written.

    Raises:
        FormatError: A structure repeats in one or two directions, which DeePMD-kit cannot say.
    """
    path.mkdir(parents=True)
    kinds: dict[tuple[Any, ...], _Writing] = {}
    number = 0
    for label, told in rows:
        structure = label.structure
        if structure.is_periodic and not structure.pbc.all():
            raise FormatError(f"{structure.formula} repeats in some directions only; DeePMD-kit knows all or none.")
        kind = (
            structure.numbers.tobytes(),
            structure.is_periodic,
            bool(structure.cell.any()),
            structure.charge,
            structure.multiplicity,
            label.evaluation.stress is not None,
            label.level.id,
        )
        if kind not in kinds:
            kinds[kind] = _Writing(path / f"{structure.formula}-{len(kinds):03d}", label)
        kinds[kind].add(label, told)
        number += 1
    for writing in kinds.values():
        writing.flush()
    return number


class _Writing:
    """One system that is being written."""

    def __init__(self, folder: Path, first: Label) -> None:
        structure, level = first.structure, first.level
        self._folder, self._rows, self._n_sets = folder, list[Exported](), 0
        folder.mkdir()
        elements = sorted(set(structure.numbers.tolist()))
        types = "".join(f"{elements.index(number)}\n" for number in structure.numbers.tolist())
        (folder / "type.raw").write_text(types, encoding="utf-8")
        (folder / "type_map.raw").write_text("".join(f"{SYMBOLS[number]}\n" for number in elements), encoding="utf-8")
        if not structure.is_periodic:
            (folder / "nopbc").write_text("", encoding="utf-8")
        self._cells = bool(structure.cell.any())
        told = {
            "format": "alflow-deepmd",
            "version": 1,
            "charge": structure.charge,
            "multiplicity": structure.multiplicity,
            "cells": self._cells,
            "level": {"engine": level.engine, "settings": dict(level.settings)},
            "level_id": level.id,
        }
        (folder / "alflow.json").write_text(json.dumps(told, indent=1), encoding="utf-8")

    def add(self, label: Label, told: Mapping[str, Any]) -> None:
        """Take a label on; write a set when it is full."""
        self._rows.append((label, told))
        if len(self._rows) == FRAMES_PER_SET:
            self.flush()

    def flush(self) -> None:
        """Write what has come together as one set."""
        if not self._rows:
            return
        part = self._folder / f"set.{self._n_sets:03d}"
        part.mkdir()
        labels = [label for label, _ in self._rows]
        n = len(labels)
        arrays = {
            "coord": np.array([label.structure.positions for label in labels]).reshape(n, -1),
            "energy": np.array([label.evaluation.energy for label in labels]),
            "force": np.array([label.evaluation.forces for label in labels]).reshape(n, -1),
        }
        if self._cells:
            arrays["box"] = np.array([label.structure.cell for label in labels]).reshape(n, 9)
        virials = [
            virial_of_stress(label.evaluation.stress, label.structure.cell)
            for label in labels
            if label.evaluation.stress is not None and label.structure.is_periodic
        ]
        if virials:
            arrays["virial"] = np.array(virials).reshape(n, 9)
        for name, array in arrays.items():
            np.save(part / f"{name}.npy", array)
        lines = [canonical_json({**told, **_own(label)}) + "\n" for label, told in self._rows]
        (part / "alflow.jsonl").write_text("".join(lines), encoding="utf-8")
        self._rows, self._n_sets = [], self._n_sets + 1


def _own(label: Label) -> dict[str, Any]:
    return {"diagnostics": dict(label.evaluation.diagnostics), "provenance": dict(label.provenance)}
