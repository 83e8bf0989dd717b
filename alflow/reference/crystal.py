"""Energy, forces and stress of cells with PySCF. Only :class:`alflow.reference.PyscfPeriodicReference` loads this.

Forces and stress are exact derivatives of the energy on a grid that keeps its number of points. The field comes from
one of two routes; the stress always from the orbitals on the full grid.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

import numpy as np
from pyscf import __version__ as pyscf_version
from pyscf import dft as molecular_dft
from pyscf import lib
from pyscf.pbc import dft, gto
from pyscf.pbc.dft.multigrid import MultiGridNumInt2
from pyscf.pbc.gto.basis import load as load_basis
from pyscf.pbc.gto.pseudo import load as load_pseudopotential
from pyscf.pbc.scf.smearing import smearing

from alflow.domain import Evaluation, Failure, FailureKind, Outcome, Structure
from alflow.domain.structure import FloatArray
from alflow.errors import ConfigError, InputError, StructureError, did_you_mean
from alflow.reference.check import check_overlap, check_spin
from alflow.reference.ladder import ACCEPTED_GRADIENT, Trace, climb
from alflow.reference.method import without_checkpoint
from alflow.reference.orbitals import KeptOrbitals, RestrictedForces, UnrestrictedForces
from alflow.reference.periodic import (
    KEPT_SHARE,
    PSEUDOPOTENTIALS,
    PyscfPeriodicReference,
    find_periodic_functional,
)
from alflow.reference.quality import FORCE_PER_GRADIENT, LARGEST_COUNT_ERROR, SMALL_GAP_EV
from alflow.units import ANG_PER_BOHR, EV_ANG_PER_HARTREE_BOHR, EV_PER_HARTREE

__all__ = ["check_crystal", "evaluate"]

LARGEST_NET_FORCE: Final = 0.01
"""On a grid the forces of a cell do not cancel exactly; a sum above this, eV/Å, is a grid too coarse for its atoms."""

NOTED_NET_FORCE: Final = 1e-3
"""A sum above this, eV/Å, is the flag ``coarse-grid``."""

_BASES: Final = ("gth-szv-molopt-sr", "gth-dzvp-molopt-sr", "gth-szv", "gth-dzvp", "gth-tzvp", "gth-szv-molopt")


def evaluate(reference: PyscfPeriodicReference, structure: Structure) -> Outcome:
    """Compute one cell.

    Args:
        reference: The level of theory and its limits.
        structure: The cell.
    """
    lib.num_threads(reference.threads)
    try:
        _check_structure(reference, structure)
        cell = _cell(reference, structure)
        _check_memory(reference, cell, structure.multiplicity == 1)
    except InputError as error:
        return Failure(FailureKind.REJECTED, str(error))
    trace = Trace()
    mean_field = _mean_field(reference, cell, structure.multiplicity)
    limit = ACCEPTED_GRADIENT * reference.gradient_tolerance_ha
    try:
        norm = climb(mean_field, None, reference.max_cycles, trace)
    except (ArithmeticError, RuntimeError, ValueError) as error:
        # LinAlgError is a ValueError; PySCF raises all of them
        return Failure(FailureKind.SCF_FAIL, f"PySCF gave up: {error}.", {"scf_rungs": trace.rungs})
    if not norm <= limit:
        message = (
            f"The self-consistent field did not converge: orbital gradient {norm:.1e} Ha after {trace.cycles} cycles,"
            f" {limit:.1e} Ha needed."
        )
        if reference.smearing_ha is None:
            message += " A cell with a small gap or none needs smearing_ha or more kpoints."
        return Failure(FailureKind.SCF_FAIL, message, {"scf_rungs": trace.rungs})
    try:
        return _finish(reference, structure, mean_field, norm, trace)
    except (ArithmeticError, RuntimeError, np.linalg.LinAlgError) as error:
        message = f"PySCF gave up at the gradient or the stress: {error}."
        return Failure(FailureKind.SCF_FAIL, message, {"scf_rungs": trace.rungs})


def check_crystal(reference: PyscfPeriodicReference, structure: Structure) -> None:
    """Find out whether a structure can be computed, without computing it.

    Raises:
        StructureError: Not three-dimensional, charged, an impossible spin, overlapping atoms.
        ConfigError: An unknown basis set or pseudopotential, an element it lacks, too little memory.
    """
    _check_structure(reference, structure)
    _check_memory(reference, _cell(reference, structure), structure.multiplicity == 1)
    if reference.dispersion is not None:
        import_module("alflow.reference.dispersion").damping(reference.functional)


def _check_structure(reference: PyscfPeriodicReference, structure: Structure) -> None:
    if not structure.pbc.all():
        raise StructureError(
            f"{structure.formula} does not repeat in all three directions, and engine pyscf-periodic knows only cells"
            " that do; give pbc in all three with vacuum where there is none, or use engine: pyscf for molecules."
        )
    if structure.charge:
        raise StructureError(
            f"{structure.formula} has charge {structure.charge}, and the energy of a charged cell is not defined;"
            " make it neutral."
        )
    unpaired, metal = structure.multiplicity - 1, reference.smearing_ha is not None
    if unpaired or not metal:
        check_spin(structure)
    elif structure.n_electrons * reference.n_kpoints % 2:
        raise StructureError(
            f"{structure.formula} has {structure.n_electrons} electrons at {reference.n_kpoints} k-points, an odd"
            " number that cannot be shared by two spins; take an even number of kpoints, or a multiplicity."
        )
    check_overlap(structure)


def _check_memory(reference: PyscfPeriodicReference, cell: Any, restricted: bool) -> None:
    points = int(np.prod(cell.mesh))
    needed = reference.predicted_memory_mb(points, int(cell.nao), int(cell.natm), restricted)
    if needed > reference.memory_mb:
        mesh = "×".join(str(n) for n in cell.mesh)
        raise ConfigError(
            f"{cell.natm} atoms with {cell.nao} basis functions on a grid of {mesh} points need about {needed:.0f} MB,"
            f" and memory_limit_mb is {reference.memory_mb}; raise it to {50 * int(np.ceil(needed / 50))}, or lower"
            " ke_cutoff_ha."
        )


def _cell(reference: PyscfPeriodicReference, structure: Structure) -> Any:
    symbols = sorted(set(structure.symbols))
    basis = {symbol: _loaded("basis", load_basis, reference.basis, symbol) for symbol in symbols}
    name = reference.pseudopotentials
    potentials = {symbol: _loaded("pseudopotential", load_pseudopotential, name, symbol) for symbol in symbols}
    cell = gto.Cell()
    cell.atom = list(zip(structure.symbols, structure.positions / ANG_PER_BOHR, strict=True))
    cell.unit = "Bohr"
    cell.a = structure.cell / ANG_PER_BOHR
    cell.basis, cell.pseudo = basis, potentials
    cell.spin = None  # told to the field: PySCF counts it over all k-points
    cell.precision = reference.precision
    cell.ke_cutoff = reference.ke_cutoff_ha
    cell.max_memory = reference.memory_mb
    cell.verbose = 0
    cell.build(dump_input=False, parse_arg=False)
    return cell


def _loaded(kind: str, load: Any, name: str, symbol: str) -> Any:
    """A basis set or a pseudopotential of one element.

    Raises:
        ConfigError: There is none.
    """
    known = _BASES if kind == "basis" else sorted(set(PSEUDOPOTENTIALS.values()))
    if not name.lower().startswith("gth"):
        raise ConfigError(
            f"{kind.capitalize()} {name!r} is not made for GTH pseudopotentials; expected one such as {known[0]!r}."
        )
    try:
        found = load(name, symbol)
    except Exception as error:  # PySCF raises KeyError, RuntimeError or its own, as it comes
        hint = "" if name.lower() in known else did_you_mean(name.lower(), known)
        advice = "." + hint if hint else f"; name another in reference.{kind}."
        raise ConfigError(f"PySCF has no {kind} {name!r} for {symbol}{advice}") from error
    if not found:
        raise ConfigError(f"PySCF has no {kind} {name!r} for {symbol}.")
    return found


def _mean_field(reference: PyscfPeriodicReference, cell: Any, multiplicity: int) -> Any:
    """An unconverged field: at the Γ point with several grids, or at k-points with one."""
    closed, unpaired = multiplicity == 1, multiplicity - 1
    if reference.is_multigrid:
        mean_field = dft.RKS(cell) if closed else dft.UKS(cell)
        mean_field._numint = MultiGridNumInt2(cell)
    else:
        mean_field = _on_full_grid(reference, cell, closed)
    if not closed:
        points = 1 if reference.is_multigrid else reference.n_kpoints
        electrons = cell.tot_electrons(points)
        mean_field.nelec = ((electrons + unpaired * points) // 2, (electrons - unpaired * points) // 2)
    mean_field.xc = find_periodic_functional(reference.functional, None).xc
    mean_field.init_guess = "minao"
    without_checkpoint(mean_field)
    mean_field.conv_check = False
    mean_field.conv_tol = reference.energy_tolerance_ha
    mean_field.conv_tol_grad = reference.gradient_tolerance_ha
    if reference.smearing_ha is not None:
        mean_field = smearing(mean_field, sigma=reference.smearing_ha, method="fermi", fix_spin=True)
    return mean_field


def _on_full_grid(reference: PyscfPeriodicReference, cell: Any, closed: bool) -> Any:
    points = cell.make_kpts(list(reference.kpoints))
    mean_field = dft.KRKS(cell, points) if closed else dft.KUKS(cell, points)
    without_checkpoint(mean_field)
    mean_field.xc = find_periodic_functional(reference.functional, None).xc
    mean_field._numint = mean_field.with_df._numint = KeptOrbitals(points, KEPT_SHARE * reference.memory_mb)
    mean_field.max_memory = mean_field.with_df.max_memory = reference.memory_mb
    return mean_field


def _finish(
    reference: PyscfPeriodicReference, structure: Structure, mean_field: Any, norm: float, trace: Trace
) -> Outcome:
    cell, closed = mean_field.cell, structure.multiplicity == 1
    # With fractional occupations forces and stress are derivatives of the free energy, not of the energy.
    hartree = mean_field.e_tot if reference.smearing_ha is None else mean_field.e_free
    found = _diagnostics(reference, mean_field, norm, trace, closed)
    if reference.is_multigrid:
        fresh = _with_orbitals(dft.RKS(cell) if closed else dft.UKS(cell), mean_field, None)
        fresh._numint = mean_field._numint
        gradient = fresh.nuc_grad_method()
    else:
        gradient = _full_gradient(reference, mean_field, closed)
    energy = float(hartree) * EV_PER_HARTREE
    forces: FloatArray = -np.asarray(gradient.kernel()) * EV_ANG_PER_HARTREE_BOHR
    if not (np.isfinite(energy) and np.isfinite(forces).all()):
        return Failure(FailureKind.NON_FINITE, f"Energy {energy} eV or a force is not finite.")
    defect = _judge(reference, found, forces)
    if defect is not None:
        return Failure(FailureKind.REJECTED, defect, found)
    stress = _stress(reference, mean_field, closed) if reference.stress else None
    if stress is not None and not np.isfinite(stress).all():
        return Failure(FailureKind.NON_FINITE, "The stress is not finite.")
    if reference.dispersion is not None:
        added = import_module("alflow.reference.dispersion").d3bj(reference.functional, structure)
        energy, forces = energy + added.energy, forces + added.forces
        stress = None if stress is None else stress + added.stress
        found["dispersion_ev"] = added.energy
        found["versions"]["dftd3"] = added.version
    return Evaluation(energy, forces, stress, found)


def _stress(reference: PyscfPeriodicReference, mean_field: Any, closed: bool) -> FloatArray:
    whole = _full_gradient(reference, mean_field, closed)
    whole.base._numint.forget()
    stress = np.asarray(whole.get_stress()) * EV_PER_HARTREE / ANG_PER_BOHR**3
    symmetric: FloatArray = 0.5 * (stress + stress.T)
    return symmetric


def _full_gradient(reference: PyscfPeriodicReference, mean_field: Any, closed: bool) -> Any:
    """The gradient of a field's orbitals on the full grid."""
    base = mean_field
    if reference.is_multigrid or reference.smearing_ha is not None:
        axis = (0 if closed else 1) if reference.is_multigrid else None
        base = _with_orbitals(_on_full_grid(reference, mean_field.cell, closed), mean_field, axis)
        if not reference.is_multigrid:
            base._numint = base.with_df._numint = mean_field._numint
    base.converged = True  # our own judgement
    return RestrictedForces(base) if closed else UnrestrictedForces(base)


