"""The door to ASE: its Atoms, its calculators, the structures in its files. Its database is behind ``formats.asedb``.

Units agree (eV, Å, e; stress positive under tension); velocities and times do not, and never pass through here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import (
    BaseCalculator,
    CalculationFailed,
    Calculator,
    EnvironmentError,
    InputError,
    PropertyNotImplementedError,
    ReadError,
    all_changes,
)
from ase.io import read
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress

from alflow.domain.label import Evaluation, Failure, FailureKind, Outcome
from alflow.domain.structure import Structure
from alflow.domain.surface import Surface
from alflow.errors import StructureError

__all__ = [
    "SurfaceCalculator",
    "as_calculator",
    "evaluate_calculator",
    "from_atoms",
    "read_structures",
    "set_charge_and_spin",
    "to_atoms",
]


def from_atoms(atoms: Atoms) -> Structure:
    """Take the structure out of ASE's Atoms.

    Charge and multiplicity 2S + 1 are read from ``atoms.info["charge"]`` and ``atoms.info["multiplicity"]`` (or
    ``["spin"]``, which means the same); 0 and 1 if absent. Constraints, velocities and the calculator are left behind.

    Raises:
        StructureError: The atoms are no possible structure.
    """
    return Structure(
        np.array(atoms.numbers, dtype=np.int64),
        atoms.positions,
        np.array(atoms.cell),
        atoms.pbc,
        _whole(atoms.info, "charge", 0),
        _whole(atoms.info, "multiplicity" if "multiplicity" in atoms.info else "spin", 1),
    )


def _whole(info: Mapping[str, Any], key: str, default: int) -> int:
    found = info.get(key, default)
    try:
        number = int(found)
        whole = number == float(found)
    except (TypeError, ValueError, OverflowError):
        whole = False
    if not whole:
        raise StructureError(f"{key} must be a whole number, as in charge=1 multiplicity=2; found {found!r}.")
    return number


def to_atoms(structure: Structure) -> Atoms:
    """Give a structure to ASE; charge and multiplicity travel in ``info``."""
    info = {"charge": structure.charge, "multiplicity": structure.multiplicity}
    return Atoms(structure.numbers, structure.positions, cell=structure.cell, pbc=structure.pbc, info=info)


def read_structures(path: str | Path) -> list[Structure]:
    """Read all frames of a file in any format ASE knows.

    Raises:
        StructureError: The file cannot be read, or a frame is no possible structure.
    """
    try:
        frames = read(path, index=":")
    except Exception as error:  # ASE's readers raise whatever their parsers stumble over
        found = f"unknown element {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise StructureError(
            f"{path} cannot be read as structures ({found or type(error).__name__}); expected element symbols and "
            "positions in Å, in a format ASE reads."
        ) from error
    structures = []
    for number, atoms in enumerate(frames if isinstance(frames, list) else [frames]):
        try:
            structures.append(from_atoms(atoms))
        except StructureError as error:
            raise StructureError(f"{path}, frame {number}: {error}") from error
    return structures


class SurfaceCalculator(Calculator):
    """A surface behind ASE's calculator interface.

    Besides energy, forces and (for periodic structures) stress, ``results`` holds ``energy_std`` (eV), ``forces_std``
    (eV/Å, shape (atom, 3)) and ``disagreement`` (eV/Å) where the surface reports them.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012 - declared so by ASE

    def __init__(self, surface: Surface) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.surface = surface

    def check_state(self, atoms: Atoms, tol: float = 0.0) -> list[str]:
        """Name what changed since the last calculation.

        Arrays are compared exactly, which takes a tenth of the time of ASE's tolerant comparison and, for a nine-atom
        molecule, less than the evaluation itself.
        """
        if self.atoms is None:
            return list(all_changes)
        known = self.atoms
        same = {
            "positions": np.array_equal(known.positions, atoms.positions),
            "numbers": np.array_equal(known.numbers, atoms.numbers),
            "cell": np.array_equal(known.cell.array, atoms.cell.array),
            "pbc": np.array_equal(known.pbc, atoms.pbc),
        }
        return [name for name, unchanged in same.items() if not unchanged]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Evaluate the surface; all properties come at once."""
        if atoms is None:
            raise ValueError("This calculator needs atoms to evaluate; found none. Attach it with atoms.calc = …")
        self.atoms = atoms.copy()
        evaluation = self.surface.evaluate(from_atoms(atoms))
        self.results = {
            "energy": evaluation.energy,
            "free_energy": evaluation.energy,
            "forces": np.array(evaluation.forces),
        }
        if evaluation.stress is not None:
            self.results["stress"] = full_3x3_to_voigt_6_stress(evaluation.stress)
        reported = (
            ("energy_std", "energy_std_ev"),
            ("forces_std", "forces_std_ev_ang"),
            ("disagreement", "disagreement_ev_ang"),
            ("extrapolation", "extrapolation"),
        )
        for name, key in reported:
            if key in evaluation.diagnostics:
                value = evaluation.diagnostics[key]
                self.results[name] = np.array(value) if isinstance(value, list) else value


def as_calculator(surface: Surface) -> SurfaceCalculator:
    """Use any surface (a committee, a reference behind a surface, a toy) as an ASE calculator."""
    return SurfaceCalculator(surface)


def set_charge_and_spin(atoms: Atoms, structure: Structure) -> None:
    """Tell charge and spin in every way calculators read them off the atoms.

    ``info["charge"]``, ``info["multiplicity"]`` and ``info["spin"]`` (2S + 1 both); initial charges that add up to the
    charge, and initial magnetic moments that add up to 2S, spread evenly.
    """
    atoms.info |= {"charge": structure.charge, "multiplicity": structure.multiplicity, "spin": structure.multiplicity}
    if structure.charge:
        atoms.set_initial_charges(np.full(len(atoms), structure.charge / len(atoms)))
    if structure.multiplicity > 1:
        atoms.set_initial_magnetic_moments(np.full(len(atoms), (structure.multiplicity - 1) / len(atoms)))


def evaluate_calculator(
    make: Callable[[], Any],
    atoms: Atoms,
    failures: tuple[type[Exception], ...] = (),
    versions: Mapping[str, str] | None = None,
) -> Outcome:
    """Compute energy, forces and, in a cell of three periodic directions, stress with an ASE calculator.

    Args:
        make: Makes the calculator.
        atoms: What to compute.
        failures: Exceptions that are failures of physics, besides those ASE calls failed calculations.
        versions: Versions of packages, for the diagnostics.

    Returns:
        The evaluation; SCF_FAIL where the calculation failed, REJECTED where the calculator does not take the atoms.

    Raises:
        EnvironmentError: This machine lacks what the calculator needs, such as its program.
        Exception: Whatever else the calculator raises.
    """
    diagnostics: dict[str, Any] = {"versions": dict(versions or {})}
    known: tuple[type[Exception], ...] = (CalculationFailed, ReadError, CalledProcessError, *failures)
    try:
        return _evaluation(make(), atoms, diagnostics)
    except EnvironmentError:
        raise
    except InputError as error:
        return Failure(FailureKind.REJECTED, _said(error), diagnostics)
    except known as error:
        return Failure(FailureKind.SCF_FAIL, _said(error), diagnostics)


def _evaluation(calculator: Any, atoms: Atoms, diagnostics: dict[str, Any]) -> Evaluation:
    crystal = bool(atoms.pbc.all())
    atoms.calc = calculator
    if isinstance(calculator, BaseCalculator):
        # All at once: asked for one property after the other, some programs would run once for each.
        known = calculator.implemented_properties
        wanted = [name for name in ("energy", "forces", *(["stress"] if crystal else [])) if name in known]
        calculator.atoms = atoms.copy()
        calculator.calculate(atoms, wanted, list(all_changes))
    forces = atoms.get_forces(apply_constraint=False)
    stress = None
    if crystal:
        try:
            stress = voigt_6_to_full_3x3_stress(atoms.get_stress(apply_constraint=False))
        except NotImplementedError:
            diagnostics["stress"] = "not implemented"
    energy = float(atoms.get_potential_energy(apply_constraint=False))
    try:
        consistent = float(atoms.get_potential_energy(force_consistent=True, apply_constraint=False))
    except PropertyNotImplementedError:
        consistent = energy
    if consistent != energy:
        diagnostics["extrapolated_energy_ev"] = energy
    return Evaluation(consistent, forces, stress, diagnostics)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split()) or 'no reason given'}"
