"""Does the potential conserve energy: dynamics at constant energy with the members' mean forces.

The mean of a committee is one smooth function, so its energy is conserved up to the error of the time step and of
rounding; noise in the forces that is no gradient would heat the atoms. First the structure is brought to the
temperature by Langevin dynamics, then the bath is taken away and the total energy is followed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import stdtrit

from alflow.domain import Structure
from alflow.domain.structure import FloatArray
from alflow.exploration import draw_velocities
from alflow.exploration.integrators import (
    DynamicsState,
    conserved_energy,
    kinetic_energy,
    langevin_step,
    start_dynamics,
    velocity_verlet_step,
)
from alflow.exploration.noise import thermal_noise
from alflow.tensors import Potential, to_batch
from alflow.units import BOLTZMANN_EV_K, FS_PER_PS

__all__ = ["ConstantEnergy", "Plan", "conserve"]

WALKER = 1_000_000
"""First number of these trajectories' random streams: no walker of a campaign has it."""


@dataclass(frozen=True)
class Plan:
    """What is run.

    Attributes:
        temperature: Temperature before the bath is taken away, K.
        timestep: Time step, fs.
        friction: Friction of that bath, 1/fs.
        bath_ps: How long the bath is there, ps.
        length_ps: How long energy is followed, ps.
        trajectories: How many at once.
        every: Steps between two recorded energies.
        seed: Seed of velocities and bath.
        most_s: Wall time after which it ends early, s.
        threshold: Disagreement of a flag, eV/Å; None if there is none.
    """

    temperature: float
    timestep: float = 0.5
    friction: float = 0.01
    bath_ps: float = 0.5
    length_ps: float = 5.0
    trajectories: int = 4
    every: int = 20
    seed: int = 0
    most_s: float = 60.0
    threshold: float | None = None


@dataclass(frozen=True, eq=False)
class ConstantEnergy:
    """What became of the energy.

    Attributes:
        formula: The structure's composition.
        n_atoms: Its atoms.
        time: Times of the record, ps, shape (record,).
        energy: Total energy per atom less its first value, eV, shape (record, trajectory).
        temperature: Kinetic temperature, K, shape (record, trajectory).
        disagreement: Disagreement, eV/Å, shape (record, trajectory).
        wanted_ps: How long it was to be, ps.
        timestep: Time step, fs.
        threshold: Disagreement of a flag, eV/Å.
        problem: Why it ended early; empty if it did not.
        failed: Whether that was because the energy was no finite number any more; else time was over.
    """

    formula: str
    n_atoms: int
    time: FloatArray
    energy: FloatArray
    temperature: FloatArray
    disagreement: FloatArray
    wanted_ps: float
    timestep: float
    threshold: float | None
    problem: str = ""
    failed: bool = False

    @property
    def drifts(self) -> FloatArray:
        """Slope of the total energy per atom, eV/ps, shape (trajectory,); empty for fewer than three records."""
        if len(self.time) < 3:
            return np.zeros(0)
        slopes: FloatArray = np.polyfit(self.time, self.energy, 1)[0]
        return slopes

    @property
    def drift(self) -> tuple[float, float, float] | None:
        """Mean drift over trajectories with its 95 % interval, eV/atom/ps; None if it ended too early."""
        slopes = self.drifts
        if len(slopes) == 0:
            return None
        n, mean = len(slopes), float(slopes.mean())
        if n == 1:
            return mean, -np.inf, np.inf
        half = float(stdtrit(n - 1, 0.975)) * float(slopes.std(ddof=1)) / np.sqrt(n)
        return mean, mean - half, mean + half

    @property
    def fluctuation(self) -> float | None:
        """Root mean square of the total energy per atom about its straight line, eV; None if it ended too early."""
        if len(self.time) < 3:
            return None
        slope, level = np.polyfit(self.time, self.energy, 1)
        return float(np.sqrt(((self.energy - level - slope * self.time[:, None]) ** 2).mean()))

    @property
    def beyond(self) -> float | None:
        """Share of records whose disagreement is above the threshold; None without a threshold or records."""
        if self.threshold is None or self.disagreement.size == 0:
            return None
        return float((self.disagreement > self.threshold).mean())


