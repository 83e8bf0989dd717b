"""Charges and polarizabilities beside energy and forces; what the user asks for with ``properties:``. Loads PySCF.

None of them is worth a label: what fails is written down under ``properties_failed``, and the label stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from alflow.domain.structure import FloatArray
from alflow.errors import InputError
from alflow.reference.charges import density_on_grid, hirshfeld, iao_charges, total_density
from alflow.reference.chelpg import chelpg_charges
from alflow.reference.polarizability import polarizability
from alflow.reference.pyscf import PyscfReference

__all__ = ["observe"]

_EXPECTED: Final = (ArithmeticError, AssertionError, InputError, LookupError, MemoryError, RuntimeError, ValueError)
"""What PySCF and LAPACK raise where they cannot go on; anything else is a defect of alflow's and is not hidden."""


def observe(reference: PyscfReference, mean_field: Any, on_grid: tuple[Any, FloatArray] | None) -> dict[str, Any]:
    """Compute the properties a reference asks for.

    Args:
        reference: The level of theory and the properties.
        mean_field: A converged field, which is left as it is.
        on_grid: Integration grid and density there, 1/Bohr³, shape (point,); None if the field has no grid.

    Returns:
        Plain lists by name, the unit in the name; under ``properties_failed`` one sentence for each that failed.
    """
    recipes: dict[str, Callable[[], Mapping[str, FloatArray]]] = {
        "hirshfeld": lambda: _hirshfeld(reference, mean_field, on_grid or density_on_grid(mean_field)),
        "iao": lambda: {"iao_charges_e": iao_charges(mean_field)},
        "chelpg": lambda: {"chelpg_charges_e": chelpg_charges(mean_field, total_density(mean_field))},
        "polarizability": lambda: {"polarizability_ang3": polarizability(mean_field, np.array(mean_field.make_rdm1()))},
    }
    found: dict[str, Any] = {}
    failed: dict[str, str] = {}
    for name in reference.properties:
        try:
            values = recipes[name]()
            if not all(np.isfinite(value).all() for value in values.values()):
                raise InputError("A number is not finite.")
            found |= {key: value.tolist() for key, value in values.items()}
        except _EXPECTED as error:
            failed[name] = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return found | ({"properties_failed": failed} if failed else {})


def _hirshfeld(reference: PyscfReference, mean_field: Any, on_grid: tuple[Any, FloatArray]) -> dict[str, FloatArray]:
    molecule = mean_field.mol
    basis = reference.basis_of(molecule.atom_pure_symbol(atom) for atom in range(molecule.natm))
    charges, dipoles = hirshfeld(mean_field, basis, *on_grid)
    return {"hirshfeld_charges_e": charges, "hirshfeld_dipoles_e_ang": dipoles}
