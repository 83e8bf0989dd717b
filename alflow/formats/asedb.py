"""ASE's database: rows of atoms with energy, forces and stress. The second door to ASE, beside ``domain.ase``.

Numbers are stored as 64-bit floating point, so they come back bit for bit; of the stress ASE keeps the symmetric part.
ASE has no place for a total charge and a multiplicity: they are the key-value pairs ``total_charge`` and
``multiplicity``. Everything else that is known of a label is the entry ``alflow`` of its ``data``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress

from alflow.domain import Label
from alflow.domain.identity import canonical_json
from alflow.errors import FormatError
from alflow.formats.building import build_evaluation, build_structure, level_from_json, whole
from alflow.formats.entry import Entry, Exported, ReadSettings

__all__ = ["AseDatabaseSource", "write_asedb"]


class AseDatabaseSource:
    """A database that ASE wrote, in an SQLite file.

    Args:
        path: The file.
        settings: Units, if they are not eV and Å; charge and multiplicity of rows that say nothing of them.
    """

    def __init__(self, path: Path, settings: ReadSettings) -> None:
        self._path, self._settings = path, settings
        self.units = settings.units()
        tables = _tables(path)
        if "structures" in tables and "campaigns" in tables:
            raise FormatError(f"{path} is a database of alflow, not of ASE; 'alflow db copy' copies what is in it.")
        if "systems" not in tables:
            raise FormatError(f"{path} is no database of ASE; it has no table 'systems'.")

    @cached_property
    def _n_rows(self) -> int:
        with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM systems").fetchone()[0])

    def __len__(self) -> int:
        return self._n_rows

    def __iter__(self) -> Iterator[Entry]:
        with connect(self._path, type="db") as database:
            for row in database.select():
                yield self._entry(row)

    def _entry(self, row: Any) -> Entry:
        path, place, units = self._path, f"row {row.id}", self.units
        pairs = row.key_value_pairs
        own = row.data.get("alflow") or {}
        structure = build_structure(
            path,
            place,
            row.numbers,
            row.positions * units.length,
            np.array(row.cell) * units.length,
            row.pbc,
            whole(path, place, "total_charge", pairs.get("total_charge", self._settings.charge)),
            whole(path, place, "multiplicity", pairs.get("multiplicity", self._settings.multiplicity)),
        )
        energy, forces = row.get("energy"), row.get("forces")
        if energy is None or forces is None:
            missing = "energy" if energy is None else "forces"
            raise FormatError(
                f"{path}, {place}: {structure.formula} has no {missing}; a label needs energy and forces."
            )
        stress = row.get("stress")
        full = None if stress is None else voigt_6_to_full_3x3_stress(np.asarray(stress)) * units.stress
        forces = np.asarray(forces) * units.force
        evaluation = build_evaluation(
            path, place, structure, float(energy) * units.energy, forces, full, own.get("diagnostics")
        )
        level = None
        if "level_id" in own:
            level = level_from_json(path, place, canonical_json(own["level"]), own["level_id"])
        told = {key: value for key, value in own.items() if key not in ("diagnostics", "level", "level_id")}
        return Entry(place, structure, evaluation, level, told)


def _tables(path: Path) -> set[str]:
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return {str(name) for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error as error:
        raise FormatError(f"{path} cannot be read as a database of ASE: {error}.") from None


def write_asedb(path: Path, rows: Iterable[Exported]) -> int:
    """Write labels as a database of ASE, in one transaction.

    Args:
        path: The file; must not exist.
        rows: Each label with what else is told of it.

    Returns:
        How many were written.

    Raises:
        OSError: The file cannot be written.
    """
    try:
        return _write(path, rows)
    except sqlite3.OperationalError as error:  # a folder that is not there or not ours, a disk that is full
        raise OSError(str(error)) from None


def _write(path: Path, rows: Iterable[Exported]) -> int:
    number = 0
    with connect(path, type="db", append=False) as database:
        for label, told in rows:
            structure = label.structure
            pairs = {"total_charge": structure.charge, "multiplicity": structure.multiplicity}
            pairs |= {key: told[key] for key in ("split", "purpose") if key in told}
            own = {**told, **_own(label)}
            database.write(_atoms(label), key_value_pairs=pairs, data={"alflow": own})
            number += 1
    return number


def _own(label: Label) -> dict[str, Any]:
    level = {"engine": label.level.engine, "settings": dict(label.level.settings)}
    diagnostics, provenance = dict(label.evaluation.diagnostics), dict(label.provenance)
    return {"level": level, "level_id": label.level.id, "diagnostics": diagnostics, "provenance": provenance}


def _atoms(label: Label) -> Any:
    structure, evaluation = label.structure, label.evaluation
    atoms = Atoms(structure.numbers, structure.positions, cell=structure.cell, pbc=structure.pbc)
    results: dict[str, Any] = {"energy": evaluation.energy, "forces": np.array(evaluation.forces)}
    if evaluation.stress is not None:
        results["stress"] = full_3x3_to_voigt_6_stress(evaluation.stress)
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms
