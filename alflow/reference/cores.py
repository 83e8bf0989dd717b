"""Which electrons of an element a basis set leaves to an effective core potential, by PySCF's own files.

PySCF never asks. A basis set made for the outer electrons, without its potential, runs with all of them and without a
warning: 53 for iodine. Here each set gets the potential it was made for, and what has none must hold the innermost
electrons itself.
"""

from __future__ import annotations

import re
import warnings
from functools import lru_cache
from typing import Any, Final

import numpy as np
from pyscf import gto
from pyscf.data.elements import charge
from pyscf.gto import basis as library

from alflow.errors import ConfigError

__all__ = ["load_quietly", "potential_of"]

_POTENTIALS: Final = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"def2m(tzvpp?)", r"def2-\1"),
        (r"bfdv[dtq5]z", "bfd-pp"),
        (r"(ccecp(?:he|reg|28|36)?)(?:aug)?ccpv[dtq56]z", r"\1"),
        (r"(?:augccpv|ccpwcv)([dtq5])zpp", r"cc-pv\1z-pp"),
    )
)
"""Families of basis sets whose potential stands in another file; a test holds each pair against all-electron atoms."""

_INNERMOST: Final = 0.9
"""Least share of the 1s energy of the bare nucleus, −Z²/2 Ha, that the s functions of an all-electron set reach. Sets
of PySCF that have a potential reach 0.83 at most (lithium's apart), contracted ones for all electrons 0.93 at least."""

_SHARP: Final = 300.0
"""Exponent of an s function, in units of Z², Bohr⁻², that no set for outer electrons has (164 at most). Sets contracted
for relativistic calculations (DKH) have it, and of heavy elements they reach less than that share of the energy."""


@lru_cache(256)
def potential_of(basis: str, symbol: str) -> str | None:
    """The effective core potential of an element in a basis set.

    Args:
        basis: Name of the basis set.
        symbol: The element.

    Returns:
        The name under which PySCF has the potential; None if the basis set holds all electrons.

    Raises:
        ConfigError: The basis set has no functions for the innermost electrons, and PySCF no potential in their place.

    Examples:
        >>> potential_of("def2-mtzvp", "I"), potential_of("def2-mtzvp", "C")
        ('def2-tzvp', None)
    """
    name = _potential_name(basis)
    if load_quietly(library.load_ecp, name, symbol):
        return name
    functions = load_quietly(library.load, basis, symbol)
    if functions and not _holds_all_electrons(functions, symbol):
        raise ConfigError(
            f"Basis {basis!r} has no functions for the inner electrons of {symbol}, and PySCF has no core potential"
            " that belongs to it; choose an all-electron basis, or one whose potential PySCF has, such as 'def2-svp'."
        )
    return None


def load_quietly(load: Any, basis: str, symbol: str) -> Any:
    """What PySCF's library has for an element under a name; None if it has nothing.

    Args:
        load: ``pyscf.gto.basis.load`` or ``load_ecp``.
        basis: The name.
        symbol: The element.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # PySCF advertises the basis-set exchange when it finds nothing
        try:
            return load(basis, symbol)
        except (RuntimeError, KeyError, FileNotFoundError):  # the last: for a potential it opens modules as if files
            return None


def _potential_name(basis: str) -> str:
    """Under which name PySCF has the potentials of a basis set, if it has any."""
    plain = re.sub(r"[-_ ]", "", basis.lower())  # as PySCF compares names
    for pattern, name in _POTENTIALS:
        found = pattern.fullmatch(plain)
        if found is not None:
            return found.expand(name)
    files = library.ALIAS.get(plain)
    if isinstance(files, tuple):  # some sets are two files, and PySCF looks for potentials in one only
        return str(next(alias for alias, file in library.ALIAS.items() if file == files[0]))
    return basis


def _holds_all_electrons(functions: Any, symbol: str) -> bool:
    """Whether the s functions of an element reach down to its nucleus, by two measures of which one suffices."""
    shells = [shell for shell in functions if shell[0] == 0]
    if not shells:
        return False
    rows = [row for shell in shells for row in shell[1:] if not isinstance(row, int)]
    if max(row[0] for row in rows) > _SHARP * charge(symbol) ** 2:
        return True
    atom = gto.M(atom=symbol, basis={symbol: shells}, spin=None, verbose=0)
    overlap, one_electron = atom.intor("int1e_ovlp"), atom.intor("int1e_kin") + atom.intor("int1e_nuc")
    norms, vectors = np.linalg.eigh(overlap)
    orthogonal = vectors[:, norms > 1e-10] / np.sqrt(norms[norms > 1e-10])
    lowest = float(np.linalg.eigvalsh(orthogonal.T @ one_electron @ orthogonal)[0])
    return bool(lowest < -_INNERMOST * charge(symbol) ** 2 / 2)
