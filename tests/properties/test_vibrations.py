"""Hessians, vibrations and infrared intensities, against PySCF's own and against published numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pyscf import gto, scf
from pyscf.hessian import thermo

from alflow.domain import Evaluation, Structure
from alflow.domain.structure import FloatArray
from alflow.errors import ConfigError
from alflow.properties import SecondDerivatives, differentiate, displaced, fixed_dipole, vibrations
from alflow.reference import Morse, PyscfReference
from alflow.reference.analytic import analytic_hessian
from alflow.units import ANG_PER_BOHR, EV_ANG_PER_HARTREE_BOHR
from tests.reference.differences import evaluation

# The minimum of RHF/6-31G.
WATER = Structure.of("OHH", [[0.0, 0.0, 0.0], [0.78517, 0.0, 0.53415], [-0.78517, 0.0, 0.53415]])
TIGHT = PyscfReference(
    functional="hf", basis="6-31g", density_fitting=False, energy_tolerance_ha=1e-12, gradient_tolerance_ha=1e-8,
    properties=(),
)  # fmt: skip
DEBYE_PER_E_ANG = 4.80320
KM_MOL_PER_DEBYE2 = 42.2561  # of 1 (D/Å)²/u, as in the manuals of quantum-chemistry programs


def differences(reference: PyscfReference, structure: Structure, step: float) -> SecondDerivatives:
    found = [evaluation(reference, moved) for moved in displaced(structure, step)]
    return differentiate(found, structure.charge, step)


@pytest.fixture(scope="module")
def found() -> SecondDerivatives:
    return differences(TIGHT, WATER, 0.001)


@pytest.fixture(scope="module")
def field() -> Any:
    atoms = list(zip(WATER.symbols, WATER.positions / ANG_PER_BOHR, strict=True))
    mean_field = scf.RHF(gto.M(atom=atoms, unit="Bohr", basis="6-31g", verbose=0))
    mean_field.conv_tol = 1e-13
    mean_field.kernel()
    return mean_field


@pytest.fixture(scope="module")
def exact(field: Any) -> FloatArray:
    blocks = field.Hessian().kernel()
    return np.asarray(blocks.transpose(0, 2, 1, 3).reshape(9, 9) * EV_ANG_PER_HARTREE_BOHR / ANG_PER_BOHR)


def test_differences_of_forces_are_the_analytic_hessian(found: SecondDerivatives, exact: FloatArray) -> None:
    # What is left is truncation: a quarter of it at half the step.
    np.testing.assert_allclose(found.hessian, exact, atol=3e-4)
    assert found.asymmetry < 3e-4
    assert found.sum_rule < 3e-5
    assert np.array_equal(found.hessian, found.hessian.T)


def test_wavenumbers_and_modes_are_those_of_pyscf(field: Any, exact: FloatArray) -> None:
    ours = vibrations(exact, WATER.masses, WATER.positions)
    theirs = thermo.harmonic_analysis(field.mol, field.Hessian().kernel())
    # PySCF's masses differ from IUPAC's in the fifth digit.
    np.testing.assert_allclose(ours.wavenumbers, theirs["freq_wavenumber"], rtol=2e-5)
    np.testing.assert_allclose(ours.reduced_masses, theirs["reduced_mass"], rtol=1e-4)
    overlap = np.einsum("iar,iar->i", ours.displacements, theirs["norm_mode"]) * theirs["reduced_mass"]
    np.testing.assert_allclose(np.abs(overlap), 1.0, atol=1e-4)


def test_vibrations_intensities_and_polarizability_of_water_are_the_published_ones() -> None:
    # RHF/STO-3G: Y. Yamaguchi, M. Frisch, J. Gaw, H. F. Schaefer and J. S. Binkley, J. Chem. Phys. 84, 2262 (1986),
    # table 6, with the digits of GAMESS's example 10, at its minimum and with its masses.
    water = Structure.of("OHH", [[0.0, 0.0, 0.0], [0.758081, 0.0, 0.635802], [-0.758081, 0.0, 0.635802]])
    reference = replace(TIGHT, basis="sto-3g", properties=("polarizability",))
    raw = differences(reference, water, 0.001)
    masses = np.array([15.99491, 1.007825, 1.007825])
    found = vibrations(raw.hessian, masses, water.positions, raw.dipole_derivatives)
    np.testing.assert_allclose(found.wavenumbers, [2170.04, 4140.00, 4391.07], atol=0.02)
    assert found.intensities is not None
    published = np.array([0.17128, 1.04807, 0.70926])  # (D/Å)²/u
    np.testing.assert_allclose(found.intensities / KM_MOL_PER_DEBYE2, published, atol=2e-4)
    alpha = np.array(evaluation(reference, water).diagnostics["polarizability_ang3"])
    assert np.trace(alpha) / 3 == pytest.approx(0.40079, abs=1e-5)


def test_the_default_step_is_good_enough_at_default_tolerances(exact: FloatArray) -> None:
    reference = PyscfReference(functional="hf", basis="6-31g", density_fitting=False, properties=())
    coarse = differences(reference, WATER, 0.005)
    masses, positions = WATER.masses, WATER.positions
    error = vibrations(coarse.hessian, masses, positions).wavenumbers - vibrations(exact, masses, positions).wavenumbers
    assert np.abs(error).max() < 1.0  # 1/cm, of 4000: the truncation


def test_intensities_follow_from_the_dipole_along_each_mode(found: SecondDerivatives) -> None:
    modes = vibrations(found.hessian, WATER.masses, WATER.positions, found.dipole_derivatives)
    expected = []
    for mode in modes.displacements:
        ends = []
        for sign in (1.0, -1.0):
            moved = (WATER.positions + 0.002 * sign * mode) / ANG_PER_BOHR
            mean_field = scf.RHF(
                gto.M(atom=list(zip("OHH", moved, strict=True)), unit="Bohr", basis="6-31g", verbose=0)
            )
            mean_field.conv_tol = 1e-12
            mean_field.kernel()
            ends.append(mean_field.dip_moment(unit="Debye", verbose=0))
        slope = (ends[0] - ends[1]) / 0.004  # D/(Å √u)
        expected.append(KM_MOL_PER_DEBYE2 * slope @ slope)
    assert modes.intensities is not None
    np.testing.assert_allclose(modes.intensities, expected, rtol=1e-3, atol=1e-2)
    assert found.dipole_sum_rule == pytest.approx(0.0, abs=1e-5)


def test_an_ion_has_the_same_intensities_wherever_it_lies() -> None:
    ion = Structure.of("OH", [[0.0, 0.0, 0.0], [0.0, 0.3, 0.93]], charge=-1)
    reference = replace(TIGHT, basis="sto-3g")
    here, there = (
        differences(reference, ion.with_positions(ion.positions + shift), 0.002) for shift in (0.0, [3.0, -2.0, 1.0])
    )
    strengths = []
    for case in (here, there):
        assert case.dipole_sum_rule == pytest.approx(0.0, abs=1e-4)  # the whole charge moves with the whole ion
        modes = vibrations(case.hessian, ion.masses, ion.positions, case.dipole_derivatives)
        assert modes.intensities is not None
        strengths.append(modes.intensities)
    assert strengths[0] == pytest.approx(strengths[1], rel=1e-4)
    lost = Evaluation(0.0, np.zeros((2, 3)), None, {"dipole_e_ang": [0.0, 0.0, 0.0]})
    assert fixed_dipole(lost, -1) is None


@pytest.mark.parametrize(
    ("structure", "modes"),
    [
        (Structure.of("He", [[1.0, 2.0, 3.0]]), 0),
        (Structure.of("HH", [[0, 0, 0], [0.3, 0.4, 0.5]]), 1),
        (Structure.of("HHH", [[0, 0, 0], [0.3, 0.4, 0.5], [0.6, 0.8, 1.0]]), 4),
        (Structure.of("HHH", [[0, 0, 0], [0.3, 0.4, 0.5], [0.6, 0.8, 0.9]]), 3),
    ],
)
def test_translations_and_rotations_are_no_vibrations(structure: Structure, modes: int) -> None:
    reference = Morse()
    raw = differentiate([evaluation(reference, moved) for moved in displaced(structure, 1e-4)], 0, 1e-4)
    found = vibrations(raw.hessian, structure.masses, structure.positions)
    assert len(found.wavenumbers) == modes
    assert found.displacements.shape == (modes, len(structure), 3)
    drift = np.einsum("a,mar->mr", structure.masses, found.displacements)
    np.testing.assert_allclose(drift, 0.0, atol=1e-9)
    assert raw.dipole_derivatives is None


def test_a_wavenumber_of_a_morse_bond_is_the_closed_form() -> None:
    morse = Morse(depth_ev=4.5, width_per_ang=1.9, distance_ang=0.75)
    pair = Structure.of("HH", [[0, 0, 0], [0, 0, 0.75]])
    found = differentiate([evaluation(morse, moved) for moved in displaced(pair, 1e-4)], 0, 1e-4)
    # k = 2 D a², ν̃ = √(k/μ)/2πc, in SI units.
    stiffness = 2 * 4.5 * 1.9**2 * 1.602176634e-19 / 1e-20
    expected = np.sqrt(stiffness / (0.504 * 1.66053906660e-27)) / (2 * np.pi * 299792458e2)
    modes = vibrations(found.hessian, pair.masses, pair.positions)
    assert modes.wavenumbers[0] == pytest.approx(expected, rel=1e-6)
    assert modes.zero_point_energy == pytest.approx(0.5 * expected * 1.239841984e-4, rel=1e-6)


def test_a_saddle_has_an_imaginary_mode_that_is_negative_and_has_no_zero_point() -> None:
    falling = np.kron([[1.0, -1.0], [-1.0, 1.0]], np.diag([-36.0, 0.0, 0.0]))
    found = vibrations(falling, np.array([1.008, 1.008]), np.array([[0.0, 0, 0], [0.74, 0, 0]]))
    assert found.n_imaginary == 1
    assert found.wavenumbers[0] == pytest.approx(-4407, abs=1)
    assert found.zero_point_energy == 0.0


def test_the_analytic_hessian_is_in_our_units_and_order(exact: FloatArray) -> None:
    np.testing.assert_allclose(analytic_hessian(TIGHT, WATER), exact, atol=1e-5)


def test_the_analytic_hessian_of_dft_differs_by_the_response_of_the_grid() -> None:
    reference = replace(TIGHT, functional="pbe", basis="sto-3g", grid_level=2)
    analytic = SecondDerivatives.of(analytic_hessian(reference, WATER))
    numerical = differences(reference, WATER, 0.002)
    assert numerical.sum_rule < 1e-3 < analytic.sum_rule
    assert np.abs(analytic.hessian - numerical.hessian).max() < analytic.sum_rule < 0.2


def test_what_has_no_analytic_hessian_is_refused() -> None:
    with pytest.raises(ConfigError, match="leave --analytic out"):
        analytic_hessian(replace(TIGHT, smearing_ha=0.01), WATER)


@pytest.mark.parametrize("bend", [0.0, 0.0005, 0.005])
def test_a_linear_molecule_is_one_also_with_the_rounding_of_its_file(bend: float) -> None:
    """CO2 on springs: four vibrations, two of them bends of the same wavenumber."""
    positions = np.array([[-1.16, 0.0, 0.0], [0.0, bend, 0.0], [1.16, 0.0, 0.0]])
    stretch, flex = np.array([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0]]), np.array([[1.0, -2.0, 1.0]])
    along = 90.0 * stretch.T @ stretch
    across = 4.0 * flex.T @ flex
    hessian = np.kron(along, np.diag([1.0, 0.0, 0.0])) + np.kron(across, np.diag([0.0, 1.0, 1.0]))
    found = vibrations(hessian, np.array([15.999, 12.011, 15.999]), positions)
    assert len(found.wavenumbers) == 4
    assert found.wavenumbers[1] == pytest.approx(found.wavenumbers[0], rel=1e-3)
