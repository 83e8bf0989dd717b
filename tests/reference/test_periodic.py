"""Cells by PySCF: exact forces and stress on both routes, dispersion of our own, answers to wrong input."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.units import Bohr
from dftd3.ase import DFTD3
from pydantic import ValidationError

from alflow.domain import Evaluation, Failure, FailureKind, Structure
from alflow.domain.ase import from_atoms, to_atoms
from alflow.domain.structure import FloatArray
from alflow.errors import ConfigError, InputError, StructureError
from alflow.reference import (
    LabelRequest,
    PyscfPeriodicConfig,
    PyscfPeriodicReference,
    check_reference,
    make_reference,
    run_label,
)
from alflow.reference.dispersion import NEIGHBORS_BOHR, PAIRS_BOHR, d3bj
from alflow.reference.functionals import FUNCTIONALS
from alflow.reference.periodic import PSEUDOPOTENTIALS
from tests.reference.differences import evaluation, slope, strained

# Derivatives are exact on any grid; this one is coarse, to be quick.
FFT = PyscfPeriodicReference(
    route="fft", ke_cutoff_ha=30.0, precision=1e-6, energy_tolerance_ha=1e-11, gradient_tolerance_ha=1e-7
)
MULTIGRID = replace(FFT, route="multigrid", ke_cutoff_ha=40.0, precision=1e-8)


def rattled(structure: Structure, multiplicity: int = 1) -> Structure:
    positions = structure.positions + np.random.default_rng(3).normal(0.0, 0.05, structure.positions.shape)
    return Structure.of(structure.numbers, positions, structure.cell, [True] * 3, 0, multiplicity)


SILICON = rattled(from_atoms(bulk("Si", "diamond", 5.43)))
SHEAR = np.array([[1.01, 0.02, 0.0], [0.01, 0.99, 0.015], [0.0, -0.01, 1.0]])
CRYSTAL = strained(SILICON, SHEAR)
SMALL = rattled(
    Structure.of(
        "SiSiSiSi",
        np.array([[0, 0, 0], [0, 0.5, 0.25], [0.5, 0.5, 0.5], [0.5, 0, 0.75]]) * [3.84, 3.84, 5.43],
        np.diag([3.84, 3.84, 5.43]),
        [True] * 3,
    )
)
ALUMINIUM = rattled(
    Structure.of("AlAl", [[0.0, 0.0, 0.0], [1.43, 1.43, 2.03]], np.diag([2.86, 2.86, 4.05]), [True] * 3)
)
RADICAL = rattled(
    Structure.of(
        "AlSi",
        [[0.0, 0.0, 0.0], [1.4, 1.4, 1.4]],
        np.array([[0, 2.75, 2.75], [2.75, 0, 2.75], [2.75, 2.75, 0]]),
        [True] * 3,
    ),
    2,
)


def steep(energy: Callable[[float], float], step: float) -> float:
    """A slope from two energies only, with a step so small that truncation stays below 1e-5."""
    return (energy(step) - energy(-step)) / (2 * step)


def along(reference: PyscfPeriodicReference, structure: Structure, found: Evaluation, shear: bool = True) -> FloatArray:
    """Errors of the forces along one direction, eV/Å, and of the stress against one strain, eV/Å³."""
    assert found.stress is not None
    silent = replace(reference, stress=False)
    random = np.random.default_rng(7)
    direction = random.normal(size=found.forces.shape)
    direction /= np.linalg.norm(direction)
    direct = random.normal(size=(3, 3))
    direct = direct if shear else np.diag(np.diag(direct))  # a box that stays a box is several times faster
    direct /= np.linalg.norm(direct)
    meshes = set()

    def energy(moved: Structure) -> float:
        result = evaluation(silent, moved)
        meshes.add(tuple(result.diagnostics["mesh"]))
        return result.energy

    push = -steep(lambda x: energy(structure.with_positions(structure.positions + x * direction)), 5e-4)

    def pulled(size: float) -> float:
        moved = strained(structure, np.eye(3) + size * direct)
        return energy(Structure.of(moved.numbers, moved.positions, moved.cell, [True] * 3, 0, structure.multiplicity))

    pull = steep(pulled, 2e-4) / abs(float(np.linalg.det(structure.cell)))
    assert len(meshes) == 1, "a difference over a step of the grid says nothing"
    errors = np.array([(found.forces * direction).sum() - push, (found.stress * direct).sum() - pull])
    print(f"errors {errors[0]:.1e} eV/Å, {errors[1]:.1e} eV/Å³ of {push:.3f}, {pull:.4f}; grid {meshes}")
    return np.asarray(np.abs(errors), dtype=np.float64)


def test_a_cell_has_dispersion_d3bj_or_none() -> None:
    with pytest.raises(ValueError, match="cells have dispersion d3bj or none; found d4"):
        PyscfPeriodicReference(dispersion="d4")


@pytest.mark.parametrize(
    ("reference", "structure"),
    [
        pytest.param(replace(FFT, functional="svwn"), SILICON, id="lda"),
        pytest.param(replace(FFT, kpoints=(2, 1, 1)), CRYSTAL, id="pbe triclinic k-points", marks=pytest.mark.slow),
        pytest.param(replace(FFT, kpoints=(2, 1, 1), smearing_ha=0.02), ALUMINIUM, id="metal", marks=pytest.mark.slow),
        pytest.param(
            replace(FFT, kpoints=(1, 1, 2), functional="svwn"), RADICAL, id="unrestricted", marks=pytest.mark.slow
        ),
    ],
)
def test_forces_and_stress_are_exact_derivatives(reference: PyscfPeriodicReference, structure: Structure) -> None:
    force, stress = along(reference, structure, evaluation(reference, structure))
    # Measured below 2e-6 and 2e-8.
    assert force < 1e-5
    assert stress < 1e-6


@pytest.mark.slow
def test_the_multigrid_route_is_as_exact_as_its_precision_and_agrees_with_the_other() -> None:
    several = evaluation(MULTIGRID, SMALL)
    force, stress = along(MULTIGRID, SMALL, several, shear=False)
    assert force < 1e-4
    assert stress < 2e-5
    one = evaluation(replace(MULTIGRID, route="fft"), SMALL)
    assert several.stress is not None
    assert one.stress is not None
    assert several.energy == pytest.approx(one.energy, abs=1e-4)
    np.testing.assert_allclose(several.forces, one.forces, rtol=0, atol=1e-4)
    np.testing.assert_allclose(several.stress, one.stress, rtol=0, atol=1e-6)


@pytest.mark.parametrize("functional", [name for name in PSEUDOPOTENTIALS if name not in ("svwn", "pbe")])
def test_every_functional_of_cells_has_exact_forces_and_stress(functional: str) -> None:
    """The others are above. Atoms move and the cell is strained at once: one difference holds both derivatives."""
    potential = "gth-pbe" if functional == "pbesol" else None  # PySCF's own for PBEsol knows boron only
    reference = replace(FFT, functional=functional, pseudopotential=potential)
    found = evaluation(reference, CRYSTAL)
    assert found.stress is not None
    random = np.random.default_rng(7)
    push, pull = random.normal(size=(2, 3)), random.normal(size=(3, 3))

    def energy(size: float) -> float:
        moved = CRYSTAL.with_positions(CRYSTAL.positions + size * push)
        result = evaluation(replace(reference, stress=False), strained(moved, np.eye(3) + 0.3 * size * pull))
        assert result.diagnostics["mesh"] == found.diagnostics["mesh"]
        return result.energy

    told = -(found.forces * push).sum() + 0.3 * (found.stress * pull).sum() * abs(np.linalg.det(CRYSTAL.cell))
    error = abs(told - steep(energy, 3e-4))
    print(f"error {error:.1e} eV/Å of {told:.3f}; stated noise {found.diagnostics['force_noise_ev_ang']:.1e}")
    rough = FUNCTIONALS[functional].roughness
    assert error < max(1e-5, rough)
    assert found.diagnostics["force_noise_ev_ang"] >= rough


def test_dispersion_is_that_of_dftd3_in_all_three_directions() -> None:
    atoms = to_atoms(CRYSTAL)
    atoms.calc = DFTD3(
        method="PBE", damping="d3bj", realspace_cutoff={"disp2": PAIRS_BOHR * Bohr, "cn": NEIGHBORS_BOHR * Bohr}
    )
    found = d3bj("pbe", CRYSTAL)
    assert found.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
    np.testing.assert_allclose(found.forces, atoms.get_forces(), atol=1e-6)
    np.testing.assert_allclose(found.stress, atoms.get_stress(voigt=False), atol=1e-8)


def test_dispersion_has_forces_and_stress_of_its_own_energy() -> None:
    found, volume = d3bj("pbe", CRYSTAL), abs(float(np.linalg.det(CRYSTAL.cell)))
    push = np.zeros((2, 3))
    push[1, 2] = 1.0
    force = -slope(lambda x: d3bj("pbe", CRYSTAL.with_positions(CRYSTAL.positions + x * push)).energy, 1e-2)
    # Pairs beyond 95 Bohr are left out abruptly, which differences see.
    assert found.forces[1, 2] == pytest.approx(force, abs=1e-5)
    for place in ((0, 0), (1, 2)):

        def energy(size: float, place: tuple[int, int] = place) -> float:
            deformation = np.eye(3)
            deformation[place] += size
            return d3bj("pbe", strained(CRYSTAL, deformation)).energy

        assert found.stress[place] == pytest.approx(slope(energy, 5e-3) / volume, abs=1e-5)


QUICK = replace(FFT, functional="svwn", stress=False)


def test_a_label_with_dispersion_is_the_sum_of_both() -> None:
    # svwn has no parameters: PBE, without its stress.
    pbe = replace(QUICK, functional="pbe")
    bare, whole, added = (
        evaluation(pbe, SILICON),
        evaluation(replace(pbe, dispersion="d3bj"), SILICON),
        d3bj("pbe", SILICON),
    )
    assert whole.energy == pytest.approx(bare.energy + added.energy, abs=1e-9)
    np.testing.assert_allclose(whole.forces, bare.forces + added.forces, atol=1e-9)
    assert whole.diagnostics["dispersion_ev"] == added.energy
    assert whole.diagnostics["versions"]["dftd3"]


def test_a_label_tells_what_it_is_worth() -> None:
    found = evaluation(QUICK, SILICON).diagnostics
    assert found["n_electrons_on_grid"] == pytest.approx(8.0, abs=1e-3)
    assert found["mesh"] == [19, 19, 19]
    assert found["n_kpoints"] == 1
    assert found["gap_ev"] > 0.5
    assert 0.0 <= found["net_force_ev_ang"] <= found["force_noise_ev_ang"] < 0.01
    assert found["scf_rungs"][0]["rung"] == "diis"
    assert {"pyscf", "libxc"} <= set(found["versions"])


def test_the_label_does_not_depend_on_the_memory_it_may_use() -> None:
    kept = evaluation(QUICK, SILICON)
    anew = evaluation(replace(QUICK, memory_mb=600), SILICON)
    assert anew.energy == pytest.approx(kept.energy, abs=1e-10)
    np.testing.assert_allclose(anew.forces, kept.forces, atol=1e-9)


def test_one_level_has_one_name_whatever_it_may_use() -> None:
    config = PyscfPeriodicConfig(kpoints=(2, 2, 2), functional="PBEsol", memory_limit_mb=9000, max_cycles=9, threads=2)
    reference = make_reference(config)
    assert reference.level == PyscfPeriodicReference(functional="pbesol", kpoints=(2, 2, 2)).level
    assert reference.level.settings["pseudopotential"] == "gth-pbesol"
    assert pickle.loads(pickle.dumps(reference)).level == reference.level
    assert PyscfPeriodicReference().level.settings["route"] == "multigrid"
    others = [
        PyscfPeriodicReference(),
        PyscfPeriodicReference(route="fft"),
        PyscfPeriodicReference(ke_cutoff_ha=90.0),
        PyscfPeriodicReference(precision=1e-7),
        PyscfPeriodicReference(smearing_ha=0.01),
        PyscfPeriodicReference(dispersion="d3bj"),
        PyscfPeriodicReference(stress=False),
        PyscfPeriodicReference(kpoints=(1, 1, 2)),
    ]
    assert len({other.level.id for other in others}) == len(others)


def test_a_field_that_does_not_converge_is_a_failure_of_physics() -> None:
    found = replace(QUICK, max_cycles=1).evaluate(SILICON)
    assert isinstance(found, Failure)
    assert found.kind is FailureKind.SCF_FAIL
    assert "needs smearing_ha or more kpoints" in found.message


def test_a_grid_too_coarse_for_its_atoms_makes_no_label() -> None:
    hard = Structure.of("LiH", [[0.1, 0, 0], [2.0, 2.1, 2.0]], np.diag([4.1, 4.0, 4.2]), [True] * 3)
    found = QUICK.evaluate(hard)
    assert isinstance(found, Failure)
    assert found.kind is FailureKind.REJECTED
    assert "raise ke_cutoff_ha (now 30)" in found.message


SLAB = Structure.of("SiSi", SILICON.positions, np.diag([4.0, 4.0, 20.0]), [True, True, False])
WATER = Structure.of("OHH", [[0.0, 0.0, 0.0], [0.96, 0.05, 0.0], [-0.24, 0.99, 0.1]])
ION = Structure.of("SiSi", SILICON.positions, SILICON.cell, [True] * 3, 1, 2)
ODD = Structure.of("Al", [[0.0, 0.0, 0.0]], np.diag([3.0, 3.0, 3.0]), [True] * 3)
HEAVY = Structure.of("AmAm", SILICON.positions * 1.5, SILICON.cell * 1.5, [True] * 3)


@pytest.mark.parametrize(
    ("config", "structure", "error", "sentence"),
    [
        ({}, SLAB, StructureError, "does not repeat in all three directions.*vacuum"),
        ({}, WATER, StructureError, "use engine: pyscf for molecules"),
        ({}, ION, StructureError, "the energy of a charged cell is not defined"),
        ({}, ODD, StructureError, "13 electrons, which cannot have multiplicity 1"),
        (
            {"smearing_ha": 0.01, "kpoints": (3, 3, 3)},
            ODD,
            StructureError,
            "13 electrons at 27 k-points, an odd number",
        ),
        ({}, HEAVY, ConfigError, "no basis 'gth-szv-molopt-sr' for Am"),
        ({"basis": "gth-szv-molopt-rs"}, SILICON, ConfigError, "Did you mean 'gth-szv-molopt-sr'"),
        ({"basis": "def2-svp"}, SILICON, ConfigError, "not made for GTH pseudopotentials"),
        ({"pseudopotential": "gth-pbee"}, SILICON, ConfigError, "Did you mean 'gth-pbe"),
        ({"functional": "pbesol"}, SILICON, ConfigError, "no pseudopotential 'gth-pbesol' for Si; name another"),
        ({"memory_limit_mb": 250}, SILICON, ConfigError, r"need about \d+ MB, and memory_limit_mb is 250; raise it to"),
    ],
)
def test_what_cannot_be_computed_is_said_before_a_campaign_and_rejected_in_one(
    config: dict[str, object], structure: Structure, error: type[InputError], sentence: str
) -> None:
    validated = PyscfPeriodicConfig.model_validate(config)
    with pytest.raises(error, match=sentence):
        check_reference(validated, [structure])
    found = make_reference(validated).evaluate(structure)
    assert isinstance(found, Failure)
    assert found.kind is FailureKind.REJECTED


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"functional": "pbe0"}, "'pbe0' has no forces and stress in cells here; expected one of svwn"),
        ({"functional": "r2scan"}, "'r2scan' has no forces and stress in cells"),
        ({"functional": "svwn", "dispersion": "d3bj"}, "no published parameters"),
        ({"route": "multigrid", "kpoints": (2, 1, 1)}, "route multigrid knows the Γ point only"),
        ({"kpoints": (0, 1, 1)}, "greater than or equal to 1"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(config: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        PyscfPeriodicConfig.model_validate(config)


def test_a_missing_dftd3_is_answered_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dftd3", None)
    with pytest.raises(ConfigError, match=r"needs the package dftd3.*pip install 'alflow\[dispersion\]'"):
        check_reference(PyscfPeriodicConfig(dispersion="d3bj"), [SILICON])
    with pytest.raises(ConfigError, match="dftd3"):
        replace(QUICK, functional="pbe", dispersion="d3bj").evaluate(SILICON)


def test_a_label_in_a_process_of_its_own_is_the_same(tmp_path: Path, scratch: Path) -> None:
    asked = LabelRequest(QUICK, SILICON, "label-cell-a1", tmp_path / "spool", time_limit_s=120)
    outcome = run_label(asked).outcome
    assert not isinstance(outcome, Failure), outcome
    assert outcome.energy == pytest.approx(evaluation(QUICK, SILICON).energy, abs=1e-10)
