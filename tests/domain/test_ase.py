from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from alflow.domain import Evaluation, Structure
from alflow.domain.ase import as_calculator, from_atoms, read_structures, to_atoms
from alflow.errors import StructureError

WATER = Structure.of("OHH", [[0.0, 0.0, 0.0], [0.9572, 0.0, 0.0], [-0.2400, 0.9266, 0.0]], charge=1, multiplicity=2)


class CountingSpring:
    """A surface that pulls every atom to the origin, and counts its evaluations."""

    def __init__(self) -> None:
        self.calls = 0

    def evaluate(self, structure: Structure) -> Evaluation:
        self.calls += 1
        stress = np.arange(9.0).reshape(3, 3) + np.arange(9.0).reshape(3, 3).T if structure.is_periodic else None
        return Evaluation(0.5 * float((structure.positions**2).sum()), -structure.positions, stress)


def test_a_structure_survives_ase() -> None:
    cell = Structure.of("OHH", WATER.positions, np.diag([5.0, 6.0, 7.0]), pbc=(True, False, True))
    assert from_atoms(to_atoms(WATER)) == WATER
    assert from_atoms(to_atoms(cell)) == cell


def test_the_calculator_evaluates_once_per_geometry() -> None:
    surface = CountingSpring()
    atoms = to_atoms(WATER)
    atoms.calc = as_calculator(surface)
    energy = atoms.get_potential_energy()
    np.testing.assert_array_equal(atoms.get_forces(), -WATER.positions)
    assert surface.calls == 1
    atoms.positions[1, 0] += 1e-13
    assert atoms.get_potential_energy() == pytest.approx(energy)
    assert surface.calls == 2, "a change of any size is a change"
    atoms.info["note"] = "has no say in the energy"
    atoms.get_forces()
    assert surface.calls == 2


def test_only_a_periodic_structure_has_a_stress() -> None:
    atoms = to_atoms(Structure.of("OHH", WATER.positions, np.diag([5.0, 6.0, 7.0])))
    atoms.calc = as_calculator(CountingSpring())
    np.testing.assert_array_equal(atoms.get_stress(), [0.0, 8.0, 16.0, 12.0, 8.0, 4.0])
    molecule = to_atoms(WATER)
    molecule.calc = as_calculator(CountingSpring())
    molecule.get_potential_energy()
    assert "stress" not in molecule.calc.results


def test_an_unreadable_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "broken.xyz"
    path.write_text("not a number\n\n")
    with pytest.raises(StructureError, match=r"broken\.xyz cannot be read"):
        read_structures(path)


def test_impossible_atoms_are_refused() -> None:
    with pytest.raises(StructureError, match="finite"):
        from_atoms(Atoms("H", positions=[[np.nan, 0.0, 0.0]]))
