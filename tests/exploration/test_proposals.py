from __future__ import annotations

import numpy as np
import pytest

from alflow.domain import Structure
from alflow.errors import StructureError
from alflow.exploration import rattle
from alflow.exploration.contacts import contact_closeness
from alflow.exploration.model_hessian import _torsions, bonds_of, model_hessian
from alflow.units import ANG_PER_BOHR, BOLTZMANN_EV_K, EV_PER_HARTREE
from tests.exploration.analytic import ETHANOL, WATER


def bond_lengths(structure: Structure, bonds: np.ndarray) -> np.ndarray:
    i, j = np.nonzero(np.triu(bonds))
    return np.linalg.norm(structure.positions[i] - structure.positions[j], axis=1)


def test_bonds_move_by_a_few_hundredths_of_an_angstrom_and_soft_modes_more() -> None:
    frames = rattle(ETHANOL, 300, seed=0, temperature=500.0)
    bonds = bonds_of(ETHANOL)
    assert bonds.sum() == 2 * 8
    spread = np.std([bond_lengths(f, bonds) for f in frames], axis=0)
    # Force constants of 0.3 to 0.5 Hartree/Bohr² give 0.03 Å at 500 K; second order from torsions adds to it.
    assert 0.02 < spread.min() <= spread.max() < 0.08
    ends = [np.linalg.norm(f.positions[2] - f.positions[[3, 4, 5]], axis=1) for f in frames]
    assert np.std(ends, axis=0).max() > 1.5 * spread.max()


def test_a_diatomic_moves_along_its_bond_with_the_thermal_amplitude() -> None:
    hydrogen = Structure.of("HH", [[0.0, 0.0, 0.0], [0.74, 0.0, 0.0]])
    frames = rattle(hydrogen, 4000, seed=1, temperature=500.0)
    lengths = np.array([np.linalg.norm(f.positions[0] - f.positions[1]) for f in frames])
    constant = 0.45 * np.exp(1.35**2 - (0.74 / ANG_PER_BOHR) ** 2) * EV_PER_HARTREE / ANG_PER_BOHR**2
    # 4000 draws: the standard deviation is known to 1.1 %; three times that.
    assert lengths.std() == pytest.approx(np.sqrt(BOLTZMANN_EV_K * 500.0 / constant), rel=0.035)
    assert np.abs([f.positions[:, 1:] for f in frames]).max() < 1e-12


def test_proposals_repeat_with_the_seed_and_more_of_them_only_append() -> None:
    first = rattle(ETHANOL, 3, seed=5)
    assert rattle(ETHANOL, 5, seed=5)[:3] == first
    assert len({s.id for s in first + rattle(ETHANOL, 3, seed=6)}) == 6


def test_no_proposal_has_a_short_contact_even_when_hot() -> None:
    frames = rattle(ETHANOL, 100, seed=0, temperature=4000.0, contact_factor=0.75)
    assert max(contact_closeness(frame, 0.75) for frame in frames) < 1.0


def test_a_squeezed_geometry_is_refused() -> None:
    with pytest.raises(StructureError, match="check the geometry"):
        rattle(ETHANOL.with_positions(0.4 * ETHANOL.positions), 1, seed=0, temperature=10.0)
    with pytest.raises(ValueError, match="at least 0"):
        rattle(ETHANOL, -1, seed=0)


def test_one_atom_stays_where_it_is() -> None:
    atom = Structure.of("He", [[1.0, 2.0, 3.0]])
    assert rattle(atom, 2, seed=0) == [atom, atom]


def test_straight_molecules_bend_and_large_ones_are_quick() -> None:
    hcn = Structure.of("HCN", [[-1.07, 0.0, 0.0], [0.0, 0.0, 0.0], [1.16, 0.0, 0.0]])
    frames = rattle(hcn, 200, seed=0)
    arms = [(f.positions[0] - f.positions[1], f.positions[2] - f.positions[1]) for f in frames]
    bends = [np.linalg.norm(np.cross(a, b)) / np.linalg.norm(a) / np.linalg.norm(b) for a, b in arms]
    # √(2 k_B T/k) with Lindh's k of about 12 eV/rad²: two bends, 0.06 rad each.
    assert 0.05 < np.sqrt(np.mean(np.square(bends))) < 0.12
    chain = np.arange(25)[:, None] * np.array([1.25, 0.0, 0.0]) + (np.arange(25) % 2)[:, None] * np.array([0, 0.88, 0])
    hydrogens = [chain + np.array([0.0, 0.1, s]) for s in (0.9, -0.9)]
    big = Structure.of("C" * 25 + "H" * 50, np.concatenate([chain, *hydrogens]))
    assert len(rattle(big, 5, seed=0)) == 5


def test_periodic_structures_get_plain_displacements_of_the_asked_amplitude() -> None:
    grid = np.array(list(np.ndindex(3, 3, 3))) * 2.5
    crystal = Structure.of("Si" * 27, grid, [7.5, 7.5, 7.5])
    frames = rattle(crystal, 50, seed=0, amplitude=0.08)
    moves = np.array([f.positions - grid for f in frames])
    # 4050 normals: 1.1 % on the standard deviation.
    assert moves.std() == pytest.approx(0.08, rel=0.04)
    assert np.array_equal(frames[0].cell, crystal.cell)


def test_the_model_hessian_does_not_feel_translation_or_rotation() -> None:
    for structure in (WATER, ETHANOL):
        hessian = model_hessian(structure)
        scale = np.abs(hessian).max()
        np.testing.assert_allclose(hessian, hessian.T, atol=1e-12 * scale)
        for axis in np.eye(3):
            shift = np.tile(axis, len(structure))
            turn = np.cross(axis, structure.positions).ravel()
            assert np.abs(hessian @ shift).max() < 1e-12 * scale
            assert np.abs(hessian @ turn).max() < 1e-12 * scale
        curvatures = np.linalg.eigvalsh(hessian)
        assert (curvatures > 1e-6 * scale).sum() == 3 * len(structure) - 6
        assert curvatures.min() > -1e-12 * scale


def test_the_torsion_gradient_is_that_of_the_dihedral() -> None:
    positions = np.array([[0.1, 1.0, 0.2], [0.0, 0.0, 0.0], [1.4, 0.1, 0.0], [1.9, -0.5, 0.9]])

    def dihedral(p: np.ndarray) -> float:
        b1, b2, b3 = p[1] - p[0], p[2] - p[1], p[3] - p[2]
        n1, n2 = np.cross(b1, b2), np.cross(b2, b3)
        return float(np.arctan2(np.cross(n1, n2) @ b2 / np.linalg.norm(b2), n1 @ n2))

    (gradient,) = _torsions(positions, 0, 1, 2, 3)
    numeric = np.zeros((4, 3))
    for index in np.ndindex(4, 3):
        step = np.zeros((4, 3))
        step[index] = 1e-5
        numeric[index] = (dihedral(positions + step) - dihedral(positions - step)) / 2e-5
    analytic = np.array([gradient[atom] for atom in range(4)])
    # Central differences with 1e-5 Å: 1e-10 of truncation, 1e-11 of rounding; the sign of a dihedral is a convention.
    sign = np.sign((analytic * numeric).sum())
    np.testing.assert_allclose(sign * analytic, numeric, atol=1e-8)


def test_atoms_on_one_point_have_no_model_hessian() -> None:
    with pytest.raises(ValueError, match="coincide"):
        model_hessian(Structure.of("HH", [[0, 0, 0], [0, 0, 0]]))
