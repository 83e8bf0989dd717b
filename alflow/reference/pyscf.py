"""The PySCF reference: a level of theory as a small picklable noun.

This module does not load PySCF. The orchestrator and the Dask workers carry references about without ever computing
with them; PySCF (half a second, a hundred megabytes) is loaded by :meth:`PyscfReference.evaluate`, and to count basis
functions by :meth:`PyscfReference.size`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from typing import Any, Final, Literal

from alflow.domain import Level, Outcome, Structure
from alflow.reference.basis_names import basis_name
from alflow.reference.course import Course
from alflow.reference.functionals import Functional, find_functional

__all__ = ["PROCEDURE", "Property", "PyscfReference", "SpinPolicy"]

PROCEDURE: Final = 4
"""Version of how a label is computed; part of the level, raised whenever a change alters the numbers."""

FINEST_GRID: Final = 9

SpinPolicy = Literal["flag", "broken_symmetry", "reject"]
"""What becomes of a restricted singlet that would break its spin symmetry: kept with a flag, followed into the
unrestricted solution below it, or refused."""

Property = Literal["hirshfeld", "iao", "chelpg", "polarizability"]
"""What can be computed beside energy, forces and dipole moment."""


Device = Literal["cpu", "gpu"]


@dataclass(frozen=True)
class PyscfReference:
    """Energy and exact gradient of a molecule from Hartree–Fock or density-functional theory.

    Restricted for singlets, unrestricted for every other multiplicity. Each evaluation starts cold from the same guess,
    so a label depends on its structure only, never on what was computed before.

    Attributes:
        functional: A key of ``alflow.reference.functionals.FUNCTIONALS``.
        basis: A basis set PySCF knows, kept in its one spelling (``def2svp`` is ``def2-svp``, ``6-31g(d)`` is
            ``6-31g*``); where it is made for an effective core potential, that potential is used.
        cartesian: Whether shells of d and higher functions are Cartesian (six d functions), as other programs have them
            in Pople's basis sets.
        element_basis: Pairs of an element's symbol and its own basis set, ascending; one that is ``basis`` is dropped.
        density_fitting: Whether Coulomb and exchange integrals are density-fitted (in the gradient as well).
        auxiliary_basis: Basis set of the fit; None is the one made for ``basis``.
        dispersion: ``"d3bj"``, ``"d4"`` or None.
        grid_level: Size of the integration grid, 1 to 9, in PySCF's numbering.
        nonlocal_grid_level: Size of the coarser grid of a VV10 term.
        energy_tolerance_ha: Change of energy, Ha, at which the self-consistent field may stop.
        gradient_tolerance_ha: Norm of the orbital gradient, Ha, at which it may stop; above three times this value it
            has failed.
        spin_policy: What becomes of unstable singlets.
        solvent_dielectric: Dielectric constant of a conductor-like polarizable continuum; None is empty space.
        smearing_ha: Width of a Fermi distribution of occupations, Ha; energies are then free energies. None is whole
            occupations.
        max_cycles: Cycles of each rung of the ladder; no part of the level.
        properties: What else is computed with each label; no part of the level, because it changes neither energy nor
            forces.
        device: ``"gpu"`` leaves the first way to a converged field and the gradient to GPU4PySCF; no part of the level.
        memory_mb: Memory PySCF plans for, MB (advice, not a limit); no part of the level.
        threads: Threads; no part of the level.

    Raises:
        ValueError: An unknown functional or a dispersion that does not go with it.

    Examples:
        >>> quick = PyscfReference(functional="pbe", basis="sto-3g")
        >>> quick.level.id == PyscfReference(functional="pbe", basis="sto-3g", threads=4).level.id
        True
    """

    functional: str = "pbe"
    basis: str = "def2-svp"
    cartesian: bool = False
    element_basis: tuple[tuple[str, str], ...] = ()
    density_fitting: bool = True
    auxiliary_basis: str | None = None
    dispersion: str | None = None
    grid_level: int = 3
    nonlocal_grid_level: int = 1
    energy_tolerance_ha: float = 1e-9
    gradient_tolerance_ha: float = 5e-6
    spin_policy: SpinPolicy = "flag"
    solvent_dielectric: float | None = None
    smearing_ha: float | None = None
    max_cycles: int = 50
    properties: tuple[Property, ...] = ("hirshfeld",)
    device: Device = "cpu"
    memory_mb: int = 3000
    threads: int = 1

    preload = ("alflow.reference.scf", "pyscf.__all__", "pyscf.df.grad.roks")  # PySCF waits for the first gradient

    def __post_init__(self) -> None:
        find_functional(self.functional, self.dispersion)
        basis = basis_name(self.basis)
        own = {symbol: basis_name(name) for symbol, name in sorted(self.element_basis)}
        object.__setattr__(self, "basis", basis)
        object.__setattr__(self, "element_basis", tuple((s, name) for s, name in own.items() if name != basis))
        if self.auxiliary_basis is not None:
            object.__setattr__(self, "auxiliary_basis", basis_name(self.auxiliary_basis))

    @property
    def method(self) -> Functional:
        """What is run under the functional's name."""
        return find_functional(self.functional, self.dispersion)

    @property
    def is_dft(self) -> bool:
        """Whether there is a functional to integrate on a grid."""
        return self.method.family != "hf"

    def basis_of(self, symbols: Iterable[str]) -> dict[str, str]:
        """Basis set of each element.

        Args:
            symbols: Elements, in any order and number.
        """
        own = dict(self.element_basis)
        return {symbol: own.get(symbol, self.basis) for symbol in sorted(set(symbols))}

    @cached_property
    def level(self) -> Level:
        """Every setting that changes the energy or the forces."""
        method = self.method
        settings: dict[str, Any] = {
            "procedure": PROCEDURE,
            "functional": method.xc,
            "basis": self.basis,
            "element_basis": dict(self.element_basis),
            "cartesian": self.cartesian,
            "core_potential": "of-basis",
            "density_fitting": self.density_fitting,
            "dispersion": method.built_in_dispersion or self.dispersion,
            "spin": "restricted-singlets",
            "spin_policy": self.spin_policy,
            "initial_guess": "minao",
            "energy_tolerance_ha": self.energy_tolerance_ha,
            "gradient_tolerance_ha": self.gradient_tolerance_ha,
            "solvent": None if self.solvent_dielectric is None else {"c-pcm": self.solvent_dielectric},
            "smearing_ha": self.smearing_ha,
        }
        if self.density_fitting:
            settings["auxiliary_basis"] = self.auxiliary_basis or "of-basis"
        if self.is_dft:
            settings |= {
                "grid_level": self.grid_level,
                "grid_pruning": "nwchem",
                "grid_response": True,
                "nonlocal_correlation": "of-functional" if method.vv10 else "off",
            }
        if method.vv10:
            settings["nonlocal_grid_level"] = self.nonlocal_grid_level
        return Level("pyscf", settings)

    @property
    def finer(self) -> PyscfReference | None:
        """The same with a grid two sizes finer; None for Hartree–Fock or where there is no finer one."""
        finer = min(self.grid_level + 2, FINEST_GRID)
        return replace(self.plain, grid_level=finer) if self.is_dft and finer > self.grid_level else None

    @property
    def plain(self) -> PyscfReference:
        """The same without properties, for checks that look at energy and forces only."""
        return replace(self, properties=())

    def size(self, structure: Structure) -> int:
        """Number of basis functions of a structure, by which the cost of a label is foretold. Loads PySCF."""
        counted: int = import_module("alflow.reference.method").count_functions(
            structure.symbols, self.basis_of(structure.symbols), self.cartesian
        )
        return counted

    def evaluate(self, structure: Structure) -> Outcome:
        """Compute energy and forces.

        Args:
            structure: A molecule; periodic structures are rejected.

        Returns:
            The evaluation, or a failure: REJECTED (a structure this level cannot treat, an unstable singlet the policy
            refuses, a result that is wrong twice), SCF_FAIL, NON_FINITE.
        """
        return self.evaluate_in_steps(structure, None)

    def evaluate_in_steps(self, structure: Structure, course: Course | None) -> Outcome:
        """The same, in a process that may have to end before it is done.

        Args:
            structure: A molecule.
            course: How much time there is, and the checkpoint of an earlier process.

        Raises:
            Interrupted: The time is up; the course has kept a checkpoint.
        """
        # Not an import statement on purpose: only the process that computes may pay for loading PySCF.
        outcome: Outcome = import_module("alflow.reference.scf").evaluate(self, structure, course)
        return outcome
