"""Converging a self-consistent field: a ladder of ever stronger means, at an unchanged level of theory.

1. DIIS from the superposition of minimal atomic densities.
2. Level shift and damping from the best density so far, then DIIS without them.
3. Annealing: fractional occupations whose temperature falls, then second-order optimization with whole ones.

The best density is the one with the smallest orbital gradient. Convergence is judged by that gradient alone: PySCF's
own flag rests on one more cycle without acceleration and errs both ways. What the third rung reaches may be a saddle
point; :mod:`alflow.reference.stability` follows it down.

A calculation may be interrupted after any cycle and goes on from a checkpoint in another process. In the first two
rungs this is the whole state of the iteration, with the vectors of DIIS, so that the next cycle is the one that would
have followed. What comes after them is done again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from pyscf import scf

from alflow.domain.structure import FloatArray
from alflow.reference.course import Checkpoint, Course
from alflow.reference.resume import Resumed, resumed_from, state_of

__all__ = ["ACCEPTED_GRADIENT", "ORBITALS", "Trace", "approach", "climb", "gradient_norm", "optimize"]

ACCEPTED_GRADIENT: Final = 3.0
"""A field is converged when its orbital gradient is below this multiple of the tolerance."""

SHIFT_HA: Final = 0.3
DAMPING: Final = 0.2
ANNEALING_HA: Final = (0.03, 0.01, 0.003)
"""Widths of the Fermi distribution, one after the other."""
NEWTON_PATIENCE: Final = 3
"""How many times the cycles of a rung second-order steps may take: they creep where orbitals are nearly degenerate."""
RISE_HA: Final = 1e-6
NEAR_HA: Final = 1e-7, 1e-4
"""Change of energy and orbital gradient with which a field's energy is known well enough to compare."""
ITERATIONS: Final = (("diis", 0.0, 0.0), ("shifted-damped", SHIFT_HA, DAMPING), ("diis-restart", 0.0, 0.0))
"""Name, level shift (Ha) and damping of each part of the first two rungs."""
ORBITALS: Final = ("mo_coeff", "mo_occ", "mo_energy", "e_tot")
"""What a field knows when it has converged."""


@dataclass
class Trace:
    """What happened on the way: the best density so far and the rungs climbed.

    Attributes:
        gradient_norm: Smallest norm of the orbital gradient, Ha.
        density: The density that had it.
        cycles: Cycles in all.
        last: Norm of the orbital gradient in the latest cycle, Ha.
        rungs: One record for each rung: name, cycles, norm of the orbital gradient in the end, Ha.
        course: How much time there is, and the checkpoint; None if nothing interrupts.
        resumable: Whether a part of the first two rungs is being climbed, from which a checkpoint can be taken.
    """

    gradient_norm: float = np.inf
    density: FloatArray | None = None
    cycles: int = 0
    last: float = np.inf
    rungs: list[dict[str, Any]] = field(default_factory=list)
    course: Course | None = None
    resumable: bool = False

    def __call__(self, cycle: Mapping[str, Any]) -> None:
        """Take note of one SCF cycle; PySCF calls this with its local variables."""
        self.cycles += 1
        self.last = float(cycle["norm_gorb"])
        if self.last < self.gradient_norm:
            self.gradient_norm = self.last
            self.density = np.array(cycle["dm"])
        if self.course is not None and self.resumable:
            self.course.step(lambda: self._checkpoint(cycle), last=bool(cycle["scf_conv"]))
        else:
            self.look()

    def look(self) -> None:
        """See whether there is time to go on."""
        if self.course is not None:
            self.course.look()

    def _checkpoint(self, cycle: Mapping[str, Any]) -> Checkpoint:
        begun = self.cycles - sum(rung["cycles"] for rung in self.rungs)
        norm = self.gradient_norm if np.isfinite(self.gradient_norm) else None
        told = {"tolerance_ha": cycle["conv_tol_grad"], "begun": begun, "rungs": self.rungs, "norm": norm}
        return state_of(cycle, told, self.density)

    def close(self, name: str, gradient_norm: float, cycles: int) -> None:
        """Write a finished rung down."""
        norm = gradient_norm if np.isfinite(gradient_norm) else None
        self.rungs.append({"rung": name, "cycles": cycles, "gradient_norm_ha": norm})


def climb(
    mean_field: Any, anew: Callable[[], Any] | None, cycles: int, trace: Trace, start: FloatArray | None = None
) -> float:
    """Converge a field.

    Args:
        mean_field: The field, with its tolerances; holds the orbitals afterwards.
        anew: Makes another field of the same kind that has computed nothing yet; None, for fractional occupations,
            leaves the third rung out.
        cycles: Most cycles of a rung.
        trace: Receives what happened.
        start: Density to begin with; None begins cold.

    Returns:
        Norm of the orbital gradient of the orbitals it holds, Ha.
    """
    limit = ACCEPTED_GRADIENT * mean_field.conv_tol_grad
    resumed = _resume(mean_field, trace)
    norm = np.inf
    for number, (name, shift, damping) in enumerate(ITERATIONS):
        if number < len(trace.rungs):
            continue  # climbed before the interruption
        density = trace.density if number else start
        norm = _iterate(mean_field, density, cycles, shift, damping, trace, name, resumed)
        resumed = None
        if norm <= limit and not shift:
            return norm
    if anew is None:
        return norm
    _anneal(mean_field, anew(), cycles, trace)
    return optimize(mean_field, mean_field.mo_coeff, mean_field.mo_occ, cycles, trace, "newton")


