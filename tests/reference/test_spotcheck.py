"""Few labels are looked at twice."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from alflow.domain import Evaluation, Failure, FailureKind, Level, Outcome, Structure
from alflow.reference import LabelRequest, Morse, PyscfReference, is_drawn, run_label
from alflow.reference.spotcheck import spot_check

WATER = Structure.of("OHH", [[0.0, 0.0, 0.0], [0.0, 0.80, 0.60], [0.05, -0.76, 0.57]])
HYDROGEN = Structure.of("HH", [[0.0, 0.0, 0.0], [0.0, 0.0, 0.9]])


@dataclass(frozen=True)
class Skewed:
    """Morse energies with forces that are too large."""

    factor: float = 1.0

    @property
    def level(self) -> Level:
        return Level("skewed", {"factor": self.factor})

    def evaluate(self, structure: Structure) -> Outcome:
        true = Morse().evaluate(structure)
        assert isinstance(true, Evaluation)
        return Evaluation(true.energy, self.factor * true.forces)


def checked(reference: PyscfReference | Skewed, structure: Structure) -> Outcome:
    evaluation = reference.evaluate(structure)
    assert isinstance(evaluation, Evaluation)
    return spot_check(reference, structure, evaluation)


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.1, 1.0])
def test_the_stated_share_of_structures_is_drawn_by_their_hash(fraction: float) -> None:
    drawn = [is_drawn(Structure.of("HH", [[0, 0, 0], [0, 0, 0.7 + 1e-4 * k]]), fraction) for k in range(4000)]
    assert np.mean(drawn) == pytest.approx(fraction, abs=0.02)
    assert fraction not in (0.0, 1.0) or np.mean(drawn) == fraction


def test_energies_that_do_not_follow_the_forces_are_refused() -> None:
    assert isinstance(checked(Skewed(), HYDROGEN), Evaluation)
    refused = checked(Skewed(1.05), HYDROGEN)
    assert isinstance(refused, Failure)
    assert refused.kind is FailureKind.REJECTED
    assert "The energy does not follow the forces" in refused.message


def test_a_pyscf_label_passes_and_says_what_a_finer_grid_changes() -> None:
    outcome = checked(PyscfReference(basis="sto-3g", grid_level=2), WATER)
    assert isinstance(outcome, Evaluation)
    found = outcome.diagnostics["spot_check"]
    assert found["finite_difference_error_ev_ang"] < 2e-3
    assert 0.0 < found["finer_grid_force_change_ev_ang"] < 3 * outcome.diagnostics["force_noise_ev_ang"]
    assert abs(found["finer_grid_energy_change_ev"]) < 1e-3
    assert outcome.diagnostics["flags"] == []


def test_a_grid_too_coarse_for_its_stated_noise_is_a_flag() -> None:
    reference = PyscfReference(basis="sto-3g", grid_level=1)
    evaluation = reference.evaluate(WATER)
    assert isinstance(evaluation, Evaluation)
    proud = replace(evaluation, diagnostics={**evaluation.diagnostics, "force_noise_ev_ang": 1e-6})
    outcome = spot_check(reference, WATER, proud)
    assert isinstance(outcome, Evaluation)
    assert outcome.diagnostics["flags"] == ["coarse-grid"]


def test_hartree_fock_has_no_finer_grid() -> None:
    assert PyscfReference(functional="hf").finer is None
    assert PyscfReference(grid_level=9).finer is None
    finer = PyscfReference(grid_level=8).finer
    assert finer is not None
    assert finer.grid_level == 9


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"finite_difference_error_ev_ang"}),
        ({"spot_check": False}, None),
        ({"attempt": 2}, None),
        ({"time_limit_s": 2.0}, {"left_out"}),
    ],
)  # fmt: skip
def test_a_label_process_checks_if_there_is_time(
    tmp_path: Path, changes: dict[str, float], expected: set[str] | None
) -> None:
    reference = Morse(delay_s=0.4) if "time_limit_s" in changes else Morse()
    asked = replace(
        LabelRequest(reference, HYDROGEN, "label-s-a1", tmp_path / "spool", spot_check=True, time_limit_s=60.0),
        **changes,  # type: ignore[arg-type]
    )
    outcome = run_label(asked).outcome
    assert isinstance(outcome, Evaluation)
    assert set(outcome.diagnostics.get("spot_check", ())) == (expected or set())
