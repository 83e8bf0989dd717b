"""The spool: results that are finished but not yet committed to the store.

A label process writes its evaluation here before it exits, so a result survives the death of everything that waits
for it; a second execution of the same label finds it, and the orchestrator imports what is left at start-up. A file
is named by structure and level, written beside its place, synced and renamed; it carries its own checksum, so a torn
write is recognized, removed and computed anew. Only evaluations are spooled: a failure that was not reported is
simply tried again.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from alflow.domain import Evaluation
from alflow.domain.identity import canonical_json, digest_of_bytes
from alflow.domain.structure import FloatArray
from alflow.reference.request import LabelResult

__all__ = [
    "FOUND_IN_SPOOL",
    "SpooledResult",
    "find_spooled",
    "read_spooled",
    "remove_spooled",
    "spool_path",
    "sweep_spool",
    "write_durably",
    "write_spooled",
]

FOUND_IN_SPOOL: Final = "found in the spool"
"""How the message begins of an execution that nobody waited for when its label was ready."""

_FORMAT: Final = "alflow-spool-1"
_SUFFIX: Final = ".label.json"
_ABANDONED_S: Final = 3600.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class SpooledResult:
    """A finished evaluation that waits in the spool.

    Attributes:
        structure_id: Id of the structure.
        level_id: Id of the level of theory.
        result: The evaluation, bit for bit as computed, and who computed it, how and when.
    """

    structure_id: str
    level_id: str
    result: LabelResult


def spool_path(directory: Path, structure_id: str, level_id: str) -> Path:
    """Where the result for a structure at a level waits; the same for every attempt."""
    return directory / f"{structure_id[:32]}-{level_id[:16]}{_SUFFIX}"


def write_spooled(
    directory: Path, structure_id: str, level_id: str, evaluation: Evaluation, provenance: Mapping[str, Any]
) -> Path:
    """Write a result so that it is whole or absent, whatever happens meanwhile.

    Args:
        directory: The spool; created where it is missing.
        structure_id: Id of the structure.
        level_id: Id of the level of theory.
        evaluation: The result.
        provenance: Who computed it, how and when; plain JSON values.

    Returns:
        The file.

    Raises:
        OSError: The spool cannot be written.
        TypeError: Diagnostics or provenance are not plain JSON values.
    """
    body = {
        "format": _FORMAT,
        "structure_id": structure_id,
        "level_id": level_id,
        "energy_ev": evaluation.energy.hex(),
        "forces_ev_ang": _pack(evaluation.forces),
        "stress_ev_ang3": None if evaluation.stress is None else _pack(evaluation.stress),
        "diagnostics": dict(evaluation.diagnostics),
        "provenance": dict(provenance),
    }
    text = canonical_json(body)
    envelope = canonical_json({"body": text, "sha256": digest_of_bytes(text.encode())})
    path = spool_path(directory, structure_id, level_id)
    write_durably(path, envelope.encode())
    return path


def read_spooled(path: Path) -> SpooledResult:
    """Read one file of the spool.

    Raises:
        OSError: It cannot be read.
        ValueError: It is damaged.
    """
    try:
        envelope = json.loads(path.read_bytes())
        text = envelope["body"]
        if digest_of_bytes(text.encode()) != envelope["sha256"]:
            raise ValueError("the checksum does not match")
        body = json.loads(text)
        if body["format"] != _FORMAT:
            raise ValueError(f"expected format {_FORMAT}, found {body['format']!r}")
        stress = body["stress_ev_ang3"]
        evaluation = Evaluation(
            float.fromhex(body["energy_ev"]),
            _unpack(body["forces_ev_ang"]),
            None if stress is None else _unpack(stress),
            body["diagnostics"],
        )
        result = LabelResult(evaluation, body["provenance"], from_spool=True, spool_file=path.name)
        return SpooledResult(body["structure_id"], body["level_id"], result)
    except (KeyError, TypeError, AttributeError, binascii.Error, ValueError) as error:
        raise ValueError(f"{path.name} is not a whole spool file: {error}") from error


def find_spooled(directory: Path, structure_id: str, level_id: str) -> SpooledResult | None:
    """Look for a finished result; a damaged one is removed and counts as absent."""
    path = spool_path(directory, structure_id, level_id)
    found = _read_or_remove(path)
    if found is None or (found.structure_id, found.level_id) != (structure_id, level_id):
        return None
    return found


def sweep_spool(directory: Path) -> list[SpooledResult]:
    """Collect every finished result, in order of file name, and clear damaged and abandoned files away.

    Args:
        directory: The spool; it need not exist.
    """
    directory = Path(directory)
    if not directory.is_dir():
        return []
    for part in directory.glob("*.part"):
        try:
            # A process may still be writing a young one: with an external scheduler labels outlive the orchestrator.
            if time.time() - part.stat().st_mtime > _ABANDONED_S:
                part.unlink(missing_ok=True)
        except FileNotFoundError:
            continue
    found = (_read_or_remove(path) for path in sorted(directory.glob(f"*{_SUFFIX}")))
    return [result for result in found if result is not None]


def remove_spooled(directory: Path, result: LabelResult) -> None:
    """Remove a result that has been committed to the store; one that is gone already, or a failure, is no error.

    Args:
        directory: The spool.
        result: What was committed, from :func:`sweep_spool` or :func:`alflow.reference.run_label`.
    """
    if result.spool_file is not None:
        (Path(directory) / result.spool_file).unlink(missing_ok=True)


def write_durably(path: Path, data: bytes) -> None:
    """Write a file that is whole or absent even if the power fails: temporary file, sync, rename, sync the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read_or_remove(path: Path) -> SpooledResult | None:
    try:
        return read_spooled(path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        _log.warning("%s; it is removed and the label computed again", error)
        path.unlink(missing_ok=True)
        return None


def _pack(array: FloatArray) -> dict[str, Any]:
    data = np.ascontiguousarray(array, dtype="<f8").tobytes()
    return {"shape": list(array.shape), "f8_little_endian": base64.b64encode(data).decode()}


def _unpack(packed: Mapping[str, Any]) -> FloatArray:
    data = base64.b64decode(packed["f8_little_endian"], validate=True)
    return np.frombuffer(data, dtype="<f8").reshape(packed["shape"]).astype(np.float64)
