"""Labels of several singlets at once (CASSCF): textbook energies, forces, couplings, and spaces that went astray."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from pydantic import ValidationError
from pyscf import fci, gto
from scipy.spatial.transform import Rotation

from alflow.domain import Failure, FailureKind, Structure
from alflow.domain.structure import FloatArray
from alflow.errors import StructureError
from alflow.reference import CasscfConfig, CasscfReference, PyscfReference, check_reference
from alflow.reference.casscf import _active_orbitals, _settle
from alflow.reference.scf import converge
from alflow.units import ANG_PER_BOHR, EV_PER_HARTREE
from tests.reference.differences import evaluation, slope

GROUND = PyscfReference("hf", "6-31g", density_fitting=False, energy_tolerance_ha=1e-11, gradient_tolerance_ha=1e-7)
HYDROGEN = Structure.of("HH", [[0.0, 0.0, 0.0], [0.0, 0.0, 1.4 * ANG_PER_BOHR]])
SALT = CasscfReference(
    ("F 2pz", "Li 2s"), 2, 2, "all", GROUND, state=1, couplings=True, all_forces=True,
    reference_elements=("Li", "F"), reference_positions=((0.0, 0.0, 0.0), (0.0, 0.0, 1.6)),
)  # fmt: skip
IMMONIUM = CasscfReference(("C 2p", "N 2p"), 2, 2, ground=GROUND, state=1)
TILT = Rotation.from_euler("xyz", [0.3, 0.7, -1.1]).as_matrix()


def immonium(twist_deg: float, seed: int | None) -> Structure:
    """CH₂NH₂⁺ with one end twisted, rattled by 0.03 Å."""
    a = np.radians(twist_deg)
    x, y = 0.87 * np.cos(a), 0.87 * np.sin(a)
    positions = np.array(
        [[0, 0, 0], [0, 0, 1.28], [0.94, 0, -0.55], [-0.94, 0, -0.55], [x, y, 1.78], [-x, -y, 1.78]], dtype=float
    )
    if seed is not None:
        positions += np.random.default_rng(seed).normal(0.0, 0.03, positions.shape)
    return Structure.of("CNHHHH", positions, charge=1)


def salt(distance: float, tilt: FloatArray | None = None) -> Structure:
    positions = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, distance]])
    return Structure.of(["Li", "F"], positions if tilt is None else positions @ tilt.T)


def test_states_of_minimal_basis_hydrogen_are_those_of_the_textbook() -> None:
    """Szabo and Ostlund, Modern Quantum Chemistry, section 4.1: the three singlets are full CI; E_corr = −0.0206 Ha."""
    e1, e2, j11, j12, j22, k12 = -0.5782, 0.6703, 0.6746, 0.6636, 0.6975, 0.1813
    half = e2 - e1 + 0.5 * (j11 + j22) - 2 * j12 + k12
    reference = CasscfReference(("H 1s",), 2, 2, ground=replace(GROUND, basis="sto-3g"), n_states=3)
    found = evaluation(reference, HYDROGEN).diagnostics
    energies = np.array(found["state_energies_ev"]) / EV_PER_HARTREE
    assert energies[0] == pytest.approx(-1.1167 - 0.0206, abs=2e-4)
    assert energies[1] == pytest.approx(-1.1167 + e2 - e1 - j12 + 2 * k12, abs=4e-4)
    assert energies[2] - energies[0] == pytest.approx(2 * np.hypot(half, k12), abs=4e-4)
    np.testing.assert_allclose(found["s_squared_of_states"], 0.0, atol=1e-8)
    np.testing.assert_allclose(np.sum(found["natural_occupations"], axis=1), 2.0, atol=1e-8)


def test_forces_of_all_states_are_derivatives() -> None:
    reference, structure = replace(IMMONIUM, all_forces=True), immonium(30, 2)
    found = evaluation(reference, structure)
    direction = np.random.default_rng(0).normal(size=(6, 3))
    direction /= np.linalg.norm(direction)

    @cache
    def energies(shift: float) -> FloatArray:
        moved = structure.with_positions(structure.positions + shift * direction)
        return np.asarray(evaluation(IMMONIUM, moved).diagnostics["state_energies_ev"])

    for state in (0, 1):
        forces = np.array(found.diagnostics["state_forces_ev_ang"][state])
        fallen = -slope(lambda shift, state=state: energies(shift)[state], 2e-3)  # type: ignore[misc]
        print(f"state {state}: error along a random direction {abs((forces * direction).sum() - fallen):.1e} eV/Å")
        # The noise of orbitals converged to 1e-6 Ha: 8e-6 was measured.
        assert (forces * direction).sum() == pytest.approx(fallen, abs=3e-5)
    np.testing.assert_array_equal(found.forces, found.diagnostics["state_forces_ev_ang"][1])
    assert found.diagnostics["flags"] == []
    assert found.diagnostics["active_overlap"] > 0.9


def wave(distance: float) -> tuple[gto.Mole, FloatArray, list[FloatArray]]:
    """Molecule, core and active orbitals, and the states as vectors over determinants with the core in them."""
    turned = salt(distance)
    field = converge(SALT.ground, turned)
    assert not isinstance(field, Failure)
    choice = _settle(SALT, field.mean_field, _active_orbitals(SALT, field.mean_field))
    assert not isinstance(choice, Failure)
    solver = choice.space.solver
    count = solver.ncore + solver.ncas
    core = (1 << solver.ncore) - 1
    places = [fci.cistring.str2addr(count, solver.ncore + 1, core | 1 << (solver.ncore + k)) for k in range(2)]
    states = []
    for active in solver.ci:
        full = np.zeros((count, count))
        full[np.ix_(places, places)] = active
        states.append(full)
    return solver.mol, solver.mo_coeff[:, :count], states


def test_couplings_are_those_of_overlaps_between_neighbors() -> None:
    """|⟨0|∇1⟩| of LiF by the overlap of wave functions: with translation factors the overlap of basis functions is the
    mean of both geometries. Without them it is what it is, and PySCF's own vector is 0.0672 1/a₀; at 4 Å 0.1252."""
    distance, step = 2.0, 0.002
    molecules, orbitals, states = zip(*[wave(distance + shift) for shift in (0.0, -step, step)], strict=True)
    derivatives = {}
    for factors in (True, False):
        values = []
        for k in (1, 2):
            overlap = gto.intor_cross("int1e_ovlp", molecules[0], molecules[k])
            if factors:
                overlap = 0.5 * sum(molecules[j].intor("int1e_ovlp") for j in (0, k))
            between = orbitals[0].T @ overlap @ orbitals[k]
            count, electrons = between.shape[0], molecules[0].nelectron // 2
            sizes = [
                fci.addons.overlap(states[0][i], states[k][j], count, (electrons, electrons), between)
                for i, j in ((0, 0), (1, 1), (0, 1))
            ]
            values.append(sizes[2] * np.sign(sizes[1]))
        derivatives[factors] = abs(values[1] - values[0]) / (2 * step)
    assert derivatives[False] * ANG_PER_BOHR == pytest.approx(0.0672, abs=3e-4)
    found = evaluation(SALT, salt(distance, TILT)).diagnostics
    vector = np.array(found["couplings_per_ang"]["0-1"]) @ TILT  # back into the frame of the bond
    assert abs(vector[1, 2]) == pytest.approx(derivatives[True], abs=1e-3)
    np.testing.assert_allclose(vector.sum(axis=0), 0.0, atol=1e-6)
    np.testing.assert_allclose(vector[:, :2], 0.0, atol=1e-5)
    gap = np.diff(found["state_energies_ev"])[0]
    np.testing.assert_allclose(found["coupling_numerators_ev_ang"]["0-1"], vector @ TILT.T * gap, atol=1e-9)