def conserve(potential: Potential, structures: Sequence[Structure], plan: Plan) -> ConstantEnergy:
    """Run at constant energy.

    Args:
        potential: What pulls the atoms.
        structures: Where trajectories start; the first's composition is run, from each structure of it in turn.
        plan: How long, how hot.

    Raises:
        InputError: An element the potential was not trained on.
    """
    alike = [s for s in structures if s.formula == structures[0].formula]
    starts = [alike[n % len(alike)] for n in range(plan.trajectories)]
    batch = to_batch(starts)
    drawn = [draw_velocities(s, plan.temperature, plan.seed, WALKER + n, 0) for n, s in enumerate(starts)]
    state = start_dynamics(potential, batch, torch.from_numpy(np.stack(drawn)))
    ends_at = time.monotonic() + plan.most_s
    state, problem, failed = _with_bath(potential, state, plan, ends_at)
    records: list[tuple[float, FloatArray, FloatArray, FloatArray]] = []
    n_steps = round(plan.length_ps * FS_PER_PS / plan.timestep)
    n_atoms = len(starts[0])
    for step in range(n_steps + 1 if not problem else 0):
        if step % plan.every == 0:
            energy, temperature, disagreement = _record(state, n_atoms)
            if not np.isfinite(energy).all():
                problem = f"the energy was no finite number any more after {step * plan.timestep / FS_PER_PS:.2f} ps"
                failed = True
                break
            records.append((step * plan.timestep / FS_PER_PS, energy, temperature, disagreement))
            if time.monotonic() > ends_at and step < n_steps:
                problem = f"{plan.most_s:g} s were over after {records[-1][0]:.2f} of {plan.length_ps:g} ps"
                break
        state = velocity_verlet_step(potential, state, plan.timestep)
    shape = (len(records), plan.trajectories)
    energies = np.array([r[1] for r in records]).reshape(shape)
    return ConstantEnergy(
        formula=starts[0].formula,
        n_atoms=n_atoms,
        time=np.array([r[0] for r in records]),
        energy=energies - energies[:1],
        temperature=np.array([r[2] for r in records]).reshape(shape),
        disagreement=np.array([r[3] for r in records]).reshape(shape),
        wanted_ps=plan.length_ps,
        timestep=plan.timestep,
        threshold=plan.threshold,
        problem=problem,
        failed=failed,
    )


def _with_bath(
    potential: Potential, state: DynamicsState, plan: Plan, ends_at: float
) -> tuple[DynamicsState, str, bool]:
    """Bring atoms to their temperature; returns the state, why it ended early, and whether it failed."""
    n_atoms = state.positions.shape[1]
    block = 50
    for first in range(0, round(plan.bath_ps * FS_PER_PS / plan.timestep), block):
        noise = np.stack(
            [thermal_noise(plan.seed, WALKER + n, 0, first, block, n_atoms) for n in range(plan.trajectories)], axis=1
        )
        for kick in noise:
            state = langevin_step(
                potential, state, torch.from_numpy(kick), plan.timestep, plan.temperature, plan.friction
            )
        if not bool(state.energies.isfinite().all()):
            return state, "the energy was no finite number any more while the bath was still there", True
        if time.monotonic() > ends_at:
            return state, f"{plan.most_s:g} s were over before the structure had its temperature", False
    return state, "", False


def _record(state: DynamicsState, n_atoms: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    kinetic = kinetic_energy(state).numpy()
    degrees = max(1, 3 * n_atoms - 3)
    temperature = 2.0 * kinetic / (degrees * BOLTZMANN_EV_K)
    disagreement = state.prediction.disagreement().double().numpy()
    return conserved_energy(state).numpy() / n_atoms, temperature, disagreement
