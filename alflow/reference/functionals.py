"""The methods alflow computes: an allow-list, because a name alone is easily misunderstood.

Left to themselves, libraries run ``wb97x-d`` without its dispersion, pair ``wb97x`` with the D3(BJ) parameters of
another fit, and change what ``wb97x-d4`` means from one version to the next. Every entry says what is run. Nothing of
PySCF is loaded here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from alflow.errors import did_you_mean

__all__ = ["FUNCTIONALS", "Family", "Functional", "find_functional", "method_name"]

Family = Literal["hf", "lda", "gga", "meta-gga"]
"""What the functional is made of; it decides how fine an integration grid must be."""

_BOTH: Final = ("d3bj", "d4")


@dataclass(frozen=True)
class Functional:
    """What is run under a name.

    Attributes:
        xc: The functional in libxc's words; ``hf`` for Hartree–Fock.
        family: What it is made of.
        exact_exchange: Largest share of exact exchange at any distance.
        vv10: Whether the nonlocal term VV10 belongs to it.
        built_in_dispersion: Dispersion that is part of the method, in PySCF's words; it takes the place of VV10.
        dispersions: Dispersion corrections with published parameters that may be added.
        restless: Whether it notices where the points of a grid are much more than others of its family do, as SCAN and
            the Minnesota functionals are known for.
        roughness: How far the forces are from the slope of the energy at worst, eV/Å: libxc's code for some functionals
            is not smooth to the last digits. Measured on H2, water and its cation at grids 1 and 3: up to 9·10⁻⁴.
    """

    xc: str
    family: Family
    exact_exchange: float = 0.0
    vv10: bool = False
    built_in_dispersion: str | None = None
    dispersions: tuple[str, ...] = ()
    roughness: float = 0.0
    restless: bool = False


FUNCTIONALS: Final[dict[str, Functional]] = {
    "hf": Functional("hf", "hf", 1.0, dispersions=_BOTH),
    "svwn": Functional("lda,vwn", "lda"),
    "pbe": Functional("pbe", "gga", dispersions=_BOTH),
    "revpbe": Functional("revpbe", "gga", dispersions=_BOTH),
    "rpbe": Functional("rpbe", "gga", dispersions=_BOTH),
    "pbesol": Functional("pbesol", "gga", dispersions=_BOTH),
    "pw91": Functional("pw91", "gga", dispersions=_BOTH),
    "blyp": Functional("blyp", "gga", dispersions=_BOTH),
    "bp86": Functional("bp86", "gga", dispersions=_BOTH, roughness=1e-3),
    "pbe0": Functional("pbe0", "gga", 0.25, dispersions=_BOTH),
    "b3lyp": Functional("b3lyp", "gga", 0.2, dispersions=_BOTH),
    "b3pw91": Functional("b3pw91", "gga", 0.2, dispersions=_BOTH),
    "bhandhlyp": Functional("bhandhlyp", "gga", 0.5, dispersions=("d3bj",)),
    "hse06": Functional("hse06", "gga", 0.25, dispersions=_BOTH, roughness=1e-3),
    "cam-b3lyp": Functional("camb3lyp", "gga", 0.65, dispersions=_BOTH),
    "lc-wpbe": Functional("lc_wpbe", "gga", 1.0, dispersions=("d3bj",), roughness=1e-3),
    "wb97": Functional("wb97", "gga", 1.0),
    "wb97x": Functional("wb97x", "gga", 1.0),
    "wb97x-v": Functional("wb97x_v", "gga", 1.0, vv10=True),
    "wb97x-d3bj": Functional("wb97x_v", "gga", 1.0, built_in_dispersion="d3bj:wb97x"),
    "wb97x-d4": Functional("wb97x_v", "gga", 1.0, built_in_dispersion="d4:wb97x"),
    "tpss": Functional("tpss", "meta-gga", dispersions=_BOTH),
    "revtpss": Functional("revtpss", "meta-gga", dispersions=_BOTH),
    "scan": Functional("scan", "meta-gga", dispersions=_BOTH, restless=True),
    "r2scan": Functional("r2scan", "meta-gga", dispersions=_BOTH),
    "m06-l": Functional("m06_l", "meta-gga", restless=True),
    "tpssh": Functional("tpssh", "meta-gga", 0.1, dispersions=_BOTH),
    "tpss0": Functional("tpss0", "meta-gga", 0.25, dispersions=_BOTH),
    "r2scan0": Functional("r2scan0", "meta-gga", 0.25, dispersions=_BOTH),
    "m06": Functional("m06", "meta-gga", 0.27, restless=True),
    "m06-2x": Functional("m06_2x", "meta-gga", 0.54, restless=True),
    "pw6b95": Functional("pw6b95", "meta-gga", 0.28, dispersions=_BOTH),
    "b97m-v": Functional("b97m_v", "meta-gga", vv10=True),
    "b97m-d3bj": Functional("b97m_v", "meta-gga", built_in_dispersion="d3bj:b97m"),
    "b97m-d4": Functional("b97m_v", "meta-gga", built_in_dispersion="d4:b97m"),
    "wb97m-v": Functional("wb97m_v", "meta-gga", 1.0, vv10=True),
    "wb97m-d3bj": Functional("wb97m_v", "meta-gga", 1.0, built_in_dispersion="d3bj:wb97m"),
    "wb97m-d4": Functional("wb97m_v", "meta-gga", 1.0, built_in_dispersion="d4:wb97m"),
}
"""Everything that may be asked for, by name.

