"""Rows into nouns and records, and back. Each conversion is here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Final, TypeVar, cast

import numpy as np
from sqlalchemy import LargeBinary, Row, type_coerce

from alflow.domain import Evaluation, FailureKind, Label, Level, Structure
from alflow.domain.identity import canonical_json, digest_of_bytes
from alflow.errors import StoreError
from alflow.store.arrays import decode
from alflow.store.columns import ArrayColumn, JsonObject
from alflow.store.lease import Holder
from alflow.store.records import (
    CampaignRecord,
    CommitteeRecord,
    DatasetRecord,
    EventRecord,
    ExecutionEnd,
    ExecutionRecord,
    FrameRecord,
    JobRecord,
    WalkerRecord,
    now,
)
from alflow.store.tables import LabelRow, StructureRow, TableRow, WalkerRow

__all__ = [
    "LABEL_COLUMNS",
    "STRUCTURE_COLUMNS",
    "as_stored",
    "campaign_of",
    "committee_of",
    "config_values",
    "dataset_of",
    "ending_values",
    "event_of",
    "execution_of",
    "execution_values",
    "frame_of",
    "frame_values",
    "job_of",
    "job_values",
    "label_of",
    "label_values",
    "stored_structure",
    "stored_walker",
    "structure_of",
    "structure_values",
    "walker_of",
    "walker_values",
]

STRUCTURE_COLUMNS: Final = (
    StructureRow.numbers,
    StructureRow.positions_ang,
    StructureRow.cell_ang,
    StructureRow.pbc,
    StructureRow.charge,
    StructureRow.multiplicity,
)
"""What is read of a structure whose id is known, in this order."""

LABEL_COLUMNS: Final = (
    LabelRow.structure_id,
    LabelRow.level_id,
    LabelRow.energy_ev,
    LabelRow.forces_ev_ang,
    LabelRow.stress_ev_ang3,
    type_coerce(LabelRow.diagnostics_json, JsonObject("diagnostics_json")).label("diagnostics_json"),
    type_coerce(LabelRow.provenance_json, JsonObject("provenance_json")).label("provenance_json"),
    *STRUCTURE_COLUMNS,
)
"""What :func:`label_of` reads, in its order."""

_Noun = TypeVar("_Noun")
_FRAME_UNITS = {
    "time": "time_fs",
    "disagreement": "disagreement_ev_ang",
    "force_std": "force_std_ev_ang",
    "threshold": "threshold_ev_ang",
    "predicted_energy": "predicted_energy_ev",
    "predicted_forces": "predicted_forces_ev_ang",
}


def structure_values(structure: Structure) -> dict[str, Any]:
    """Columns of a structure."""
    return {
        "id": structure.id,
        "formula": structure.formula,
        "n_atoms": len(structure),
        **_geometry_values(structure),
    }


def structure_of(row: Row[Any]) -> Structure:
    """Structure of a row that has the columns of one, such as a walker's."""
    return Structure(row.numbers, row.positions_ang, row.cell_ang, _PERIODICITY[row.pbc], row.charge, row.multiplicity)


def stored_structure(structure_id: str, values: Sequence[Any]) -> Structure:
    """Structure of a row of :data:`STRUCTURE_COLUMNS`, as it was checked and named when it was stored."""
    numbers, positions, cell, pbc, charge, multiplicity = values
    return _trusted(
        Structure,
        {
            "numbers": numbers,
            "positions": positions,
            "cell": cell,
            "pbc": _PERIODICITY[pbc],
            "charge": charge,
            "multiplicity": multiplicity,
            "id": structure_id,
        },
    )


def label_values(label: Label, execution_key: str | None) -> dict[str, Any]:
    """Columns of a label."""
    evaluation = label.evaluation
    return {
        "structure_id": label.structure.id,
        "level_id": label.level.id,
        "energy_ev": evaluation.energy,
        "forces_ev_ang": evaluation.forces,
        "stress_ev_ang3": evaluation.stress,
        "max_force_ev_ang": evaluation.max_force,
        "diagnostics_json": dict(evaluation.diagnostics),
        "provenance_json": dict(label.provenance),
        "execution_key": execution_key,
        "created_at": now(),
    }


def label_of(row: Sequence[Any], levels: Mapping[str, Level]) -> Label:
    """Label of a row that begins with :data:`LABEL_COLUMNS`.

    Args:
        row: The row.
        levels: Levels of theory by id, read once for many labels.
    """
    # by position, not by name: a dataset has tens of thousands of rows, and names take longer than the arrays
    (structure_id, level_id, energy, forces, stress, diagnostics, provenance) = row[:7]
    structure = stored_structure(structure_id, row[7:13])
    evaluation = _trusted(
        Evaluation, {"energy": energy, "forces": forces, "stress": stress, "diagnostics": diagnostics}
    )
    fields = {"structure": structure, "level": levels[level_id], "evaluation": evaluation, "provenance": provenance}
    return _trusted(Label, fields)


def config_values(config: Mapping[str, Any]) -> dict[str, Any]:
    """Values of the columns for a campaign's configuration.

    Raises:
        StoreError: It is not plain JSON.
    """
    try:
        digest = digest_of_bytes(canonical_json(dict(config)).encode())
    except (TypeError, ValueError) as error:
        raise StoreError(f"A configuration must hold plain JSON values with finite numbers: {error}.") from None
    return {"config_json": dict(config), "config_digest": digest}


