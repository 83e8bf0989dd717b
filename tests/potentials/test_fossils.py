"""Weight files written by earlier versions are read for ever, and answer as they did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alflow.domain import Structure
from alflow.potentials import load_committee
from alflow.tensors import to_batch

FOSSILS = Path(__file__).parent.parent / "fossils"
FILES = sorted(FOSSILS.glob("committee-*.safetensors"))


def _answers(path: Path) -> list[dict[str, Any]]:
    predictions: list[dict[str, Any]] = json.loads(path.with_suffix(".json").read_text())["predictions"]
    return predictions


def test_the_fossil_of_the_first_version_is_kept() -> None:
    assert "committee-1" in [path.stem for path in FILES]


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_an_old_weight_file_answers_as_it_did(path: Path) -> None:
    committee = load_committee(path)
    for answer in _answers(path):
        structure = Structure.of(answer["symbols"], answer["positions_ang"], answer["cell_ang"])
        found = committee.predict(to_batch([structure]), stress=True)
        assert found.stress is not None
        for name, tensor in (
            ("energies_ev", found.energies),
            ("forces_ev_ang", found.forces),
            ("stress_ev_ang3", found.stress),
        ):
            # Another order of summation moves the last digits, nothing else may move.
            np.testing.assert_allclose(
                tensor[:, 0].numpy(), answer[name], rtol=1e-9, atol=1e-9, err_msg=f"{answer['name']}: {name}"
            )


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_an_old_weight_file_survives_being_written_anew(path: Path, tmp_path: Path) -> None:
    committee = load_committee(path)
    committee.save(tmp_path / "anew.safetensors")
    again = load_committee(tmp_path / "anew.safetensors")
    answer = _answers(path)[0]
    batch = to_batch([Structure.of(answer["symbols"], answer["positions_ang"], answer["cell_ang"])])
    assert torch.equal(again.predict(batch).forces, committee.predict(batch).forces)
