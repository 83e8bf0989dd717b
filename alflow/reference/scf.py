"""Self-consistent field and gradient of one molecule with PySCF.

Hartree and Bohr end here. The settings follow measurements: forces are the exact derivative of the computed energy
(grid response, auxiliary response), and convergence is judged by the orbital gradient alone, because the force error
of an unconverged field stays below :data:`FORCE_PER_GRADIENT` times its norm, while PySCF's own flag errs both ways.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, Final

import numpy as np
from pyscf import __version__ as pyscf_version
from pyscf import dft, gto, lib, scf

from alflow.domain import Evaluation, Failure, FailureKind, Outcome, Structure
from alflow.domain.structure import FloatArray
from alflow.errors import InputError
from alflow.reference.check import check_molecule
from alflow.reference.method import core_potentials, without_checkpoint
from alflow.reference.pyscf import PyscfReference
from alflow.units import ANG_PER_BOHR, EV_ANG_PER_HARTREE_BOHR, EV_PER_HARTREE

__all__ = ["FORCE_PER_GRADIENT", "evaluate"]

LARGEST_NET_FORCE: Final = 1e-3
"""With the response of the grid the forces of a molecule cancel to 1e-9 eV/Å; a sum above this is a defect."""

FORCE_PER_GRADIENT: Final = 13.0
"""Upper bound of force error over orbital-gradient norm, eV/Å per Ha, measured over 40 runs (3 to 13)."""

ACCEPTED_GRADIENT: Final = 3.0
"""A field is converged when its orbital gradient is below this multiple of the tolerance."""

SHIFT_HA: Final = 0.3
DAMPING: Final = 0.2


@dataclass
class _Trace:
    """What happened on the way: the best density so far and the rungs climbed."""

    gradient_norm: float = np.inf
    density: FloatArray | None = None
    cycles: int = 0
    last: float = np.inf
    rungs: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, cycle: Mapping[str, Any]) -> None:
        """Take note of one SCF cycle; PySCF calls this with its local variables."""
        self.cycles += 1
        self.last = float(cycle["norm_gorb"])
        if self.last < self.gradient_norm:
            self.gradient_norm = self.last
            self.density = np.array(cycle["dm"])

    def close(self, name: str, gradient_norm: float, cycles: int) -> None:
        """Write a finished rung down."""
        norm = gradient_norm if np.isfinite(gradient_norm) else None
        self.rungs.append({"rung": name, "cycles": cycles, "gradient_norm_ha": norm})


def evaluate(reference: PyscfReference, structure: Structure) -> Outcome:
    """Compute energy and forces of one molecule.

    Args:
        reference: The level of theory and its numerical limits.
        structure: The molecule.

    Returns:
        The evaluation with diagnostics, or the failure.
    """
    try:
        check_molecule(structure)
        mean_field = _mean_field(reference, structure)
    except InputError as error:
        return Failure(FailureKind.REJECTED, str(error))
    trace = _Trace()
    try:
        norm = _climb(mean_field, reference, trace)
    except (
        ArithmeticError,
        RuntimeError,
        ValueError,
    ) as error:  # LinAlgError is a ValueError; PySCF raises all of them
        return Failure(FailureKind.SCF_FAIL, f"PySCF gave up: {error}.", {"scf_rungs": trace.rungs})
    limit = ACCEPTED_GRADIENT * reference.gradient_tolerance_ha
    if not norm <= limit:
        message = (
            f"The self-consistent field did not converge: orbital gradient {norm:.1e} Ha after {trace.cycles} cycles,"
            f" {limit:.1e} Ha needed."
        )
        return Failure(FailureKind.SCF_FAIL, message, {"scf_rungs": trace.rungs})
    return _finish(reference, mean_field, norm, trace)


def _mean_field(reference: PyscfReference, structure: Structure) -> Any:
    """Set up the molecule and an unconverged mean-field object."""
    lib.num_threads(reference.threads)
    molecule = gto.M(
        atom=list(zip(structure.symbols, structure.positions / ANG_PER_BOHR, strict=True)),
        unit="Bohr",
        basis=reference.basis,
        ecp=core_potentials(reference.basis, structure.symbols),
        charge=structure.charge,
        spin=structure.multiplicity - 1,
        max_memory=reference.memory_mb,
        verbose=0,
        symmetry=False,
    )
    functional, dispersion = reference.resolved
    closed = structure.multiplicity == 1
    if reference.is_dft:
        mean_field = dft.RKS(molecule) if closed else dft.UKS(molecule)
        mean_field.xc = functional
        mean_field.grids.level = reference.grid_level
        mean_field.nlcgrids.level = reference.nonlocal_grid_level
        if reference.replaces_nonlocal:
            mean_field.nlc = False
    else:
        mean_field = scf.RHF(molecule) if closed else scf.UHF(molecule)
    if reference.density_fitting:
        mean_field = mean_field.density_fit()
    mean_field.disp = dispersion or False
    mean_field.init_guess = "minao"
    without_checkpoint(mean_field)
    mean_field.conv_check = False
    mean_field.conv_tol = reference.energy_tolerance_ha
    mean_field.conv_tol_grad = reference.gradient_tolerance_ha
    return mean_field


def _climb(mean_field: Any, reference: PyscfReference, trace: _Trace) -> float:
    """Converge the field; return the norm of the orbital gradient, Ha, of the orbitals it holds."""
    limit = ACCEPTED_GRADIENT * reference.gradient_tolerance_ha
    cycles = reference.max_cycles
    norm = _iterate(mean_field, None, cycles, 0.0, 0.0, trace, "diis")
    if norm <= limit:
        return norm
    _iterate(mean_field, trace.density, cycles, SHIFT_HA, DAMPING, trace, "shifted-damped")
    norm = _iterate(mean_field, trace.density, cycles, 0.0, 0.0, trace, "diis-restart")
    if norm <= limit:
        return norm
    return _newton(mean_field, cycles, trace)


def _iterate(
    mean_field: Any, density: FloatArray | None, cycles: int, shift: float, damping: float, trace: _Trace, name: str
) -> float:
    before = trace.cycles
    trace.last = np.inf
    mean_field.level_shift, mean_field.damp = shift, damping
    mean_field.max_cycle = cycles
    mean_field.callback = trace
    mean_field.kernel(dm0=density)
    trace.close(name, trace.last, trace.cycles - before)
    return trace.last


def _newton(mean_field: Any, cycles: int, trace: _Trace) -> float:
    """Second-order optimization from the best density so far."""
    mean_field.callback = None
    solver = mean_field.newton()
    solver.max_cycle = cycles
    solver.kernel(dm0=trace.density)
    mean_field.mo_coeff, mean_field.mo_occ = solver.mo_coeff, solver.mo_occ
    mean_field.mo_energy, mean_field.e_tot = solver.mo_energy, solver.e_tot
    norm = float(np.linalg.norm(mean_field.get_grad(mean_field.mo_coeff, mean_field.mo_occ)))
    trace.cycles += int(solver.cycles)
    trace.close("newton", norm, int(solver.cycles))
    return norm


def _finish(reference: PyscfReference, mean_field: Any, norm: float, trace: _Trace) -> Outcome:
    mean_field.converged = True  # our own judgement; PySCF's gradient refuses an unconverged field
    gradient = mean_field.nuc_grad_method()
    if reference.is_dft:
        gradient.grid_response = True
    forces = -np.asarray(gradient.kernel()) * EV_ANG_PER_HARTREE_BOHR
    energy = float(mean_field.e_tot) * EV_PER_HARTREE
    if not (np.isfinite(energy) and np.isfinite(forces).all()):
        return Failure(
            FailureKind.NON_FINITE, f"Energy {energy} eV or a force is not finite.", {"cycles": trace.cycles}
        )
    diagnostics = _diagnostics(reference, mean_field, forces, norm, trace)
    if diagnostics["net_force_ev_ang"] > LARGEST_NET_FORCE:
        message = f"The forces add up to {diagnostics['net_force_ev_ang']:.1e} eV/Å instead of nothing."
        return Failure(FailureKind.REJECTED, message, diagnostics)
    return Evaluation(energy, forces, None, diagnostics)


def _diagnostics(
    reference: PyscfReference, mean_field: Any, forces: FloatArray, norm: float, trace: _Trace
) -> dict[str, Any]:
    molecule = mean_field.mol
    energies, occupations = np.asarray(mean_field.mo_energy), np.asarray(mean_field.mo_occ)
    charges = molecule.atom_charges()
    center = (charges @ molecule.atom_coords()) / max(charges.sum(), 1)
    dipole = np.asarray(mean_field.dip_moment(unit="AU", origin=center, verbose=0)) * ANG_PER_BOHR
    s_squared = 0.0 if occupations.ndim == 1 else float(mean_field.spin_square()[0])
    return {
        "gradient_norm_ha": norm,
        "force_noise_ev_ang": FORCE_PER_GRADIENT * norm,
        "cycles": trace.cycles,
        "scf_rungs": trace.rungs,
        "gap_ev": _gap(energies, occupations),
        "s_squared": s_squared,
        "n_ao": int(molecule.nao),
        "n_mo": int(energies.shape[-1]),
        "n_electrons": int(molecule.nelectron),
        "net_force_ev_ang": float(np.abs(forces.sum(axis=0)).max()),
        "dipole_e_ang": dipole.tolist(),
        "threads": int(lib.num_threads()),
        "versions": _versions(reference),
    }


def _gap(energies: FloatArray, occupations: FloatArray) -> float | None:
    """Smallest gap between an occupied and an empty orbital of the same spin, eV; None without an empty one."""
    gaps = []
    for level, filled in zip(np.atleast_2d(energies), np.atleast_2d(occupations) > 0, strict=True):
        if filled.any() and not filled.all():
            gaps.append(float(level[~filled].min() - level[filled].max()))
    return min(gaps) * EV_PER_HARTREE if gaps else None


def _versions(reference: PyscfReference) -> dict[str, str]:
    versions = {"pyscf": str(pyscf_version)}
    if reference.is_dft:
        versions["libxc"] = str(dft.libxc.__version__)
    if reference.resolved[1] is not None:
        versions["pyscf-dispersion"] = metadata.version("pyscf-dispersion")
    return versions
