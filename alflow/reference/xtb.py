"""The xTB reference: a level of theory as a small picklable noun. tblite is loaded where it computes, not here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from typing import Final, Literal

from alflow.domain import Level, Outcome, Structure
from alflow.errors import ConfigError

__all__ = ["Method", "TbliteReference", "require_tblite"]

PROCEDURE: Final = 1
"""Version of how a label is computed; part of the level, raised whenever a change alters the numbers."""

Method = Literal["gfn2-xtb", "gfn1-xtb", "ipea1-xtb"]


@dataclass(frozen=True)
class TbliteReference:
    """Energy, exact gradient and, for cells, stress from an extended tight-binding Hamiltonian.

    Molecules, and cells that repeat in all three directions (Γ point only: choose a supercell). Unpaired electrons
    occupy the orbitals of the closed shell; there is no spin polarization. Each evaluation starts cold.

    GFN2: Bannwarth, Ehlert and Grimme, J. Chem. Theory Comput. 15, 1652 (2019); GFN1: Grimme, Bannwarth and Shushkov,
    ibid. 13, 1989 (2017); IPEA1: Ásgeirsson, Bauer and Grimme, Chem. Sci. 8, 4879 (2017).

    Attributes:
        method: The parameters.
        electronic_temperature_k: Temperature of the Fermi distribution of occupations, K.
        accuracy: Factor on the tolerances of the self-consistent field. With 1, tblite's default, forces of an ethanol
            cation err by 0.1 meV/Å; with 0.1 by 0.01, for a tenth more time.
        max_iterations: Iterations of the self-consistent field; no part of the level.

    Examples:
        >>> TbliteReference().level.settings["method"]
        'gfn2-xtb'
    """

    method: Method = "gfn2-xtb"
    electronic_temperature_k: float = 300.0
    accuracy: float = 0.1
    max_iterations: int = 250

    preload = ("alflow.reference.tightbinding",)

    @cached_property
    def level(self) -> Level:
        """Every setting that changes the energy or the forces; the version of tblite is provenance."""
        return Level(
            "xtb",
            {
                "procedure": PROCEDURE,
                "method": self.method,
                "electronic_temperature_k": self.electronic_temperature_k,
                "accuracy": self.accuracy,
                "spin_polarization": None,
                "initial_guess": "sad",
            },
        )

    def evaluate(self, structure: Structure) -> Outcome:
        """Compute energy, forces and, in a cell, stress.

        Args:
            structure: A molecule, or a cell with three periodic directions; its charge and multiplicity are used.

        Returns:
            The evaluation, or a failure: REJECTED (a structure xTB cannot treat), SCF_FAIL, NON_FINITE.

        Raises:
            ConfigError: tblite is not installed.
        """
        require_tblite()
        # Not an import statement on purpose: only the process that computes may pay for loading tblite.
        outcome: Outcome = import_module("alflow.reference.tightbinding").evaluate(self, structure)
        return outcome


def require_tblite() -> None:
    """Check that the optional package is there.

    Raises:
        ConfigError: It is not; says how to install it.
    """
    if find_spec("tblite") is None:
        raise ConfigError(
            "reference.engine: xtb needs the package tblite, which is not installed; pip install 'alflow[xtb]'."
        )
