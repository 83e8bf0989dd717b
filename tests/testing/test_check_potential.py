"""The contract must catch what it claims to catch: every broken potential here breaks one rule."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from alflow.domain import Structure
from alflow.tensors import Batch, Prediction
from alflow.testing import check_potential
from tests.potentials.committees import ETHANOL, WATER, argon_committee, crystal, ethanol_committee

STRUCTURES = [ETHANOL.with_positions(ETHANOL.positions + 0.05 * np.sin(np.arange(27.0)).reshape(9, 3)), WATER]


@dataclass(frozen=True)
class Broken:
    """The ethanol committee with one fault."""

    fault: str

    @property
    def n_members(self) -> int:
        return 4

    @property
    def dtype(self) -> torch.dtype:
        return torch.float64

    def predict(self, batch: Batch, stress: bool = False) -> Prediction:
        right = ethanol_committee().predict(batch, stress)
        shift = {"slope": 1.001, "padding": 1.0}.get(self.fault, 1.0)
        forces, energies = right.forces * shift, right.energies
        if self.fault == "padding":
            forces = forces + 1e-3 * (~batch.mask)[None, :, :, None]
        if self.fault == "net force":
            forces = forces + 1e-3 * batch.mask[None, :, :, None]
        if self.fault == "rotation":
            energies = energies + 1e-4 * batch.positions[:, 0, 0]
        if self.fault == "order":
            energies = energies + 1e-4 * (batch.positions[:, 0] - batch.positions[:, 1]).square().sum(dim=-1)
        if self.fault == "batch" and batch.n_structures == 2:
            energies = energies + 1e-4
        if self.fault == "extensivity":
            energies = energies + 1e-4
        return replace(right, forces=forces, energies=energies)


def test_a_sound_potential_passes() -> None:
    check_potential(Broken("none"), STRUCTURES)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("slope", "negative slope"),
        ("padding", "no atom"),
        ("net force", "net force"),
        ("rotation", "before and after moving"),
        ("order", "another order"),
        ("batch", "in a batch of 2 and alone"),
        ("extensivity", "far apart"),
    ],
)
def test_each_fault_is_caught_and_named(fault: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_potential(Broken(fault), STRUCTURES)


@dataclass(frozen=True)
class WrongSign:
    """A stress that is positive under compression."""

    n_members: int = 4
    dtype: torch.dtype = torch.float64

    def predict(self, batch: Batch, stress: bool = False) -> Prediction:
        right = argon_committee().predict(batch, stress)
        return replace(right, stress=None if right.stress is None else -right.stress)


def test_a_stress_of_the_wrong_sign_is_caught() -> None:
    structure: Structure = crystal(2)
    with pytest.raises(AssertionError, match="strain derivative"):
        check_potential(WrongSign(), [structure])