def campaign_of(row: Row[Any]) -> CampaignRecord:
    """Campaign of a row."""
    values = dict(row._mapping)
    values["config"] = values.pop("config_json")
    values["holder"] = None if row.holder is None else str(Holder.from_text(row.holder))
    return CampaignRecord(**values)


def frame_values(frame: FrameRecord) -> dict[str, Any]:
    """Columns of a frame."""
    return {_FRAME_UNITS.get(name, name): value for name, value in vars(frame).items()}


def frame_of(row: Row[Any]) -> FrameRecord:
    """Frame of a row."""
    values = dict(row._mapping)
    return FrameRecord(**{name: values[_FRAME_UNITS.get(name, name)] for name in FrameRecord.__dataclass_fields__})


def job_values(job: JobRecord) -> dict[str, Any]:
    """Columns of a job."""
    return dict(vars(job))


def job_of(row: Row[Any]) -> JobRecord:
    """Job of a row."""
    values = dict(row._mapping)
    return JobRecord(**{**values, "failure_kind": _kind(values["failure_kind"])})


def execution_values(execution: ExecutionRecord) -> dict[str, Any]:
    """Columns of an execution."""
    return dict(vars(execution))


def ending_values(ending: ExecutionEnd, campaign_id: int) -> dict[str, Any]:
    """Parameters of the statement that completes an execution of a campaign."""
    values = dict(vars(ending))
    return {"its_key": values.pop("key"), "its_campaign": campaign_id, **values}


def execution_of(row: Row[Any]) -> ExecutionRecord:
    """Execution of a row."""
    values = dict(row._mapping)
    values.pop("id")
    return ExecutionRecord(**{**values, "failure_kind": _kind(values["failure_kind"])})


def walker_values(walker: WalkerRecord) -> dict[str, Any]:
    """Columns of a walker."""
    values = dict(vars(walker))
    return {
        **_geometry_values(values.pop("structure")),
        "velocities_ang_fs": values.pop("velocities"),
        "disagreement_ev_ang": values.pop("disagreement"),
        "temperature_k": values.pop("temperature"),
        **values,
    }


def as_stored(table: type[TableRow]) -> list[Any]:
    """Columns of a table, with arrays as the bytes that are stored: damaged ones must be read as well."""
    return [
        type_coerce(column, LargeBinary).label(column.name) if isinstance(column.type, ArrayColumn) else column
        for column in table.__table__.columns
    ]


def stored_walker(row: Row[Any]) -> WalkerRecord:
    """Walker of a row of :func:`as_stored`.

    Raises:
        StoreError: An array is damaged.
        ValueError: Numbers that no walker has.
        StructureError: Likewise, of its structure.
    """
    arrays = [column.name for column in WalkerRow.__table__.columns if isinstance(column.type, ArrayColumn)]
    values = {**row._mapping, **{name: decode(bytes(row._mapping[name])) for name in arrays}}
    walker = walker_of(cast("Row[Any]", SimpleNamespace(**values)))
    shape = (len(walker.structure), 3)
    if walker.velocities.shape != shape or not np.isfinite(walker.velocities).all():
        raise ValueError(f"velocities of shape {shape} and finite were expected; found {walker.velocities.shape}")
    return walker


def walker_of(row: Row[Any]) -> WalkerRecord:
    """Walker of a row."""
    return WalkerRecord(
        campaign_id=row.campaign_id,
        walker=row.walker,
        segment=row.segment,
        structure=structure_of(row),
        velocities=row.velocities_ang_fs,
        step=row.step,
        resets=row.resets,
        last_flag_step=row.last_flag_step,
        status=row.status,
        reason=row.reason,
        generation=row.generation,
        disagreement=row.disagreement_ev_ang,
        temperature=row.temperature_k,
    )


def committee_of(row: Row[Any]) -> CommitteeRecord:
    """Committee of a row."""
    values = dict(row._mapping)
    values.pop("id")
    values["metrics"] = values.pop("metrics_json")
    return CommitteeRecord(**values)


def dataset_of(row: Row[Any]) -> DatasetRecord:
    """Dataset of a row."""
    values = dict(row._mapping)
    return DatasetRecord(**{name: values[name] for name in DatasetRecord.__dataclass_fields__})


def event_of(row: Row[Any]) -> EventRecord:
    """Event of a row."""
    return EventRecord(row.campaign_id, row.seq, row.kind, row.payload_json, row.recorded_at)


def _geometry_values(structure: Structure) -> dict[str, Any]:
    return {
        "numbers": structure.numbers,
        "positions_ang": structure.positions,
        "cell_ang": structure.cell,
        "pbc": "".join("T" if flag else "F" for flag in structure.pbc),
        "charge": structure.charge,
        "multiplicity": structure.multiplicity,
    }


def _kind(text: str | None) -> FailureKind | None:
    return None if text is None else FailureKind(text)


def _trusted(noun: type[_Noun], fields: dict[str, Any]) -> _Noun:
    # Everything was checked and named when it was stored, and decoded arrays cannot be written to; checking and
    # hashing each row again would more than double the time it takes to read a dataset.
    instance = object.__new__(noun)
    object.__setattr__(instance, "__dict__", fields)
    return instance


def _periodicity() -> dict[str, np.ndarray[Any, np.dtype[np.bool_]]]:
    flags = {}
    for bits in np.ndindex(2, 2, 2):
        periodic = np.array(bits, dtype=bool)
        periodic.setflags(write=False)
        flags["".join("FT"[bit] for bit in bits)] = periodic
    return flags


_PERIODICITY = _periodicity()
