"""Extended XYZ: text that ASE, OVITO and most trainers read; written so that every number comes back bit for bit.

Conventions are those of ASE: ``Lattice`` holds the cell vectors one after the other, ``pbc`` three letters; ``stress``
is positive under tension, ``virial`` is −V times it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Final, TextIO

import numpy as np

from alflow.domain.elements import SYMBOLS, atomic_number
from alflow.domain.identity import canonical_json
from alflow.domain.label import Label
from alflow.domain.structure import FloatArray, Structure
from alflow.errors import FormatError, StructureError
from alflow.formats.building import build_evaluation, build_structure, level_from_json, stress_of_virial, whole
from alflow.formats.entry import Entry, Exported, ReadSettings

__all__ = ["ExtxyzSource", "frame_text", "write_extxyz"]

OF_FRAME: Final = {"dipole_e_ang": (3,), "dipole_origin_ang": (3,), "polarizability_ang3": (3, 3)}
OF_ATOMS: Final = {
    "charges_e": 1,
    "hirshfeld_charges_e": 1,
    "hirshfeld_dipoles_e_ang": 3,
    "iao_charges_e": 1,
    "chelpg_charges_e": 1,
}
"""What labels may hold besides energy, forces and stress, and where extended XYZ has a place for it."""

_PAIR: Final = re.compile(r"""([^\s=]+)(?:\s*=\s*("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\{[^}]*\}|\[[^\]]*\]|[^\s]*))?""")
_TRUE: Final = ("T", "True", "true", "TRUE", "1")
_FALSE: Final = ("F", "False", "false", "FALSE", "0")
_READ: Final = ("campaign", "frame_id", "split", "purpose", "config_type")
"""Entries of the comment line that are kept as the story of an imported label."""


class ExtxyzSource:
    """A file of extended XYZ.

    Args:
        path: The file.
        settings: Units, keys, and the charge and multiplicity of frames that say nothing of them.
    """

    def __init__(self, path: Path, settings: ReadSettings) -> None:
        self._path, self._settings = path, settings
        self.units = settings.units()

    @cached_property
    def _n_frames(self) -> int:
        with _reading(self._path) as file:
            return sum(1 for _ in _frames(self._path, file))

    def __len__(self) -> int:
        return self._n_frames

    def __iter__(self) -> Iterator[Entry]:
        with _reading(self._path) as file:
            for number, (comment, lines) in enumerate(_frames(self._path, file)):
                yield self._entry(f"frame {number}", comment, lines)

    def _entry(self, place: str, comment: str, lines: list[str]) -> Entry:
        path, told = self._path, read_comment(comment)
        columns = _columns(path, place, told.get("Properties", "species:S:1:pos:R:3"), lines)
        cell = _matrix(path, place, "Lattice", told["Lattice"]) if "Lattice" in told else np.zeros((3, 3))
        pbc = _flags(path, place, told["pbc"]) if "pbc" in told else ["Lattice" in told] * 3
        structure = build_structure(
            path,
            place,
            _numbers(path, place, columns),
            _reals(path, place, columns, "pos") * self.units.length,
            cell * self.units.length,
            pbc,
            whole(path, place, "charge", told.get("charge", self._settings.charge)),
            whole(path, place, "multiplicity", told.get("multiplicity", told.get("spin", self._settings.multiplicity))),
        )
        energy = self._energy(place, told)
        forces = self._forces(place, columns, told)
        stress = self._stress(place, told, structure)
        diagnostics = _diagnostics(path, place, told, columns)
        evaluation = build_evaluation(path, place, structure, energy, forces, stress, diagnostics)
        level = level_from_json(path, place, told.get("level", ""), told["level_id"]) if "level_id" in told else None
        return Entry(place, structure, evaluation, level, _story(path, place, told))

    def _energy(self, place: str, told: Mapping[str, str]) -> float:
        key = self._settings.energy_key or "energy"
        if key not in told:
            near = [name for name in told if "energ" in name.lower()]
            hint = f" It has {', '.join(near)}; name the right one with --energy-key." if near else ""
            raise FormatError(f"{self._path}, {place}: there is no {key} in the comment line.{hint}")
        return float(_numbers_in(self._path, place, key, told[key], 1)[0]) * self.units.energy

    def _forces(self, place: str, columns: Mapping[str, Any], told: Mapping[str, str]) -> FloatArray:
        key = self._settings.forces_key or ("force" if "force" in columns and "forces" not in columns else "forces")
        if key not in columns:
            near = [name for name in columns if "forc" in name.lower()]
            hint = f" It has {', '.join(near)}; name the right ones with --forces-key." if near else ""
            raise FormatError(f"{self._path}, {place}: there are no {key} among the columns.{hint}")
        return _reals(self._path, place, columns, key) * self.units.force

    def _stress(self, place: str, told: Mapping[str, str], structure: Structure) -> FloatArray | None:
        key = self._settings.stress_key or "stress"
        if not structure.is_periodic:
            return None
        if key in told:
            values = np.array(told[key].replace(",", " ").split())
            if len(values) == 6:
                xx, yy, zz, yz, xz, xy = _numbers_in(self._path, place, key, told[key], 6)
                return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]) * self.units.stress
            return _matrix(self._path, place, key, told[key]).T * self.units.stress
        if self._settings.stress_key:
            raise FormatError(f"{self._path}, {place}: there is no {key} in the comment line.")
        virial = next((name for name in ("virial", "virials") if name in told), None)
        if virial is None:
            return None
        return stress_of_virial(_matrix(self._path, place, virial, told[virial]).T * self.units.energy, structure.cell)


