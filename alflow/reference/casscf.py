"""Several singlets of a complete active space with PySCF. Only :class:`alflow.reference.CasscfReference` loads this.

The orbitals are optimized more than once, from shaken orbitals too: an optimization may end, converged, in a solution
from which a small step leads far down, or leave the active space that was asked for. The sign of a non-adiabatic
coupling is free.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from typing import Any, Final

import numpy as np
from pyscf import fci, mcscf
from pyscf.mcscf import avas
from scipy.linalg import expm

from alflow.domain import Evaluation, Failure, FailureKind, Outcome, Structure
from alflow.domain.structure import FloatArray
from alflow.errors import StructureError
from alflow.reference.excited import CasscfReference
from alflow.reference.ladder import ACCEPTED_GRADIENT
from alflow.reference.quality import defects, flags
from alflow.reference.scf import Field, compute_twice, converge, describe_field, tighter
from alflow.units import EV_ANG_PER_HARTREE_BOHR, EV_PER_HARTREE

__all__ = ["check_active_space", "evaluate", "rotation_onto"]

SHAKES: Final = (0.03, 0.3)
"""Norms of the orbital rotations before the further optimizations, radian: is it a minimum, and what else is there?"""

SHAKE_SEED: Final = 1981

NEAREST: Final = 0.5
"""Smallest overlap of an optimized active orbital with those it began from. Measured: 0.96 where the space was kept, 0
to 0.1 where it became another one."""

ELSEWHERE_EV: Final = 1.0
"""Another active space may lie lower by this; beyond, the one that was asked for describes no low state."""

SAME_HA: Final = 1e-6
"""Mean energies closer than this are one solution."""

SPIN_SHIFT_HA: Final = 1.0
"""Penalty on ⟨S²⟩ that keeps triplets above the singlets."""

IMPURE: Final = 1e-4
CLOSE_EV: Final = 0.1
"""States closer than this may change their order at the next structure."""

FINEST_HA: Final = 1e-6, 1e-11
"""Orbital gradient and energy below which PySCF's optimization creeps."""

FORCE_PER_GRADIENT: Final = 100.0
"""Upper bound of force error over the gradient of the mean energy, eV/Å per Ha: 47 was measured for CH₂NH₂⁺."""

CI_TOLERANCE_HA: Final = 1e-12
RESPONSE_CYCLES: Final = 300


@dataclass(frozen=True, eq=False)
class Space:
    """An optimized active space.

    Attributes:
        solver: PySCF's object.
        norm: Norm of the gradient of the mean energy with respect to orbital rotations, Ha.
        overlap: Smallest singular value of the overlap between the active orbitals and those it began from.
    """

    solver: Any
    norm: float
    overlap: float

    @property
    def energy(self) -> float:
        """Mean energy of the states, Ha."""
        return float(self.solver.e_tot)


@dataclass(frozen=True, eq=False)
class Choice:
    """The active space that was taken, and what else was found.

    Attributes:
        space: The lowest that kept to the atomic orbitals.
        energies: Mean energy of each optimization, eV; the first from AVAS orbitals, the others from shaken ones.
        elsewhere_ev: By how much the lowest that did not keep to them lies below, eV; 0 where none does.
    """

    space: Space
    energies: list[float]
    elsewhere_ev: float


def evaluate(reference: CasscfReference, structure: Structure) -> Outcome:
    """Compute energies of all states, forces of one, and the couplings between them.

    Args:
        reference: The level of theory.
        structure: The molecule.
    """
    second = replace(reference, ground=tighter(reference.ground))
    return compute_twice(_compute, structure, reference, second)


def check_active_space(reference: CasscfReference, structure: Structure) -> None:
    """Find out whether the active space of a structure is the one that is asked for; costs a Hartree–Fock calculation.

    Raises:
        StructureError: It is not, or the structure is not the one of the reference geometry.
    """
    reference.check(structure)
    turned = structure.with_positions(structure.positions @ rotation_onto(reference, structure.positions))
    field = converge(reference.ground, turned)
    if isinstance(field, Failure):
        raise StructureError(field.message)
    _active_orbitals(reference, field.mean_field)


