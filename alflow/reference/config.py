"""Configuration of references: one closed model per engine, told apart by the key ``engine``.

Limits (time, memory, threads, attempts, delay) are not part of the level of theory: raising one never makes a stored
label unusable.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, field_validator, model_validator

from alflow.domain import Reference, Structure
from alflow.reference.engines import (
    AseConfig,
    CommitteeConfig,
    PyscfPeriodicConfig,
    XtbConfig,
    make_ase,
    make_periodic,
    make_xtb,
)
from alflow.reference.excited_config import CasscfConfig, TdaConfig, make_casscf, make_tda
from alflow.reference.functionals import find_functional
from alflow.reference.limits import Limits
from alflow.reference.orbital_config import OrbitalConfig, plain_name
from alflow.reference.pyscf import Device, Property, PyscfReference, SpinPolicy
from alflow.reference.toy import LennardJones, Morse, MorseMolecule, MuellerBrown

__all__ = [
    "AseConfig",
    "CasscfConfig",
    "CommitteeConfig",
    "EngineConfig",
    "LennardJonesConfig",
    "Limits",
    "MorseConfig",
    "MorseMoleculeConfig",
    "MuellerBrownConfig",
    "PyscfConfig",
    "PyscfPeriodicConfig",
    "ReferenceConfig",
    "TdaConfig",
    "XtbConfig",
    "make_reference",
]

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]


RESTLESS_GRID_LEVEL: Final = 3
"""Coarsest integration grid of functionals that notice it much more than others; below, nothing was measured."""

_GRID_LEVEL: Final = {"fast": 2, "standard": 3, "tight": 5}
"""Size of the integration grid of each preset; a meta-GGA needs the next one."""


class PyscfConfig(OrbitalConfig):
    """Hartree–Fock or density-functional theory with PySCF.

    Attributes:
        engine: ``"pyscf"``.
        functional: One of the methods in docs/labels.md, such as ``pbe``, ``r2scan``, ``wb97x-d3bj`` or ``hf``.
        density_fitting: Whether two-electron integrals are density-fitted.
        auxiliary_basis: Basis set of the fit; nothing is the one made for ``basis``.
        dispersion: ``"d3bj"``, ``"d4"`` or nothing.
        grid_level: Size of the integration grid; nothing follows ``preset``. 0 is refused (energies off by an eV), and
            below 3 for SCAN and the Minnesota functionals.
        nonlocal_grid_level: Size of the grid of a VV10 term; coarser is as good and several times cheaper.
        spin_policy: What becomes of a singlet that would break its spin symmetry: ``flag`` keeps the restricted result
            and says so, ``broken_symmetry`` takes the unrestricted solution below it, ``reject`` refuses the label.
        solvent_dielectric: Dielectric constant of a continuum around the molecule (C-PCM); nothing is empty space.
        smearing_ha: Width of a Fermi distribution of occupations, Ha; energies are then free energies.
        properties: What is stored with each label besides energy, forces and dipole moment: any of ``hirshfeld``
            (charges and atomic dipoles), ``iao`` and ``chelpg`` (charges), ``polarizability``. No part of the level of
            theory: a label that exists already is not computed again to add one.
        device: ``gpu`` leaves the first way to a converged field and the gradient to GPU4PySCF, which must be there;
            the labels are the same.

    Examples:
        >>> PyscfConfig(functional="R2SCAN").resolved_grid_level
        4
    """

    engine: Literal["pyscf"] = "pyscf"
    functional: str = "pbe"
    density_fitting: bool = True
    auxiliary_basis: str | None = None
    dispersion: Literal["d3bj", "d4"] | None = None
    grid_level: Annotated[int, Field(ge=1, le=9)] | None = None
    nonlocal_grid_level: Annotated[int, Field(ge=1, le=9)] = 1
    spin_policy: SpinPolicy = "flag"
    solvent_dielectric: Annotated[float, Field(gt=1)] | None = None
    smearing_ha: Annotated[float, Field(gt=0, le=0.1)] | None = None
    properties: list[Property] = Field(default_factory=lambda: list[Property](["hirshfeld"]))
    device: Device = "cpu"

    @field_validator("functional", "auxiliary_basis")
    @classmethod
    def _plain_name(cls, text: str | None) -> str | None:
        return None if text is None else plain_name(text)

    @field_validator("properties")
    @classmethod
    def _each_once(cls, given: list[Property]) -> list[Property]:
        return sorted(set(given))

    @model_validator(mode="after")
    def _method_makes_sense(self) -> PyscfConfig:
        method = find_functional(self.functional, self.dispersion)
        if self.auxiliary_basis is not None and not self.density_fitting:
            raise ValueError("auxiliary_basis needs density_fitting: true")
        if method.restless and self.grid_level is not None and self.grid_level < RESTLESS_GRID_LEVEL:
            raise ValueError(
                f"functional {self.functional} needs grid_level {RESTLESS_GRID_LEVEL} at least, because it notices the"
                f" grid much more than others; found {self.grid_level}"
            )
        if self.smearing_ha is not None and "iao" in self.properties:
            raise ValueError("with smearing_ha there are no occupied orbitals that iao could divide; leave one out")
        if self.smearing_ha is not None and self.spin_policy != "flag":
            raise ValueError(
                "with smearing_ha there are no whole occupations whose stability spin_policy could judge; leave one out"
            )
        return self

    @property
    def resolved_grid_level(self) -> int:
        """Size of the integration grid: as given, or of the preset and one finer for a meta-GGA."""
        if self.grid_level is not None:
            return self.grid_level
        family = find_functional(self.functional, self.dispersion).family
        return _GRID_LEVEL[self.preset] + (family == "meta-gga")


class ToyLimits(Limits):
    """Limits of an analytic reference.

    Attributes:
        delay_s: Time every label takes longer than needed, s: a dry run with the pace of the real thing.
    """

    delay_s: NonNegative = 0.0


class MorseConfig(ToyLimits):
    """A Morse potential between all pairs of atoms; see :class:`alflow.reference.toy.Morse`."""

    engine: Literal["morse"] = "morse"
    depth_ev: Positive = 4.5
    width_per_ang: Positive = 1.9
    distance_ang: Positive = 0.75


class MorseMoleculeConfig(ToyLimits):
    """A stand-in for DFT around one molecule; see :class:`alflow.reference.toy.MorseMolecule`.

    Attributes:
        elements: Element symbols of the reference geometry, in the order of the structures to come.
        positions_ang: Reference geometry, Å, shape (atom, 3); bonds and angles are read off it.
    """

    engine: Literal["morse-molecule"] = "morse-molecule"
    elements: Annotated[tuple[str, ...], Field(min_length=1)]
    positions_ang: tuple[tuple[float, float, float], ...]
    depth_ev: Positive = 4.5
    width_per_ang: Positive = 1.9
    angle_stiffness_ev: Positive = 4.0
    repulsion_ev: NonNegative = 3.0

    @model_validator(mode="after")
    def _one_position_per_element(self) -> MorseMoleculeConfig:
        if len(self.elements) != len(self.positions_ang):
            raise ValueError(
                f"expected one position per element, found {len(self.elements)} elements and"
                f" {len(self.positions_ang)} positions"
            )
        return self


class MuellerBrownConfig(ToyLimits):
    """The Müller–Brown surface; see :class:`alflow.reference.toy.MuellerBrown`."""

    engine: Literal["mueller-brown"] = "mueller-brown"
    energy_scale_ev: Positive = 0.01
    length_scale_ang: Positive = 1.0
    stiffness_ev_ang2: NonNegative = 10.0


class LennardJonesConfig(ToyLimits):
    """A Lennard-Jones potential between all pairs; see :class:`alflow.reference.toy.LennardJones`."""

    engine: Literal["lennard-jones"] = "lennard-jones"
    well_ev: Positive = 0.0104
    sigma_ang: Positive = 3.4
    cutoff_ang: Positive = 10.0


EngineConfig = (
    PyscfConfig
    | PyscfPeriodicConfig
    | TdaConfig
    | CasscfConfig
    | XtbConfig
    | AseConfig
    | MorseConfig
    | MorseMoleculeConfig
    | MuellerBrownConfig
    | LennardJonesConfig
)
"""What this room can make. A committee as teacher is a potential, and is made where both rooms are known."""

ReferenceConfig = Annotated[EngineConfig | CommitteeConfig, Field(discriminator="engine")]
"""Any reference's configuration, recognized by its key ``engine``."""


