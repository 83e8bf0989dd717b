"""Basis sets and core potentials: what PySCF would misunderstand silently is refused aloud.

Each check answers with one sentence. Core potentials are found in ``alflow.reference.cores``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from pyscf import gto
from pyscf.gto import basis as basis_library

from alflow.errors import ConfigError, did_you_mean
from alflow.reference.cores import load_quietly, potential_of
from alflow.reference.pyscf import PyscfReference

__all__ = ["check_basis", "core_potentials", "count_functions", "without_checkpoint"]


def check_basis(reference: PyscfReference, symbols: Iterable[str]) -> None:
    """Find out whether there are functions and core potentials for these elements.

    Args:
        reference: The level of theory.
        symbols: Elements of the structures to come.

    Raises:
        ConfigError: An unknown basis set, an element it lacks, inner electrons for which there are neither functions
            nor a core potential, or a property these elements do not have.
    """
    by_basis: dict[str, list[str]] = {}
    by_element = reference.basis_of(symbols)
    for symbol, basis in by_element.items():
        by_basis.setdefault(basis, []).append(symbol)
    for basis, elements in by_basis.items():
        _check_basis(basis, elements)
    without_core = core_potentials(by_element)
    if "iao" in reference.properties and without_core:
        raise ConfigError(
            f"IAO charges need all electrons, and {', '.join(without_core)} have a core potential in this basis;"
            " take iao out of properties, or choose an all-electron basis."
        )


def core_potentials(basis: Mapping[str, str]) -> dict[str, Any]:
    """Effective core potentials that belong to basis sets, for PySCF's ``ecp`` argument.

    Args:
        basis: Name of the basis set of each element.

    Returns:
        The potential's name for each element that has one; all-electron elements are absent.

    Raises:
        ConfigError: A basis set for outer electrons only, whose potential PySCF does not have.

    Examples:
        >>> core_potentials({"H": "def2-svp", "I": "def2-svp"})
        {'I': 'def2-svp'}
    """
    found = {symbol: potential_of(name, symbol) for symbol, name in sorted(basis.items())}
    return {symbol: name for symbol, name in found.items() if name is not None}


def count_functions(symbols: Iterable[str], basis: Mapping[str, str], cartesian: bool) -> int:
    """Number of basis functions of some atoms.

    Args:
        symbols: Element of each atom.
        basis: Name of the basis set of each element.
        cartesian: Whether there are six d functions in a shell, and so on.

    Examples:
        >>> count_functions("OHH", {"O": "def2-svp", "H": "def2-svp"}, cartesian=False)
        24
    """
    return sum(_functions_of_atom(symbol, basis[symbol], cartesian) for symbol in symbols)


@lru_cache(256)
def _functions_of_atom(symbol: str, basis: str, cartesian: bool) -> int:
    atom = gto.M(atom=symbol, basis=basis, ecp=core_potentials({symbol: basis}), cart=cartesian, spin=None, verbose=0)
    return int(atom.nao)


def without_checkpoint(mean_field: Any) -> None:
    """Take the checkpoint file from a mean-field object; labels start cold and nobody would read it.

    PySCF opens a temporary file for it at once. It is closed here, not left to the garbage collector, which may
    come to it in an order that Python reports as an unclosed file.
    """
    mean_field.chkfile = None
    file = getattr(mean_field, "_chkfile", None)
    if file is not None:
        file.close()


def _check_basis(basis: str, elements: Sequence[str]) -> None:
    if basis.lower().startswith("gth"):
        raise ConfigError(f"Basis {basis!r} needs a GTH pseudopotential, which alflow's molecular PySCF does not use.")
    known = _loads(basis, "H")
    missing = [symbol for symbol in elements if not _loads(basis, symbol)]
    if not missing:
        return
    if not known and len(missing) == len(elements):
        plain = {n: n for n in basis_library.ALIAS} | {name.replace("-", ""): name for name in _BASIS_SPELLINGS}
        hint = did_you_mean(basis.lower().replace("-", "").replace("_", ""), plain)
        for squeezed, spelled in plain.items():
            hint = hint.replace(f"'{squeezed}'", f"'{spelled}'")
        raise ConfigError(f"Unknown basis {basis!r}: expected a basis set PySCF knows, such as 'def2-svp'.{hint}")
    raise ConfigError(f"Basis {basis!r} has no functions for {', '.join(missing)}; choose one that covers them.")


def _loads(basis: str, symbol: str) -> bool:
    return bool(load_quietly(basis_library.load, basis, symbol))


_BASIS_SPELLINGS = (
    *("sto-3g", "3-21g", "6-31g", "6-31g*", "6-31g**", "6-311g", "def2-svp", "def2-svpd", "def2-tzvp", "def2-tzvpp"),
    *("def2-tzvpd", "def2-qzvp", "cc-pvdz", "cc-pvtz", "cc-pvqz", "aug-cc-pvdz", "aug-cc-pvtz", "lanl2dz"),
)