def rotation_onto(reference: CasscfReference, positions: FloatArray) -> FloatArray:
    """Rotation that turns a molecule onto the reference geometry: positions @ rotation.

    The proper rotation with the smallest sum of squared distances (Kabsch, Acta Cryst. A 32, 922 (1976)); no rotation
    without a reference geometry.

    Args:
        reference: The level of theory.
        positions: Positions, Å, shape (atom, 3).

    Returns:
        Orthogonal matrix of determinant 1, shape (3, 3).
    """
    if not reference.reference_positions:
        return np.eye(3)
    target = np.asarray(reference.reference_positions)
    left, _, right = np.linalg.svd((positions - positions.mean(axis=0)).T @ (target - target.mean(axis=0)))
    handed = np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    rotation: FloatArray = left @ handed @ right
    return rotation


def _compute(reference: CasscfReference, structure: Structure) -> Outcome:
    reference.check(structure)
    rotation = rotation_onto(reference, structure.positions)
    turned = structure.with_positions(structure.positions @ rotation)
    field = converge(reference.ground, turned)
    if isinstance(field, Failure):
        return field
    told = {"scf_rungs": field.trace.rungs}
    try:
        choice = _settle(reference, field.mean_field, _active_orbitals(reference, field.mean_field))
        if isinstance(choice, Failure):
            return replace(choice, diagnostics={**told, **choice.diagnostics})
        return _finish(reference, structure, field, choice, rotation)
    except (ArithmeticError, RuntimeError, ValueError) as error:  # LinAlgError is a ValueError
        return Failure(FailureKind.SCF_FAIL, f"PySCF gave up at the active space: {error}.", told)


def _active_orbitals(reference: CasscfReference, mean_field: Any) -> FloatArray:
    """Orbitals with the active ones in their place: AVAS orders them by energy around the gap.

    Raises:
        StructureError: There are others than were asked for.
    """
    found = avas.AVAS(mean_field, list(reference.active_space), threshold=reference.avas_threshold, verbose=0)
    orbitals, electrons, coefficients = found.kernel()
    filled, empty = int(electrons) // 2, int(orbitals) - int(electrons) // 2
    asked_filled = reference.active_electrons // 2
    asked_empty = reference.active_orbitals - asked_filled
    exact = (filled, empty) == (asked_filled, asked_empty)
    enough = reference.selection == "frontier" and filled >= asked_filled and empty >= asked_empty
    if not (exact or enough):
        raise StructureError(
            f"AVAS finds {filled} occupied and {empty} empty orbitals of {', '.join(reference.active_space)} (threshold"
            f" {reference.avas_threshold:g}); {asked_filled} and {asked_empty} were asked for."
        )
    return np.asarray(coefficients, dtype=np.float64)


def _settle(reference: CasscfReference, mean_field: Any, orbitals: FloatArray) -> Choice | Failure:
    """Optimize, and again from shaken orbitals; take the lowest space that kept to the atomic orbitals."""
    tries = [_optimize(reference, mean_field, orbitals, orbitals)]
    limit = ACCEPTED_GRADIENT * _tolerances(reference)[0]
    for number, size in enumerate(SHAKES):
        start = _shaken(_lowest(tries, limit) or tries[0], size, SHAKE_SEED + number)
        tries.append(_optimize(reference, mean_field, start, orbitals))
    energies = [found.energy * EV_PER_HARTREE for found in tries]
    told = {"optimizations_ev": energies, "active_overlaps": [found.overlap for found in tries]}
    best = _lowest(tries, limit)
    if best is None:
        norm = min((found.norm for found in tries if found.overlap >= NEAREST), default=0.0)
        if not norm <= limit:
            message = f"The active space did not converge: orbital gradient {norm:.1e} Ha, {limit:.1e} Ha needed."
            return Failure(FailureKind.SCF_FAIL, message, told)
        overlap = max(found.overlap for found in tries)
        message = (
            f"The optimized active orbitals are not the ones that were asked for: overlap {overlap:.2f}, {NEAREST:g}"
            " needed."
        )
        return Failure(FailureKind.REJECTED, message, told)
    others = [found.energy for found in tries if found.norm <= limit]
    elsewhere = max(0.0, best.energy - min(others)) * EV_PER_HARTREE
    if elsewhere > ELSEWHERE_EV:
        message = f"Another active space lies {elsewhere:.1f} eV below the one that was asked for."
        return Failure(FailureKind.REJECTED, message, told)
    best.solver.converged = True  # our own judgement; PySCF's response refuses an unconverged space
    return Choice(best, energies, elsewhere)


