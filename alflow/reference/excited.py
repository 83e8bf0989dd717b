"""References of several electronic states: two levels of theory as small picklable nouns. PySCF is not loaded here.

States are counted by energy from 0, the ground state, in both. Following a state's character through a crossing is not
done: where two states come close, the number of a state may change hands, and the label says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from math import comb
from typing import Any, Final, Literal

from alflow.domain import Level, Outcome, Structure
from alflow.errors import StructureError
from alflow.reference.pyscf import PyscfReference

__all__ = ["CasscfReference", "Selection", "Spin", "TdaReference", "count_singlets"]

TDA_PROCEDURE: Final = 1
CASSCF_PROCEDURE: Final = 1
"""Versions of how a label is computed; part of the levels, raised whenever a change alters the numbers."""

Spin = Literal["singlet", "triplet"]

Selection = Literal["frontier", "all"]

_LABEL: Final = re.compile(r"(?:\d+ )?(?P<element>[A-Z][a-z]?) \d(?P<shell>[spdf])(?P<component>\S*)")


def _hartree_fock() -> PyscfReference:
    return PyscfReference(functional="hf", density_fitting=False)


def _pbe0() -> PyscfReference:
    return PyscfReference(functional="pbe0", density_fitting=False)


@dataclass(frozen=True)
class TdaReference:
    """Energy and forces of one excited state of a closed shell, by the Tamm–Dancoff approximation.

    E = E₀ + ω, with ω the eigenvalue number ``state`` of the orbital-rotation Hessian's block A (Hirata and
    Head-Gordon, Chem. Phys. Lett. 314, 291 (1999)); with Hartree–Fock this is CIS. Where the state comes
    close to the ground state the approximation fails: it has no conical intersections with it.

    Attributes:
        ground: Level of the ground state; without density fitting, for PySCF has no density-fitted gradients of excited
            states.
        n_states: Excited states that are computed and stored.
        state: Number of the state whose energy and forces are the label; 1 is the lowest excited state.
        spin: Of the excited states.
        root_tolerance_ha: Norm of the residual of an eigenvector, Ha, at which it has converged.

    Raises:
        ValueError: A ground state whose excited states have no gradient here, or a state that is not computed.

    Examples:
        >>> TdaReference(state=2).level.settings["state"]
        2
    """

    ground: PyscfReference = field(default_factory=_pbe0)
    n_states: int = 3
    state: int = 1
    spin: Spin = "singlet"
    root_tolerance_ha: float = 1e-6

    preload = ("alflow.reference.tda", "pyscf.__all__")

    def __post_init__(self) -> None:
        method = self.ground.method
        if method.family == "meta-gga":
            raise ValueError(
                f"functional {self.ground.functional} is a meta-GGA, whose gradients of excited states are wrong in"
                " PySCF; choose hf, an LDA or a GGA such as pbe0"
            )
        if method.vv10:
            raise ValueError(f"functional {self.ground.functional} has VV10, and excited states with it no gradient")
        _plain_ground_state(self.ground)
        if not 1 <= self.state <= self.n_states:
            raise ValueError(
                f"state must be between 1, the lowest excited state, and n_states, {self.n_states}; found {self.state}"
            )

    @cached_property
    def level(self) -> Level:
        """Every setting that changes the energy or the forces."""
        return Level(
            "pyscf-tda",
            {
                "procedure": TDA_PROCEDURE,
                "ground": dict(self.ground.level.settings),
                "n_states": self.n_states,
                "state": self.state,
                "spin": self.spin,
                "root_tolerance_ha": self.root_tolerance_ha,
                "grid_response": "ground-state",
            },
        )

    @property
    def finer(self) -> TdaReference | None:
        """The same with a grid two sizes finer, if there is one."""
        ground = self.ground.finer
        return None if ground is None else replace(self, ground=ground)

    def check(self, structure: Structure) -> None:
        """Check what can be checked without computing anything.

        Raises:
            StructureError: The ground state is no closed shell.
        """
        if structure.multiplicity != 1:
            raise StructureError(
                f"{structure.formula} has multiplicity {structure.multiplicity}; excited states are computed from"
                " closed shells only: give multiplicity 1, that of the ground state."
            )

    def size(self, structure: Structure) -> int:
        """Number of basis functions of a structure. Loads PySCF."""
        return self.ground.size(structure)

    def evaluate(self, structure: Structure) -> Outcome:
        """Compute energy and forces of the excited state.

        Args:
            structure: A molecule with an even number of electrons and multiplicity 1, that of its ground state.

        Returns:
            The evaluation, or a failure: REJECTED (a structure this level cannot treat), SCF_FAIL (the ground state or
            a root did not converge), NON_FINITE.
        """
        # Not an import statement on purpose: only the process that computes may pay for loading PySCF.
        outcome: Outcome = import_module("alflow.reference.tda").evaluate(self, structure)
        return outcome


@dataclass(frozen=True)
class CasscfReference:
    """Energy and forces of one singlet of a state-averaged complete active space, and couplings between the states.

    The active orbitals are taken from those nearest to given atomic ones (AVAS; Sayfutyarova, Sun, Chan and Knizia,
    J. Chem. Theory Comput. 13, 4063 (2017)) and optimized for the mean energy of the states. All states weigh the same:
    gradients of other averages are not in PySCF.

    Attributes:
        ground: Level of the Hartree–Fock orbitals it begins with: basis set and tolerances, which hold for the active
            space too. Exact integrals.
        active_space: Atomic orbitals, such as ``"C 2p"`` or ``"0 C 2pz"``: an element, or an atom's number before it.
        active_electrons: Electrons in the active orbitals.
        active_orbitals: Active orbitals.
        selection: ``frontier`` takes the highest occupied and the lowest empty ones of those AVAS finds; ``all`` takes
            all of them. A structure where AVAS finds too few, or for ``all`` too many, is rejected.
        n_states: States that are averaged, from the ground state up.
        state: Number of the state whose energy and forces are the label; 0 is the ground state.
        couplings: Whether non-adiabatic couplings between all pairs of states are computed.
        all_forces: Whether the forces of all states are computed.
        avas_threshold: Overlap with the atomic orbitals above which an orbital is active.
        reference_elements: Elements of a geometry that gives directions such as z in ``active_space`` their meaning;
            needed if there are any.
        reference_positions: Its positions, Å; each structure is turned onto it before anything else.
        max_macro_cycles: Cycles of the orbital optimization; no part of the level.

    Raises:
        ValueError: States, electrons and orbitals that do not go together; a direction without a reference geometry.

    Examples:
        >>> CasscfReference(("H 1s",), 2, 2).level.engine
        'pyscf-casscf'
    """

    active_space: tuple[str, ...]
    active_electrons: int
    active_orbitals: int
    selection: Selection = "frontier"
    ground: PyscfReference = field(default_factory=_hartree_fock)
    n_states: int = 2
    state: int = 0
    couplings: bool = False
    all_forces: bool = False
    avas_threshold: float = 0.2
    reference_elements: tuple[str, ...] = ()
    reference_positions: tuple[tuple[float, float, float], ...] = ()
    max_macro_cycles: int = 100

    preload = ("alflow.reference.casscf", "pyscf.__all__")

    def __post_init__(self) -> None:
        if self.ground.is_dft:
            raise ValueError("a complete active space begins with Hartree–Fock orbitals")
        if self.ground.dispersion is not None:
            raise ValueError("there are no parameters of a dispersion correction for CASSCF")
        _plain_ground_state(self.ground)
        most = count_singlets(self.active_electrons, self.active_orbitals)
        if not 2 <= self.n_states <= most:
            raise ValueError(
                f"{self.active_electrons} electrons in {self.active_orbitals} orbitals have {most} singlet states, of"
                f" which at least two are averaged; found n_states {self.n_states}"
            )
        if not 0 <= self.state < self.n_states:
            raise ValueError(
                f"state must be between 0, the ground state, and n_states − 1, {self.n_states - 1}; found {self.state}"
            )
        self._check_active_space()

    def _check_active_space(self) -> None:
        if not self.active_space:
            raise ValueError("active_space names no atomic orbital, such as 'C 2p'")
        if len(self.reference_elements) != len(self.reference_positions):
            raise ValueError("reference_elements and reference_positions_ang must be equally many")
        for label in self.active_space:
            found = _LABEL.fullmatch(label)
            if found is None:
                raise ValueError(f"expected atomic orbitals such as 'C 2p' or '0 C 2pz', found {label!r}")
            if found["component"] and not self.reference_elements:
                raise ValueError(
                    f"{label!r} names a direction, which means nothing for a molecule that turns; give"
                    " reference_elements and reference_positions_ang, onto which every structure is turned first"
                )

    @cached_property
    def level(self) -> Level:
        """Every setting that changes the energy or the forces, or what is stored beside them."""
        return Level(
            "pyscf-casscf",
            {
                "procedure": CASSCF_PROCEDURE,
                "ground": dict(self.ground.level.settings),
                "active_space": list(self.active_space),
                "active_electrons": self.active_electrons,
                "active_orbitals": self.active_orbitals,
                "selection": self.selection,
                "n_states": self.n_states,
                "weights": "equal",
                "multiplicity": 1,
                "state": self.state,
                "couplings": "with-translation-factors" if self.couplings else None,
                "all_forces": self.all_forces,
                "avas_threshold": self.avas_threshold,
                "reference_elements": list(self.reference_elements),
                "reference_positions_ang": [list(position) for position in self.reference_positions],
            },
        )

    def check(self, structure: Structure) -> None:
        """Check what can be checked without computing anything.

        Raises:
            StructureError: No singlet, an atom of the active space that is not there, or not the molecule of the
                reference geometry.
        """
        if structure.multiplicity != 1:
            raise StructureError(
                f"{structure.formula} has multiplicity {structure.multiplicity}; the active space holds singlets only."
            )
        if self.reference_elements and tuple(structure.symbols) != self.reference_elements:
            raise StructureError(
                f"The reference geometry of the active space is of {' '.join(self.reference_elements)}; found"
                f" {' '.join(structure.symbols)}."
            )
        for label in self.active_space:
            found = _LABEL.fullmatch(label)
            if found is not None and not set(structure.symbols) & {found["element"]}:
                raise StructureError(f"active_space names {label!r}; {structure.formula} has no {found['element']}.")

    def size(self, structure: Structure) -> int:
        """Number of basis functions of a structure. Loads PySCF."""
        return self.ground.size(structure)

    def evaluate(self, structure: Structure) -> Outcome:
        """Compute energy and forces of the state, and the couplings.

        Args:
            structure: A molecule of multiplicity 1.

        Returns:
            The evaluation, or a failure: REJECTED (a structure this level cannot treat, another active space than was
            asked for), SCF_FAIL (something did not converge, or not to a minimum), NON_FINITE.
        """
        # Not an import statement on purpose: only the process that computes may pay for loading PySCF.
        outcome: Outcome = import_module("alflow.reference.casscf").evaluate(self, structure)
        return outcome


def count_singlets(electrons: int, orbitals: int) -> int:
    """Number of singlet states of electrons in orbitals, by Weyl's formula; 0 where there is none.

    Args:
        electrons: Active electrons.
        orbitals: Active orbitals.

    Examples:
        >>> count_singlets(2, 2), count_singlets(4, 4), count_singlets(3, 2)
        (3, 20, 0)
    """
    pairs, odd = divmod(electrons, 2)
    if odd or pairs < 1 or pairs >= orbitals:
        return 0
    return comb(orbitals + 1, pairs) * comb(orbitals + 1, orbitals - pairs) // (orbitals + 1)


def _plain_ground_state(ground: PyscfReference) -> None:
    """Refuse what excited states have no gradient with."""
    refused: Sequence[tuple[str, Any]] = (
        ("density_fitting", ground.density_fitting),
        ("solvent_dielectric", ground.solvent_dielectric is not None),
        ("smearing_ha", ground.smearing_ha is not None),
        ("spin_policy: broken_symmetry", ground.spin_policy == "broken_symmetry"),
    )
    for name, found in refused:
        if found:
            raise ValueError(f"excited states have no gradient with {name}; leave it out")