def read_comment(line: str) -> dict[str, str]:
    r"""Entries of a comment line, as text; one without a value is ``T``.

    Examples:
        >>> read_comment(r'energy=-1.5 pbc="T T F" note="a \"b\"" relaxed')
        {'energy': '-1.5', 'pbc': 'T T F', 'note': 'a "b"', 'relaxed': 'T'}
    """
    found = {}
    for key, value in _PAIR.findall(line):
        if not value:
            found[key] = "T"
        elif value[0] in "\"'":
            inner = value[1:-1] if len(value) > 1 and value[-1] == value[0] else value[1:]
            found[key] = re.sub(r"\\(.)", r"\1", inner) if "\\" in inner else inner
        else:
            found[key] = value[1:-1] if value[0] in "{[" else value
    return found


def _reading(path: Path) -> TextIO:
    try:
        return path.open(encoding="utf-8")
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}.") from None


def _frames(path: Path, file: TextIO) -> Iterator[tuple[str, list[str]]]:
    """The comment line and the lines of the atoms of each frame."""
    number = 0
    try:
        for line in file:
            if not line.strip():
                continue
            if re.fullmatch(r"[0-9]{1,9}", line.strip()) is None:
                raise FormatError(
                    f"{path}, frame {number}: expected the number of atoms on a line of its own; found {line[:40]!r}."
                )
            n_atoms = int(line)
            comment = file.readline()
            lines = list(islice(iter(file.readline, ""), n_atoms))
            if not lines or len(lines) < n_atoms:
                raise FormatError(f"{path}, frame {number}: the file ends within the frame of {n_atoms} atoms.")
            yield comment, lines
            number += 1
    except UnicodeDecodeError:
        raise FormatError(f"{path}, frame {number}: this is no text; expected extended XYZ.") from None


def _columns(path: Path, place: str, properties: str, lines: list[str]) -> dict[str, list[list[str]]]:
    """Values of each property, as text, one list for each atom."""
    fields = properties.split(":")
    try:
        widths = [(name, int(width)) for name, width in zip(fields[::3], fields[2::3], strict=True)]
    except ValueError:
        raise FormatError(f"{path}, {place}: Properties={properties} cannot be read.") from None
    total = sum(width for _, width in widths)
    rows = [line.split() for line in lines]
    for number, row in enumerate(rows):
        if len(row) < total:
            raise FormatError(f"{path}, {place}: atom {number} has {len(row)} columns; Properties names {total}.")
    found, begin = {}, 0
    for name, width in widths:
        found[name] = [row[begin : begin + width] for row in rows]
        begin += width
    return found


def _numbers(path: Path, place: str, columns: Mapping[str, list[list[str]]]) -> list[int]:
    try:
        if "species" in columns:
            return [
                atomic_number(symbol if symbol in SYMBOLS else symbol.capitalize()) for (symbol,) in columns["species"]
            ]
        if "Z" in columns:
            return [int(number) for (number,) in columns["Z"]]
    except (StructureError, ValueError) as error:
        raise FormatError(f"{path}, {place}: {error}") from None
    raise FormatError(f"{path}, {place}: there is no column of elements (species or Z).")


def _reals(path: Path, place: str, columns: Mapping[str, list[list[str]]], name: str) -> FloatArray:
    if name not in columns:
        raise FormatError(f"{path}, {place}: there is no column {name}.")
    try:
        return np.array(columns[name], dtype=np.float64)
    except ValueError as error:
        raise FormatError(f"{path}, {place}: {name} must be numbers ({error}).") from None


def _numbers_in(path: Path, place: str, name: str, text: str, size: int) -> FloatArray:
    try:
        found = np.array(text.replace(",", " ").split(), dtype=np.float64)
    except ValueError:
        found = np.empty(0)
    if found.size != size:
        raise FormatError(f"{path}, {place}: {name} must be {size} number(s); found {text[:60]!r}.")
    return found


def _matrix(path: Path, place: str, name: str, text: str) -> FloatArray:
    return _numbers_in(path, place, name, text, 9).reshape(3, 3)


