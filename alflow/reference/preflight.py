"""The check of a whole reference before a campaign begins."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module

from alflow.domain import Reference, Structure
from alflow.errors import InputError, StructureError
from alflow.reference.calculator import AseReference
from alflow.reference.check import check_molecule, check_overlap
from alflow.reference.config import EngineConfig, make_reference
from alflow.reference.excited import CasscfReference, TdaReference
from alflow.reference.gpu import require_gpu
from alflow.reference.periodic import PyscfPeriodicReference, require_dftd3
from alflow.reference.pyscf import PyscfReference
from alflow.reference.toy import MorseMolecule
from alflow.reference.xtb import TbliteReference, require_tblite

__all__ = ["check_reference"]


def check_reference(config: EngineConfig, structures: Iterable[Structure]) -> None:
    """Check that a reference can label these structures, before a campaign begins.

    Args:
        config: The reference's configuration.
        structures: The campaign's first structures; their elements must be all there will be.

    Raises:
        InputError: One sentence: unknown functional or basis (with the likely spelling), an element the basis lacks,
            impossible spin, overlapping atoms, a periodic structure, another active space than was asked for (of the
            first structure only: it costs a Hartree–Fock calculation), a package or a calculator that is not there.
    """
    found = list(structures)
    if not found:
        raise InputError("A reference is checked against the structures it will label; found none.")
    reference = make_reference(config)
    if isinstance(reference, TbliteReference):
        require_tblite()
    if isinstance(reference, PyscfPeriodicReference) and reference.dispersion is not None:
        require_dftd3()
    for number, structure in enumerate(found):
        try:
            _check_structure(reference, structure)
        except StructureError as error:
            raise StructureError(f"frame {number}: {error}" if len(found) > 1 else str(error)) from error
    symbols = [symbol for structure in found for symbol in structure.symbols]
    # PySCF is loaded only here: a toy campaign is checked without it.
    match reference:
        case PyscfReference():
            if reference.device == "gpu":
                require_gpu()
            import_module("alflow.reference.method").check_basis(reference, symbols)
            import_module("alflow.reference.scf").try_out(reference)
        case TdaReference():
            import_module("alflow.reference.method").check_basis(reference.ground, symbols)
            import_module("alflow.reference.tda").try_out(reference)
        case CasscfReference():
            import_module("alflow.reference.method").check_basis(reference.ground, symbols)
            import_module("alflow.reference.casscf").check_active_space(reference, found[0])


def _check_structure(reference: Reference, structure: Structure) -> None:
    """Check one structure, as its engine wants it."""
    if isinstance(reference, PyscfReference | TdaReference | CasscfReference):
        check_molecule(structure)
        if not isinstance(reference, PyscfReference):
            reference.check(structure)
        return
    if isinstance(reference, PyscfPeriodicReference):
        import_module("alflow.reference.crystal").check_crystal(reference, structure)
        return
    check_overlap(structure)
    if isinstance(reference, MorseMolecule | AseReference):
        reference.check(structure)
    if isinstance(reference, TbliteReference):
        import_module("alflow.reference.tightbinding").check_tightbinding(reference, structure)
