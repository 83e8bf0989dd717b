"""A label as QCSchema, the JSON that quantum-chemistry programs exchange (schema ``qcschema_output``, version 1).

Energies are in Hartree, lengths in Bohr, the result is the gradient: the forces with the other sign. A dipole moment is
about the origin of the coordinates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alflow.domain import Evaluation, Label, Level, Structure
from alflow.properties import fixed_dipole
from alflow.reference.functionals import method_name
from alflow.units import ANG_PER_BOHR, EV_ANG_PER_HARTREE_BOHR, EV_PER_HARTREE

__all__ = ["to_qcschema"]


def to_qcschema(label: Label, origin: Mapping[str, Any]) -> dict[str, Any]:
    """Write a label of a molecule as QCSchema.

    Args:
        label: The label.
        origin: What else is known of it, as JSON values; it stands in ``extras``.

    Returns:
        JSON values of a ``qcschema_output``. What the level says beyond method and basis is in ``keywords``.

    Raises:
        ValueError: The structure is periodic, which QCSchema cannot say.

    Examples:
        >>> import numpy as np
        >>> from alflow.domain import Level
        >>> pair = Structure.of("HH", [[0, 0, 0], [0, 0, 0.74]])
        >>> label = Label(pair, Level("morse", {"depth_ev": 4.5}), Evaluation(-4.5, np.zeros((2, 3))))
        >>> to_qcschema(label, {})["model"]
        {'method': 'morse', 'basis': None}
    """
    structure, settings = label.structure, label.level.settings
    if structure.is_periodic:
        raise ValueError(f"{structure.formula} is periodic; QCSchema knows molecules only.")
    provenance = {"creator": "alflow", "routine": label.level.engine}
    versions = label.provenance.get("versions", {})
    if "alflow" in versions:
        provenance["version"] = str(versions["alflow"])
    return {
        "schema_name": "qcschema_output",
        "schema_version": 1,
        "id": structure.id,
        "molecule": _molecule(structure),
        "driver": "gradient",
        "model": _model(label.level),
        "keywords": {"engine": label.level.engine, **settings},
        "properties": _properties(label.evaluation, structure.charge),
        "return_result": (-label.evaluation.forces / EV_ANG_PER_HARTREE_BOHR).ravel().tolist(),
        "success": True,
        "provenance": provenance,
        "extras": {"diagnostics": dict(label.evaluation.diagnostics), "level_id": label.level.id, **origin},
    }


def _model(level: Level) -> dict[str, Any]:
    """Method and basis by the names a reader knows: those of alflow's list of methods, not libxc's."""
    settings = level.settings
    ground = settings.get("ground", settings)  # what excited states are built on has the basis
    if level.engine == "pyscf-casscf":
        method = "casscf"
    elif "functional" in ground:
        method = method_name(ground)
    else:
        method = str(settings.get("method") or level.engine)
    if level.engine == "pyscf-tda":
        method = "cis" if method == "hf" else f"tda-{method}"
    return {"method": method, "basis": ground.get("basis")}


def _molecule(structure: Structure) -> dict[str, Any]:
    return {
        "schema_name": "qcschema_molecule",
        "schema_version": 2,
        "symbols": list(structure.symbols),
        "geometry": (structure.positions / ANG_PER_BOHR).ravel().tolist(),
        "molecular_charge": structure.charge,
        "molecular_multiplicity": structure.multiplicity,
        "fix_com": True,
        "fix_orientation": True,
    }


def _properties(evaluation: Evaluation, charge: int) -> dict[str, Any]:
    told = evaluation.diagnostics
    found: dict[str, Any] = {
        "return_energy": evaluation.energy / EV_PER_HARTREE,
        "calcinfo_natom": len(evaluation.forces),
    }
    if "n_ao" in told:
        found["calcinfo_nbasis"] = told["n_ao"]
    dipole = fixed_dipole(evaluation, charge)
    if dipole is not None:
        found["scf_dipole_moment"] = (dipole / ANG_PER_BOHR).tolist()
    return found