def _flags(path: Path, place: str, text: str) -> list[bool]:
    words = text.replace(",", " ").split()
    if len(words) != 3 or any(word not in (*_TRUE, *_FALSE) for word in words):
        raise FormatError(f"{path}, {place}: pbc must be three of T and F; found {text!r}.")
    return [word in _TRUE for word in words]


def _diagnostics(
    path: Path, place: str, told: Mapping[str, str], columns: Mapping[str, list[list[str]]]
) -> dict[str, Any]:
    """What alflow had written of the label beyond energy, forces and stress."""
    if "level_id" not in told:
        return {}
    found: dict[str, Any] = _json(path, place, told, "diagnostics")
    for key, shape in OF_FRAME.items():
        if key in told:
            text = re.sub(r"[\[\],]", " ", told[key].removeprefix("_JSON "))
            found[key] = _numbers_in(path, place, key, text, int(np.prod(shape))).reshape(shape).tolist()
    for key, width in OF_ATOMS.items():
        if key in columns:
            values = _reals(path, place, columns, key)
            found[key] = (values[:, 0] if width == 1 else values).tolist()
    return found


def _story(path: Path, place: str, told: Mapping[str, str]) -> dict[str, Any]:
    story: dict[str, Any] = {key: told[key] for key in _READ if key in told}
    if "level_id" in told and "provenance" in told:
        story["provenance"] = _json(path, place, told, "provenance")
    return story


def _json(path: Path, place: str, told: Mapping[str, str], key: str) -> dict[str, Any]:
    try:
        found = json.loads(told.get(key, "{}"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise FormatError(f"{path}, {place}: {key} cannot be read as JSON.")
    return found


def write_extxyz(path: Path, rows: Iterable[Exported]) -> int:
    """Write labels: energy (eV), forces (eV/Å), stress (eV/Å³) and whatever else is known of each, in full precision.

    Charges and atomic dipoles that a label has become columns, its dipole moment and polarizability entries of the
    comment line, all under the names they have in the label, which end in the unit; other diagnostics and the
    provenance are JSON there.

    Args:
        path: File to write; replaced if it exists.
        rows: Each label with what else belongs into its comment line (numbers, strings, booleans).

    Returns:
        How many were written.
    """
    number = 0
    with path.open("w", encoding="utf-8") as file:
        for label, told in rows:
            file.write(frame_text(label, told))
            number += 1
    return number


def frame_text(label: Label, told: Mapping[str, Any]) -> str:
    """One frame as :func:`write_extxyz` writes it."""
    structure, evaluation = label.structure, label.evaluation
    known = dict(evaluation.diagnostics)
    entries: dict[str, Any] = {}
    if structure.cell.any():
        entries["Lattice"] = structure.cell
    blocks = [("pos", structure.positions), ("forces", evaluation.forces)]
    blocks += [(key, np.array(known.pop(key), dtype=np.float64)) for key in OF_ATOMS if key in known]
    widths = [(name, 1 if block.ndim == 1 else block.shape[1]) for name, block in blocks]
    entries["Properties"] = "species:S:1" + "".join(f":{name}:R:{width}" for name, width in widths)
    entries["pbc"] = " ".join("T" if flag else "F" for flag in structure.pbc)
    entries["energy"] = evaluation.energy
    if evaluation.stress is not None:
        entries["stress"] = evaluation.stress.T  # one column after the other
    entries |= {"charge": structure.charge, "multiplicity": structure.multiplicity}
    entries |= {key: _written(known.pop(key)) for key in OF_FRAME if key in known}
    entries |= told
    entries |= {"structure_id": structure.id, "level_id": label.level.id, "level": label.level.to_json()}
    entries |= {"host": str(label.provenance.get("host", ""))}
    entries |= {"versions": canonical_json(label.provenance.get("versions", {}))}
    entries |= {"diagnostics": canonical_json(known), "provenance": canonical_json(dict(label.provenance))}
    table = np.concatenate([block.reshape(len(structure), -1) for _, block in blocks], axis=1).tolist()
    lines = [f"{symbol} {' '.join(map(repr, row))}\n" for symbol, row in zip(structure.symbols, table, strict=True)]
    written = {key: _value(value) for key, value in entries.items()}
    comment = " ".join(f"{key}={text}" for key, text in written.items() if text != '""')  # ASE misreads an empty one
    return f"{len(structure)}\n{comment}\n{''.join(lines)}"


def _written(values: Any) -> Any:
    """Numbers on one axis as a list of numbers, on two as ASE writes and reads them."""
    array = np.array(values, dtype=np.float64)
    return array if array.ndim == 1 else f"_JSON {json.dumps(array.tolist())}"


def _value(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return "T" if value else "F"
    if isinstance(value, np.ndarray):
        return f'"{" ".join(map(repr, value.ravel().tolist()))}"'
    if isinstance(value, int | float):
        return repr(value)
    text = " ".join(str(value).splitlines()).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"' if not text or re.search(r"[^\w.:/+-]", text) else text
