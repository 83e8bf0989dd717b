"""A label with a defect is computed once more with a tighter field, and then refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from alflow.domain import Evaluation, Failure, FailureKind, Structure
from alflow.errors import StructureError
from alflow.reference import PyscfReference
from alflow.reference.scf import compute_twice, tighter

from .differences import evaluation

WATER = Structure.of("OHH", [[0.0, 0.0, 0.0], [0.96, 0.05, 0.0], [-0.24, 0.99, 0.1]])
LOOSE = PyscfReference(functional="hf", basis="sto-3g", energy_tolerance_ha=1e-2, gradient_tolerance_ha=2e-2)
"""Without a grid, whatever turns the molecule comes from the field."""


def turn(found: Structure, forces: np.ndarray) -> float:
    """Torque about the center of the nuclear charges, eV."""
    charges = found.numbers.astype(float)
    arms = found.positions - charges @ found.positions / charges.sum()
    return float(np.linalg.norm(np.cross(arms, forces).sum(axis=0)))


def test_what_a_loose_field_spoils_a_tighter_one_mends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A torque is the sign of orbitals that are not at rest. What the field is known to do is not to excuse it here."""
    monkeypatch.setattr("alflow.reference.quality.NOISE_FACTOR", 0.0)
    monkeypatch.setattr("alflow.reference.quality.LARGEST_TURN", 3e-4)
    # A part of the forces between 8.5e-4, which the loose field turns, and 1.1e-4 of the tighter one.
    mended, fine = evaluation(LOOSE, WATER), evaluation(tighter(LOOSE), WATER)
    assert mended.diagnostics["computed_twice"].startswith("the forces turn the molecule with ")
    assert mended.diagnostics["defects"] == []
    assert mended.energy == fine.energy
    assert np.array_equal(mended.forces, fine.forces)
    assert "computed_twice" not in fine.diagnostics
    print(f"torque with the tighter field: {turn(WATER, mended.forces):.1e} eV")


def test_forces_add_up_to_nothing_however_loose_the_field_is() -> None:
    """So that a net force is no sign of the field, and a tighter one does not mend it."""
    found = evaluation(LOOSE, WATER)
    assert found.diagnostics["gradient_norm_ha"] > 1e-3, "it is loose"
    assert turn(WATER, found.forces) > 1e-3, "which the torque knows"
    assert found.diagnostics["net_force_ev_ang"] < 1e-9


def test_what_a_tighter_field_does_not_mend_is_refused_with_both_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    """A coarse grid turns a molecule, and a tighter field has the same grid. Known noise is not to excuse it here."""
    monkeypatch.setattr("alflow.reference.quality.NOISE_FACTOR", 0.0)
    monkeypatch.setattr("alflow.reference.quality.LARGEST_TURN", 1e-5)
    outcome = PyscfReference(functional="pbe", basis="sto-3g", grid_level=1).evaluate(WATER)
    assert isinstance(outcome, Failure)
    assert outcome.kind is FailureKind.REJECTED
    assert outcome.message.startswith("Computed twice, and still the forces turn the molecule with ")
    assert outcome.diagnostics["computed_twice"].startswith("the forces turn the molecule with ")
    assert outcome.diagnostics["defects"]


def test_tolerances_fall_a_hundredfold_as_far_as_double_precision_goes() -> None:
    second = tighter(PyscfReference())
    assert (second.gradient_tolerance_ha, second.energy_tolerance_ha) == pytest.approx((5e-8, 1e-11))
    finest = tighter(tighter(second))
    assert (finest.gradient_tolerance_ha, finest.energy_tolerance_ha) == (1e-8, 1e-12)
    beyond = replace(finest, gradient_tolerance_ha=1e-10, energy_tolerance_ha=1e-14)
    assert tighter(beyond) == beyond


def test_a_second_try_that_cannot_be_made_is_a_failure_as_a_first_one_is() -> None:
    def compute(number: int, structure: Structure) -> Evaluation:
        if number == 2:
            raise StructureError("There is no second active space.")
        return Evaluation(0.0, np.zeros((3, 3)), None, {"defects": ["it was not pretty"]})

    outcome = compute_twice(compute, WATER, 1, 2)
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.message) == (FailureKind.REJECTED, "There is no second active space.")
