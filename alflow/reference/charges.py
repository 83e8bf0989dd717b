"""Atomic charges: Hirshfeld's, with atomic dipoles, and those of intrinsic atomic orbitals. Loads PySCF.

Both divide the electrons among the atoms. Hirshfeld divides the density in space, in the ratio of the densities of free
atoms; together with the atomic dipoles his charges reproduce the dipole moment of the molecule exactly, up to the
integration grid. Intrinsic atomic orbitals divide the occupied orbitals, and know nothing of a grid.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import numpy as np
from pyscf import dft, gto, lib
from pyscf.lo import iao, orth
from pyscf.scf import atom_hf

from alflow.domain.structure import FloatArray
from alflow.errors import InputError
from alflow.reference.method import core_potentials, without_checkpoint
from alflow.reference.shelf import Shelf
from alflow.units import ANG_PER_BOHR

__all__ = ["GRID_OF_HARTREE_FOCK", "density_on_grid", "hirshfeld", "iao_charges", "total_density"]

GRID_OF_HARTREE_FOCK: Final = 2
"""Size of the grid made for a field that has none, in PySCF's numbering; for ethanol as good as 3, and cheaper."""

_REACH_BOHR: Final = 25.0
_NODES: Final = 4000
_ATOMS: Final = Shelf(places=128, length=_NODES)
"""Free atoms that some label of this guard has computed: a hundredth of a small label's time, each time."""

_BLOCK: Final = 20_000
_LARGEST_SUM_ERROR: Final = 1e-4


def density_on_grid(mean_field: Any) -> tuple[Any, FloatArray]:
    """The electron density on the integration grid of a field; a grid is made for a field without one.

    Args:
        mean_field: A converged field.

    Returns:
        The grid (with ``coords``, Bohr, and ``weights``) and the density there, 1/Bohr³, shape (point,).
    """
    grid = getattr(mean_field, "grids", None)
    if grid is None:
        grid = dft.gen_grid.Grids(mean_field.mol)
        grid.level = GRID_OF_HARTREE_FOCK
        grid.build()
    numbers = getattr(mean_field, "_numint", None) or dft.numint.NumInt()
    rho = numbers.get_rho(mean_field.mol, _with_orbitals(mean_field, total_density(mean_field)), grid)
    return grid, np.asarray(rho, dtype=np.float64)


