"""What the configurations of everything made of orbitals have in common: basis sets and how far a field converges."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, field_validator

from alflow.domain.elements import SYMBOLS
from alflow.errors import did_you_mean
from alflow.reference.limits import Limits

__all__ = ["OrbitalConfig", "Preset", "plain_name"]

Positive = Annotated[float, Field(gt=0)]

Preset = Literal["fast", "standard", "tight"]

_GRADIENT_TOLERANCE_HA: Final = {"fast": 2e-5, "standard": 5e-6, "tight": 2e-7}
_ENERGY_TOLERANCE_HA: Final = {"fast": 1e-8, "standard": 1e-9, "tight": 1e-11}


class OrbitalConfig(Limits):
    """Basis set and tolerances of a self-consistent field.

    Attributes:
        preset: How exact the numbers are: ``fast``, ``standard`` or ``tight``; grid and tolerances follow from it, see
            docs/labels.md.
        basis: A basis set PySCF knows; a set for outer electrons gets its core potential by itself, or is refused.
        cartesian: Whether shells of d and higher functions are Cartesian, as other programs have them in 6-31G* and its
            kin: to agree with such data.
        element_basis: Basis sets of single elements, by symbol; all others have ``basis``.
        energy_tolerance_ha: Change of energy at which the self-consistent field may stop, Ha; nothing follows
            ``preset``.
        gradient_tolerance_ha: Orbital-gradient norm at which it may stop, Ha; the force noise from it is below 40 times
            this in eV/Å, 90 times for a broken-symmetry singlet. Nothing follows ``preset``.
        max_cycles: Cycles of each rung of the convergence ladder.
    """

    preset: Preset = "standard"
    basis: str = "def2-svp"
    cartesian: bool = False
    element_basis: dict[str, str] = Field(default_factory=dict)
    energy_tolerance_ha: Positive | None = None
    gradient_tolerance_ha: Positive | None = None
    max_cycles: Annotated[int, Field(ge=1)] = 50

    @field_validator("basis")
    @classmethod
    def _plain_basis(cls, text: str) -> str:
        return plain_name(text)

    @field_validator("element_basis")
    @classmethod
    def _of_elements(cls, given: dict[str, str]) -> dict[str, str]:
        for symbol in given:
            if symbol not in SYMBOLS[1:]:
                hint = did_you_mean(symbol.capitalize(), SYMBOLS[1:])
                raise ValueError(f"expected symbols of elements, found {symbol!r}.{hint}")
        return {symbol: plain_name(basis) for symbol, basis in sorted(given.items())}

    @property
    def resolved_energy_tolerance_ha(self) -> float:
        """Change of energy at which the field may stop, Ha: as given, or of the preset."""
        return self.energy_tolerance_ha or _ENERGY_TOLERANCE_HA[self.preset]

    @property
    def resolved_gradient_tolerance_ha(self) -> float:
        """Norm of the orbital gradient at which it may stop, Ha: as given, or of the preset."""
        return self.gradient_tolerance_ha or _GRADIENT_TOLERANCE_HA[self.preset]


def plain_name(text: str) -> str:
    """A method's or basis set's name in lower case and without blanks.

    Raises:
        ValueError: It is empty or a path.

    Examples:
        >>> plain_name("Def2-SVP ")
        'def2-svp'
    """
    name = "".join(text.split()).lower()
    if not name or "/" in name or "\\" in name:
        raise ValueError(f"expected the name of a method, found {text!r}")
    return name
