"""The PySCF reference: a level of theory as a small picklable noun.

This module does not load PySCF. The orchestrator and the Dask workers carry references about without ever computing
with them; PySCF (half a second, a hundred megabytes) is loaded by :meth:`PyscfReference.evaluate`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any, Final

from alflow.domain import Level, Outcome, Structure

__all__ = ["COMBINED_METHODS", "PROCEDURE", "PyscfReference"]

PROCEDURE: Final = 1
"""Version of how a label is computed; part of the level, raised whenever a change alters the numbers."""

COMBINED_METHODS: Final[dict[str, tuple[str, str]]] = {
    "wb97x-d3bj": ("wb97x_v", "d3bj:wb97x"),
    "wb97m-d3bj": ("wb97m_v", "d3bj:wb97m"),
    "b97m-d3bj": ("b97m_v", "d3bj:b97m"),
    "wb97x-d4": ("wb97x_v", "d4:wb97x"),
    "wb97m-d4": ("wb97m_v", "d4:wb97m"),
    "b97m-d4": ("b97m_v", "d4:b97m"),
}
"""Methods whose dispersion replaces the functional's own VV10 term: name → (functional, dispersion).

The D3(BJ) ones are Najibi and Goerigk, J. Chem. Theory Comput. 14, 5725 (2018), the D4 ones J. Comput. Chem. 41, 2562
(2020). Spelled out here because PySCF 2.14 gives ``wb97x-d4`` another meaning than its next versions will.
"""


@dataclass(frozen=True)
class PyscfReference:
    """Energy and exact gradient of a molecule from Hartree–Fock or density-functional theory.

    Restricted for singlets, unrestricted for every other multiplicity. Each evaluation starts cold from the same guess,
    so a label depends on its structure only, never on what was computed before.

    Attributes:
        functional: ``"hf"``, a functional libxc knows, or a key of :data:`COMBINED_METHODS`.
        basis: A basis set PySCF knows; where it is made for an effective core potential, that potential is used.
        density_fitting: Whether Coulomb and exchange integrals are density-fitted (in the gradient as well).
        dispersion: ``"d3bj"``, ``"d4"`` or None.
        grid_level: Size of the integration grid, 1 to 9, in PySCF's numbering.
        nonlocal_grid_level: Size of the coarser grid of a VV10 term.
        energy_tolerance_ha: Change of energy, Ha, at which the self-consistent field may stop.
        gradient_tolerance_ha: Norm of the orbital gradient, Ha, at which it may stop; above three times this value it
            has failed.
        max_cycles: Cycles of each rung of the ladder; no part of the level.
        memory_mb: Memory PySCF plans for, MB (advice, not a limit); no part of the level.
        threads: Threads; no part of the level.

    Examples:
        >>> quick = PyscfReference(functional="pbe", basis="sto-3g")
        >>> quick.level.id == PyscfReference(functional="pbe", basis="sto-3g", threads=4).level.id
        True
    """

    functional: str = "pbe"
    basis: str = "def2-svp"
    density_fitting: bool = True
    dispersion: str | None = None
    grid_level: int = 3
    nonlocal_grid_level: int = 1
    energy_tolerance_ha: float = 1e-9
    gradient_tolerance_ha: float = 5e-6
    max_cycles: int = 50
    memory_mb: int = 3000
    threads: int = 1

    preload = ("alflow.reference.scf", "pyscf.__all__")  # PySCF loads the second at the first gradient

    @property
    def is_dft(self) -> bool:
        """Whether there is a functional to integrate on a grid."""
        return self.functional.lower() != "hf"

    @property
    def resolved(self) -> tuple[str, str | None]:
        """Functional and dispersion after looking the name up in :data:`COMBINED_METHODS`."""
        name = self.functional.lower()
        return COMBINED_METHODS.get(name, (name, self.dispersion))

    @property
    def replaces_nonlocal(self) -> bool:
        """Whether a dispersion correction takes the place of the functional's VV10 term."""
        return self.functional.lower() in COMBINED_METHODS

    @cached_property
    def level(self) -> Level:
        """Every setting that changes the energy or the forces."""
        functional, dispersion = self.resolved
        settings: dict[str, Any] = {
            "procedure": PROCEDURE,
            "functional": functional,
            "basis": self.basis.lower(),
            "core_potential": "of-basis",
            "density_fitting": self.density_fitting,
            "dispersion": dispersion,
            "spin": "restricted-singlets",
            "initial_guess": "minao",
            "energy_tolerance_ha": self.energy_tolerance_ha,
            "gradient_tolerance_ha": self.gradient_tolerance_ha,
        }
        if self.is_dft:
            settings |= {
                "grid_level": self.grid_level,
                "grid_pruning": "nwchem",
                "grid_response": True,
                "nonlocal_correlation": "off" if self.replaces_nonlocal else "of-functional",
                "nonlocal_grid_level": self.nonlocal_grid_level,
            }
        return Level("pyscf", settings)

    def evaluate(self, structure: Structure) -> Outcome:
        """Compute energy and forces.

        Args:
            structure: A molecule; periodic structures are rejected.

        Returns:
            The evaluation, or a failure: REJECTED (a structure this level cannot treat), SCF_FAIL, NON_FINITE.
        """
        # Not an import statement on purpose: only the process that computes may pay for loading PySCF.
        outcome: Outcome = import_module("alflow.reference.scf").evaluate(self, structure)
        return outcome