def _tolerances(reference: CasscfReference) -> tuple[float, float]:
    """Orbital gradient and change of energy, Ha, at which an optimization may stop."""
    ground = reference.ground
    return max(ground.gradient_tolerance_ha, FINEST_HA[0]), max(ground.energy_tolerance_ha, FINEST_HA[1])


def _lowest(tries: list[Space], limit: float) -> Space | None:
    """The lowest converged space that kept to its orbitals; the earliest of those that agree."""
    kept = [found for found in tries if found.norm <= limit and found.overlap >= NEAREST]
    bottom = min((found.energy for found in kept), default=0.0)
    return next((found for found in kept if found.energy <= bottom + SAME_HA), None)


def _optimize(reference: CasscfReference, mean_field: Any, start: FloatArray, asked: FloatArray) -> Space:
    solver = mcscf.CASSCF(mean_field, reference.active_orbitals, reference.active_electrons)
    solver.verbose, solver.chkfile = 0, None
    solver.fix_spin_(shift=SPIN_SHIFT_HA, ss=0.0)
    solver.fcisolver.conv_tol = CI_TOLERANCE_HA
    solver = solver.state_average_([1.0 / reference.n_states] * reference.n_states)
    solver.conv_tol_grad, solver.conv_tol = _tolerances(reference)
    solver.max_cycle_macro = reference.max_macro_cycles
    solver.kernel(start)
    active = slice(solver.ncore, solver.ncore + solver.ncas)
    overlap = asked[:, active].T @ mean_field.get_ovlp() @ solver.mo_coeff[:, active]
    nearest = float(np.linalg.svd(overlap, compute_uv=False).min())
    return Space(solver, float(np.linalg.norm(solver.get_grad())), nearest)


def _shaken(space: Space, size: float, seed: int) -> FloatArray:
    """Orbitals after a small random rotation between core, active and empty ones, the same for the same seed."""
    solver = space.solver
    orbitals: FloatArray = np.asarray(solver.mo_coeff)
    count = orbitals.shape[1]
    free = solver.uniq_var_indices(count, solver.ncore, solver.ncas, solver.frozen)
    generator = np.where(free, np.random.default_rng(seed).normal(size=(count, count)), 0.0)
    generator *= size / max(float(np.linalg.norm(generator)), 1e-300)
    shaken: FloatArray = orbitals @ expm(generator - generator.T)
    return shaken


def _finish(
    reference: CasscfReference, structure: Structure, field: Field, choice: Choice, rotation: FloatArray
) -> Outcome:
    space, found = choice.space, _diagnostics(reference, field, choice)
    impure = [str(k) for k, s in enumerate(found["s_squared_of_states"]) if not abs(s) <= IMPURE]
    if impure:
        return Failure(FailureKind.SCF_FAIL, f"State {', '.join(impure)} of the active space is no singlet.", found)
    gradient = space.solver.nuc_grad_method()
    gradient.max_cycle = RESPONSE_CYCLES
    wanted = range(reference.n_states) if reference.all_forces else [reference.state]
    forces = {}
    for state in wanted:
        forces[state] = -np.asarray(gradient.kernel(state=state)) @ rotation.T * EV_ANG_PER_HARTREE_BOHR
        if not gradient.converged:
            return Failure(FailureKind.SCF_FAIL, f"The response of state {state}'s orbitals did not converge.", found)
    if reference.all_forces:
        found["state_forces_ev_ang"] = [forces[state].tolist() for state in wanted]
    if reference.couplings:
        numerators = _couplings(reference, space, rotation)
        if isinstance(numerators, Failure):
            return replace(numerators, diagnostics=found)
        found |= numerators
    energy, own = found["state_energies_ev"][reference.state], forces[reference.state]
    if not (np.isfinite(energy) and np.isfinite(own).all()):
        return Failure(FailureKind.NON_FINITE, f"Energy {energy} eV or a force is not finite.")
    found["net_force_ev_ang"] = float(np.abs(own.sum(axis=0)).max())
    charges = np.asarray(field.mean_field.mol.atom_charges(), dtype=np.float64)
    found["defects"] = defects(structure.positions, own, charges, found)
    return Evaluation(energy, own, None, found)


