"""Few labels are looked at twice."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import cloudpickle
import pytest

from alflow.campaign.requests import label_request
from alflow.domain import Evaluation, Failure, FailureKind, Level, Outcome, Structure
from alflow.reference import CostModel, LabelRequest, Morse, PyscfReference, is_drawn, run_label, size_of
from alflow.reference.limits import Limits
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
    """Within three standard deviations of a binomial distribution: 40 ± 19 of 4000 at 0.01, and none at all at 0."""
    drawn = sum(is_drawn(Structure.of("HH", [[0, 0, 0], [0, 0, 0.7 + 1e-4 * k]]), fraction) for k in range(4000))
    assert drawn == pytest.approx(4000 * fraction, abs=3 * math.sqrt(4000 * fraction * (1 - fraction)))


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


@dataclass(frozen=True)
class Treacherous:
    """A sound label whose check goes wrong: its finer grid sleeps, raises, or tells of other forces."""

    trouble: str

    @property
    def level(self) -> Level:
        return Level("treacherous", {})

    def evaluate(self, structure: Structure) -> Outcome:
        factor = 1.1 if self.trouble == "forces" else 1.0
        return Skewed(factor).evaluate(structure)

    @property
    def finer(self) -> Treacherous | None:
        if self.trouble == "sleep":
            time.sleep(60.0)
        if self.trouble == "raise":
            raise LookupError("no finer grid to be found")
        return None


cloudpickle.register_pickle_by_value(sys.modules[__name__])  # label processes cannot import a test module


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        ("none", {"finite_difference_error_ev_ang"}),
        ("sleep", None),
        ("raise", {"left_out"}),
    ],
)
def test_a_label_process_checks_a_label_and_loses_none_to_a_check_that_fails(
    tmp_path: Path, trouble: str, told: set[str] | None
) -> None:
    asked = LabelRequest(Treacherous(trouble), HYDROGEN, "label-s-a1", tmp_path, spot_check=True, time_limit_s=4.0)
    outcome = run_label(asked).outcome
    assert isinstance(outcome, Evaluation)
    assert set(outcome.diagnostics.get("spot_check", ())) == (told or set())


def test_a_refused_label_leaves_the_spool(tmp_path: Path) -> None:
    asked = LabelRequest(Treacherous("forces"), HYDROGEN, "label-s-a1", tmp_path, spot_check=True)
    outcome = run_label(asked).outcome
    assert isinstance(outcome, Failure)
    assert outcome.kind is FailureKind.REJECTED
    assert list(tmp_path.glob("*.json")) == []
    unchecked = run_label(replace(asked, spot_check=False)).outcome
    assert isinstance(unchecked, Evaluation)
    assert "spot_check" not in unchecked.diagnostics


def test_a_drawn_label_has_the_time_for_its_check_and_a_second_attempt_has_none(tmp_path: Path) -> None:
    limits = Limits(time_limit_s=100.0, spot_check_fraction=1.0)
    first, second = (label_request(Morse(), HYDROGEN, limits, "k", n, tmp_path, None) for n in (1, 2))
    assert (first.spot_check, first.time_limit_s) == (True, 900.0)
    assert (second.spot_check, second.time_limit_s) == (False, 200.0)


def test_a_guess_at_the_time_never_binds_the_last_attempt(tmp_path: Path) -> None:
    limits, quick = Limits(time_limit_s=7200.0, spot_check_fraction=0.0), CostModel.of([(2.0, 0.1)] * 5)
    first, second = (label_request(Morse(), HYDROGEN, limits, "k", n, tmp_path, quick) for n in (1, 2))
    assert (first.time_limit_s, second.time_limit_s) == (60.0, 14400.0)
    only = label_request(Morse(), HYDROGEN, limits.model_copy(update={"max_attempts": 1}), "k", 1, tmp_path, quick)
    assert only.time_limit_s == 7200.0


@pytest.mark.parametrize("answer", [math.nan, -1.0, None])
def test_a_size_that_cannot_be_counted_is_the_number_of_atoms(answer: float | None) -> None:
    @dataclass(frozen=True)
    class Odd(Skewed):
        def size(self, structure: Structure) -> float:
            if answer is None:
                raise LookupError("no idea")
            return answer

    assert size_of(Odd(), WATER) == 3.0