def test_directions_are_those_of_the_reference_geometry() -> None:
    straight, tilted = evaluation(SALT, salt(1.6)), evaluation(SALT, salt(1.6, TILT))
    assert tilted.energy == pytest.approx(straight.energy, abs=1e-7)
    np.testing.assert_allclose(tilted.forces, straight.forces @ TILT.T, atol=1e-4)
    assert "other-active-space-lower" in straight.diagnostics["flags"]  # the one with a π orbital


def test_whole_shells_need_no_direction() -> None:
    structure = immonium(85, 3)
    turned = structure.with_positions(structure.positions @ TILT.T)
    straight, tilted = evaluation(IMMONIUM, structure), evaluation(IMMONIUM, turned)
    assert tilted.energy == pytest.approx(straight.energy, abs=1e-6)
    np.testing.assert_allclose(tilted.forces, straight.forces @ TILT.T, atol=2e-4)


TWISTED = replace(
    IMMONIUM,
    active_space=("C 2py", "N 2py"),
    reference_elements=tuple("CNHHHH"),
    reference_positions=tuple(map(tuple, immonium(0, None).positions.tolist())),
)


@pytest.mark.parametrize(
    ("reference", "structure", "sentence"),
    [
        (replace(IMMONIUM, selection="all"), immonium(0, 1), "AVAS finds 5 occupied and 2 empty orbitals"),
        # Fixed directions do not follow a twist.
        (replace(TWISTED, selection="all"), immonium(85, None), "AVAS finds 2 occupied and 1 empty orbitals"),
        (TWISTED, salt(1.6), "The reference geometry of the active space is of C N H H H H; found Li F"),
        (IMMONIUM, salt(1.6), "active_space names 'C 2p'; FLi has no C"),
        (SALT, Structure.of(["Li", "F"], salt(1.6).positions, multiplicity=3), "holds singlets only"),
    ],
)
def test_an_active_space_that_is_not_the_one_is_rejected(
    reference: CasscfReference, structure: Structure, sentence: str
) -> None:
    found = reference.evaluate(structure)
    assert isinstance(found, Failure)
    assert found.kind is FailureKind.REJECTED
    assert sentence in found.message