def approach(mean_field: Any, density: FloatArray, cycles: int, trace: Trace, name: str) -> None:
    """Take a field from a density to where its energy is known to 10⁻⁷ Ha, by DIIS; or as far as that comes.

    Args:
        mean_field: The field; holds the orbitals afterwards.
        density: Where to begin.
        cycles: Most cycles.
        trace: Receives a rung.
        name: Its name.
    """
    asked = mean_field.conv_tol, mean_field.conv_tol_grad
    mean_field.conv_tol, mean_field.conv_tol_grad = (max(*pair) for pair in zip(asked, NEAR_HA, strict=True))
    _iterate(mean_field, density, cycles, 0.0, 0.0, trace, name)
    mean_field.conv_tol, mean_field.conv_tol_grad = asked


def optimize(mean_field: Any, orbitals: Any, occupations: Any, cycles: int, trace: Trace, name: str) -> float:
    """Second-order optimization from given orbitals.

    Args:
        mean_field: The field; holds the orbitals afterwards.
        orbitals: Coefficients of the orbitals to begin with.
        occupations: Their occupations, which stay as they are.
        cycles: Most cycles.
        trace: Receives a rung.
        name: Name of the rung.

    Returns:
        Norm of the orbital gradient, Ha.
    """
    mean_field.callback = None
    mean_field.level_shift = mean_field.damp = 0.0
    solver = mean_field.newton()
    solver.conv_tol, solver.conv_tol_grad = mean_field.conv_tol, mean_field.conv_tol_grad
    solver.max_cycle = NEWTON_PATIENCE * cycles
    steps: list[float] = []

    def count(step: Mapping[str, Any]) -> None:  # PySCF does not count these cycles
        steps.append(float(step["norm_gorb"]))
        trace.look()

    solver.callback = count
    solver.kernel(np.asarray(orbitals), np.asarray(occupations))
    for part in ORBITALS:
        setattr(mean_field, part, getattr(solver, part))
    norm = gradient_norm(mean_field)
    trace.cycles += len(steps)
    trace.close(name, norm, len(steps))
    if norm <= ACCEPTED_GRADIENT * mean_field.conv_tol_grad:
        return norm
    return _polish(mean_field, cycles, norm, trace)


def _polish(mean_field: Any, cycles: int, norm: float, trace: Trace) -> float:
    """Finish with DIIS: near the end, second-order steps may stall at a small gradient.

    DIIS does not know which way is down, so what it finds counts only where the energy has not risen.
    """
    kept = {part: getattr(mean_field, part) for part in ORBITALS}
    found = _iterate(mean_field, mean_field.make_rdm1(), cycles, 0.0, 0.0, trace, "polish")
    if found < norm and float(mean_field.e_tot) <= float(kept["e_tot"]) + RISE_HA:
        return found
    for part, value in kept.items():
        setattr(mean_field, part, value)
    return norm


def gradient_norm(mean_field: Any) -> float:
    """Norm of the orbital gradient of the orbitals a field holds, Ha.

    The Fock matrix is made here, because PySCF's own default leaves a solvent out of it.
    """
    fock = mean_field.get_fock(dm=mean_field.make_rdm1())
    return float(np.linalg.norm(mean_field.get_grad(mean_field.mo_coeff, mean_field.mo_occ, fock)))


def _resume(mean_field: Any, trace: Trace) -> Resumed | None:
    """Take up a checkpoint, if there is one."""
    if trace.course is None:
        return None
    resumed = resumed_from(trace.course, mean_field.conv_tol_grad, np.asarray(mean_field.get_ovlp()).shape[-1])
    if resumed is not None:
        trace.rungs, trace.gradient_norm, trace.density = resumed.rungs, resumed.norm, resumed.best
        trace.cycles = resumed.begun + sum(rung["cycles"] for rung in resumed.rungs)
    return resumed


def _iterate(
    mean_field: Any,
    density: FloatArray | None,
    cycles: int,
    shift: float,
    damping: float,
    trace: Trace,
    name: str,
    resumed: Resumed | None = None,
) -> float:
    begun = 0 if resumed is None else resumed.begun
    before = trace.cycles - begun
    trace.last = np.inf
    mean_field.level_shift, mean_field.damp = shift, damping
    mean_field.max_cycle = max(cycles - begun, 1)
    mean_field.callback = trace
    trace.resumable = any(name == part for part, _, _ in ITERATIONS)
    if resumed is None:
        mean_field.kernel(dm0=density)
    else:
        resumed.kernel(mean_field)
    trace.resumable = False
    trace.close(name, trace.last, trace.cycles - before)
    return trace.last


def _anneal(mean_field: Any, warm: Any, cycles: int, trace: Trace) -> None:
    """Give the field the orbitals of a cooling electron gas, occupied from below."""
    warm = scf.addons.smearing(warm, sigma=ANNEALING_HA[0], method="fermi", fix_spin=True)
    warm.max_cycle, warm.conv_tol = cycles, 1e-6
    density, before = trace.density, trace.cycles
    warm.callback = trace
    warm.conv_tol_grad = 1e-3
    for width in ANNEALING_HA:
        warm.sigma = width
        warm.kernel(dm0=density)
        density = warm.make_rdm1()
    mean_field.mo_coeff, mean_field.mo_energy = warm.mo_coeff, warm.mo_energy
    mean_field.mo_occ = mean_field.get_occ(warm.mo_energy, warm.mo_coeff)
    trace.close("annealing", trace.last, trace.cycles - before)
