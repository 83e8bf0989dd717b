"""A worse committee is rejected, noise is not taken for a difference, and NaN never becomes active."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from alflow.campaign.learning import judge
from alflow.domain import Evaluation, Label, Level, Structure
from alflow.domain.learning_config import ModelConfig, TrainingConfig
from alflow.exploration import rattle
from alflow.potentials import Committee
from alflow.reference import MorseMolecule
from alflow.training import fit_committee

WATER = Structure.of("OHH", [[0, 0, 0.119262], [0, 0.763239, -0.477047], [0, -0.763239, -0.477047]])
SMALL = ModelConfig(
    members=2, radial_functions=6, angular_functions=2, angular_degree=2, components=16, hidden=(16,), cutoff_ang=4.0
)


def labels(count: int, seed: int) -> list[Label]:
    surface = MorseMolecule.around(WATER)
    made = []
    for structure in rattle(WATER, count, seed=seed, temperature=600.0):
        outcome = surface.evaluate(structure)
        assert isinstance(outcome, Evaluation)
        made.append(Label(structure, Level("morse-molecule", {}), outcome))
    return made


@pytest.fixture(scope="module")
def good() -> Committee:
    return fit_committee(labels(24, seed=1), [], SMALL, TrainingConfig(epochs=20, min_steps=200), seed=0).committee


@pytest.fixture(scope="module")
def poor() -> Committee:
    return fit_committee(labels(3, seed=2), [], SMALL, TrainingConfig(epochs=20, min_steps=200), seed=0).committee


def test_a_worse_committee_is_rejected_with_both_errors(good: Committee, poor: Committee) -> None:
    accepted, reason, metrics = judge(poor, good, labels(8, seed=3), labels(4, seed=4))
    assert not accepted
    assert "held-out force error" in reason
    assert metrics["held_out_force_mae_ev_ang"] > metrics["held_out_force_mae_before_ev_ang"]


def test_a_better_committee_is_accepted_and_its_audit_error_has_an_interval(good: Committee, poor: Committee) -> None:
    accepted, reason, metrics = judge(good, poor, labels(8, seed=3), labels(4, seed=4))
    assert (accepted, reason) == (True, "")
    low, mean, high = (metrics[f"audit_force_mae{part}_ev_ang"] for part in ("_lower", "", "_upper"))
    assert low <= mean <= high
    assert metrics["n_audit"] == 4.0


def test_one_held_out_frame_proves_nothing(good: Committee, poor: Committee) -> None:
    assert judge(poor, good, labels(1, seed=3), [])[0]


def test_the_first_committee_has_nothing_to_be_worse_than(poor: Committee) -> None:
    assert judge(poor, None, labels(2, seed=3), []) == (True, "", {})


def test_a_committee_that_is_not_finite_is_rejected_not_raised(good: Committee) -> None:
    broken = replace(good, weights=good.weights.to(good.dtype))
    broken.weights.output.fill_(np.nan)
    accepted, reason, _ = judge(broken, good, [], labels(4, seed=4))
    assert not accepted
    assert "not finite" in reason