def test_a_space_that_another_one_lies_far_below_is_rejected() -> None:
    """From a CH bond in place of the π bond PySCF converges all the same, electronvolts above the states one means."""
    structure = immonium(60, 2)
    field = converge(IMMONIUM.ground, structure)
    assert not isinstance(field, Failure)
    orbitals = _active_orbitals(IMMONIUM, field.mean_field)
    filled = field.mean_field.mol.nelectron // 2
    orbitals[:, [filled - 3, filled - 1]] = orbitals[:, [filled - 1, filled - 3]]
    found = _settle(IMMONIUM, field.mean_field, orbitals)
    assert isinstance(found, Failure)
    assert found.kind is FailureKind.REJECTED
    assert "Another active space lies" in found.message or "not the ones that were asked for" in found.message


def test_the_active_space_is_checked_before_a_campaign() -> None:
    keys = {"active_space": ["C 2p", "N 2p"], "active_electrons": 2, "active_orbitals": 2, "basis": "6-31g"}
    check_reference(CasscfConfig.model_validate(keys), [immonium(0, 1)])
    with pytest.raises(StructureError, match="AVAS finds 5 occupied and 2 empty orbitals of C 2p, N 2p"):
        check_reference(CasscfConfig.model_validate({**keys, "selection": "all"}), [immonium(0, 1)])


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"active_electrons": 3}, "3 electrons in 2 orbitals have 0 singlet states"),
        (
            {"n_states": 4},
            "2 electrons in 2 orbitals have 3 singlet states, of which at least two are averaged; found n_states 4",
        ),
        ({"state": 2}, "n_states − 1, 1; found 2"),
        ({"active_space": ["C 2pz"]}, "names a direction, which means nothing for a molecule that turns"),
        ({"active_space": ["carbon"]}, "expected atomic orbitals such as"),
        ({"active_space": []}, "at least 1 item"),
        ({"reference_elements": ["C"]}, "must be equally many"),
        ({"weights": [0.7, 0.3]}, "unknown key 'weights'"),
    ],
)
def test_a_wrong_configuration_is_refused_with_a_reason(keys: dict[str, object], sentence: str) -> None:
    whole = {"active_space": ["C 2p"], "active_electrons": 2, "active_orbitals": 2, **keys}
    with pytest.raises(ValidationError, match=sentence):
        CasscfConfig.model_validate(whole)


def test_the_level_has_every_setting_that_changes_a_number() -> None:
    assert replace(SALT, max_macro_cycles=7, ground=replace(GROUND, threads=2)).level == SALT.level
    changes = [
        {"state": 0}, {"couplings": False}, {"all_forces": False}, {"avas_threshold": 0.3}, {"n_states": 3},
        {"selection": "frontier"}, {"ground": replace(GROUND, basis="6-31g*")}, {"active_space": ("F 2p", "Li 2s")},
        {"reference_positions": ((0.0, 0.0, 0.0), (0.0, 1.6, 0.0))},
    ]  # fmt: skip
    assert len({replace(SALT, **change).level.id for change in changes} | {SALT.level.id}) == len(changes) + 1