def hirshfeld(
    mean_field: Any, basis: Mapping[str, str], grid: Any, density: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Hirshfeld's charges and atomic dipoles.

    The share of atom A in the density at a point is wₐ(r) = ρₐ(|r − Rₐ|) / Σ_B ρ_B(|r − R_B|), with the spherically
    averaged densities of neutral free atoms (Hartree–Fock in the same basis set and core potential). Then

        qₐ = Zₐ − ∫ wₐ ρ dr,    μₐ = −∫ wₐ ρ (r − Rₐ) dr,    Σₐ qₐ Rₐ + μₐ = μ

    with the charge Zₐ the electrons see. (F. L. Hirshfeld, Theor. Chim. Acta 44, 129 (1977).)

    Args:
        mean_field: A converged field.
        basis: Basis set of each element.
        grid: Integration grid, with ``coords``, Bohr, and ``weights``.
        density: Electron density there, 1/Bohr³, shape (point,).

    Returns:
        Charges, e, shape (atom,), and atomic dipoles, e·Å, shape (atom, 3), from − to +.
    """
    molecule = mean_field.mol
    centers = np.asarray(molecule.atom_coords())
    symbols = [molecule.atom_pure_symbol(atom) for atom in range(molecule.natm)]
    profiles = {symbol: _free_atom(symbol, basis[symbol], lib.num_threads()) for symbol in set(symbols)}
    electrons, moments = np.zeros(molecule.natm), np.zeros((molecule.natm, 3))
    for start in range(0, len(density), _BLOCK):
        part = slice(start, start + _BLOCK)
        points, counted = grid.coords[part], density[part] * grid.weights[part]
        along = np.ascontiguousarray(points.T)
        shares = np.empty((molecule.natm, len(points)))
        for atom, (symbol, center) in enumerate(zip(symbols, centers, strict=True)):
            shares[atom] = _interpolated(profiles[symbol], along, center)
        shares -= shares.max(axis=0)
        np.exp(shares, out=shares)
        shares *= counted / shares.sum(axis=0)
        held = shares.sum(axis=1)
        electrons += held
        moments += shares @ points - held[:, None] * centers
    return molecule.atom_charges() - electrons, -ANG_PER_BOHR * moments


def iao_charges(mean_field: Any) -> FloatArray:
    """Charges from intrinsic atomic orbitals.

    The occupied orbitals are expanded exactly in a minimal set of polarized atomic orbitals, and electrons are counted
    there: qₐ = Zₐ − Σᵢ nᵢ Σ_{ρ∈A} |⟨ρ|i⟩|². Nearly independent of the basis set. (G. Knizia, J. Chem. Theory Comput.
    9, 4834 (2013); symmetric orthogonalization; spins apart.)

    Args:
        mean_field: A converged field with whole occupations, and all electrons.

    Returns:
        Charges, e, shape (atom,).

    Raises:
        InputError: A core potential, for which there is no minimal reference set; or more occupied orbitals than the
            minimal set has functions.
    """
    molecule = mean_field.mol
    if molecule.has_ecp():
        raise InputError("IAO charges need all electrons: the minimal reference set knows no core potential.")
    overlap = molecule.intor_symmetric("int1e_ovlp")
    slices = iao.reference_mol(molecule).aoslice_by_atom()[:, 2:]
    orbitals, occupations = np.asarray(mean_field.mo_coeff), np.asarray(mean_field.mo_occ)
    spins = [(orbitals, occupations)] if occupations.ndim == 1 else list(zip(orbitals, occupations, strict=True))
    charges = np.array(molecule.atom_charges(), dtype=np.float64)
    for coefficients, held in spins:
        occupied = coefficients[:, held > 0]
        if occupied.shape[1] == 0:
            continue
        atomic = orth.vec_lowdin(iao.iao(molecule, occupied), overlap)
        counts = (atomic.T @ overlap @ occupied) ** 2 @ held[held > 0]
        charges -= [counts[start:stop].sum() for start, stop in slices]
    if abs(charges.sum() - molecule.charge) > _LARGEST_SUM_ERROR:
        raise InputError("More orbitals are occupied than the minimal reference set of IAO charges can hold.")
    return charges


def _interpolated(profile: FloatArray, points: FloatArray, center: FloatArray) -> FloatArray:
    """Logarithm of a free atom's density at some points, Bohr, shape (3, point).

    As :func:`numpy.interp` does it, but without a search: the nodes lie evenly over the root of the distance.
    """
    squares = (points[0] - center[0]) ** 2
    squares += (points[1] - center[1]) ** 2
    squares += (points[2] - center[2]) ** 2
    places: FloatArray = np.sqrt(np.sqrt(squares))
    places *= (_NODES - 1) / _REACH_BOHR**0.5
    np.minimum(places, _NODES - 1, out=places)
    nodes = places.astype(np.intp)
    places -= nodes
    places *= np.append(np.diff(profile), 0.0).take(nodes)
    places += profile.take(nodes)
    return places


@lru_cache(256)
def _free_atom(symbol: str, basis: str, threads: int) -> FloatArray:
    """Logarithm of a free atom's density, tabulated over the root of the distance, Bohr^½.

    The nodes crowd at the nucleus. Linear interpolation there errs by less than 10⁻⁵ of a share, and shares add up to
    one whatever their error. The number of threads is here because the last digits may hang on it: what another label
    has computed is the same, bit for bit, as what this one would compute.
    """
    name = f"{symbol} {basis} {threads}"
    found = _ATOMS.take(name)
    if found is None:
        found = _computed_atom(symbol, basis)
        _ATOMS.put(name, found)
    return found


def _computed_atom(symbol: str, basis: str) -> FloatArray:
    atom = gto.M(
        atom=[(symbol, (0.0, 0.0, 0.0))],
        basis={symbol: basis},
        ecp=core_potentials({symbol: basis}),
        spin=None,
        verbose=0,
        symmetry=False,
    )
    kind = atom_hf.AtomHF1e if atom.nelectron == 1 else atom_hf.AtomSphAverageRHF
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # PySCF's atoms call a function PySCF has deprecated
        field = kind(atom)
    without_checkpoint(field)
    field.kernel()
    orbitals, occupations = np.asarray(field.mo_coeff), np.asarray(field.mo_occ)
    points = np.zeros((_NODES, 3))
    points[:, 2] = np.linspace(0.0, _REACH_BOHR**0.5, _NODES) ** 2
    held = occupations > 0
    values = atom.eval_gto("GTOval_sph", points) @ orbitals[:, held]
    profile: FloatArray = np.log(np.maximum(values**2 @ occupations[held], 1e-300))
    return profile


def total_density(mean_field: Any) -> FloatArray:
    """The density matrix of a field, both spins together, shape (function, function)."""
    density: FloatArray = np.asarray(mean_field.make_rdm1())
    return density if density.ndim == 2 else density.sum(axis=0)


def _with_orbitals(mean_field: Any, density: FloatArray) -> Any:
    """The same density matrix with its orbitals, few of which are occupied: PySCF needs half the time with them."""
    orbitals, occupations = np.asarray(mean_field.mo_coeff), np.asarray(mean_field.mo_occ)
    if occupations.ndim == 2:
        orbitals, occupations = np.hstack(list(orbitals)), np.hstack(list(occupations))
    return lib.tag_array(density, mo_coeff=orbitals, mo_occ=occupations)
