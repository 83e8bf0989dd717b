"""Analytic references: forces are the exact derivative of the energy, and the surfaces are the published ones."""

from __future__ import annotations

import numpy as np
import pytest

from alflow.domain import Evaluation, Failure, FailureKind, Structure
from alflow.errors import StructureError
from alflow.reference import LennardJones, Morse, MorseMolecule, MuellerBrown
from alflow.units import BOLTZMANN_EV_K, EV_PER_U_ANG2_FS2

ETHANOL = Structure.of(
    "CCOHHHHHH",
    [
        [-1.168, -0.402, 0.000],
        [0.000, 0.555, 0.000],
        [1.192, -0.213, 0.000],
        [-2.112, 0.152, 0.000],
        [-1.138, -1.041, 0.887],
        [-1.138, -1.041, -0.887],
        [-0.049, 1.205, 0.885],
        [-0.049, 1.205, -0.885],
        [1.946, 0.384, 0.000],
    ],
)
CLUSTER = Structure.of([18] * 4, [[0, 0, 0], [3.7, 0.2, 0], [1.8, 3.3, 0.1], [1.5, 1.2, 3.4]])
CRYSTAL = Structure.of(
    [18] * 3, [[0.1, 0, 0], [-9.0, 0.3, 7.9], [0.2, 2.7, 2.6]], cell=[[5.3, 0, 0], [0.4, 5.2, 0], [0, -0.3, 5.5]]
)


def energy(reference, structure: Structure) -> float:
    outcome = reference.evaluate(structure)
    assert isinstance(outcome, Evaluation)
    return outcome.energy


def numerical_forces(reference, structure: Structure, step: float = 1e-4) -> np.ndarray:
    """Fourth-order central differences, eV/Å."""
    forces = np.zeros((len(structure), 3))
    for index in np.ndindex(forces.shape):
        shift = np.zeros_like(forces)
        shift[index] = step
        e = [energy(reference, structure.with_positions(structure.positions + k * shift)) for k in (-2, -1, 1, 2)]
        forces[index] = -(e[0] - 8 * e[1] + 8 * e[2] - e[3]) / (12 * step)
    return forces


@pytest.mark.parametrize(
    ("reference", "structure"),
    [
        (Morse(), Structure.of("HHH", [[0, 0, 0], [0.9, 0.1, 0], [0.3, 0.8, 0.2]])),
        (LennardJones(cutoff_ang=4.5), CLUSTER),
        (LennardJones(cutoff_ang=6.0), CRYSTAL),
        (MuellerBrown(), Structure.of("Ar", [[0.3, 0.7, 0.2]])),
        (MuellerBrown(length_scale_ang=2.0), Structure.of("Ar", [[-0.3, 0.9, -0.1]])),
        (MorseMolecule.around(ETHANOL), ETHANOL),
        (MorseMolecule.around(ETHANOL), ETHANOL.with_positions(ETHANOL.positions * 1.07)),
        (
            MorseMolecule.around(Structure.of("OCO", [[-1.16, 0, 0], [0, 0, 0], [1.16, 0, 0]])),
            Structure.of("OCO", [[-1.2, 0.1, 0], [0, 0, 0], [1.1, 0, 0.2]]),
        ),
    ],
)
def test_forces_are_the_derivative_of_the_energy(reference, structure: Structure) -> None:
    outcome = reference.evaluate(structure)
    # Fourth-order differences with step 1e-4 Å: rounding of energies of up to 20 eV leaves about 1e-10 eV/Å.
    np.testing.assert_allclose(outcome.forces, numerical_forces(reference, structure), atol=2e-9, rtol=0)


def test_stress_is_the_strain_derivative_of_the_energy_and_positive_under_tension() -> None:
    reference, strain = LennardJones(cutoff_ang=6.0), 1e-5
    numerical = np.zeros((3, 3))
    for i, j in np.ndindex(3, 3):
        energies = []
        for sign in (-1, 1):
            deformation = np.eye(3)
            deformation[i, j] += sign * strain
            moved = Structure.of(CRYSTAL.numbers, CRYSTAL.positions @ deformation.T, CRYSTAL.cell @ deformation.T)
            energies.append(energy(reference, moved))
        numerical[i, j] = (energies[1] - energies[0]) / (2 * strain)
    volume = abs(np.linalg.det(CRYSTAL.cell))
    stress = reference.evaluate(CRYSTAL).stress
    assert stress is not None
    # Second-order differences: truncation of about strain² times the elastic constants.
    np.testing.assert_allclose(stress, numerical / volume, atol=1e-8, rtol=1e-6)
    stretched = Structure.of(CRYSTAL.numbers, CRYSTAL.positions * 1.4, CRYSTAL.cell * 1.4)
    wide = reference.evaluate(stretched).stress
    assert wide is not None
    assert np.trace(wide) > 0


