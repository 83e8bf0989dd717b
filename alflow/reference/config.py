"""Configuration of references: one closed model per engine, told apart by the key ``engine``.

Limits (time, memory, threads, attempts, delay) are not part of the level of theory: raising one never makes a stored
label unusable.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from alflow.domain import Reference, Structure
from alflow.domain.config import ClosedModel
from alflow.reference.pyscf import COMBINED_METHODS, PyscfReference
from alflow.reference.toy import LennardJones, Morse, MorseMolecule, MuellerBrown

__all__ = [
    "LennardJonesConfig",
    "Limits",
    "MorseConfig",
    "MorseMoleculeConfig",
    "MuellerBrownConfig",
    "PyscfConfig",
    "ReferenceConfig",
    "make_reference",
]

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]


class Limits(ClosedModel):
    """What one label may use, whatever computes it.

    Attributes:
        time_limit_s: Wall time of the first attempt, s; its process is killed beyond. The second has twice as much.
        memory_limit_mb: Resident memory of the label's processes together, MB; they are killed beyond. The second
            attempt has twice as much.
        threads: Threads of one label.
        max_attempts: Attempts before a structure is put into quarantine.
    """

    time_limit_s: Positive = 600.0
    memory_limit_mb: Annotated[int, Field(ge=200)] = 4000
    threads: Annotated[int, Field(ge=1)] = 1
    max_attempts: Annotated[int, Field(ge=1)] = 2


class PyscfConfig(Limits):
    """Hartree–Fock or density-functional theory with PySCF.

    Attributes:
        engine: ``"pyscf"``.
        functional: ``"hf"`` or a functional libxc knows; also ``wb97x-d3bj``, ``wb97m-d3bj`` and their kin.
        basis: A basis set PySCF knows; core potentials of def2 and LANL sets are used by themselves.
        density_fitting: Whether two-electron integrals are density-fitted.
        dispersion: ``"d3bj"``, ``"d4"`` or nothing.
        grid_level: Size of the integration grid; 0 is refused (energies off by an eV).
        nonlocal_grid_level: Size of the grid of a VV10 term; coarser is as good and several times cheaper.
        energy_tolerance_ha: Change of energy at which the self-consistent field may stop, Ha.
        gradient_tolerance_ha: Orbital-gradient norm at which it may stop, Ha; the force noise is below 40 times this,
            in eV/Å.
        max_cycles: Cycles of each rung of the convergence ladder.

    Examples:
        >>> PyscfConfig(functional="PBE").functional
        'pbe'
    """

    engine: Literal["pyscf"] = "pyscf"
    functional: str = "pbe"
    basis: str = "def2-svp"
    density_fitting: bool = True
    dispersion: Literal["d3bj", "d4"] | None = None
    grid_level: Annotated[int, Field(ge=1, le=9)] = 3
    nonlocal_grid_level: Annotated[int, Field(ge=1, le=9)] = 1
    energy_tolerance_ha: Positive = 1e-9
    gradient_tolerance_ha: Positive = 5e-6
    max_cycles: Annotated[int, Field(ge=1)] = 50

    @field_validator("functional", "basis")
    @classmethod
    def _plain_name(cls, text: str) -> str:
        name = "".join(text.split()).lower()
        if not name or "/" in name or "\\" in name:
            raise ValueError(f"expected the name of a method, found {text!r}")
        return name

    @model_validator(mode="after")
    def _dispersion_is_not_a_suffix(self) -> PyscfConfig:
        stem, separator, suffix = self.functional.rpartition("-")
        if self.functional in COMBINED_METHODS:
            if self.dispersion is not None:
                raise ValueError(f"functional {self.functional} contains its dispersion; leave dispersion out")
        elif separator and stem and suffix in ("d3bj", "d4"):
            raise ValueError(f"write functional: {stem} and dispersion: {suffix}, found functional: {self.functional}")
        return self


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


ReferenceConfig = Annotated[
    PyscfConfig | MorseConfig | MorseMoleculeConfig | MuellerBrownConfig | LennardJonesConfig,
    Field(discriminator="engine"),
]
"""Any reference's configuration, recognized by its key ``engine``."""


def make_reference(config: ReferenceConfig) -> Reference:
    """Build the reference a configuration describes.

    Args:
        config: Validated configuration of any engine.

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
            return PyscfReference(
                functional=config.functional,
                basis=config.basis,
                density_fitting=config.density_fitting,
                dispersion=config.dispersion,
                grid_level=config.grid_level,
                nonlocal_grid_level=config.nonlocal_grid_level,
                energy_tolerance_ha=config.energy_tolerance_ha,
                gradient_tolerance_ha=config.gradient_tolerance_ha,
                max_cycles=config.max_cycles,
                memory_mb=int(0.75 * config.memory_limit_mb),
                threads=config.threads,
            )
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