def _with_orbitals(fresh: Any, mean_field: Any, axis: int | None) -> Any:
    """Give a field that has computed nothing the orbitals of another, with an axis for its one k-point."""
    for part in ("mo_coeff", "mo_occ", "mo_energy"):
        value = getattr(mean_field, part)
        setattr(fresh, part, value if axis is None else np.expand_dims(np.asarray(value), axis))
    without_checkpoint(fresh)
    fresh.xc = mean_field.xc
    fresh.e_tot, fresh.converged = mean_field.e_tot, True
    return fresh


def _diagnostics(
    reference: PyscfPeriodicReference, mean_field: Any, norm: float, trace: Trace, closed: bool
) -> dict[str, Any]:
    cell = mean_field.cell
    density = np.asarray(mean_field.make_rdm1())
    total = density if closed else density.sum(axis=0)
    points = np.zeros((1, 3)) if reference.is_multigrid else mean_field.kpts
    rho = np.asarray(mean_field._numint.get_rho(cell, total, mean_field.grids, points))
    energies, occupations = (_by_spin(getattr(mean_field, name), closed) for name in ("mo_energy", "mo_occ"))
    found: dict[str, Any] = {
        "gradient_norm_ha": norm,
        "cycles": trace.cycles,
        "scf_rungs": trace.rungs,
        "gap_ev": _gap_ev(energies, occupations, 2.0 if closed else 1.0),
        "n_ao": int(cell.nao),
        "n_mo": min(len(at_point) for spin in _nested(mean_field.mo_energy, closed) for at_point in spin),
        "n_electrons": int(cell.nelectron),
        "n_electrons_on_grid": float(rho.sum() * cell.vol / rho.size),
        "mesh": [int(n) for n in cell.mesh],
        "n_kpoints": reference.n_kpoints,
        "threads": int(lib.num_threads()),
        "versions": {"pyscf": str(pyscf_version), "libxc": str(molecular_dft.libxc.__version__)},
    }
    if reference.smearing_ha is not None:
        found["entropy_term_ev"] = float(mean_field.e_free - mean_field.e_tot) * EV_PER_HARTREE
    return found


