"""Whether what the rows hold is what their names say: ids recomputed, numbers finite, arrays whole."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from sqlalchemy import Select, func, not_, or_, select

from alflow.domain import Level, Structure
from alflow.errors import AlflowError
from alflow.store.arrays import decode
from alflow.store.columns import ArrayColumn, FiniteNumber
from alflow.store.finding import Finding
from alflow.store.reading import Reading, every
from alflow.store.rows import as_stored
from alflow.store.tables import FrameRow, LabelRow, LevelRow, StructureRow, TableRow, WalkerRow

__all__ = ["check_arrays", "check_contents", "check_numbers"]

SAMPLE: Final = 5000
"""Rows of each table that are looked into, unless all are asked for."""

Rows = tuple[int, int, Iterator[Any]]


def check_contents(store: Reading, deep: bool) -> list[Finding]:
    """Hash structures and levels of theory again."""
    looked, total, rows = _rows(store, StructureRow, select(*as_stored(StructureRow)), deep)
    broken = [line for row in rows if (line := _wrong_name(row)) is not None]
    share = "all" if looked == total else f"{looked} of {total}; --deep looks at all"
    sentence = f"The id of a structure is the hash of its content ({share})."
    contents = Finding.of("contents", sentence, looked, broken)
    levels = list(store._all(every(LevelRow)))
    wrong = [
        f"level {row.id[:12]} ({row.engine}) is {Level(row.engine, row.settings_json).id[:12]} by content"
        for row in levels
        if Level(row.engine, row.settings_json).id != row.id
    ]
    return [contents, Finding.of("levels", "The id of a level is the hash of its settings.", len(levels), wrong)]


def check_numbers(store: Reading) -> Finding:
    """Ask the database for numbers that are none."""
    broken: list[str] = []
    checked = 0
    for table in TableRow.metadata.sorted_tables:
        numbers = [column for column in table.columns if isinstance(column.type, FiniteNumber)]
        if not numbers:
            continue
        checked += int(store._one(select(func.count()).select_from(table))[0])
        wild = or_(*(not_(column.between(-1e300, 1e300)) for column in numbers))
        for row in store._all(select(*table.primary_key.columns, *numbers).where(wild).limit(200)):
            values = {name: value for name, value in row._mapping.items() if value is not None}
            broken.append(f"{table.name}: {values}")
    return Finding.of("numbers", "Every number in a column is finite.", checked, broken)


def check_arrays(store: Reading, deep: bool) -> Finding:
    """Read arrays, and compare their shapes with the number of atoms."""
    labels = select(*as_stored(LabelRow), StructureRow.n_atoms)
    labels = labels.join(StructureRow, StructureRow.id == LabelRow.structure_id)
    frames = select(*as_stored(FrameRow), StructureRow.n_atoms)
    frames = frames.join(StructureRow, StructureRow.id == FrameRow.structure_id)
    asked: list[tuple[type[TableRow], Select[Any]]] = [
        (StructureRow, select(*as_stored(StructureRow))),
        (LabelRow, labels),
        (FrameRow, frames.where(FrameRow.predicted_forces_ev_ang.is_not(None))),
        (WalkerRow, select(*as_stored(WalkerRow), func.length(WalkerRow.numbers).label("n_atoms"))),
    ]
    broken: list[str] = []
    checked = 0
    for table, statement in asked:
        looked, _, rows = _rows(store, table, statement, deep)
        checked += looked
        for row in rows:
            broken.extend(_wrong_arrays(table, row))
    return Finding.of("arrays", "Every array is whole, finite and as long as its structure.", checked, broken)


def _rows(store: Reading, table: type[TableRow], statement: Select[Any], deep: bool) -> Rows:
    """All rows of a statement, or as many as a sample has, from a place drawn at random on."""
    key = [column for column in table.__table__.columns if column.primary_key]
    total = int(store._one(select(func.count()).select_from(statement.subquery()))[0])
    if deep or total <= SAMPLE:
        return total, total, store._pages(statement, key)
    place = secrets.token_hex(16)
    later = store._all(statement.where(key[0] >= place).order_by(*key).limit(SAMPLE))
    first = store._all(statement.where(key[0] < place).order_by(*key).limit(SAMPLE - len(later)))
    return SAMPLE, total, iter([*later, *first])


def _wrong_name(row: Any) -> str | None:
    """What is wrong with the id of a structure."""
    try:
        numbers, positions, cell = (decode(bytes(blob)) for blob in (row.numbers, row.positions_ang, row.cell_ang))
        pbc = np.array([letter == "T" for letter in row.pbc])
        structure = Structure(numbers, positions, cell, pbc, row.charge, row.multiplicity)
    except (AlflowError, ValueError, IndexError) as error:
        return f"structure {row.id[:12]} cannot be read: {error}"
    if structure.id != row.id:
        return f"structure {row.id[:12]} is {structure.id[:12]} by content"
    if (structure.formula, len(structure)) != (row.formula, row.n_atoms):
        return f"structure {row.id[:12]} is {structure.formula}, and its row says {row.formula}, {row.n_atoms} atoms"
    return None


def _wrong_arrays(table: type[TableRow], row: Any) -> Iterator[str]:
    values = row._mapping
    n_atoms = (values["n_atoms"] - 16) // 8 if table is WalkerRow else values["n_atoms"]
    shapes = {"numbers": (n_atoms,), "cell_ang": (3, 3), "stress_ev_ang3": (3, 3)}
    for column in table.__table__.columns:
        blob = values[column.name] if isinstance(column.type, ArrayColumn) else None
        if blob is None:
            continue
        key = ", ".join(str(values[name.name])[:16] for name in table.__table__.primary_key)
        where = f"{table.__tablename__} {key}: {column.name}"
        try:
            array = decode(bytes(blob))
        except AlflowError as error:
            yield f"{where}: {error}"
            continue
        expected = shapes.get(column.name, (n_atoms, 3))
        if array.shape != expected:
            yield f"{where} has shape {array.shape}, expected {expected}"
        elif not np.isfinite(array).all():
            yield f"{where} is not finite"
