"""Energy without a bath: on a spring it is kept, on a force that is no gradient it is not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from alflow.domain import Structure
from alflow.reports.constant_energy import ConstantEnergy, Plan, conserve
from alflow.tensors import Batch, Prediction

PAIR = Structure.of("HH", [[0.0, 0.0, 0.0], [0.0, 0.0, 0.8]])
PLAN = Plan(temperature=300.0, bath_ps=0.05, length_ps=0.5, trajectories=3, every=5, threshold=0.1)


@dataclass(frozen=True)
class Spring:
    """Two members that differ in stiffness; ``swirl`` adds a force no energy belongs to."""

    swirl: float = 0.0
    broken_after: int = 10**9
    calls: list[int] | None = None

    @property
    def n_members(self) -> int:
        return 2

    @property
    def dtype(self) -> torch.dtype:
        return torch.float64

    def predict(self, batch: Batch, stress: bool = False) -> Prediction:
        arrow = batch.positions[:, 0] - batch.positions[:, 1]
        length = arrow.norm(dim=-1, keepdim=True)
        energies, forces = [], []
        for stiffness in (20.0, 22.0):
            pull = -stiffness * (length - 0.8) * arrow / length
            pull = pull + self.swirl * torch.stack([-arrow[:, 1], arrow[:, 0], 0.0 * arrow[:, 2]], dim=-1)
            forces.append(torch.stack([pull, -pull], dim=1))
            energies.append(0.5 * stiffness * (length[:, 0] - 0.8) ** 2)
        if self.calls is not None:
            self.calls.append(1)
            if len(self.calls) > self.broken_after:
                energies = [energy * torch.nan for energy in energies]
        return Prediction(torch.stack(energies), torch.stack(forces))


def test_a_spring_keeps_its_energy() -> None:
    found = conserve(Spring(), [PAIR], PLAN)
    assert found.problem == ""
    assert found.time[-1] == pytest.approx(0.5)
    assert found.energy.shape == found.temperature.shape == found.disagreement.shape == (201, 3)
    assert found.drift is not None
    assert found.drift[1] <= 0.0 <= found.drift[2]
    assert abs(found.drift[0]) < 1e-4
    assert found.fluctuation is not None
    assert 0.0 < found.fluctuation < 1e-3
    assert 100.0 < found.temperature.mean() < 900.0
    assert found.beyond == pytest.approx((found.disagreement > 0.1).mean())


def test_a_force_that_is_no_gradient_heats() -> None:
    found = conserve(Spring(swirl=0.5), [PAIR], PLAN)
    assert found.drift is not None
    assert found.drift[0] > 1e-3


def test_numbers_that_are_none_end_the_run_and_are_told() -> None:
    found = conserve(Spring(broken_after=150, calls=[]), [PAIR], PLAN)
    assert "no finite number" in found.problem
    assert found.failed
    assert np.isfinite(found.energy).all()
    assert found.time[-1] < 0.05
    early = conserve(Spring(broken_after=3, calls=[]), [PAIR], PLAN)
    assert "while the bath" in early.problem
    assert early.failed
    assert (len(early.time), early.drift, early.fluctuation) == (0, None, None)


def test_time_that_is_over_ends_the_run() -> None:
    found = conserve(Spring(), [PAIR], Plan(300.0, bath_ps=0.0, most_s=0.0))
    assert "were over after" in found.problem
    assert (len(found.time), found.failed) == (1, False)
    early = conserve(Spring(), [PAIR], Plan(300.0, most_s=0.0))
    assert "were over before the structure had its temperature" in early.problem
    assert (len(early.time), early.failed) == (0, False)


def test_drift_and_ripple_of_known_curves() -> None:
    time = np.linspace(0.0, 5.0, 501)
    ripple = 3e-4 * np.sin(2.0 * np.pi * 10.0 * time)
    slopes = np.array([0.002, 0.003, 0.004])
    curves = slopes * time[:, None] + ripple[:, None]
    found = ConstantEnergy("H2", 2, time, curves, curves, np.full((501, 3), 0.2), 5.0, 0.5, 0.1)
    assert found.drifts == pytest.approx(slopes, abs=1e-4)
    assert found.drift == pytest.approx((0.003, 0.003 - 0.0024841, 0.003 + 0.0024841), abs=1e-4)
    assert found.fluctuation == pytest.approx(3e-4 / np.sqrt(2.0), rel=0.02)
    assert found.beyond == 1.0
