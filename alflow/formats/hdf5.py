"""One HDF5 file with everything that is known of labels, in full precision; alflow's own layout.

Atoms of all structures stand one after the other; those of label i begin at ``first_atom[i]`` and end before
``first_atom[i + 1]``. Names of arrays end in their unit. JSON stands where a label may know anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np

from alflow.domain import Label
from alflow.domain.identity import canonical_json
from alflow.errors import FormatError
from alflow.formats.building import build_evaluation, build_structure, level_from_json
from alflow.formats.entry import Entry, Exported, ReadSettings

__all__ = ["FORMAT", "VERSION", "Hdf5Source", "write_hdf5"]

FORMAT: Final = "alflow-labels"
VERSION: Final = 1
BATCH: Final = 1000
"""Labels that are written or read at once."""

ATOMS: Final = {"numbers": ("i8", ()), "positions_ang": ("f8", (3,)), "forces_ev_ang": ("f8", (3,))}
LABELS: Final = {
    "energy_ev": ("f8", ()),
    "cell_ang": ("f8", (3, 3)),
    "pbc": ("?", (3,)),
    "charge": ("i8", ()),
    "multiplicity": ("i8", ()),
    "has_stress": ("?", ()),
    "stress_ev_ang3": ("f8", (3, 3)),
}
TEXTS: Final = ("structure_id", "level_id", "level", "diagnostics", "provenance", "told")


class Hdf5Source:
    """A file that :func:`write_hdf5` wrote.

    Args:
        path: The file.
        settings: Nothing of it is needed: such a file says all by itself.
    """

    def __init__(self, path: Path, settings: ReadSettings) -> None:
        self._path = path
        self.units = ReadSettings().units()
        if settings.units() != self.units:
            raise FormatError(f"{path} says its units by itself (eV and Å); leave the options for units out.")
        with self._open() as file:
            if file.attrs.get("format") != FORMAT or file.attrs.get("version") != VERSION:
                raise FormatError(
                    f"{path} is no HDF5 file of labels that this alflow reads; expected {FORMAT} version {VERSION}."
                )
            missing = sorted({*ATOMS, *LABELS, *TEXTS, "first_atom"} - set(file))
            if missing:
                raise FormatError(f"{path} lacks {', '.join(missing)}.")
            self._n_labels = len(file["energy_ev"])

    def __len__(self) -> int:
        return self._n_labels

    def __iter__(self) -> Iterator[Entry]:
        with self._open() as file:
            for begin in range(0, self._n_labels, BATCH):
                yield from self._batch(file, begin, min(begin + BATCH, self._n_labels))

    def _open(self) -> Any:
        return _open(self._path, "r")

    def _batch(self, file: Any, begin: int, end: int) -> Iterator[Entry]:
        first = file["first_atom"][begin : end + 1]
        atoms = {name: file[name][first[0] : first[-1]] for name in ATOMS}
        labels = {name: file[name][begin:end] for name in LABELS}
        texts = {name: file[name].asstr()[begin:end] for name in TEXTS}
        for i in range(end - begin):
            path, place = self._path, f"label {begin + i}"
            mine = slice(first[i] - first[0], first[i + 1] - first[0])
            one = {name: values[i] for name, values in labels.items()}
            positions, forces = atoms["positions_ang"][mine], atoms["forces_ev_ang"][mine]
            structure = build_structure(
                path,
                place,
                atoms["numbers"][mine],
                positions,
                one["cell_ang"],
                one["pbc"],
                int(one["charge"]),
                int(one["multiplicity"]),
            )
            if structure.id != texts["structure_id"][i]:
                raise FormatError(f"{path}, {place}: the structure is not the one its id says; the file was altered.")
            stress = one["stress_ev_ang3"] if one["has_stress"] else None
            diagnostics = json.loads(texts["diagnostics"][i])
            energy = float(one["energy_ev"])
            evaluation = build_evaluation(path, place, structure, energy, forces, stress, diagnostics)
            level = level_from_json(path, place, texts["level"][i], texts["level_id"][i])
            told = json.loads(texts["told"][i]) | {"provenance": json.loads(texts["provenance"][i])}
            yield Entry(place, structure, evaluation, level, told)


def _open(path: Path, mode: str) -> Any:
    try:
        h5py = import_module("h5py")  # PySCF brings it along; where there is no PySCF, nothing else needs it
    except ImportError:
        raise FormatError(f"{path}: HDF5 needs the package h5py; pip install 'alflow[hdf5]'.") from None
    try:
        return h5py.File(path, mode)
    except OSError as error:
        if isinstance(error, FileNotFoundError | PermissionError):
            raise
        raise FormatError(f"{path} cannot be read as HDF5; it is damaged or something else.") from None


def write_hdf5(path: Path, rows: Iterable[Exported], about: Mapping[str, Any] | None = None) -> int:
    """Write labels as HDF5.

    Args:
        path: The file; replaced if it exists.
        rows: Each label with what else is told of it.
        about: What is told of all of them, as attributes of the file.

    Returns:
        How many were written.

    Raises:
        FormatError: There is no h5py.
    """
    with _open(path, "w") as file:
        text = import_module("h5py").string_dtype()
        file.attrs.update({"format": FORMAT, "version": VERSION, **(about or {})})
        for name, (kind, shape) in {**ATOMS, **LABELS}.items():
            file.create_dataset(name, (0, *shape), kind, maxshape=(None, *shape), chunks=(4 * BATCH, *shape))
        for name in TEXTS:
            file.create_dataset(name, (0,), text, maxshape=(None,), chunks=(BATCH,))
        file.create_dataset("first_atom", data=np.zeros(1, dtype="i8"), maxshape=(None,), chunks=(4 * BATCH,))
        number, waiting = 0, list[Exported]()
        for row in rows:
            waiting.append(row)
            if len(waiting) == BATCH:
                number += _append(file, waiting)
                waiting = []
        return number + _append(file, waiting)


def _append(file: Any, rows: list[Exported]) -> int:
    if not rows:
        return 0
    labels = [label for label, _ in rows]
    structures, evaluations = [label.structure for label in labels], [label.evaluation for label in labels]
    counts = np.array([len(structure) for structure in structures])
    stresses = [np.zeros((3, 3)) if found.stress is None else found.stress for found in evaluations]
    columns: dict[str, Any] = {
        "numbers": np.concatenate([structure.numbers for structure in structures]),
        "positions_ang": np.concatenate([structure.positions for structure in structures]),
        "forces_ev_ang": np.concatenate([found.forces for found in evaluations]),
        "energy_ev": [found.energy for found in evaluations],
        "cell_ang": [structure.cell for structure in structures],
        "pbc": [structure.pbc for structure in structures],
        "charge": [structure.charge for structure in structures],
        "multiplicity": [structure.multiplicity for structure in structures],
        "has_stress": [found.stress is not None for found in evaluations],
        "stress_ev_ang3": stresses,
        "first_atom": int(file["first_atom"][-1]) + np.cumsum(counts),
        **_texts(rows, labels),
    }
    for name, values in columns.items():
        column, n = file[name], len(values)
        column.resize(len(column) + n, axis=0)
        column[-n:] = values
    return len(rows)


def _texts(rows: list[Exported], labels: list[Label]) -> dict[str, list[str]]:
    return {
        "structure_id": [label.structure.id for label in labels],
        "level_id": [label.level.id for label in labels],
        "level": [label.level.to_json() for label in labels],
        "diagnostics": [canonical_json(dict(label.evaluation.diagnostics)) for label in labels],
        "provenance": [canonical_json(dict(label.provenance)) for label in labels],
        "told": [canonical_json(dict(told)) for _, told in rows],
    }
