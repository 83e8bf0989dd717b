"""Excited states with PySCF in the Tamm–Dancoff approximation. Only :class:`alflow.reference.TdaReference` loads this.

PySCF's gradient of an excited state leaves out the response of the integration grid. Here that of the ground state,
which is known, is put back; what is missing is the grid's response in the excitation energy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final

import numpy as np

from alflow.domain import Evaluation, Failure, FailureKind, Outcome, Structure
from alflow.domain.structure import FloatArray
from alflow.errors import ConfigError
from alflow.reference.excited import TdaReference
from alflow.reference.quality import defects, flags
from alflow.reference.scf import Field, compute_twice, converge, describe_field, differentiate, tighter
from alflow.units import EV_ANG_PER_HARTREE_BOHR, EV_PER_HARTREE

__all__ = ["evaluate", "try_out"]

GUARDS: Final = 3
"""Roots computed beyond those asked for: the gap above the last is known, and none is missed below it."""

STIR: Final = 0.02
"""Noise in the first vectors, so that roots of every symmetry are found also where a molecule is symmetric."""

STIR_SEED: Final = 2014

CLOSE_EV: Final = 0.1
"""States closer than this may change their order at the next structure."""

FORCE_PER_RESIDUAL: Final = 30.0
"""Upper bound of force error over the residual of a root, eV/Å per Ha: 0.02 was measured, close roots need more."""

RESPONSE_CYCLES: Final = 100
RESPONSE_TOLERANCE: Final = 1e-9

FINEST_RESIDUAL_HA: Final = 1e-8


@dataclass(frozen=True, eq=False)
class Roots:
    """Eigenvectors that were found, ascending.

    Attributes:
        solver: PySCF's object; its roots are in this order.
        excitations: Excitation energies, eV, shape (root,).
        converged: Whether each has converged.
    """

    solver: Any
    excitations: FloatArray
    converged: tuple[bool, ...]


def evaluate(reference: TdaReference, structure: Structure) -> Outcome:
    """Compute energy and forces of one excited state of one molecule.

    Args:
        reference: The level of theory.
        structure: The molecule.
    """
    second = replace(
        reference,
        ground=tighter(reference.ground),
        root_tolerance_ha=min(reference.root_tolerance_ha, max(0.01 * reference.root_tolerance_ha, FINEST_RESIDUAL_HA)),
    )
    return compute_twice(_compute, structure, reference, second)


def try_out(reference: TdaReference) -> None:
    """Compute the gradient of the only excited state of H₂ in a minimal basis: what PySCF lacks shows.

    Raises:
        ConfigError: PySCF cannot compute it with these settings.
    """
    ground = replace(reference.ground, basis="sto-3g", element_basis=(), grid_level=1)
    small = replace(reference, ground=ground, n_states=1, state=1)
    try:
        found = _compute(small, Structure.of("HH", [[0.0, 0.0, 0.0], [0.0, 0.0, 0.75]]))
    except Exception as error:  # whatever PySCF stumbles over
        raise ConfigError(
            f"PySCF cannot compute gradients of excited states with functional {ground.functional!r}: {error}"
        ) from error
    if isinstance(found, Failure):
        raise ConfigError(
            f"PySCF cannot compute gradients of excited states with functional {ground.functional!r}: {found.message}"
        )


def _compute(reference: TdaReference, structure: Structure) -> Outcome:
    reference.check(structure)
    field = converge(reference.ground, structure)
    if isinstance(field, Failure):
        return field
    told = {"scf_rungs": field.trace.rungs}
    occupied = np.asarray(field.mean_field.mo_occ) > 0
    possible = int(occupied.sum() * (~occupied).sum())
    if reference.n_states > possible:
        message = (
            f"{structure.formula} has {possible} excited states in this basis; {reference.n_states} were asked for."
        )
        return Failure(FailureKind.REJECTED, message)
    try:
        roots = _excite(reference, field.mean_field, min(reference.n_states + GUARDS, possible))
        if isinstance(roots, Failure):
            return replace(roots, diagnostics=told)
        return _finish(reference, structure, field, roots)
    except (ArithmeticError, RuntimeError, ValueError) as error:  # LinAlgError is a ValueError
        return Failure(FailureKind.SCF_FAIL, f"PySCF gave up at the excited states: {error}.", told)


def _excite(reference: TdaReference, mean_field: Any, count: int) -> Roots | Failure:
    """Find the lowest roots, those below the ground state among them."""
    solver = mean_field.TDA()
    solver.nstates = count
    solver.singlet = reference.spin == "singlet"
    solver.conv_tol = reference.root_tolerance_ha
    solver.positive_eig_threshold = -np.inf
    solver.max_cycle = 2 * reference.ground.max_cycles
    guess = np.asarray(solver.get_init_guess(mean_field, count))
    noise = np.random.default_rng(STIR_SEED).normal(size=guess.shape)
    solver.kernel(x0=guess + STIR * noise / np.linalg.norm(noise, axis=1, keepdims=True))
    found = np.asarray(solver.e, dtype=np.float64)
    order = np.argsort(found)
    converged = tuple(bool(solver.converged[k]) for k in order)
    if len(found) < reference.n_states or not all(converged[: reference.n_states]):
        lost = [str(k + 1) for k, good in enumerate(converged[: reference.n_states]) if not good]
        message = f"Excited state {', '.join(lost) or len(found) + 1} did not converge in {solver.max_cycle} cycles."
        return Failure(FailureKind.SCF_FAIL, message)
    solver.e, solver.xy = found[order], [solver.xy[k] for k in order]
    return Roots(solver, solver.e * EV_PER_HARTREE, converged)


def _finish(reference: TdaReference, structure: Structure, field: Field, roots: Roots) -> Outcome:
    mean_field, ground = field.mean_field, reference.ground
    ground_forces = -differentiate(ground, mean_field) * EV_ANG_PER_HARTREE_BOHR
    forces = ground_forces + _forces_of_excitation(reference, mean_field, roots)
    ground_energy = float(mean_field.e_tot) * EV_PER_HARTREE
    energy = ground_energy + float(roots.excitations[reference.state - 1])
    if not (np.isfinite(energy) and np.isfinite(forces).all()):
        return Failure(FailureKind.NON_FINITE, f"Energy {energy} eV or a force is not finite.")
    found = describe_field(ground, field)
    found["ground_dipole_e_ang"] = found.pop("dipole_e_ang")
    found["force_noise_ev_ang"] += FORCE_PER_RESIDUAL * reference.root_tolerance_ha
    found |= _states(reference, ground_energy, roots)
    found["ground_forces_ev_ang"] = ground_forces.tolist()
    net = forces.sum(axis=0)
    found["net_force_ev_ang"] = float(np.abs(net).max())
    found["flags"] = flags(1, found)
    if found["state_gap_ev"] < CLOSE_EV:
        found["flags"].append("near-degenerate-states")
    if roots.excitations[0] < 0.0:
        found["flags"].append("excited-below-ground")
    charges = np.asarray(mean_field.mol.atom_charges(), dtype=np.float64)
    found["defects"] = defects(structure.positions, forces, charges, found, net_noise=found["force_noise_ev_ang"])
    return Evaluation(energy, forces, None, found)


def _forces_of_excitation(reference: TdaReference, mean_field: Any, roots: Roots) -> FloatArray:
    """−∂ω/∂R, eV/Å, on a grid that stays where it is."""
    gradient = roots.solver.nuc_grad_method()
    gradient.verbose = 0
    gradient.cphf_max_cycle, gradient.cphf_conv_tol = RESPONSE_CYCLES, RESPONSE_TOLERANCE
    total = np.asarray(gradient.kernel(state=reference.state), dtype=np.float64)
    # PySCF's gradient of the excited state has no dispersion in it, and no response of the grid.
    without = mean_field.nuc_grad_method()
    bare = np.asarray(without.grad_elec() + without.grad_nuc(), dtype=np.float64)
    return -(total - bare) * EV_ANG_PER_HARTREE_BOHR


def _states(reference: TdaReference, ground_energy: float, roots: Roots) -> dict[str, Any]:
    """Diagnostics of the states, as JSON values."""
    asked, state = reference.n_states, reference.state
    excitations = roots.excitations[:asked].tolist()
    ladder = [0.0, *roots.excitations.tolist()]
    gaps = [upper - lower for lower, upper in pairwise(ladder)]
    strengths = [0.0] * asked
    if reference.spin == "singlet":
        e, xy = roots.solver.e[:asked], roots.solver.xy[:asked]
        strengths = [float(f) for f in roots.solver.oscillator_strength(e=e, xy=xy)]
    return {
        "state": state,
        "spin": reference.spin,
        "state_energies_ev": [ground_energy, *(ground_energy + w for w in excitations)],
        "excitation_energies_ev": excitations,
        "oscillator_strengths": strengths,
        "state_gap_ev": min(abs(gap) for gap in gaps[state - 1 : state + 1]),
        "roots_converged": list(roots.converged),
    }
