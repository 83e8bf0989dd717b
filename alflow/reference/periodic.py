"""The periodic PySCF reference: a level of theory as a small picklable noun. PySCF is loaded where it computes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, Literal

from alflow.domain import Level, Outcome, Structure
from alflow.errors import ConfigError
from alflow.reference.basis_names import basis_name
from alflow.reference.functionals import Functional, find_functional

__all__ = ["PSEUDOPOTENTIALS", "PyscfPeriodicReference", "Route", "find_periodic_functional", "require_dftd3"]

PROCEDURE: Final = 1
"""Version of how a label is computed; part of the level, raised whenever a change alters the numbers."""

Route = Literal["multigrid", "fft"]
"""How densities and potentials come onto the grid: on several grids, fine ones for narrow functions only (one k-point),
or all on one grid, with the orbitals kept from cycle to cycle (any k-points)."""

FINER_CUTOFF: Final = 1.5
"""How much finer the waves of a grid are that a label is compared with."""

KEPT_SHARE: Final = 0.25
"""Part of the memory that may go to orbitals that are kept."""

PSEUDOPOTENTIALS: Final = {
    "svwn": "gth-pade",
    "pbe": "gth-pbe",
    "revpbe": "gth-pbe",
    "rpbe": "gth-pbe",
    "pbesol": "gth-pbesol",
    "blyp": "gth-blyp",
    "bp86": "gth-bp",
}
"""Functionals of cells, and the pseudopotentials made for them (PBE's for its revisions)."""


def find_periodic_functional(name: str, dispersion: str | None) -> Functional:
    """Look up a functional that has exact forces and stresses in a cell.

    Args:
        name: Its name, as for molecules.
        dispersion: ``"d3bj"`` or None.

    Raises:
        ValueError: A hybrid, a meta-GGA, Hartree–Fock, a functional without pseudopotentials of its own, or another
            dispersion.

    Examples:
        >>> find_periodic_functional("pbe0", None)
        Traceback (most recent call last):
        ValueError: functional 'pbe0' has no forces and stress in cells here; expected one of svwn, pbe, ...
    """
    found = find_functional(name, dispersion)
    if dispersion not in (None, "d3bj"):
        raise ValueError(f"cells have dispersion d3bj or none; found {dispersion}")
    if name.lower() not in PSEUDOPOTENTIALS:
        raise ValueError(
            f"functional {name!r} has no forces and stress in cells here; expected one of {', '.join(PSEUDOPOTENTIALS)}"
            " (LDA and GGA with pseudopotentials made for them), or another program through engine: ase"
        )
    return found


@dataclass(frozen=True)
class PyscfPeriodicReference:
    """Energy, forces and stress of a crystal from density-functional theory with GTH pseudopotentials.

    Restricted for multiplicity 1, unrestricted for others (unpaired electrons of one cell). Every evaluation starts
    cold. The grid follows the cell at a fixed cutoff: when a cell is strained it changes in steps, over which the
    energy jumps a little (docs/references.md); the stress is the derivative between the steps.

    Pseudopotentials: Goedecker, Teter and Hutter, Phys. Rev. B 54, 1703 (1996); basis sets MOLOPT: VandeVondele and
    Hutter, J. Chem. Phys. 127, 114105 (2007).

    Attributes:
        functional: A key of ``PSEUDOPOTENTIALS``.
        basis: A Gaussian basis set made for GTH pseudopotentials.
        pseudopotential: Pseudopotentials; None are those made for the functional.
        kpoints: Points along each reciprocal vector; the mesh contains Γ.
        route: ``"multigrid"`` or ``"fft"``; None is the first for one k-point.
        ke_cutoff_ha: Kinetic energy of the finest waves of the grid, Ha.
        precision: Largest error of lattice sums and of what multigrid leaves out, PySCF's own unit.
        smearing_ha: Width of a Fermi distribution of occupations, Ha; energies are then free energies, whose
            derivatives forces and stress are. None is whole occupations.
        dispersion: ``"d3bj"`` or None.
        stress: Whether the stress is computed; it may cost more than all the rest.
        energy_tolerance_ha: Change of energy, Ha, at which the self-consistent field may stop.
        gradient_tolerance_ha: Norm of the orbital gradient over all k-points, Ha, at which it may stop; above three
            times this value it has failed.
        max_cycles: Cycles of each rung of the ladder; no part of the level.
        memory_mb: Most memory a label may need, MB; what needs more is rejected before it runs. No part of the level.
        threads: Threads; no part of the level.

    Raises:
        ValueError: A functional that cells cannot have, or multigrid with several k-points.

    Examples:
        >>> PyscfPeriodicReference(kpoints=(2, 2, 2)).level.settings["route"]
        'fft'
    """

    functional: str = "pbe"
    basis: str = "gth-szv-molopt-sr"
    pseudopotential: str | None = None
    kpoints: tuple[int, int, int] = (1, 1, 1)
    route: Route | None = None
    ke_cutoff_ha: float = 80.0
    precision: float = 1e-8
    smearing_ha: float | None = None
    dispersion: str | None = None
    stress: bool = True
    energy_tolerance_ha: float = 1e-9
    gradient_tolerance_ha: float = 5e-6
    max_cycles: int = 50
    memory_mb: int = 4000
    threads: int = 1

    @property
    def preload(self) -> tuple[str, ...]:
        """PySCF's parts for cells, and dftd3 where it is asked for."""
        own = ("alflow.reference.crystal", "pyscf.__all__")
        return own if self.dispersion is None else (*own, "alflow.reference.dispersion")

    def __post_init__(self) -> None:
        find_periodic_functional(self.functional, self.dispersion)
        object.__setattr__(self, "basis", basis_name(self.basis))
        if self.pseudopotential is not None:
            object.__setattr__(self, "pseudopotential", basis_name(self.pseudopotential))
        if self.route == "multigrid" and self.n_kpoints > 1:
            raise ValueError("route multigrid knows the Γ point only; leave route out, or write route: fft")

    @property
    def n_kpoints(self) -> int:
        """Number of k-points."""
        return self.kpoints[0] * self.kpoints[1] * self.kpoints[2]

    @property
    def is_multigrid(self) -> bool:
        """Whether the field and the forces come from the multigrid route."""
        return self.route == "multigrid" if self.route is not None else self.n_kpoints == 1

    @property
    def pseudopotentials(self) -> str:
        """Name of the pseudopotentials."""
        return self.pseudopotential or PSEUDOPOTENTIALS[self.functional.lower()]

    @cached_property
    def level(self) -> Level:
        """Every setting that changes energy, forces or stress; versions are provenance."""
        settings: dict[str, Any] = {
            "procedure": PROCEDURE,
            "functional": find_periodic_functional(self.functional, self.dispersion).xc,
            "basis": self.basis,
            "pseudopotential": self.pseudopotentials,
            "kpoints": list(self.kpoints),
            "kpoint_mesh": "gamma-centered",
            "route": "multigrid" if self.is_multigrid else "fft",
            "ke_cutoff_ha": self.ke_cutoff_ha,
            "precision": self.precision,
            "smearing_ha": self.smearing_ha,
            "smearing": None if self.smearing_ha is None else "fermi",
            "dispersion": None if self.dispersion is None else {self.dispersion: "two-body", "cutoff_bohr": 95.0},
            "stress": self.stress,
            "spin": "restricted-singlets",
            "initial_guess": "minao",
            "energy_tolerance_ha": self.energy_tolerance_ha,
            "gradient_tolerance_ha": self.gradient_tolerance_ha,
        }
        return Level("pyscf-periodic", settings)

    @property
    def plain(self) -> PyscfPeriodicReference:
        """The same without the stress, for checks that look at energy and forces only."""
        return replace(self, stress=False)

    @property
    def finer(self) -> PyscfPeriodicReference:
        """The same on a finer grid, without the stress."""
        return replace(self.plain, ke_cutoff_ha=FINER_CUTOFF * self.ke_cutoff_ha)

    def kept_orbitals_mb(self, points: int, n_functions: int) -> float:
        """Memory of orbitals that are kept from cycle to cycle, MB; zero where they would take too large a share.

        Args:
            points: Points of the grid.
            n_functions: Basis functions of one cell.
        """
        if self.is_multigrid:
            return 0.0
        number = 8 if self.n_kpoints == 1 else 16
        wanted = 4 * number * points * n_functions * self.n_kpoints / 1e6
        return wanted if wanted <= KEPT_SHARE * self.memory_mb else 0.0

    def predicted_memory_mb(self, points: int, n_functions: int, n_atoms: int, restricted: bool = True) -> float:
        """Memory a label will need, MB.

        A rule fitted to measured peaks, 6 to 37 % above them: docs/decisions/0014-periodic-pyscf.md.

        Args:
            points: Points of the grid.
            n_functions: Basis functions of one cell.
            n_atoms: Atoms.
            restricted: Whether both spins share their orbitals.
        """
        libraries, blocks = 130.0, 60.0
        per_point = 64 * n_atoms
        if self.stress or not self.is_multigrid:
            blocks = 130.0
            per_point += (2400 if restricted else 4800) + 16 * n_functions
        return libraries + blocks + self.kept_orbitals_mb(points, n_functions) + points * per_point / 1e6

    def evaluate(self, structure: Structure) -> Outcome:
        """Compute energy, forces and stress.

        Args:
            structure: A neutral cell with three periodic directions.

        Returns:
            The evaluation, or a failure: REJECTED (a structure this level cannot treat, too much memory, a grid too
            coarse for its atoms), SCF_FAIL, NON_FINITE.

        Raises:
            ConfigError: Dispersion is asked for and dftd3 is not installed.
        """
        if self.dispersion is not None:
            require_dftd3()
        # Not an import statement on purpose: only the process that computes may pay for loading PySCF.
        outcome: Outcome = import_module("alflow.reference.crystal").evaluate(self, structure)
        return outcome


def require_dftd3() -> None:
    """Check that the optional package is there.

    Raises:
        ConfigError: It is not; says how to install it.
    """
    if find_spec("dftd3") is None:
        raise ConfigError(
            "reference.dispersion of engine pyscf-periodic needs the package dftd3, which is not installed;"
            " pip install 'alflow[dispersion]'."
        )