def make_reference(config: EngineConfig) -> Reference:
    """Build the reference a configuration describes.

    Args:
        config: Validated configuration of any engine but a committee, see ``alflow.campaign.teacher``.

    Returns:
        A picklable reference; building a PySCF one does not load PySCF.

    Raises:
        StructureError: A ``morse-molecule`` of unknown elements.

    Examples:
        >>> make_reference(LennardJonesConfig(threads=2)).level.engine
        'lennard-jones'
    """
    match config:
        case PyscfConfig():
            return _make_pyscf(config)
        case PyscfPeriodicConfig():
            return make_periodic(config)
        case TdaConfig():
            return make_tda(config)
        case CasscfConfig():
            return make_casscf(config)
        case XtbConfig():
            return make_xtb(config)
        case AseConfig():
            return make_ase(config)
        case MorseConfig():
            return Morse(config.depth_ev, config.width_per_ang, config.distance_ang, config.delay_s)
        case MorseMoleculeConfig():
            return MorseMolecule.around(
                Structure.of(config.elements, config.positions_ang),
                depth_ev=config.depth_ev,
                width_per_ang=config.width_per_ang,
                angle_stiffness_ev=config.angle_stiffness_ev,
                repulsion_ev=config.repulsion_ev,
                delay_s=config.delay_s,
            )
        case MuellerBrownConfig():
            return MuellerBrown(
                config.energy_scale_ev, config.length_scale_ang, config.stiffness_ev_ang2, config.delay_s
            )
        case LennardJonesConfig():
            return LennardJones(config.well_ev, config.sigma_ang, config.cutoff_ang, config.delay_s)


def _make_pyscf(config: PyscfConfig) -> PyscfReference:
    return PyscfReference(
        functional=config.functional,
        basis=config.basis,
        cartesian=config.cartesian,
        element_basis=tuple(config.element_basis.items()),
        density_fitting=config.density_fitting,
        auxiliary_basis=config.auxiliary_basis,
        dispersion=config.dispersion,
        grid_level=config.resolved_grid_level,
        nonlocal_grid_level=config.nonlocal_grid_level,
        energy_tolerance_ha=config.resolved_energy_tolerance_ha,
        gradient_tolerance_ha=config.resolved_gradient_tolerance_ha,
        spin_policy=config.spin_policy,
        solvent_dielectric=config.solvent_dielectric,
        smearing_ha=config.smearing_ha,
        properties=tuple(config.properties),
        max_cycles=config.max_cycles,
        device=config.device,
        memory_mb=int(0.75 * config.memory_limit_mb),
        threads=config.threads,
    )
