"""References with moods. A module of its own: each label process imports it, and must not load the campaign with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alflow.domain import Evaluation, Failure, FailureKind, Level, Outcome, Structure
from alflow.reference import MorseMolecule

WATER = Structure.of("OHH", [[0.0, 0.0, 0.119262], [0.0, 0.763239, -0.477047], [0.0, -0.763239, -0.477047]])

JUMP_EV = 2.0
LONG_ANG = 1.015
CHANGE_EV_ANG = 0.05


@dataclass(frozen=True)
class Jumping:
    """A surface that is two eV too high where a bond is long: another state, which a real field may fall into."""

    @property
    def level(self) -> Level:
        return Level("jumping", {})

    def evaluate(self, structure: Structure) -> Outcome:
        outcome = MorseMolecule.around(WATER).evaluate(structure)
        assert isinstance(outcome, Evaluation)
        return Evaluation(outcome.energy + JUMP_EV * is_long(structure), outcome.forces)


def is_long(structure: Structure) -> bool:
    return bool(np.linalg.norm(structure.positions[1:] - structure.positions[0], axis=1).max() > LONG_ANG)


@dataclass(frozen=True)
class Moody:
    """A reference that warns of stretched dimers, refuses long ones, and breaks on very long ones."""

    @property
    def level(self) -> Level:
        return Level("moody", {})

    def evaluate(self, structure: Structure) -> Outcome:
        length = float(structure.positions[1, 0])
        if length > 4.0:
            raise RuntimeError("a defect")
        if length > 3.515:
            return Failure(FailureKind.SCF_FAIL, "too long")
        return Evaluation(0.0, np.zeros((2, 3)), diagnostics={"flags": ["stretched"] if length > 3.508 else []})


@dataclass(frozen=True)
class Grainy:
    """A surface whose forces would be others on a finer grid where a bond is long, by more than it admits."""

    fine: bool = False

    @property
    def level(self) -> Level:
        return Level("grainy", {"fine": self.fine})

    @property
    def finer(self) -> Grainy | None:
        return None if self.fine else Grainy(fine=True)

    def evaluate(self, structure: Structure) -> Outcome:
        outcome = MorseMolecule.around(WATER).evaluate(structure)
        assert isinstance(outcome, Evaluation)
        push = np.zeros_like(outcome.forces)
        push[1:, 0] = (CHANGE_EV_ANG, -CHANGE_EV_ANG) if self.fine and is_long(structure) else 0.0
        return Evaluation(outcome.energy, outcome.forces + push, None, {"force_noise_ev_ang": 0.01})
