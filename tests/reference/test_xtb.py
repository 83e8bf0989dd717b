"""Labels by xTB: exact derivatives, charges and spins, cells, failures as values, a campaign in seconds."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, molecule

from alflow.campaign.launch import run_campaign
from alflow.domain import Evaluation, Failure, FailureKind, Structure
from alflow.domain.ase import from_atoms
from alflow.errors import ConfigError, InputError, StructureError
from alflow.reference import LabelRequest, TbliteReference, XtbConfig, check_reference, make_reference, run_label
from alflow.units import ANG_PER_BOHR
from tests.campaign.toys import check_promises, rows, toy
from tests.reference.differences import evaluation, numerical_forces, numerical_stress, strained

TIGHT = TbliteReference(accuracy=0.01)
SILICON = TbliteReference("gfn1-xtb", accuracy=0.001)


def rattled(structure: Structure, charge: int = 0, multiplicity: int = 1) -> Structure:
    positions = structure.positions + np.random.default_rng(3).normal(0.0, 0.05, structure.positions.shape)
    pbc = [bool(p) for p in structure.pbc]
    return Structure.of(structure.numbers, positions, structure.cell, pbc, charge, multiplicity)


WATER = rattled(from_atoms(molecule("H2O")))
ETHANOL = from_atoms(molecule("CH3CH2OH"))
CRYSTAL = rattled(from_atoms(bulk("Si", "diamond", 5.43)))


@pytest.mark.parametrize(
    "structure",
    [WATER, rattled(ETHANOL, charge=1, multiplicity=2), rattled(from_atoms(molecule("CH3")), 0, 2)],
    ids=["water", "ethanol cation", "methyl radical"],
)
def test_forces_are_the_exact_derivative_of_the_energy(structure: Structure) -> None:
    found, expected = evaluation(TIGHT, structure), numerical_forces(TIGHT, structure, 2e-3)
    print(f"largest error of a force component: {np.abs(found.forces - expected).max():.1e} eV/Å")
    # What the field's tolerance leaves: measured below 4e-7.
    np.testing.assert_allclose(found.forces, expected, atol=1e-5)
    assert found.stress is None


def test_forces_with_hot_electrons_are_the_derivative_of_the_free_energy() -> None:
    hot = TbliteReference(accuracy=0.01, electronic_temperature_k=5000)
    radical = rattled(ETHANOL, 1, 2)
    np.testing.assert_allclose(evaluation(hot, radical).forces, numerical_forces(hot, radical, 2e-3), atol=1e-5)


def test_forces_and_stress_of_a_crystal_are_exact_derivatives() -> None:
    found, forces = evaluation(SILICON, CRYSTAL), numerical_forces(SILICON, CRYSTAL, 2e-3)
    assert found.stress is not None
    # A small strain: beyond 2e-4 the lattice sums take in other images, and the energy is no polynomial any more.
    stress = numerical_stress(SILICON, CRYSTAL, 1e-4)
    errors = np.abs(found.forces - forces).max(), np.abs(found.stress - stress).max()
    print(f"largest errors: {errors[0]:.1e} eV/Å, {errors[1]:.1e} eV/Å³")
    np.testing.assert_allclose(found.forces, forces, atol=1e-5)
    np.testing.assert_allclose(found.stress, stress, atol=5e-7)


def test_stress_is_positive_under_tension() -> None:
    perfect = from_atoms(bulk("Si", "diamond", 5.43))
    stresses = [evaluation(SILICON, strained(perfect, np.eye(3) * scale)).stress for scale in (0.95, 1.0, 1.05, 1.1)]
    traces = [np.trace(stress) for stress in stresses if stress is not None]
    assert len(traces) == 4
    assert traces == sorted(traces), "pulling adds to the stress"


def test_energy_and_charge_agree_with_the_calculator_of_tblite() -> None:
    """The energy of the ASE documentation's example, at tblite's own tolerance."""
    found = evaluation(TbliteReference(accuracy=1.0), from_atoms(molecule("H2O")))
    assert found.energy == pytest.approx(-137.96777, abs=1e-4)
    assert sum(found.diagnostics["charges_e"]) == pytest.approx(0.0, abs=1e-9)
    # 0.476 e·Å there; the axis points from hydrogen to oxygen.
    assert np.abs(found.diagnostics["dipole_e_ang"]) == pytest.approx([0.0, 0.0, 0.47602], abs=1e-4)
    assert found.diagnostics["versions"]["tblite"]


def test_the_dipole_of_an_ion_does_not_depend_on_where_it_is() -> None:
    ion = rattled(ETHANOL, 1, 2)
    far = ion.with_positions(ion.positions + 30.0)
    here, there = (np.array(evaluation(TIGHT, s).diagnostics["dipole_e_ang"]) for s in (ion, far))
    np.testing.assert_allclose(here, there, atol=1e-4)
    assert np.linalg.norm(here) < 30.0 * ANG_PER_BOHR
    assert sum(evaluation(TIGHT, ion).diagnostics["charges_e"]) == pytest.approx(1.0, abs=1e-6)


def test_every_label_starts_cold() -> None:
    first = evaluation(TIGHT, WATER)
    evaluation(TIGHT, ETHANOL)
    again = evaluation(TIGHT, WATER)
    # Not bit for bit: tblite's threads add in an order of their own. A warm start would differ by the SCF's tolerance.
    assert again.energy == pytest.approx(first.energy, abs=1e-9)
    np.testing.assert_allclose(again.forces, first.forces, rtol=0, atol=1e-9)


def test_what_changes_no_number_is_no_part_of_the_level() -> None:
    config = XtbConfig(method="gfn1-xtb", threads=2, max_iterations=10, time_limit_s=1)
    assert make_reference(config).level == TbliteReference("gfn1-xtb").level
    others = [TbliteReference(), TbliteReference(accuracy=1.0), TbliteReference(electronic_temperature_k=400)]
    assert len({level.level.id for level in others} | {TbliteReference("gfn1-xtb").level.id}) == 4


def test_a_field_that_does_not_converge_is_a_failure_of_physics() -> None:
    found = TbliteReference(max_iterations=2).evaluate(ETHANOL)
    assert isinstance(found, Failure)
    assert found.kind is FailureKind.SCF_FAIL
    assert "not converge" in found.message


SLAB = Structure.of("Si", [[0.0, 0.0, 0.0]], [3.0, 3.0, 9.0], [True, True, False])
HEAVY = Structure.of([92, 92], [[0.0, 0.0, 0.0], [0.0, 0.0, 2.8]])
RADICAL = Structure.of("OH", [[0.0, 0.0, 0.0], [0.0, 0.0, 0.97]])


@pytest.mark.parametrize(
    ("structure", "error", "sentence"),
    [
        (SLAB, StructureError, "three-dimensional cells; give pbc in all three directions"),
        (HEAVY, ConfigError, "gfn2-xtb cannot treat U2: .*Z >86"),
        (RADICAL, StructureError, "9 electrons, which cannot have multiplicity 1"),
    ],
)
def test_what_xtb_cannot_treat_is_said_before_a_campaign_and_rejected_in_one(
    structure: Structure, error: type[InputError], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        check_reference(XtbConfig(), [structure])
    found = TbliteReference().evaluate(structure)
    assert isinstance(found, Failure)
    assert found.kind is FailureKind.REJECTED


def test_a_missing_package_is_answered_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tblite", None)
    with pytest.raises(ConfigError, match=r"needs the package tblite.*pip install 'alflow\[xtb\]'"):
        check_reference(XtbConfig(), [WATER])


def test_a_label_in_a_process_of_its_own_is_the_same_on_one_and_two_threads(tmp_path: Path, scratch: Path) -> None:
    energies = []
    for threads in (1, 2, 1):
        key = f"label-{len(energies)}-a1"
        asked = LabelRequest(TIGHT, ETHANOL, key, tmp_path / key, threads=threads, time_limit_s=60)
        outcome = run_label(asked).outcome
        assert isinstance(outcome, Evaluation), outcome
        energies.append(outcome.energy)
    assert energies == pytest.approx([evaluation(TIGHT, ETHANOL).energy] * 3, abs=1e-8)


def test_a_campaign_with_real_physics_takes_seconds(tmp_path: Path) -> None:
    config = toy(tmp_path, reference={"engine": "xtb"}, label_budget=10)
    ended = run_campaign(config)
    assert ended.state.phase == "finished", ended.state.reason
    assert ended.committee is not None
    check_promises(config.database)
    assert rows(config.database, "SELECT count(*) FROM labels") == [(10,)]