def test_a_supercell_has_the_energy_of_its_cells_wherever_the_positions_lie() -> None:
    reference = LennardJones(cutoff_ang=7.0)
    doubled = Structure.of(
        [18] * 6,
        np.vstack([CRYSTAL.positions, CRYSTAL.positions + CRYSTAL.cell[0]]),
        CRYSTAL.cell * np.array([[2], [1], [1]]),
    )
    assert energy(reference, doubled) == pytest.approx(2 * energy(reference, CRYSTAL), abs=1e-12)


def test_two_argon_atoms_at_the_minimum_bind_with_the_well_depth() -> None:
    pair = Structure.of([18, 18], [[0, 0, 0], [2 ** (1 / 6) * 3.4, 0, 0]])
    outcome = LennardJones().evaluate(pair)
    assert outcome.energy == pytest.approx(-0.0104, abs=1e-15)
    np.testing.assert_allclose(outcome.forces, 0, atol=1e-15)


def test_a_morse_pair_at_its_minimum_binds_with_the_well_depth() -> None:
    outcome = Morse(depth_ev=4.7, distance_ang=0.74).evaluate(Structure.of("HH", [[0, 0, 0], [0, 0.74, 0]]))
    assert outcome.energy == pytest.approx(-4.7, abs=1e-12)
    np.testing.assert_allclose(outcome.forces, 0, atol=1e-12)


@pytest.mark.parametrize(
    ("x", "y", "value"),
    [
        (-0.558224, 1.441726, -146.69952),
        (0.623499, 0.028038, -108.16672),
        (-0.050011, 0.466694, -80.76782),
        (-0.822002, 0.624313, -40.66484),
        (0.212487, 0.292988, -72.24894),
    ],
)
def test_the_mueller_brown_surface_has_its_published_stationary_points(x: float, y: float, value: float) -> None:
    outcome = MuellerBrown(energy_scale_ev=1.0).evaluate(Structure.of("Ar", [[x, y, 0]]))
    assert outcome.energy == pytest.approx(value, abs=1e-4)  # the table has five decimals
    np.testing.assert_allclose(outcome.forces, 0, atol=5e-3)  # curvature of 1e3 times half a unit of the sixth decimal


def test_ethanol_stays_whole_at_500_kelvin_on_the_morse_molecule() -> None:
    reference = MorseMolecule.around(ETHANOL)
    random = np.random.default_rng(1)
    masses = ETHANOL.masses[:, None]
    v = random.normal(size=(9, 3)) * np.sqrt(BOLTZMANN_EV_K * 500 / (masses * EV_PER_U_ANG2_FS2))
    x, dt = ETHANOL.positions.copy(), 0.5
    longest = 0.0
    forces = reference.evaluate(ETHANOL).forces
    friction = np.exp(-0.01 * dt)
    for _ in range(8000):
        v = v + 0.5 * dt * forces / (masses * EV_PER_U_ANG2_FS2)
        x = x + 0.5 * dt * v
        kick = np.sqrt((1 - friction**2) * BOLTZMANN_EV_K * 500 / (masses * EV_PER_U_ANG2_FS2))
        v = friction * v + kick * random.normal(size=v.shape)
        x = x + 0.5 * dt * v
        forces = reference.evaluate(ETHANOL.with_positions(x)).forces
        v = v + 0.5 * dt * forces / (masses * EV_PER_U_ANG2_FS2)
        stretches = [np.linalg.norm(x[i] - x[j]) / r0 for i, j, r0 in reference.bonds]
        longest = max(longest, *stretches)
    assert len(reference.bonds) == 8
    assert longest < 1.5  # 4.5 eV deep bonds at 0.043 eV: thermal stretches stay near 20 %


def test_the_reference_geometry_is_almost_the_minimum_of_its_morse_molecule() -> None:
    # The only force left is the repulsion of atoms three or more bonds apart.
    assert MorseMolecule.around(ETHANOL).evaluate(ETHANOL).max_force < 1.5


def test_another_molecule_is_rejected_by_name_of_its_atoms() -> None:
    reference = MorseMolecule.around(ETHANOL)
    water = Structure.of("OHH", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    outcome = reference.evaluate(water)
    assert isinstance(outcome, Failure)
    assert outcome.kind is FailureKind.REJECTED
    with pytest.raises(StructureError, match=r"found \[8, 1, 1\]"):
        reference.check(water)


@pytest.mark.parametrize("reference", [Morse(), LennardJones()])
def test_coinciding_atoms_are_a_failure_and_not_a_number(reference) -> None:
    outcome = reference.evaluate(Structure.of("HH", [[0, 0, 0], [0, 0, 0]]))
    assert isinstance(outcome, Failure)
    assert outcome.kind is FailureKind.NON_FINITE


def test_a_delay_is_no_part_of_the_level() -> None:
    assert Morse(delay_s=1.0).level == Morse().level
    assert MuellerBrown(delay_s=1.0).level == MuellerBrown().level
    assert LennardJones(delay_s=1.0).level == LennardJones().level
    assert MorseMolecule.around(ETHANOL, delay_s=1.0).level == MorseMolecule.around(ETHANOL).level
    assert Morse(depth_ev=4.6).level != Morse().level
