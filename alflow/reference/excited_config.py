"""Configuration of the references of several electronic states. PySCF is not loaded here."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, field_validator, model_validator

from alflow.reference.excited import CasscfReference, Selection, Spin, TdaReference
from alflow.reference.functionals import find_functional
from alflow.reference.orbital_config import OrbitalConfig, plain_name
from alflow.reference.pyscf import PyscfReference

__all__ = ["CasscfConfig", "TdaConfig", "make_casscf", "make_tda"]

_GRID_LEVEL: Final = {"fast": 2, "standard": 3, "tight": 5}
"""Size of the integration grid of each preset."""

_ROOT_TOLERANCE_HA: Final = {"fast": 1e-5, "standard": 1e-6, "tight": 1e-7}


class TdaConfig(OrbitalConfig):
    """An excited state of a closed shell, by the Tamm–Dancoff approximation with PySCF.

    Attributes:
        engine: ``"pyscf-tda"``.
        functional: A GGA, an LDA or ``hf`` of docs/labels.md; ``hf`` is CIS. Meta-GGAs and VV10 are refused.
        dispersion: ``"d3bj"``, ``"d4"`` or nothing.
        grid_level: Size of the integration grid; nothing follows ``preset``.
        spin_policy: What becomes of a ground state that would break its spin symmetry: ``flag`` or ``reject``.
        n_states: Excited states that are computed and stored.
        state: Number of the excited state whose energy and forces are the label; 1 is the lowest.
        spin: Of the excited states, ``singlet`` or ``triplet``.
        root_tolerance_ha: Residual of an excited state at which it has converged, Ha; nothing follows ``preset``.

    Examples:
        >>> TdaConfig(state=4)
        Traceback (most recent call last):
        pydantic_core._pydantic_core.ValidationError: 1 validation error for TdaConfig
          Value error, state must be between 1, the lowest excited state, and n_states, 3; found 4 ...
    """

    engine: Literal["pyscf-tda"] = "pyscf-tda"
    functional: str = "pbe0"
    dispersion: Literal["d3bj", "d4"] | None = None
    grid_level: Annotated[int, Field(ge=1, le=9)] | None = None
    spin_policy: Literal["flag", "reject"] = "flag"
    n_states: Annotated[int, Field(ge=1, le=100)] = 3
    state: int = 1
    spin: Spin = "singlet"
    root_tolerance_ha: Annotated[float, Field(gt=0, le=1e-3)] | None = None

    @field_validator("functional")
    @classmethod
    def _plain_functional(cls, text: str) -> str:
        return plain_name(text)

    @model_validator(mode="after")
    def _makes_sense(self) -> TdaConfig:
        find_functional(self.functional, self.dispersion)
        make_tda(self)
        return self


class CasscfConfig(OrbitalConfig):
    """Singlets of a complete active space, with couplings between them, by state-averaged CASSCF with PySCF.

    Attributes:
        engine: ``"pyscf-casscf"``.
        active_space: Atomic orbitals, such as ``C 2p``, to which the active ones must be near (AVAS). A direction
            (``F 2pz``) needs a reference geometry.
        active_electrons: Electrons in the active orbitals; an even number.
        active_orbitals: Number of active orbitals.
        selection: ``frontier`` takes the highest occupied and lowest empty ones of those AVAS finds; ``all`` takes all,
            and rejects a structure where their number is another.
        n_states: States that are averaged with equal weights, from the ground state up.
        state: Number of the state whose energy and forces are the label; 0 is the ground state.
        couplings: Whether non-adiabatic couplings of all pairs of states are stored.
        all_forces: Whether the forces of all states are stored.
        avas_threshold: Overlap with the atomic orbitals above which AVAS takes an orbital.
        reference_elements: Element symbols of a reference geometry, in the order of the structures to come.
        reference_positions_ang: Its positions, Å, shape (atom, 3). Structures are turned onto it, so that directions in
            ``active_space`` are its own.
        max_macro_cycles: Cycles of the optimization of active orbitals.

    Examples:
        >>> CasscfConfig(active_space=["C 2p", "N 2p"], active_electrons=2, active_orbitals=2, n_states=2).state
        0
    """

    engine: Literal["pyscf-casscf"] = "pyscf-casscf"
    active_space: Annotated[tuple[str, ...], Field(min_length=1)]
    active_electrons: Annotated[int, Field(ge=2)]
    active_orbitals: Annotated[int, Field(ge=2, le=14)]
    selection: Selection = "frontier"
    n_states: Annotated[int, Field(ge=2, le=20)] = 2
    state: int = 0
    couplings: bool = False
    all_forces: bool = False
    avas_threshold: Annotated[float, Field(gt=0, lt=1)] = 0.2
    reference_elements: tuple[str, ...] = ()
    reference_positions_ang: tuple[tuple[float, float, float], ...] = ()
    max_macro_cycles: Annotated[int, Field(ge=1)] = 100

    @model_validator(mode="after")
    def _makes_sense(self) -> CasscfConfig:
        make_casscf(self)
        return self


def make_tda(config: TdaConfig) -> TdaReference:
    """Build the reference of an excited state; PySCF is not loaded.

    Raises:
        ValueError: Settings that do not go together.
    """
    ground = PyscfReference(
        functional=config.functional,
        basis=config.basis,
        cartesian=config.cartesian,
        element_basis=tuple(config.element_basis.items()),
        density_fitting=False,
        dispersion=config.dispersion,
        grid_level=config.grid_level or _GRID_LEVEL[config.preset],
        energy_tolerance_ha=config.resolved_energy_tolerance_ha,
        gradient_tolerance_ha=config.resolved_gradient_tolerance_ha,
        spin_policy=config.spin_policy,
        max_cycles=config.max_cycles,
        memory_mb=int(0.75 * config.memory_limit_mb),
        threads=config.threads,
    )
    tolerance = config.root_tolerance_ha or _ROOT_TOLERANCE_HA[config.preset]
    return TdaReference(ground, config.n_states, config.state, config.spin, tolerance)


def make_casscf(config: CasscfConfig) -> CasscfReference:
    """Build the reference of an active space; PySCF is not loaded.

    Raises:
        ValueError: Settings that do not go together.
    """
    ground = PyscfReference(
        functional="hf",
        basis=config.basis,
        cartesian=config.cartesian,
        element_basis=tuple(config.element_basis.items()),
        density_fitting=False,
        energy_tolerance_ha=config.resolved_energy_tolerance_ha,
        gradient_tolerance_ha=config.resolved_gradient_tolerance_ha,
        max_cycles=config.max_cycles,
        memory_mb=int(0.75 * config.memory_limit_mb),
        threads=config.threads,
    )
    return CasscfReference(
        active_space=config.active_space,
        active_electrons=config.active_electrons,
        active_orbitals=config.active_orbitals,
        selection=config.selection,
        ground=ground,
        n_states=config.n_states,
        state=config.state,
        couplings=config.couplings,
        all_forces=config.all_forces,
        avas_threshold=config.avas_threshold,
        reference_elements=config.reference_elements,
        reference_positions=config.reference_positions_ang,
        max_macro_cycles=config.max_macro_cycles,
    )