``b3lyp`` is the one of Gaussian (VWN3). Methods named ``…-d3bj`` with VV10 replaced are Najibi and Goerigk, J. Chem.
Theory Comput. 14, 5725 (2018), those with D4 J. Comput. Chem. 41, 2562 (2020).
"""


def find_functional(name: str, dispersion: str | None) -> Functional:
    """Look a method up.

    Args:
        name: Its name, in any case; ``_`` and ``-`` are the same.
        dispersion: The dispersion correction to be added, if any.

    Raises:
        ValueError: An unknown name, or a dispersion that does not go with it; a sentence that says what does.

    Examples:
        >>> find_functional("PBE", "d4").family
        'gga'
    """
    plain = name.lower().replace("_", "-")
    found = FUNCTIONALS.get(plain)
    if found is None:
        stem, _, suffix = plain.rpartition("-")
        if suffix in _BOTH and stem in FUNCTIONALS:
            raise ValueError(f"write functional: {stem} and dispersion: {suffix}, found functional: {name}")
        raise ValueError(
            f"unknown functional {name!r}: expected one of {', '.join(FUNCTIONALS)}.{did_you_mean(plain, FUNCTIONALS)}"
        )
    if dispersion is None or dispersion in found.dispersions:
        return found
    if found.built_in_dispersion is not None:
        raise ValueError(f"functional {plain} contains its dispersion; leave dispersion out")
    if found.vv10:
        raise ValueError(f"functional {plain} has VV10; adding dispersion {dispersion} would count it twice")
    twin = f"{plain}-{dispersion}"
    if twin in FUNCTIONALS:
        raise ValueError(f"functional {plain} with dispersion {dispersion} mixes different fits; write {twin}")
    known = " or ".join(found.dispersions) or "none"
    raise ValueError(f"functional {plain} has no published parameters of {dispersion}; it can have {known}")


def method_name(settings: Mapping[str, Any]) -> str:
    """The name of this list for what a level of theory runs, with a dispersion that was added to it.

    Args:
        settings: Those of a level, which has the functional in libxc's words.

    Returns:
        Such as ``pbe-d4``; libxc's words where the list has none for them.

    Examples:
        >>> method_name({"functional": "wb97x_v", "dispersion": "d3bj:wb97x", "nonlocal_correlation": "off"})
        'wb97x-d3bj'
        >>> method_name({"functional": "camb3lyp", "dispersion": "d3bj", "nonlocal_correlation": "off"})
        'cam-b3lyp-d3bj'
    """
    xc, dispersion = str(settings["functional"]), settings.get("dispersion")
    nonlocal_term = settings.get("nonlocal_correlation") == "of-functional"
    for name, found in FUNCTIONALS.items():
        if found.xc == xc and found.vv10 == nonlocal_term and found.built_in_dispersion in (None, dispersion):
            added = dispersion if found.built_in_dispersion is None else None
            return f"{name}-{added}" if added else name
    return xc
