"""Energy, gradient and virial with tblite: its one door. Only :class:`alflow.reference.TbliteReference` loads it.

tblite's Hartree and Bohr end here.
"""

from __future__ import annotations

from importlib import metadata
from typing import Any, Final

import numpy as np
from tblite.exceptions import TBLiteRuntimeError, TBLiteValueError
from tblite.interface import Calculator, Result

from alflow.domain import Evaluation, Failure, FailureKind, Outcome, Structure
from alflow.errors import ConfigError, InputError, StructureError
from alflow.reference.check import check_structure
from alflow.reference.xtb import TbliteReference
from alflow.units import ANG_PER_BOHR, BOLTZMANN_EV_K, EV_ANG_PER_HARTREE_BOHR, EV_PER_HARTREE

__all__ = ["check_tightbinding", "evaluate"]

_NAMES: Final = {"gfn2-xtb": "GFN2-xTB", "gfn1-xtb": "GFN1-xTB", "ipea1-xtb": "IPEA1-xTB"}


def evaluate(reference: TbliteReference, structure: Structure) -> Outcome:
    """Compute one structure.

    Args:
        reference: The level of theory.
        structure: A molecule, or a cell with three periodic directions.
    """
    try:
        _check_cell(structure)
        check_structure(structure)
        calculator = _calculator(reference, structure)
    except InputError as error:
        return Failure(FailureKind.REJECTED, str(error))
    try:
        result = calculator.singlepoint()
    except TBLiteRuntimeError as error:
        return Failure(FailureKind.SCF_FAIL, f"tblite gave up: {error}", {"versions": _versions()})
    energy = float(result.get("energy")) * EV_PER_HARTREE
    forces = -np.asarray(result.get("gradient")) * EV_ANG_PER_HARTREE_BOHR
    stress = None
    if structure.is_periodic:
        stress = np.asarray(result.get("virial")) * EV_PER_HARTREE / abs(np.linalg.det(structure.cell))
    return Evaluation(energy, forces, stress, _diagnostics(structure, result, forces))


def check_tightbinding(reference: TbliteReference, structure: Structure) -> None:
    """Find out whether tblite takes a structure, without computing it.

    Raises:
        StructureError: A slab or a wire, an impossible spin, overlapping atoms.
        ConfigError: An element without parameters.
    """
    _check_cell(structure)
    check_structure(structure)
    _calculator(reference, structure)


def _check_cell(structure: Structure) -> None:
    if structure.is_periodic and not structure.pbc.all():
        raise StructureError(
            f"{structure.formula} repeats in some directions only, and xTB knows molecules and three-dimensional cells;"
            " give pbc in all three directions, with vacuum where there is none."
        )


def _calculator(reference: TbliteReference, structure: Structure) -> Calculator:
    periodic = structure.is_periodic
    try:
        calculator = Calculator(
            _NAMES[reference.method],
            np.asarray(structure.numbers),
            structure.positions / ANG_PER_BOHR,
            charge=float(structure.charge),
            uhf=structure.multiplicity - 1,
            lattice=structure.cell / ANG_PER_BOHR if periodic else None,
            periodic=np.array([True] * 3) if periodic else None,
        )
    except (TBLiteRuntimeError, TBLiteValueError) as error:
        raise ConfigError(f"{reference.method} cannot treat {structure.formula}: {error}") from error
    calculator.set("verbosity", 0)
    calculator.set("accuracy", reference.accuracy)
    calculator.set("temperature", reference.electronic_temperature_k * BOLTZMANN_EV_K / EV_PER_HARTREE)
    calculator.set("max-iter", reference.max_iterations)
    return calculator


def _diagnostics(structure: Structure, result: Result, forces: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "charges_e": np.asarray(result.get("charges")).tolist(),
        "net_force_ev_ang": float(np.abs(forces.sum(axis=0)).max()),
        "versions": _versions(),
    }
    if not structure.is_periodic:
        # About the center of nuclear charge, as a PySCF label: an ion's dipole depends on the origin.
        center = structure.numbers @ structure.positions / structure.numbers.sum()
        dipole = np.asarray(result.get("dipole")) * ANG_PER_BOHR - structure.charge * center
        found["dipole_e_ang"] = dipole.tolist()
        found["dipole_origin_ang"] = center.tolist()
    return found


def _versions() -> dict[str, str]:
    return {"tblite": metadata.version("tblite")}
