"""Is the field a minimum, and does a singlet want to break its spin symmetry?

A converged field may be a saddle point. Where that is likely — after a rescue, or with a small gap between occupied and
empty orbitals — the eigenvalues of the orbital Hessian are looked at, and a descending direction is followed down
(Seeger and Pople, J. Chem. Phys. 66, 3045 (1977)). For singlets the directions that leave the restricted form are
looked at too; what an unstable one means for the label is the campaign's spin policy.

A minimum may still be that of other orbitals than the ground state's, which no eigenvalue tells. So where the first
guess has led astray once, to a rescue or to a saddle point, the way is gone again from another, and the lower counts.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from alflow.reference.ladder import ACCEPTED_GRADIENT, ORBITALS, Trace, approach, gradient_norm, optimize
from alflow.units import EV_PER_HARTREE

__all__ = ["Verdict", "gap_gate_ev", "settle", "smallest_gap_ev"]

ROUNDS: Final = 8
"""Most times a descending direction is followed."""

ZERO_MODE_HA: Final = 1e-5
"""A descent by less is a zero mode, such as the degenerate orbitals of OH have one."""


OPPOSITE_SPINS: Final = 2
"""PySCF's name for a first guess in which the atoms' spins alternate."""

OTHER_GUESS: Final = "atom"
"""PySCF's name for the densities of free atoms, computed in the molecule's own basis."""


@dataclass(frozen=True)
class Verdict:
    """What was found about a field.

    Attributes:
        internal: ``stable``, ``unstable`` or ``not tested``: towards other fields of the same kind.
        external: The same, of a restricted singlet towards unrestricted fields.
        lowered_ev: By how much following descending directions lowered the energy, eV.
        broken: Whether the field became an unrestricted one.
    """

    internal: str = "not tested"
    external: str = "not tested"
    lowered_ev: float = 0.0
    broken: bool = False


def gap_gate_ev(exact_exchange: float) -> float:
    """Gap below which a field is tested, eV.

    Measured at 36 geometries with PBE and B3LYP: every unstable singlet had a smaller gap. Hartree–Fock is always
    tested, because there ethylene at its equilibrium is unstable with a gap of 15 eV. Open shells were measured later
    (docs/decisions/0031): of 70 with the same functionals the three unstable ones have smaller gaps, too.

    Args:
        exact_exchange: Largest share of exact exchange.

    Examples:
        >>> gap_gate_ev(0.2)
        5.5
    """
    return 3.5 + 10.0 * min(exact_exchange, 0.5)


def smallest_gap_ev(mean_field: Any) -> float | None:
    """Smallest gap between an occupied and an empty orbital of the same spin, eV; None without an empty one."""
    gaps = []
    energies, occupations = np.atleast_2d(mean_field.mo_energy), np.atleast_2d(mean_field.mo_occ) > 0
    for level, filled in zip(energies, occupations, strict=True):
        if filled.any() and not filled.all():
            gaps.append(float(level[~filled].min() - level[filled].max()))
    return min(gaps) * EV_PER_HARTREE if gaps else None


def settle(mean_field: Any, anew: Callable[..., Any], policy: str, cycles: int, trace: Trace) -> tuple[Any, Verdict]:
    """Test a converged field, and follow it down where it is unstable.

    Args:
        mean_field: The field, converged.
        anew: Makes a field of the same molecule and method that has computed nothing yet; with ``unrestricted=True``,
            one without the form of a singlet.
        policy: ``broken_symmetry`` follows an unstable singlet into unrestricted fields; any other leaves it.
        cycles: Most cycles of each descent.
        trace: The way so far; receives a rung for each descent.

    Returns:
        The field to go on with, and the verdict; internal is ``unstable`` if no minimum was reached, or if a singlet
        that is to break its symmetry has not found the lower energy which its instability promises.
    """
    before, rescued = float(mean_field.e_tot), len(trace.rungs) > 1
    internal = _descend(mean_field, cycles, trace)
    if rescued or before - float(mean_field.e_tot) > ZERO_MODE_HA:
        mean_field, internal = _begin_again(mean_field, internal, anew(), cycles, trace)
    restricted = np.asarray(mean_field.mo_occ).ndim == 1
    if not restricted or internal == "unstable":
        return mean_field, Verdict(internal, lowered_ev=(before - float(mean_field.e_tot)) * EV_PER_HARTREE)
    _, orbitals, _, stable = mean_field.stability(internal=False, external=True, return_status=True)
    external, broken = ("stable" if stable else "unstable"), False
    if not stable and policy == "broken_symmetry":
        free, found = _break_symmetry(mean_field, partial(anew, unrestricted=True), orbitals, cycles, trace)
        gained = float(mean_field.e_tot) - float(free.e_tot)
        if gained > ZERO_MODE_HA:
            mean_field, internal, broken = free, found, True
        elif not gained > -ZERO_MODE_HA:
            internal = "unstable"  # there is a way down, and it was not found
    lowered = (before - float(mean_field.e_tot)) * EV_PER_HARTREE
    return mean_field, Verdict(internal, external, lowered, broken)


def _begin_again(known: Any, verdict: str, other: Any, cycles: int, trace: Trace) -> tuple[Any, str]:
    """The lower of a field and of what another first guess leads to, with its verdict."""
    try:
        approach(other, _density_of_atoms(other), cycles, trace, "other-guess")
        if abs(float(other.e_tot) - float(known.e_tot)) < ZERO_MODE_HA:
            return known, verdict
        optimize(other, other.mo_coeff, other.mo_occ, cycles, trace, "newton")
        found = _descend(other, cycles, trace)
    except (ArithmeticError, RuntimeError, ValueError):  # as in converge(): what PySCF raises where it cannot go on
        return known, verdict
    return _lower(known, verdict, other, found)


def _density_of_atoms(mean_field: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # PySCF's atoms call a function PySCF has deprecated
        return mean_field.get_init_guess(key=OTHER_GUESS)  # the attribute init_guess is not looked at here


def _break_symmetry(
    restricted: Any, unrestricted: Callable[[], Any], orbitals: Any, cycles: int, trace: Trace
) -> tuple[Any, str]:
    """The lower of two unrestricted minima: the one below the unstable field, and one from atoms of opposite spin.

    The first is the one that a breaking bond leads to smoothly. Where several bonds break at once it may be an excited
    state of the fragments: of N₂ at 2.5 Å it lies 4 eV above the other (Hartree–Fock).
    """
    first, half = unrestricted(), np.asarray(restricted.mo_occ) / 2
    optimize(first, orbitals, np.stack([half, half]), cycles, trace, "broken-symmetry")
    found = _descend(first, cycles, trace)
    second = unrestricted()
    second.init_guess_breaksym = OPPOSITE_SPINS
    approach(second, second.get_init_guess(), cycles, trace, "opposite-spins")
    if min(abs(float(second.e_tot) - float(known.e_tot)) for known in (first, restricted)) < ZERO_MODE_HA:
        return first, found  # the same field; or the restricted one, from which one comes to the same
    optimize(second, second.mo_coeff, second.mo_occ, cycles, trace, "newton")
    return _lower(first, found, second, _descend(second, cycles, trace))


def _lower(known: Any, verdict: str, other: Any, found: str) -> tuple[Any, str]:
    """The lower of two fields with its verdict; the other one counts only if it is a converged minimum.

    A saddle point below it stays, and fails: something lies below that was not found.
    """
    if found == "unstable" or gradient_norm(other) > ACCEPTED_GRADIENT * other.conv_tol_grad:
        return known, verdict
    lower = float(other.e_tot) < float(known.e_tot) - ZERO_MODE_HA
    return (other, found) if lower else (known, verdict)


def _descend(mean_field: Any, cycles: int, trace: Trace) -> str:
    """Follow descending directions inside the form of the field until there is none."""
    for _ in range(ROUNDS):
        orbitals, _, stable, _ = mean_field.stability(internal=True, external=False, return_status=True)
        if stable:
            return "stable"
        kept = {name: getattr(mean_field, name) for name in ORBITALS}
        norm = optimize(mean_field, orbitals, mean_field.mo_occ, cycles, trace, "stability")
        lowered = float(kept["e_tot"] - mean_field.e_tot)
        if not lowered >= ZERO_MODE_HA:
            for name, value in kept.items():
                setattr(mean_field, name, value)
            flat = abs(lowered) < ZERO_MODE_HA and norm <= ACCEPTED_GRADIENT * mean_field.conv_tol_grad
            return "stable" if flat else "unstable"
    return "unstable"
