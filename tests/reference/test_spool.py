"""The spool: whole or absent, and bit for bit."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from alflow.domain import Evaluation, Structure
from alflow.reference import LabelRequest, MuellerBrown, run_label, sweep_spool
from alflow.reference.spool import find_spooled, read_spooled, spool_path, write_spooled

STRUCTURE, LEVEL = "5" * 64, "a" * 64
FORCES = np.array([[0.1, -0.0, 5e-324], [1.0 / 3.0, -1e300, 2.2250738585072014e-308]])
EVALUATION = Evaluation(-0.1 - 0.2, FORCES, np.eye(3) / 3, {"gap_ev": 0.1, "rungs": [{"cycles": 3}], "none": None})
PROVENANCE = {"wall_s": 1.5, "host": "Zürich"}


def bits(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array).tobytes()


def test_what_is_read_is_what_was_written_bit_for_bit(tmp_path: Path) -> None:
    path = write_spooled(tmp_path, STRUCTURE, LEVEL, EVALUATION, PROVENANCE)
    found = find_spooled(tmp_path, STRUCTURE, LEVEL)
    assert found is not None
    outcome = found.result.outcome
    assert isinstance(outcome, Evaluation)
    assert (found.structure_id, found.level_id, found.result.spool_file) == (STRUCTURE, LEVEL, path.name)
    assert outcome.energy.hex() == EVALUATION.energy.hex()
    assert bits(outcome.forces) == bits(EVALUATION.forces)
    assert outcome.stress is not None
    assert bits(outcome.stress) == bits(np.eye(3) / 3)
    assert (outcome.diagnostics, found.result.provenance) == (EVALUATION.diagnostics, PROVENANCE)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_another_structure_or_level_finds_nothing(tmp_path: Path) -> None:
    path = write_spooled(tmp_path, STRUCTURE, LEVEL, EVALUATION, PROVENANCE)
    assert find_spooled(tmp_path, "6" * 64, LEVEL) is None
    assert find_spooled(tmp_path, STRUCTURE, "b" * 64) is None
    # File names hold a prefix of the ids; the whole ids inside have the last word.
    assert find_spooled(tmp_path, STRUCTURE[:-1] + "0", LEVEL) is None
    assert path.exists()


@pytest.mark.parametrize("length", [0, 1, 100, -1])
def test_a_torn_file_is_removed_wherever_it_is_met(length: int, tmp_path: Path) -> None:
    path = write_spooled(tmp_path, STRUCTURE, LEVEL, EVALUATION, PROVENANCE)
    whole = path.read_bytes()
    path.write_bytes(whole[:length])
    with pytest.raises(ValueError, match="not a whole spool file"):
        read_spooled(path)
    assert find_spooled(tmp_path, STRUCTURE, LEVEL) is None
    assert not path.exists()
    path.write_bytes(whole[:length])
    assert sweep_spool(tmp_path) == []
    assert not path.exists()


def test_every_single_changed_byte_is_noticed(tmp_path: Path) -> None:
    path = write_spooled(tmp_path, STRUCTURE, LEVEL, EVALUATION, PROVENANCE)
    whole = bytearray(path.read_bytes())
    for position in range(0, len(whole), 7):
        changed = bytearray(whole)
        changed[position] ^= 1
        path.write_bytes(bytes(changed))
        try:
            found = read_spooled(path)
        except ValueError:
            continue
        raise AssertionError(f"byte {position} was changed and {found} was read")


def test_a_damaged_result_is_computed_again(tmp_path: Path) -> None:
    structure = Structure.of("Ar", [[0.3, 0.7, 0.2]])
    request = LabelRequest(MuellerBrown(), structure, "label-d-a1", tmp_path)
    first = run_label(request)
    path = spool_path(tmp_path, structure.id, MuellerBrown().level.id)
    assert path.name == first.spool_file
    path.write_bytes(path.read_bytes()[:-20])
    second = run_label(request)
    assert not second.from_spool
    assert isinstance(second.outcome, Evaluation)
    assert np.array_equal(second.outcome.forces, MuellerBrown().evaluate(structure).forces)
    assert run_label(request).from_spool


def test_a_sweep_clears_abandoned_parts_and_leaves_young_ones(tmp_path: Path) -> None:
    whole = write_spooled(tmp_path, STRUCTURE, LEVEL, EVALUATION, PROVENANCE)
    old, young = (tmp_path / f"{whole.name}.{name}.part" for name in ("1-a", "2-b"))
    for part in (old, young):
        part.write_bytes(b"half")
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    assert len(sweep_spool(tmp_path)) == 1
    assert sorted(tmp_path.iterdir()) == sorted([whole, young])
    assert sweep_spool(tmp_path / "absent") == []


def test_a_file_is_readable_json_with_units_in_its_keys(tmp_path: Path) -> None:
    path = write_spooled(tmp_path, STRUCTURE, LEVEL, EVALUATION, PROVENANCE)
    body = json.loads(json.loads(path.read_text(encoding="utf-8"))["body"])
    assert {"energy_ev", "forces_ev_ang", "stress_ev_ang3"} < set(body)


def test_what_json_cannot_hold_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_spooled(tmp_path, STRUCTURE, LEVEL, EVALUATION, {"array": FORCES})
    with pytest.raises(ValueError, match="JSON"):
        write_spooled(tmp_path, STRUCTURE, LEVEL, EVALUATION, {"wall_s": float("nan")})
    assert list(tmp_path.iterdir()) == []
