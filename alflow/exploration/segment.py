"""A segment of exploration: many walkers, one committee, some steps, every step watched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from alflow.domain import Structure
from alflow.domain.structure import FloatArray, IntArray, frozen_array
from alflow.exploration.integrators import (
    DynamicsState,
    langevin_step,
    select_structures,
    start_dynamics,
    velocity_verlet_step,
)
from alflow.exploration.monitors import Contacts, Reading, describe, limits_of, read, reason_of, watch_contacts
from alflow.exploration.noise import Stream, generator, thermal_noise
from alflow.exploration.outcome import (
    FlaggedFrame,
    Reason,
    SegmentOutcome,
    UnphysicalFrame,
    WalkerOutcome,
    WalkerStatus,
)
from alflow.exploration.settings import Ensemble, SegmentSettings
from alflow.exploration.walker import Walker, draw_velocities, n_degrees_of_freedom
from alflow.tensors import Potential, to_batch
from alflow.units import BOLTZMANN_EV_K

__all__ = ["explore"]

_NOISE_CHUNK_STEPS: Final = 256
"""Steps whose noise is held in memory at once: several blocks, so that few are drawn twice at the seams."""


def explore(
    potential: Potential,
    walkers: Sequence[Walker],
    settings: SegmentSettings,
    device: torch.device | str = "cpu",
) -> SegmentOutcome:
    """Run walkers side by side until each has done its steps, met a frame worth a label, or left physics.

    One call of the potential per step serves all walkers. Every frame is watched, the one they start from included:

    - a disagreement at or above the threshold *pauses* a walker on that very frame, unless it is refractory;
    - a guard (non-finite number, short contact, detached atom, spike of temperature or energy) or a disagreement
      above the ceiling *resets* it: back to its last trusted frame, at least ``trust_lag_steps`` before the crossing
      or else the segment's start, with fresh velocities and a new stretch of noise. The start itself, which was
      trusted or labelled before, is never above the ceiling: it is flagged.

    A walker that has stopped leaves the batch at once and costs nothing more. Noise and integration do not know who
    else is in the batch, so a trajectory depends on its company only through the floating-point rounding of the
    potential and of sums over padded atoms; in the same company it is reproduced bit for bit. A walker that is
    reset over and over from one start (its ``resets`` grow while its steps do not) needs another structure: that
    is for the campaign to decide.

    The audit frame is drawn by giving every trusted (walker, step) a random key and keeping the largest: uniform,
    in one pass, and independent of the order of the walkers. Start frames are left out, because they were the last
    frames of the segment before.

    Args:
        potential: The committee.
        walkers: Checkpoints to go on from, each walker once.
        settings: Dynamics, threshold and guards.
        device: Where tensors live.

    Raises:
        ValueError: No walkers, or one walker twice.
    """
    names = [w.walker for w in walkers]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"A segment needs walkers, each of them once; found {names}.")
    run = _Segment(potential, walkers, settings, device)
    run.watch(0)
    for index in range(1, settings.n_steps + 1):
        if run.active.rows.size == 0:
            break
        run.advance(index)
        run.watch(index)
    return run.finish()


@dataclass(eq=False)
class _Active:
    """What is known of the walkers still moving; the last axis of every array is these walkers, in batch order."""

    rows: IntArray
    limits: FloatArray
    first_flag_index: IntArray
    kinetic_sum: FloatArray
    frames: IntArray
    max_disagreement: FloatArray
    audit_keys: FloatArray
    trusted: list[tuple[torch.Tensor, IntArray]]

    def select(self, keep: npt.NDArray[np.bool_], index: torch.Tensor) -> _Active:
        return _Active(
            self.rows[keep],
            self.limits[:, keep],
            self.first_flag_index[keep],
            self.kinetic_sum[keep],
            self.frames[keep],
            self.max_disagreement[keep],
            self.audit_keys[:, keep],
            [(positions[index], steps[keep]) for positions, steps in self.trusted],
        )


class _Segment:
    """The loop's state: the moving batch, what was recorded about it, and the outcomes of those that stopped."""

    def __init__(
        self,
        potential: Potential,
        walkers: Sequence[Walker],
        settings: SegmentSettings,
        device: torch.device | str,
    ) -> None:
        self.potential, self.walkers, self.settings, self.device = potential, walkers, settings, device
        structures = [w.structure for w in walkers]
        batch = to_batch(structures, device=device)
        velocities = np.zeros(tuple(batch.positions.shape))
        for row, walker in enumerate(walkers):
            velocities[row, : len(walker.structure)] = walker.velocities
        self.state: DynamicsState = start_dynamics(
            potential, batch, torch.as_tensor(velocities, device=device), settings.remove_drift
        )
        self.contacts: Contacts = watch_contacts(batch, settings.contact_factor)
        self.noise = torch.empty(0)
        count = len(walkers)
        draws = [generator(Stream.AUDIT, settings.seed, settings.segment, w.walker) for w in walkers]
        start: tuple[torch.Tensor, IntArray] = (batch.positions, np.zeros(count, dtype=np.int64))
        eligible = [w.last_flag_step + settings.refractory_steps - w.step for w in walkers]
        self.active = _Active(
            rows=np.arange(count),
            limits=limits_of(structures, self.state.energies.cpu().numpy(), settings),
            first_flag_index=np.array(eligible, dtype=np.int64),
            kinetic_sum=np.zeros(count),
            frames=np.zeros(count, dtype=np.int64),
            max_disagreement=np.zeros(count),
            audit_keys=np.stack([g.random(settings.n_steps) for g in draws], axis=1),
            trusted=[start, start],
        )
        self.outcomes: dict[int, WalkerOutcome] = {}
        self.audit: FlaggedFrame | None = None
        self.audit_key = -1.0
        self.n_trusted = 0

    def advance(self, index: int) -> None:
        """Take all moving walkers from frame ``index − 1`` to frame ``index``."""
        settings = self.settings
        if settings.ensemble is Ensemble.NVE:
            self.state = velocity_verlet_step(self.potential, self.state, settings.timestep)
            return
        place = (index - 1) % _NOISE_CHUNK_STEPS
        if place == 0:
            self.noise = self._draw_noise(index - 1)
        self.state = langevin_step(
            self.potential, self.state, self.noise[place], settings.timestep, settings.temperature, settings.friction
        )

    def _draw_noise(self, first_index: int) -> torch.Tensor:
        n_steps = min(_NOISE_CHUNK_STEPS, self.settings.n_steps - first_index)
        noise = np.zeros((n_steps, *self.state.positions.shape))
        for column, row in enumerate(self.active.rows):
            w = self.walkers[row]
            size = len(w.structure)
            noise[:, column, :size] = thermal_noise(
                self.settings.seed, w.walker, w.resets, w.step + first_index, n_steps, size
            )
        return torch.as_tensor(noise, device=self.device)

    def watch(self, index: int) -> None:
        """Read every monitor of frame ``index``, record what is trusted, and stop the walkers that have crossed."""
        active = self.active
        readings = read(self.state, self.contacts)
        below = readings < active.limits
        trusted: npt.NDArray[np.bool_] = np.logical_and.reduce(below, axis=0)
        if not trusted.all():
            if index == 0:
                below[Reading.CEILING] = np.isfinite(readings[Reading.CEILING])
            # Above the threshold alone is no event while the walker is refractory.
            below[Reading.DISAGREEMENT] |= below[Reading.CEILING] & (index < active.first_flag_index)
            stopped: npt.NDArray[np.bool_] = ~np.logical_and.reduce(below, axis=0)
            if stopped.any():
                for column in np.flatnonzero(stopped):
                    self._stop(int(column), index, readings[:, column], below[:, column])
                keep = ~stopped
                self._leave(keep)
                active, readings, trusted = self.active, readings[:, keep], trusted[keep]
        active.kinetic_sum += readings[Reading.KINETIC]
        active.frames += 1
        np.maximum(active.max_disagreement, readings[Reading.DISAGREEMENT], out=active.max_disagreement)
        if index > 0 and trusted.any():
            if self.settings.audit:
                self._draw_audit(index, trusted, readings[Reading.DISAGREEMENT])
            if index % self.settings.trust_lag_steps == 0:
                self._remember(index, trusted)

    def _remember(self, index: int, trusted: npt.NDArray[np.bool_]) -> None:
        """Keep the two latest trusted frames; the older is always at least one lag away from any later crossing."""
        mask = torch.as_tensor(trusted, device=self.device)[:, None, None]
        (newest, newest_index), (older, older_index) = self.active.trusted
        self.active.trusted = [
            (torch.where(mask, self.state.positions, newest), np.where(trusted, index, newest_index)),
            (torch.where(mask, newest, older), np.where(trusted, newest_index, older_index)),
        ]

    def _draw_audit(self, index: int, trusted: npt.NDArray[np.bool_], disagreement: FloatArray) -> None:
        keys = np.where(trusted, self.active.audit_keys[index - 1], -1.0)
        self.n_trusted += int(trusted.sum())
        column = int(keys.argmax())
        if keys[column] > self.audit_key:
            self.audit_key = float(keys[column])
            self.audit = self._frame(column, index, float(disagreement[column]))

    def _leave(self, keep: npt.NDArray[np.bool_]) -> None:
        """Take stopped walkers out of the batch."""
        index = torch.as_tensor(np.flatnonzero(keep), device=self.device)
        self.active = self.active.select(keep, index)
        self.state = select_structures(self.state, index)
        self.contacts = self.contacts.select(index)
        if self.noise.numel():
            self.noise = self.noise[:, index]

    def _stop(self, column: int, index: int, readings: FloatArray, below: npt.NDArray[np.bool_]) -> None:
        walker = self.walkers[self.active.rows[column]]
        reason = reason_of(readings, below)
        message = describe(reason, readings, self.active.limits[:, column], len(walker.structure))
        value = float(readings[Reading.DISAGREEMENT])
        disagreement = value if np.isfinite(value) else None
        step = walker.step + index
        if reason is Reason.DISAGREEMENT:
            frame = self._frame(column, index, value)
            velocities = self._atoms(self.state.velocities, column)
            onward = Walker(walker.walker, frame.structure, velocities, step, walker.resets, last_flag_step=step)
            self._record(column, index, onward, WalkerStatus.PAUSED, readings, reason, message, frame)
            return
        positions = self._atoms(self.state.positions, column)
        structure = walker.structure.with_positions(positions) if np.isfinite(positions).all() else None
        unphysical = UnphysicalFrame(walker.walker, step, reason, message, structure, disagreement)
        onward = self._put_back(column, index)
        self._record(column, index, onward, WalkerStatus.RESET, readings, reason, message, None, unphysical)

    def _put_back(self, column: int, index: int) -> Walker:
        """The walker on its last trusted frame old enough, with fresh velocities."""
        walker = self.walkers[self.active.rows[column]]
        newest, older = self.active.trusted
        old_enough = index - int(newest[1][column]) >= self.settings.trust_lag_steps
        positions = (newest if old_enough else older)[0]
        structure = walker.structure.with_positions(self._atoms(positions, column))
        resets, settings = walker.resets + 1, self.settings
        velocities = draw_velocities(
            structure, settings.temperature, settings.seed, walker.walker, resets, settings.remove_drift
        )
        return Walker(walker.walker, structure, velocities, walker.step + index, resets, walker.last_flag_step)

    def _record(
        self,
        column: int,
        index: int,
        onward: Walker,
        status: WalkerStatus,
        readings: FloatArray | None = None,
        reason: Reason | None = None,
        message: str = "",
        frame: FlaggedFrame | None = None,
        unphysical: UnphysicalFrame | None = None,
    ) -> None:
        active = self.active
        row, frames = int(active.rows[column]), int(active.frames[column])
        kinetic, worst = float(active.kinetic_sum[column]), float(active.max_disagreement[column])
        if readings is not None:  # the frame it stopped on, which the sums do not hold yet
            if np.isfinite(readings[Reading.KINETIC]):
                kinetic, frames = kinetic + float(readings[Reading.KINETIC]), frames + 1
            if np.isfinite(readings[Reading.DISAGREEMENT]):
                worst = max(worst, float(readings[Reading.DISAGREEMENT]))
        dof = n_degrees_of_freedom(len(onward.structure), self.settings.remove_drift)
        temperature = 2.0 * kinetic / (max(frames, 1) * max(dof, 1) * BOLTZMANN_EV_K)
        self.outcomes[row] = WalkerOutcome(
            onward, status, reason, message, frame, unphysical, index, worst, temperature
        )  # fmt: skip

    def _atoms(self, values: torch.Tensor, column: int) -> FloatArray:
        size = len(self.walkers[self.active.rows[column]].structure)
        return np.asarray(values[column, :size].detach().cpu().numpy(), dtype=np.float64)

    def _frame(self, column: int, index: int, disagreement: float) -> FlaggedFrame:
        walker = self.walkers[self.active.rows[column]]
        structure: Structure = walker.structure.with_positions(self._atoms(self.state.positions, column))
        forces = self._atoms(self.state.prediction.mean_forces, column)
        energy = float(self.state.energies[column])
        std = float(self.state.prediction.force_std()[column])
        step = walker.step + index
        return FlaggedFrame(walker.walker, step, structure, disagreement, std, energy, frozen_array(forces))

    def finish(self) -> SegmentOutcome:
        """Make checkpoints of the walkers still moving and hand everything back in the order it was given."""
        n_steps = self.settings.n_steps
        for column, row in enumerate(self.active.rows):
            w = self.walkers[row]
            structure = w.structure.with_positions(self._atoms(self.state.positions, column))
            velocities = self._atoms(self.state.velocities, column)
            onward = Walker(w.walker, structure, velocities, w.step + n_steps, w.resets, w.last_flag_step)
            self._record(column, n_steps, onward, WalkerStatus.RUNNING)
        outcomes = tuple(self.outcomes[row] for row in range(len(self.walkers)))
        return SegmentOutcome(outcomes, self.audit, self.n_trusted, sum(o.steps for o in outcomes))