def _nested(values: Any, closed: bool) -> list[list[FloatArray]]:
    """Energies or occupations by spin and k-point, also of a field that has one k-point and does not say so."""
    spins = [values] if closed else list(values)
    return [[np.asarray(spin)] if np.ndim(spin[0]) == 0 else [np.asarray(k) for k in spin] for spin in spins]


def _by_spin(values: Any, closed: bool) -> list[FloatArray]:
    return [np.concatenate(spin) for spin in _nested(values, closed)]


def _gap_ev(energies: list[FloatArray], occupations: list[FloatArray], full: float) -> float | None:
    """From the highest level more than half full to the lowest less than half full; none without empty ones."""
    gaps = []
    for energy, occupation in zip(energies, occupations, strict=True):
        filled = occupation > 0.5 * full
        if filled.any() and not filled.all():
            gaps.append(float(energy[~filled].min() - energy[filled].max()))
    return min(gaps) * EV_PER_HARTREE if gaps else None


def _judge(reference: PyscfPeriodicReference, found: dict[str, Any], forces: FloatArray) -> str | None:
    """Write down what the label is worth; a sentence if it is worth nothing."""
    net = float(np.abs(forces.sum(axis=0)).max())
    found["net_force_ev_ang"] = net
    # What does not cancel measures how much the grid notices where the atoms are; libxc's roughness cancels.
    rough = find_periodic_functional(reference.functional, None).roughness
    found["force_noise_ev_ang"] = FORCE_PER_GRADIENT * found["gradient_norm_ha"] + net + rough
    gap = found["gap_ev"]
    flags = {
        "small-gap": gap is not None and gap < SMALL_GAP_EV,
        "coarse-grid": net > NOTED_NET_FORCE,
        "functions-dropped": found["n_mo"] < found["n_ao"],
    }
    found["flags"] = [name for name, holds in flags.items() if holds]
    advice = f"raise ke_cutoff_ha (now {reference.ke_cutoff_ha:g}) or lower precision (now {reference.precision:g})"
    if not net <= LARGEST_NET_FORCE:
        return f"The forces add up to {net:.1e} eV/Å instead of nothing; {advice}."
    counted, electrons = found["n_electrons_on_grid"], found["n_electrons"]
    if not abs(counted - electrons) <= LARGEST_COUNT_ERROR * electrons:
        return f"The grid counts {counted:.4f} electrons of {electrons}; {advice}."
    return None
