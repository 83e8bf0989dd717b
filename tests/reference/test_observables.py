"""Charges and polarizabilities of labels: they add up, agree with published numbers, and never cost a label."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pyscf import dft, gto, scf
from pyscf.lo import iao, orth

from alflow.domain import Failure, Structure
from alflow.domain.structure import FloatArray
from alflow.errors import ConfigError
from alflow.reference import PyscfConfig, PyscfReference, check_reference, make_reference
from alflow.reference.charges import iao_charges
from alflow.reference.chelpg import EXCLUSION_ANG, HEAD_SPACE_ANG, fitting_points
from alflow.units import ANG_PER_BOHR

from .differences import evaluation

HALF = np.deg2rad(104.5) / 2
WATER = Structure.of(
    "OHH", 0.956 * np.array([[0, 0, 0], [np.sin(HALF), 0, np.cos(HALF)], [-np.sin(HALF), 0, np.cos(HALF)]])
)
SKEW = Structure.of("OHH", [[0.2, 0.1, -0.3], [1.16, 0.15, -0.3], [-0.04, 1.09, -0.2]])
CATION = Structure.of("OHH", SKEW.positions, charge=1, multiplicity=2)
IODIDE = Structure.of("IH", [[0, 0, 0], [0.5, 0, 1.5]])
QUICK = PyscfReference(functional="hf", basis="6-31g")
DEBYE_PER_E_ANG = 4.80320


@pytest.mark.parametrize(
    ("reference", "structure"),
    [
        pytest.param(PyscfReference(basis="6-31g", grid_level=3), SKEW, id="restricted"),
        pytest.param(PyscfReference(basis="6-31g", grid_level=3), CATION, id="unrestricted-ion"),
        pytest.param(QUICK, SKEW, id="hartree-fock-on-a-grid-of-its-own"),
        pytest.param(replace(QUICK, basis="def2-svp"), IODIDE, id="core-potential"),
        pytest.param(replace(QUICK, basis="6-31g*", cartesian=True), SKEW, id="cartesian"),
        pytest.param(replace(QUICK, solvent_dielectric=78.4), SKEW, id="in-a-solvent"),
        pytest.param(replace(QUICK, smearing_ha=0.01), SKEW, id="warm-electrons"),
    ],
)
def test_hirshfeld_charges_and_atomic_dipoles_make_the_dipole_of_the_molecule(
    reference: PyscfReference, structure: Structure
) -> None:
    found = evaluation(reference, structure).diagnostics
    charges, dipoles = np.array(found["hirshfeld_charges_e"]), np.array(found["hirshfeld_dipoles_e_ang"])
    assert charges.sum() == pytest.approx(structure.charge, abs=1e-5)  # what the grid counts
    rebuilt = charges @ (structure.positions - np.array(found["dipole_origin_ang"])) + dipoles.sum(axis=0)
    error = DEBYE_PER_E_ANG * (rebuilt - np.array(found["dipole_e_ang"]))
    assert np.abs(error).max() < 1e-4


def test_hirshfeld_shares_are_those_of_free_atoms() -> None:
    found = evaluation(QUICK, SKEW).diagnostics
    molecule = pyscf_molecule(SKEW, "6-31g")
    field = scf.RHF(molecule).density_fit().run()
    grid = dft.gen_grid.Grids(molecule)
    grid.level = 4
    grid.build()
    rho = dft.numint.NumInt().get_rho(molecule, field.make_rdm1(), grid)
    promolecule = [free_atom_density(symbol, "6-31g", grid.coords - x) for symbol, x in atoms(SKEW)]
    expected = molecule.atom_charges() - (np.array(promolecule) / sum(promolecule)) @ (rho * grid.weights)
    # Another grid, and no table to interpolate in.
    np.testing.assert_allclose(found["hirshfeld_charges_e"], expected, atol=2e-5)


def free_atom_density(symbol: str, basis: str, points: FloatArray) -> FloatArray:
    """Averaged over directions by averaging the p shells' occupations, from PySCF's superposition of atoms."""
    atom = gto.M(atom=[(symbol, (0, 0, 0))], basis=basis, spin=None, verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of PySCF's, by PySCF
        density = scf.hf.init_guess_by_atom(atom)
    values = dft.numint.eval_ao(atom, points)
    return np.asarray(dft.numint.eval_rho(atom, values, density))


def test_intrinsic_atomic_orbitals_hold_the_electrons_pyscf_counts() -> None:
    field = scf.UHF(pyscf_molecule(CATION, "6-31g")).density_fit().run()
    populations = np.zeros(3)
    for orbitals, density, n in zip(field.mo_coeff, field.make_rdm1(), field.nelec, strict=True):
        atomic = orth.vec_lowdin(iao.iao(field.mol, orbitals[:, :n]), field.get_ovlp())
        populations += field.mol.atom_charges() - iao.fast_iao_mullikan_pop(field.mol, density, atomic, verbose=0)[1]
    found = iao_charges(field)
    np.testing.assert_allclose(found, field.mol.atom_charges() - populations, atol=1e-9)
    assert found.sum() == pytest.approx(1.0, abs=1e-9)


def test_intrinsic_atomic_orbitals_hardly_depend_on_the_basis_set() -> None:
    small, large = (
        evaluation(replace(QUICK, basis=basis, properties=("iao",)), WATER).diagnostics["iao_charges_e"][0]
        for basis in ("def2-svp", "def2-tzvp")
    )
    assert small == pytest.approx(large, abs=0.05)


def test_chelpg_charges_of_water_are_the_published_ones() -> None:
    # -0.6182 for oxygen: RHF/STO-3G at 0.956 Å and 104.5°, in the manual of Breneman's own program (CHELPG, 12/18/90;
    # server.ccl.net/cca/software/SOURCES/FORTRAN/chelpg), which keeps 3953 points of a grid laid a little differently.
    reference = PyscfReference(functional="hf", basis="sto-3g", density_fitting=False, properties=("chelpg",))
    charges = np.array(evaluation(reference, WATER).diagnostics["chelpg_charges_e"])
    assert charges == pytest.approx([-0.6182, 0.3091, 0.3091], abs=2e-3)
    assert charges.sum() == pytest.approx(0.0, abs=1e-12)


def test_cartesian_functions_have_chelpg_charges_too() -> None:
    both = [
        evaluation(replace(QUICK, basis="6-31g*", cartesian=cartesian, properties=("chelpg",)), WATER).diagnostics
        for cartesian in (False, True)
    ]
    spherical, cartesian = (np.array(found["chelpg_charges_e"]) for found in both)
    assert cartesian == pytest.approx(spherical, abs=0.01)  # one more s function on oxygen


def test_points_of_the_fit_lie_around_the_molecule_and_not_within() -> None:
    points = fitting_points(WATER.numbers.astype(float), WATER.positions / ANG_PER_BOHR) * ANG_PER_BOHR
    lengths = np.linalg.norm(points[:, None] - WATER.positions, axis=2)
    assert (lengths > [EXCLUSION_ANG[z] for z in WATER.numbers]).all()
    assert (lengths.min(axis=1) <= HEAD_SPACE_ANG).all()
    assert len(points) == pytest.approx(3953, rel=0.03)


@pytest.mark.parametrize(
    ("functional", "structure"),
    [
        pytest.param("hf", SKEW, id="hf"),
        pytest.param("pbe", SKEW, id="pbe"),
        pytest.param("b3lyp", CATION, id="radical-b3lyp"),
    ],
)
def test_polarizabilities_agree_with_coupled_perturbed_theory(functional: str, structure: Structure) -> None:
    reference = PyscfReference(functional=functional, basis="6-31g", grid_level=1, properties=("polarizability",))
    found = np.array(evaluation(reference, structure).diagnostics["polarizability_ang3"])
    molecule = pyscf_molecule(structure, "6-31g")
    if functional == "hf":
        field = scf.RHF(molecule)
    else:
        field = (dft.UKS if molecule.spin else dft.RKS)(molecule, xc=functional)
        field.grids.level = 1
    field = field.density_fit()
    field.conv_tol = 1e-11
    field.kernel()
    # The third derivative of the dipole moment, 1000 times the square of the field.
    np.testing.assert_allclose(found, coupled_perturbed(field), atol=3e-4)


def coupled_perturbed(field: Any) -> FloatArray:
    """Polarizability volume, Å³, from the linear response of the orbitals (Gerratt and Mills, 1968)."""
    dipoles = field.mol.intor_symmetric("int1e_r", comp=3)
    response = field.gen_response(hermi=1)
    orbitals, occupations, energies = (np.asarray(x) for x in (field.mo_coeff, field.mo_occ, field.mo_energy))
    closed = occupations.ndim == 1
    parts = [(orbitals, occupations > 0, energies)] if closed else []
    if not closed:
        parts = [(orbitals[s], occupations[s] > 0, energies[s]) for s in (0, 1)]
    tensor = np.zeros((3, 3))
    for axis in range(3):
        right = [c[:, ~o].T @ dipoles[axis] @ c[:, o] for c, o, _ in parts]
        gaps = np.concatenate([(e[~o][:, None] - e[o]).ravel() for _, o, e in parts])
        sizes = np.cumsum([0, *(r.size for r in right)])

        def split(x: FloatArray, right: Any = right, sizes: Any = sizes) -> list[FloatArray]:
            return [x[sizes[k] : sizes[k + 1]].reshape(r.shape) for k, r in enumerate(right)]

        def densities(x: FloatArray, split: Any = split) -> FloatArray:
            made = [c[:, ~o] @ y @ c[:, o].T for (c, o, _), y in zip(parts, split(x), strict=True)]
            both = np.array([d + d.T for d in made])
            return 2.0 * both[0] if closed else both

        def matrix(x: FloatArray, densities: Any = densities) -> FloatArray:
            induced = np.asarray(response(densities(x))).reshape(len(parts), *dipoles[0].shape)
            moved = [c[:, ~o].T @ v @ c[:, o] for (c, o, _), v in zip(parts, induced, strict=True)]
            return np.concatenate([m.ravel() for m in moved])

        equations = np.array([matrix(row) for row in np.eye(sizes[-1])]).T + np.diag(gaps)
        amplitudes = -np.linalg.solve(equations, np.concatenate([r.ravel() for r in right]))
        density = densities(amplitudes)
        total = density if closed else density.sum(axis=0)
        tensor[:, axis] = -np.einsum("xij,ji->x", dipoles, total)
    return tensor * ANG_PER_BOHR**3


def test_the_polarizability_of_water_is_the_published_one() -> None:
    # G. Maroulis, J. Chem. Phys. 94, 1182 (1991): 8.531 e²a₀²/Eₕ, the best self-consistent-field value, at the
    # experimental geometry (0.9572 Å, 104.52°). This basis set has half as many functions as his.
    half = np.deg2rad(104.52) / 2
    x, z = 0.9572 * np.sin(half), 0.9572 * np.cos(half)
    water = Structure.of("OHH", [[0, 0, 0], [x, 0, z], [-x, 0, z]])
    reference = replace(QUICK, basis="def2-tzvppd", properties=("polarizability",))
    found = np.trace(evaluation(reference, water).diagnostics["polarizability_ang3"]) / 3 / ANG_PER_BOHR**3
    assert found == pytest.approx(8.531, rel=0.01)


def test_a_property_that_fails_does_not_cost_the_label() -> None:
    asked = replace(QUICK, basis="def2-svp", properties=("hirshfeld", "iao"))
    found = evaluation(asked, IODIDE)
    assert "core potential" in found.diagnostics["properties_failed"]["iao"]
    assert len(found.diagnostics["hirshfeld_charges_e"]) == 2
    plain = evaluation(replace(asked, properties=()), IODIDE)
    assert np.array_equal(plain.forces, found.forces)
    assert not any("hirshfeld" in key or "properties" in key for key in plain.diagnostics)


def test_a_refused_label_has_no_properties() -> None:
    outcome = replace(QUICK, max_cycles=1, gradient_tolerance_ha=1e-13).evaluate(SKEW)
    assert isinstance(outcome, Failure)


def test_properties_are_listed_once_in_one_order_and_are_no_part_of_the_level() -> None:
    config = PyscfConfig(properties=["polarizability", "chelpg", "chelpg"])
    assert config.properties == ["chelpg", "polarizability"]
    assert make_reference(config).level == make_reference(PyscfConfig(properties=[])).level
    assert PyscfConfig().properties == ["hirshfeld"]


def test_a_spot_check_computes_no_properties() -> None:
    reference = PyscfReference(properties=("polarizability",))
    assert reference.finer is not None
    assert reference.finer.properties == reference.plain.properties == ()
    assert reference.plain.level == reference.level


def test_a_property_that_cannot_be_had_is_refused_before_anything_runs() -> None:
    with pytest.raises(ValueError, match="no occupied orbitals that iao could divide"):
        PyscfConfig(properties=["iao"], smearing_ha=0.01)
    with pytest.raises(ConfigError, match="I have a core potential in this basis; take iao out of properties"):
        check_reference(PyscfConfig(properties=["iao"]), [IODIDE])


def atoms(structure: Structure) -> list[tuple[str, FloatArray]]:
    return list(zip(structure.symbols, structure.positions / ANG_PER_BOHR, strict=True))


def pyscf_molecule(structure: Structure, basis: str) -> Any:
    spin = structure.multiplicity - 1
    return gto.M(atom=atoms(structure), unit="Bohr", basis=basis, charge=structure.charge, spin=spin, verbose=0)
