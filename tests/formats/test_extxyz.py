"""What extended XYZ holds besides energy and forces, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.io import read

from alflow.domain import Evaluation, Label, Level, Structure
from alflow.domain.ase import read_structures
from alflow.formats import write_labels

WATER = Structure.of("OHH", [[0.0, 0.0, 0.0], [0.9572, 0.0, 0.0], [-0.2400, 0.9266, 0.0]], charge=1, multiplicity=2)


def test_labels_written_as_extended_xyz_are_read_back(tmp_path: Path) -> None:
    evaluation = Evaluation(-76.123456789, np.arange(9.0).reshape(3, 3) / 7)
    label = Label(WATER, Level("toy", {}), evaluation)
    path = tmp_path / "labels.xyz"
    write_labels(path, [(label, {"split": "train", "step": 12})] * 2)
    frames = read(path, index=":")
    assert [atoms.info["split"] for atoms in frames] == ["train", "train"]
    assert frames[0].info["step"] == 12
    assert frames[0].get_potential_energy() == pytest.approx(evaluation.energy, abs=1e-8)
    np.testing.assert_allclose(frames[0].get_forces(), evaluation.forces, atol=1e-7)
    structures = read_structures(path)
    assert [s.charge for s in structures] == [1, 1]
    assert structures[0].multiplicity == 2
    np.testing.assert_allclose(structures[0].positions, WATER.positions, atol=1e-7)


def test_charges_and_dipoles_of_a_label_are_columns_and_entries_of_extended_xyz(tmp_path: Path) -> None:
    found = {
        "hirshfeld_charges_e": [-0.3, 0.1, 0.2],
        "hirshfeld_dipoles_e_ang": [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6], [0.7, 0.8, 0.9]],
        "dipole_e_ang": [0.1, -0.2, 0.3],
        "polarizability_ang3": [[1.0, 0.1, 0.2], [0.1, 1.5, 0.3], [0.2, 0.3, 2.0]],
    }
    label = Label(WATER, Level("toy", {}), Evaluation(-1.0, np.zeros((3, 3)), None, found))
    plain = Label(WATER, Level("toy", {}), Evaluation(-1.0, np.zeros((3, 3))))
    path = tmp_path / "labels.xyz"
    write_labels(path, [(label, {}), (plain, {})])
    first, second = read(path, index=":")
    for key, value in found.items():
        written = first.arrays[key] if key.startswith("hirshfeld") else first.info[key]
        np.testing.assert_allclose(written, value, atol=1e-8)
    assert not set(found) & (set(second.arrays) | set(second.info))
    assert read_structures(path) == [WATER, WATER]