def _couplings(reference: CasscfReference, space: Space, rotation: FloatArray) -> dict[str, Any] | Failure:
    """Non-adiabatic couplings of all pairs of states, in the electron-translation frame."""
    coupling = space.solver.nac_method()
    coupling.max_cycle = RESPONSE_CYCLES
    energies = np.asarray(space.solver.e_states) * EV_PER_HARTREE
    numerators, vectors = {}, {}
    for lower, upper in combinations(range(reference.n_states), 2):
        # PySCF's state = (ket, bra): ⟨lower|∇upper⟩ times E_bra − E_ket, which is turned round here.
        found = coupling.kernel(state=(upper, lower), use_etfs=True, mult_ediff=True)
        if not coupling.converged:
            message = f"The response of the coupling between states {lower} and {upper} did not converge."
            return Failure(FailureKind.SCF_FAIL, message)
        numerator = -np.asarray(found) @ rotation.T * EV_ANG_PER_HARTREE_BOHR
        pair = f"{lower}-{upper}"
        numerators[pair] = numerator.tolist()
        gap = float(energies[upper] - energies[lower])
        vectors[pair] = (numerator / gap).tolist() if gap else None
    return {"coupling_numerators_ev_ang": numerators, "couplings_per_ang": vectors}


def _diagnostics(reference: CasscfReference, field: Field, choice: Choice) -> dict[str, Any]:
    space, solver = choice.space, choice.space.solver
    found = describe_field(reference.ground, field)
    for name in ("dipole_e_ang", "s_squared", "gap_ev"):
        found[f"hartree_fock_{name}"] = found.pop(name)
    energies = [float(e) * EV_PER_HARTREE for e in solver.e_states]
    ncas, nelecas = solver.ncas, solver.nelecas
    densities = [fci.direct_spin1.make_rdm1(ci, ncas, nelecas) for ci in solver.ci]
    gaps = [np.inf, *(upper - lower for lower, upper in pairwise(energies)), np.inf]
    near = float(min(gaps[reference.state : reference.state + 2]))
    told = {"external_stability": "not tested", "s_squared": 0.0, "n_mo": found["n_mo"], "n_ao": found["n_ao"]}
    found |= {
        "force_noise_ev_ang": FORCE_PER_GRADIENT * space.norm,
        "gradient_norm_ha": space.norm,
        "state": reference.state,
        "state_energies_ev": energies,
        "mean_energy_ev": float(solver.e_tot) * EV_PER_HARTREE,
        "optimizations_ev": choice.energies,
        "active_overlap": space.overlap,
        "lower_elsewhere_ev": choice.elsewhere_ev,
        "natural_occupations": [np.linalg.eigvalsh(density)[::-1].tolist() for density in densities],
        "s_squared_of_states": [float(fci.spin_op.spin_square0(ci, ncas, nelecas)[0]) for ci in solver.ci],
        "state_gap_ev": near if np.isfinite(near) else None,
        "flags": flags(1, told),
    }
    warnings = {
        "near-degenerate-states": near < CLOSE_EV,
        "lowered-active-space": choice.energies[0] - space.energy * EV_PER_HARTREE > SAME_HA * EV_PER_HARTREE,
        "other-active-space-lower": choice.elsewhere_ev > SAME_HA * EV_PER_HARTREE,
    }
    found["flags"] += [name for name, holds in warnings.items() if holds]
    return found
