"""Molecules on which self-consistent fields fail, and what the rescue ladder makes of them.

``python -m tests.reference.hard_cases [NAME …] [--functionals pbe …]`` computes each with every functional at def2-SVP
and prints how its field was found. Beside it stands the best of a search that knows nothing of the ladder: PySCF from
three first guesses, restricted and, for singlets, with broken symmetry as well, each followed along its descending
directions. An energy above that one is the sign of a field that is not the ground state's.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from pyscf import dft, gto, lib, scf

from alflow.domain import Failure, Structure
from alflow.reference import PyscfReference
from alflow.reference.method import without_checkpoint
from alflow.units import ANG_PER_BOHR, EV_PER_HARTREE

__all__ = ["CASES", "FUNCTIONALS", "diatomic", "hard_reference", "search", "stretched_water"]

ANGLE: Final = np.deg2rad(104.5)
SCRAMBLED: Final = [
    [1.20, -0.32, 0.10], [-0.02, 0.60, -0.06], [-1.10, -0.30, 0.09], [-1.99, 0.16, 0.02], [2.02, 0.24, -0.10],
    [1.30, -0.80, 0.98], [1.18, -1.05, -0.79], [0.09, 1.13, 0.84], [0.02, 1.30, -0.80],
]  # fmt: skip
METHYL: Final = [[0, 0, 0], [1.079, 0, 0], [-0.5395, 0.9344, 0], [-0.5395, -0.9344, 0]]
FUNCTIONALS: Final = ("hf", "pbe", "b3lyp")
GUESSES: Final = ("minao", "atom", "huckel")
FOLLOWED: Final = 5
"""Times a descending direction is followed in the search."""


def stretched_water(length: float) -> Structure:
    """Water with one bond of a length, Å."""
    return Structure.of("OHH", [[0, 0, 0], [length, 0, 0], [0.96 * np.cos(ANGLE), 0.96 * np.sin(ANGLE), 0]])


def diatomic(first: str, second: str, length: float, charge: int = 0, multiplicity: int = 1) -> Structure:
    """Two atoms at a distance, Å."""
    positions = [[0, 0, 0], [0, 0, length]]
    return Structure.of([first, second], positions, charge=charge, multiplicity=multiplicity)


CASES: Final = {
    "LiF 6 Å": diatomic("Li", "F", 6.0),
    "FeO quintet": diatomic("Fe", "O", 1.62, multiplicity=5),
    "Cr2": diatomic("Cr", "Cr", 1.68),
    "C2": diatomic("C", "C", 1.243),
    "O3": Structure.of("OOO", [[0, 0, 0], [1.0885, 0.6697, 0], [-1.0885, 0.6697, 0]]),
    "NO2": Structure.of("NOO", [[0, 0, 0], [1.0989, 0.4653, 0], [-1.0989, 0.4653, 0]], multiplicity=2),
    "N2 2.5 Å": diatomic("N", "N", 2.5),
    "O2 triplet 2.2 Å": diatomic("O", "O", 2.2, multiplicity=3),
    "water 2.0 Å": stretched_water(2.0),
    "water 3.0 Å": stretched_water(3.0),
    "F2 2.5 Å": diatomic("F", "F", 2.5),
    "hydroxide": diatomic("O", "H", 0.97, charge=-1),
    "hydroxyl": diatomic("O", "H", 0.97, multiplicity=2),
    "methyl": Structure.of("CHHH", METHYL, multiplicity=2),
    "ethanol scrambled": Structure.of("CCOHHHHHH", SCRAMBLED),
}


def hard_reference(functional: str) -> PyscfReference:
    """The level at which the table of docs/labels.md was made."""
    return PyscfReference(functional=functional, basis="def2-svp", grid_level=2, spin_policy="broken_symmetry")


def search(reference: PyscfReference, structure: Structure) -> float:
    """The lowest energy that PySCF finds from several first guesses, eV."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of PySCF's own Hückel guess
        return min(_starts(reference, structure), default=float("nan")) * EV_PER_HARTREE


def _plain(reference: PyscfReference, structure: Structure, broken: bool) -> Any:
    """PySCF's own object at the reference's level, restricted for a singlet unless its symmetry is to be broken."""
    atoms = list(zip(structure.symbols, structure.positions / ANG_PER_BOHR, strict=True))
    molecule = gto.M(
        atom=atoms,
        unit="Bohr",
        basis=reference.basis,
        charge=structure.charge,
        spin=structure.multiplicity - 1,
        verbose=0,
    )
    if not reference.is_dft:
        mean_field = scf.UHF(molecule) if broken or molecule.spin else scf.RHF(molecule)
    else:
        mean_field = dft.UKS(molecule) if broken or molecule.spin else dft.RKS(molecule)
        mean_field.xc, mean_field.grids.level = reference.method.xc, reference.grid_level
    without_checkpoint(mean_field)
    return mean_field.density_fit(auxbasis=reference.auxiliary_basis) if reference.density_fitting else mean_field


def _starts(reference: PyscfReference, structure: Structure) -> Iterator[float]:
    for guess in GUESSES:
        for broken in (False, True) if structure.multiplicity == 1 else (False,):
            mean_field = _plain(reference, structure, broken)
            mean_field.init_guess, mean_field.max_cycle = guess, 100
            if broken:
                mean_field.init_guess_breaksym = 2
            try:
                mean_field.kernel()
                for _ in range(FOLLOWED):
                    if not mean_field.converged:
                        mean_field = mean_field.newton().run(mean_field.mo_coeff, mean_field.mo_occ)
                    orbitals, _, stable, _ = mean_field.stability(return_status=True)
                    if stable and mean_field.converged:
                        yield float(mean_field.e_tot)
                        break
                    mean_field = mean_field.newton().run(orbitals, mean_field.mo_occ)
            except (ArithmeticError, RuntimeError, ValueError) as error:
                print(f"  search from {guess}: {error}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(CASES), metavar="NAME")
    parser.add_argument("--functionals", nargs="+", default=FUNCTIONALS)
    given = parser.parse_args()
    lib.num_threads(1)
    print(f"{'case':18} {'method':6} {'energy, eV':>14} {'above search':>12} {'lowered':>8} {'s':>6}  rungs")
    for name in given.names:
        for functional in given.functionals:
            reference, began = hard_reference(functional), time.perf_counter()
            outcome = reference.evaluate(CASES[name])
            took = time.perf_counter() - began
            if isinstance(outcome, Failure):
                print(f"{name:18} {functional:6} {outcome.kind} after {took:.0f} s: {outcome.message}", flush=True)
                continue
            told = outcome.diagnostics
            rungs = " ".join(str(rung["rung"]) for rung in told["scf_rungs"])
            above = outcome.energy - search(reference, CASES[name])
            numbers = f"{outcome.energy:14.5f} {above:12.5f} {told['lowered_ev']:8.3f} {took:6.1f}"
            print(f"{name:18} {functional:6} {numbers}  {rungs} {' '.join(told['flags'])}", flush=True)


if __name__ == "__main__":
    main()
