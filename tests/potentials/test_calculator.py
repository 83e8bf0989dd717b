from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alflow.domain.ase import to_atoms
from alflow.potentials.calculator import load_calculator
from tests.potentials.committees import ETHANOL, argon_committee, crystal, ethanol_committee


def test_a_weight_file_is_a_calculator(tmp_path: Path) -> None:
    ethanol_committee().save(tmp_path / "c.safetensors")
    atoms = to_atoms(ETHANOL)
    atoms.calc = load_calculator(tmp_path / "c.safetensors")
    evaluation = ethanol_committee().evaluate(ETHANOL)
    assert atoms.get_potential_energy() == pytest.approx(evaluation.energy, abs=1e-10)
    np.testing.assert_allclose(atoms.get_forces(), evaluation.forces, atol=1e-12)
    assert atoms.calc.results["disagreement"] == pytest.approx(evaluation.diagnostics["disagreement_ev_ang"])
    assert atoms.calc.results["forces_std"].shape == (9, 3)
    assert atoms.calc.results["energy_std"] > 0.0


def test_stress_of_a_crystal_is_in_voigt_order(tmp_path: Path) -> None:
    argon_committee().save(tmp_path / "c.safetensors")
    structure = crystal(3)
    atoms = to_atoms(structure)
    atoms.calc = load_calculator(tmp_path / "c.safetensors")
    stress = argon_committee().evaluate(structure).stress
    assert stress is not None
    expected = [stress[0, 0], stress[1, 1], stress[2, 2], stress[1, 2], stress[0, 2], stress[0, 1]]
    np.testing.assert_allclose(atoms.get_stress(), expected, atol=1e-14)
