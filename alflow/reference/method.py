"""Functionals, basis sets and dispersion: what PySCF would misunderstand silently is refused aloud.

Each check answers with one sentence. Measured traps: ``wb97x-d`` runs without its dispersion, a def2 basis on iodine
without its core potential runs with all 53 electrons, ``wb97x`` with D3(BJ) pairs parameters of different functionals.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from pyscf import dft, gto
from pyscf.gto import basis as basis_library

from alflow.errors import ConfigError, InputError, did_you_mean
from alflow.reference.pyscf import COMBINED_METHODS, PyscfReference

__all__ = ["check_method", "core_potentials", "without_checkpoint"]

# Functionals fitted together with a dispersion term that libxc does not contain: D2, D3, 3c.
_LOSES_DISPERSION = re.compile(r"(_D\d?|_3C|CF22D)$")
_FAMILIAR = ("b3lyp", "blyp", "bp86", "hf", "m06-2x", "pbe", "pbe0", "r2scan", "revpbe", "scan", "tpss", "wb97m_v")


def check_method(reference: PyscfReference, symbols: Iterable[str]) -> None:
    """Find out whether PySCF can compute these elements at this level, and would compute what was meant.

    Args:
        reference: The level of theory.
        symbols: Elements of the structures to come.

    Raises:
        ConfigError: Unknown or misleading functional, basis set or dispersion, or an element the basis lacks.
    """
    elements = sorted(set(symbols))
    _check_basis(reference.basis, elements)
    if reference.is_dft:
        _check_functional(reference)
    try:
        _trial(reference)
    except InputError:
        raise
    except Exception as error:
        raise ConfigError(
            f"PySCF cannot compute a gradient with functional {reference.functional!r} and dispersion"
            f" {reference.dispersion!r}: {error}"
        ) from error


def core_potentials(basis: str, symbols: Sequence[str]) -> dict[str, Any]:
    """Effective core potentials that belong to a basis set, for PySCF's ``ecp`` argument.

    Args:
        basis: Name of the basis set.
        symbols: Elements.

    Returns:
        The potential's name for each element that has one; all-electron elements are absent.

    Examples:
        >>> core_potentials("def2-svp", ["H", "I"])
        {'I': 'def2-svp'}
    """
    return {symbol: basis for symbol in sorted(set(symbols)) if _has_core_potential(basis, symbol)}


def without_checkpoint(mean_field: Any) -> None:
    """Take the checkpoint file from a mean-field object; labels start cold and nobody would read it.

    PySCF opens a temporary file for it at once. It is closed here, not left to the garbage collector, which may
    come to it in an order that Python reports as an unclosed file.
    """
    mean_field.chkfile = None
    file = getattr(mean_field, "_chkfile", None)
    if file is not None:
        file.close()


@lru_cache(256)
def _has_core_potential(basis: str, symbol: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # PySCF advertises the basis-set exchange when it finds nothing
        try:
            return bool(basis_library.load_ecp(basis, symbol))
        except (RuntimeError, KeyError):
            return False


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


_BASIS_SPELLINGS = (
    *("sto-3g", "3-21g", "6-31g", "6-31g*", "6-31g**", "6-311g", "def2-svp", "def2-svpd", "def2-tzvp", "def2-tzvpp"),
    *("def2-tzvpd", "def2-qzvp", "cc-pvdz", "cc-pvtz", "cc-pvqz", "aug-cc-pvdz", "aug-cc-pvtz", "lanl2dz"),
)


@lru_cache(256)
def _loads(basis: str, symbol: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            return bool(basis_library.load(basis, symbol))
        except (basis_library.BasisNotFoundError, KeyError, RuntimeError):
            return False


def _check_functional(reference: PyscfReference) -> None:
    name, dispersion = reference.functional.lower(), reference.dispersion
    functional, _ = reference.resolved
    try:
        _, parts = dft.libxc.parse_xc(functional)
        nonlocal_ = bool(dft.libxc.is_nlc(functional))
    except (KeyError, ValueError, NotImplementedError):
        hint = did_you_mean(name, [*_FAMILIAR, *COMBINED_METHODS, *_libxc_names()])
        raise ConfigError(f"Unknown functional {name!r}: expected 'hf' or a name libxc knows.{hint}") from None
    if name in COMBINED_METHODS:
        if dispersion is not None:
            raise ConfigError(f"Functional {name!r} already contains its dispersion; leave dispersion out.")
        return
    names = _names_of([int(number) for number, _ in parts])
    for part in names:
        if _LOSES_DISPERSION.search(part):
            others = ", ".join(sorted(COMBINED_METHODS))
            raise ConfigError(
                f"Functional {name!r} would lose the dispersion it was fitted with ({part} in libxc has none); use one"
                f" of {others}, or a plain functional with dispersion: d3bj."
            )
        if "_K_" in part or "_1D_" in part or "_2D_" in part or "RVV10" in part:
            raise ConfigError(
                f"Functional {name!r} ({part}) is not one for molecules that PySCF computes as published."
            )
    if nonlocal_ and dispersion is not None:
        raise ConfigError(f"Functional {name!r} has VV10; adding dispersion {dispersion!r} would count it twice.")
    if name.replace("_", "-") in ("wb97x", "wb97", "wb97m") and dispersion is not None:
        raise ConfigError(
            f"Functional {name!r} with dispersion {dispersion!r} mixes different fits; write functional: wb97x-d3bj."
        )


@lru_cache(1)
def _libxc_names() -> tuple[str, ...]:
    short = {re.sub(r"^(HYB_)?(LDA|GGA|MGGA)_(XC|X|C)_", "", name).lower() for name in dft.libxc.XC_CODES}
    return tuple(sorted(short | {str(alias).lower() for alias in dft.libxc.XC_ALIAS}))


def _names_of(numbers: Sequence[int]) -> list[str]:
    wanted = set(numbers)
    return [
        name for name, number in dft.libxc.XC_CODES.items() if not isinstance(number, str) and int(number) in wanted
    ]


def _trial(reference: PyscfReference) -> None:
    """Compute one gradient of H₂ in a minimal basis: what PySCF lacks shows before a campaign begins."""
    functional, dispersion = reference.resolved
    molecule = gto.M(atom="H 0 0 0; H 0 0 0.75", basis="sto-3g", verbose=0)
    mean_field = dft.RKS(molecule) if reference.is_dft else molecule.RHF()
    if reference.is_dft:
        mean_field.xc = functional
        mean_field.grids.level = 0
        mean_field.nlcgrids.level = 0
        if reference.replaces_nonlocal:
            mean_field.nlc = False
    mean_field.disp = dispersion or False
    mean_field.max_cycle = 2
    without_checkpoint(mean_field)
    mean_field.kernel()
    gradient = mean_field.nuc_grad_method()
    if reference.is_dft:
        gradient.grid_response = True
    gradient.kernel()
