"""Energy and gradient with PySCF. Only :meth:`alflow.reference.PyscfReference.evaluate` loads this module.

Forces are the exact derivative of the energy, including the response of the integration grid. The way to a converged
field is in :mod:`alflow.reference.ladder`, its test in :mod:`alflow.reference.stability`, the checks of the result in
:mod:`alflow.reference.quality`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from typing import Any, Final, TypeVar

import numpy as np
from pyscf import __version__ as pyscf_version
from pyscf import dft, gto, lib, scf

from alflow.domain import Evaluation, Failure, FailureKind, Outcome, Structure
from alflow.domain.structure import FloatArray
from alflow.errors import ConfigError, InputError
from alflow.reference.charges import density_on_grid
from alflow.reference.check import check_molecule
from alflow.reference.course import Course
from alflow.reference.gpu import density_by_gpu, gradient_by_gpu
from alflow.reference.ladder import ACCEPTED_GRADIENT, Trace, climb, gradient_norm
from alflow.reference.method import core_potentials, without_checkpoint
from alflow.reference.observables import observe
from alflow.reference.pyscf import PyscfReference
from alflow.reference.quality import FORCE_PER_GRADIENT, SOFT_FORCE_PER_GRADIENT, defects, flags, grid_noise
from alflow.reference.stability import Verdict, gap_gate_ev, settle, smallest_gap_ev
from alflow.units import ANG_PER_BOHR, EV_ANG_PER_HARTREE_BOHR, EV_PER_HARTREE

__all__ = ["Field", "compute_twice", "converge", "describe_field", "differentiate", "evaluate", "tighter", "try_out"]

R = TypeVar("R")

TIGHTER: Final = 0.01
"""Tolerances of the second try, after a defect, relative to those of the first."""

FINEST_HA: Final = 1e-8, 1e-12
"""Orbital gradient and energy below which double precision does not take a field."""


@dataclass(frozen=True, eq=False)
class Field:
    """A self-consistent field that has converged and stood its test.

    Attributes:
        mean_field: PySCF's object, with its orbitals.
        norm: Norm of its orbital gradient, Ha.
        trace: The way to it.
        verdict: Whether it is stable.
    """

    mean_field: Any
    norm: float
    trace: Trace
    verdict: Verdict


def evaluate(reference: PyscfReference, structure: Structure, course: Course | None = None) -> Outcome:
    """Compute energy and forces of one molecule.

    Args:
        reference: The level of theory and its numerical limits.
        structure: The molecule.
        course: How much time there is, and the checkpoint of an earlier process; None if nothing interrupts.

    Returns:
        The evaluation with diagnostics, or the failure.
    """
    return compute_twice(partial(_compute, course=course), structure, reference, tighter(reference))


def compute_twice(compute: Callable[[R, Structure], Outcome], structure: Structure, first: R, second: R) -> Outcome:
    """Compute a label, and once more with tighter tolerances where the result has ``defects``.

    Args:
        compute: One try.
        structure: The molecule.
        first: What is asked for.
        second: The same with tighter tolerances.

    Returns:
        The evaluation, or a failure: REJECTED if the structure cannot be treated, or if both tries are defective.
    """
    try:
        check_molecule(structure)
        found = compute(first, structure)
        if not (isinstance(found, Evaluation) and found.diagnostics["defects"]):
            return found
        again = compute(second, structure)
    except InputError as error:
        return Failure(FailureKind.REJECTED, str(error))
    reasons = "; ".join(found.diagnostics["defects"])
    told = {**again.diagnostics, "computed_twice": reasons}
    if isinstance(again, Failure):
        return Failure(again.kind, f"Computed twice, because {reasons}; then: {again.message}", told)
    if again.diagnostics["defects"]:
        reasons = "; ".join(again.diagnostics["defects"])
        return Failure(FailureKind.REJECTED, f"Computed twice, and still {reasons}.", told)
    return replace(again, diagnostics=told)


def tighter(reference: PyscfReference) -> PyscfReference:
    """The same with tolerances a hundred times smaller, as far as double precision goes."""
    gradient, energy = reference.gradient_tolerance_ha, reference.energy_tolerance_ha
    return replace(
        reference,
        gradient_tolerance_ha=min(gradient, max(TIGHTER * gradient, FINEST_HA[0])),
        energy_tolerance_ha=min(energy, max(TIGHTER * energy, FINEST_HA[1])),
    )


def try_out(reference: PyscfReference) -> None:
    """Compute one gradient of H₂ in a small basis, with every setting but basis and grid: what PySCF lacks shows.

    Raises:
        ConfigError: PySCF cannot compute a gradient with these settings.
    """
    small = replace(reference, basis="sto-3g", element_basis=(), grid_level=1, nonlocal_grid_level=1)
    try:
        for multiplicity in (1, 3):
            molecule = _molecule(
                small, Structure.of("HH", [[0.0, 0.0, 0.0], [0.0, 0.0, 0.75]], multiplicity=multiplicity)
            )
            mean_field = _mean_field(small, molecule)
            mean_field.max_cycle = 2
            mean_field.kernel()
            mean_field.converged = True
            differentiate(small, mean_field)
    except Exception as error:  # whatever PySCF stumbles over
        settings = f"functional {reference.functional!r}, dispersion {reference.dispersion!r}, auxiliary basis"
        raise ConfigError(
            f"PySCF cannot compute a gradient with {settings} {reference.auxiliary_basis!r}: {error}"
        ) from error


def differentiate(reference: PyscfReference, mean_field: Any, grid_response: bool = True) -> FloatArray:
    """Exact derivative of the energy, Ha/Bohr.

    Args:
        reference: The level of theory.
        mean_field: A converged field.
        grid_response: Whether the grid moves with the atoms; without it the derivative is not exact.
    """
    if reference.device == "gpu":
        return gradient_by_gpu(mean_field, reference.is_dft and grid_response)
    gradient = mean_field.nuc_grad_method()
    if reference.is_dft:
        gradient.grid_response = grid_response
    return np.asarray(gradient.kernel(), dtype=np.float64)


def _compute(reference: PyscfReference, structure: Structure, course: Course | None = None) -> Outcome:
    """One try: converge, settle, differentiate, look at the result."""
    field = converge(reference, structure, course)
    if isinstance(field, Failure):
        return field
    if course is not None:
        course.look()
    try:
        return _finish(reference, structure, field)
    except (ArithmeticError, RuntimeError, np.linalg.LinAlgError) as error:
        message = f"PySCF gave up at the gradient: {error}."
        return Failure(FailureKind.SCF_FAIL, message, {"scf_rungs": field.trace.rungs})


def converge(reference: PyscfReference, structure: Structure, course: Course | None = None) -> Field | Failure:
    """Find the field of the ground state and test it.

    Args:
        reference: The level of theory and its numerical limits.
        structure: The molecule, already checked.
        course: How much time there is, and the checkpoint of an earlier process; None if nothing interrupts.

    Returns:
        The field, or the failure: SCF_FAIL, or REJECTED by the spin policy.
    """
    lib.num_threads(reference.threads)
    molecule = _molecule(reference, structure)
    mean_field, trace = _mean_field(reference, molecule), Trace(course=course)
    try:
        anew = partial(_mean_field, reference, molecule) if reference.smearing_ha is None else None
        ahead = density_by_gpu(_mean_field(reference, molecule)) if reference.device == "gpu" else None
        norm = climb(mean_field, anew, reference.max_cycles, trace, ahead)
        limit = ACCEPTED_GRADIENT * reference.gradient_tolerance_ha
        if norm <= limit:
            mean_field, verdict = _settled(reference, mean_field, trace)
            norm = gradient_norm(mean_field) if verdict.lowered_ev else norm
    except (ArithmeticError, RuntimeError, ValueError) as error:
        # LinAlgError is a ValueError; PySCF raises all of them
        return Failure(FailureKind.SCF_FAIL, f"PySCF gave up: {error}.", {"scf_rungs": trace.rungs})
    if not norm <= limit:
        message = (
            f"The self-consistent field did not converge: orbital gradient {norm:.1e} Ha after {trace.cycles} cycles,"
            f" {limit:.1e} Ha needed."
        )
        return Failure(FailureKind.SCF_FAIL, message, {"scf_rungs": trace.rungs})
    if verdict.internal == "unstable":
        message = "The self-consistent field is a saddle point, and no way down from it ended in a lower minimum."
        return Failure(FailureKind.SCF_FAIL, message, {"scf_rungs": trace.rungs})
    if verdict.external == "unstable" and reference.spin_policy == "reject":
        message = "The restricted singlet would break its spin symmetry, which this campaign's spin policy refuses."
        return Failure(FailureKind.REJECTED, message, {"scf_rungs": trace.rungs})
    mean_field.converged = True  # our own judgement; PySCF's gradient refuses an unconverged field
    return Field(mean_field, norm, trace, verdict)


def _settled(reference: PyscfReference, mean_field: Any, trace: Trace) -> tuple[Any, Verdict]:
    """Test the field where it may be unstable."""
    gap = smallest_gap_ev(mean_field)
    if gap is None or reference.smearing_ha is not None:
        return mean_field, Verdict()  # no empty orbital to turn to, or no whole occupations to speak of
    exchange = reference.method.exact_exchange
    doubtful = len(trace.rungs) > 1 or not reference.is_dft or gap < gap_gate_ev(exchange)
    if not doubtful:
        return mean_field, Verdict()
    anew = partial(_mean_field, reference, mean_field.mol)
    return settle(mean_field, anew, reference.spin_policy, reference.max_cycles, trace)


def _molecule(reference: PyscfReference, structure: Structure) -> Any:
    basis = reference.basis_of(structure.symbols)
    return gto.M(
        atom=list(zip(structure.symbols, structure.positions / ANG_PER_BOHR, strict=True)),
        unit="Bohr",
        # By name where there is one name: PySCF then chooses the auxiliary basis as it does for everybody else.
        basis=basis if reference.element_basis else reference.basis,
        ecp=core_potentials(basis),
        cart=reference.cartesian,
        charge=structure.charge,
        spin=structure.multiplicity - 1,
        max_memory=reference.memory_mb,
        verbose=0,
        symmetry=False,
    )


def _mean_field(reference: PyscfReference, molecule: Any, unrestricted: bool = False) -> Any:
    """An unconverged mean-field object: restricted for singlets unless told otherwise."""
    method, closed = reference.method, molecule.spin == 0 and not unrestricted
    if reference.is_dft:
        mean_field = dft.RKS(molecule) if closed else dft.UKS(molecule)
        mean_field.xc = method.xc
        mean_field.grids.level = reference.grid_level
        mean_field.nlcgrids.level = reference.nonlocal_grid_level
        if method.built_in_dispersion is not None:
            mean_field.nlc = False
    else:
        mean_field = (
            scf.hf.RHF(molecule) if closed else scf.uhf.UHF(molecule)
        )  # the classes: one electron gets no other
    if reference.density_fitting:
        mean_field = mean_field.density_fit(auxbasis=reference.auxiliary_basis)
    if reference.solvent_dielectric is not None:
        mean_field = mean_field.PCM()
        mean_field.with_solvent.method = "C-PCM"
        mean_field.with_solvent.eps = reference.solvent_dielectric
    mean_field.disp = method.built_in_dispersion or reference.dispersion or False
    mean_field.init_guess = "minao"
    without_checkpoint(mean_field)
    mean_field.conv_check = False
    mean_field.conv_tol = reference.energy_tolerance_ha
    mean_field.conv_tol_grad = reference.gradient_tolerance_ha
    if reference.smearing_ha is not None:
        mean_field = scf.addons.smearing(mean_field, sigma=reference.smearing_ha, method="fermi", fix_spin=True)
    return mean_field


def _finish(reference: PyscfReference, structure: Structure, field: Field) -> Outcome:
    mean_field = field.mean_field
    forces = -differentiate(reference, mean_field) * EV_ANG_PER_HARTREE_BOHR
    energy = _energy_ha(reference, mean_field) * EV_PER_HARTREE
    if not (np.isfinite(energy) and np.isfinite(forces).all()):
        return Failure(
            FailureKind.NON_FINITE, f"Energy {energy} eV or a force is not finite.", {"cycles": field.trace.cycles}
        )
    on_grid = density_on_grid(mean_field) if reference.is_dft else None
    found = describe_field(reference, field, on_grid)
    found["net_force_ev_ang"] = float(np.abs(forces.sum(axis=0)).max())
    found["flags"] = flags(structure.multiplicity, found)
    charges = np.asarray(mean_field.mol.atom_charges(), dtype=np.float64)
    free = reference.solvent_dielectric is None
    found["defects"] = defects(structure.positions, forces, charges, found, free)
    if not found["defects"]:
        found |= observe(reference, mean_field, on_grid)
    return Evaluation(energy, forces, None, found)


def _energy_ha(reference: PyscfReference, mean_field: Any) -> float:
    """What the forces are the derivative of: with fractional occupations the free energy, not the energy."""
    if reference.smearing_ha is None:
        return float(mean_field.e_tot)
    # PySCF 2.14 leaves dispersion out of the energies of a smeared field, and not out of its gradient.
    return float(mean_field.e_free) + (float(mean_field.get_dispersion()) if mean_field.do_disp() else 0.0)


def describe_field(
    reference: PyscfReference, field: Field, on_grid: tuple[Any, FloatArray] | None = None
) -> dict[str, Any]:
    """Diagnostics of a converged field, as JSON values.

    Args:
        reference: The level of theory.
        field: The field.
        on_grid: Integration grid and density there, if they are known already.
    """
    mean_field, trace, verdict = field.mean_field, field.trace, field.verdict
    molecule = mean_field.mol
    charges = molecule.atom_charges()
    center = (charges @ molecule.atom_coords()) / max(charges.sum(), 1)
    dipole = np.asarray(mean_field.dip_moment(unit="AU", origin=center, verbose=0)) * ANG_PER_BOHR
    restricted = np.asarray(mean_field.mo_occ).ndim == 1
    slope = SOFT_FORCE_PER_GRADIENT if verdict.broken else FORCE_PER_GRADIENT
    method = reference.method
    on_the_grid = grid_noise(method.family, reference.grid_level, method.restless) + method.roughness
    noise = slope * field.norm + on_the_grid
    found = {
        "gradient_norm_ha": field.norm,
        "force_noise_ev_ang": noise,
        "cycles": trace.cycles,
        "scf_rungs": trace.rungs,
        "gap_ev": smallest_gap_ev(mean_field),
        "s_squared": 0.0 if restricted else float(mean_field.spin_square()[0]),
        "internal_stability": verdict.internal,
        "external_stability": verdict.external,
        "lowered_ev": verdict.lowered_ev,
        "broken_symmetry": verdict.broken,
        "n_ao": int(molecule.nao),
        "n_mo": int(np.asarray(mean_field.mo_energy).shape[-1]),
        "n_electrons": int(molecule.nelectron),
        "dipole_e_ang": dipole.tolist(),
        "dipole_origin_ang": (center * ANG_PER_BOHR).tolist(),
        "threads": int(lib.num_threads()),
        "versions": _versions(reference),
    }
    if reference.is_dft:
        grid, density = on_grid or density_on_grid(mean_field)
        found["n_electrons_on_grid"] = float(density @ grid.weights)
    if reference.smearing_ha is not None:
        found["entropy_term_ev"] = float(mean_field.e_free - mean_field.e_tot) * EV_PER_HARTREE
    return found


def _versions(reference: PyscfReference) -> dict[str, str]:
    versions = {"pyscf": str(pyscf_version)}
    if reference.is_dft:
        versions["libxc"] = str(dft.libxc.__version__)
    if reference.method.built_in_dispersion or reference.dispersion:
        versions["pyscf-dispersion"] = metadata.version("pyscf-dispersion")
    return versions
