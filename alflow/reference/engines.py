"""Configuration of references for more than molecules: PySCF for cells, xTB, any ASE calculator, a trained committee.

None of them is loaded here: a configuration only says what will be.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from alflow.reference.calculator import AseReference
from alflow.reference.limits import Limits
from alflow.reference.periodic import PyscfPeriodicReference, Route
from alflow.reference.xtb import Method, TbliteReference

__all__ = [
    "AseConfig",
    "CommitteeConfig",
    "PyscfPeriodicConfig",
    "XtbConfig",
    "make_ase",
    "make_periodic",
    "make_xtb",
]

_Count = Annotated[int, Field(ge=1)]


class PyscfPeriodicConfig(Limits):
    """Density-functional theory of cells with PySCF: GTH pseudopotentials, Γ point or k-points, exact stress.

    Attributes:
        engine: ``"pyscf-periodic"``.
        functional: ``svwn``, ``pbe``, ``revpbe``, ``rpbe``, ``pbesol``, ``blyp`` or ``bp86``.
        basis: A Gaussian basis set made for GTH pseudopotentials; ``gth-dzvp-molopt-sr`` is better and dearer.
        pseudopotential: GTH pseudopotentials; nothing takes those made for ``functional``.
        kpoints: Points of the Γ-centered mesh along each reciprocal vector.
        route: ``multigrid`` (Γ point only) or ``fft``; nothing takes the first for one k-point. They agree within the
            noise at the default ``precision``, but are levels of their own.
        ke_cutoff_ha: Kinetic energy of the finest waves of the grid, Ha: 80 does for silicon; first-row elements need
            several times as much, see docs/references.md.
        precision: Largest error of lattice sums and of what multigrid leaves out, PySCF's own unit.
        smearing_ha: Width of a Fermi distribution of occupations, Ha, for metals and small gaps; energies are then free
            energies, whose derivatives forces and stress are.
        dispersion: ``d3bj`` or nothing; needs the package dftd3.
        stress: Whether the stress is computed; most of the time of a small cell.
        energy_tolerance_ha: Change of energy at which the self-consistent field may stop, Ha.
        gradient_tolerance_ha: Orbital-gradient norm over all k-points at which it may stop, Ha.
        max_cycles: Cycles of each rung of the convergence ladder.

    Examples:
        >>> PyscfPeriodicConfig(functional="PBEsol").functional
        'pbesol'
    """

    engine: Literal["pyscf-periodic"] = "pyscf-periodic"
    functional: str = "pbe"
    basis: str = "gth-szv-molopt-sr"
    pseudopotential: str | None = None
    kpoints: tuple[_Count, _Count, _Count] = (1, 1, 1)
    route: Route | None = None
    ke_cutoff_ha: Annotated[float, Field(ge=10, le=2000)] = 80.0
    precision: Annotated[float, Field(ge=1e-12, le=1e-5)] = 1e-8
    smearing_ha: Annotated[float, Field(gt=0, le=0.1)] | None = None
    dispersion: Literal["d3bj"] | None = None
    stress: bool = True
    energy_tolerance_ha: Annotated[float, Field(gt=0)] = 1e-9
    gradient_tolerance_ha: Annotated[float, Field(gt=0)] = 5e-6
    max_cycles: _Count = 50

    @field_validator("functional", "basis", "pseudopotential")
    @classmethod
    def _lower(cls, text: str | None) -> str | None:
        return None if text is None else "".join(text.split()).lower()

    @model_validator(mode="after")
    def _method_makes_sense(self) -> PyscfPeriodicConfig:
        make_periodic(self)
        return self


class XtbConfig(Limits):
    """Extended tight binding (GFN-xTB) with tblite: molecules and cells, a millisecond for a small molecule.

    Attributes:
        engine: ``"xtb"``.
        method: ``gfn2-xtb``, ``gfn1-xtb`` or ``ipea1-xtb``.
        electronic_temperature_k: Temperature of the electrons, K; energies are then free energies, whose derivative
            the forces are.
        accuracy: Factor on the tolerances of the self-consistent field, tblite's own unit; smaller is tighter.
        max_iterations: Iterations of the self-consistent field; no part of the level.

    Examples:
        >>> XtbConfig(method="gfn1-xtb").electronic_temperature_k
        300.0
    """

    engine: Literal["xtb"] = "xtb"
    method: Method = "gfn2-xtb"
    electronic_temperature_k: Annotated[float, Field(gt=0, le=20000)] = 300.0
    accuracy: Annotated[float, Field(ge=1e-4, le=10)] = 0.1
    max_iterations: Annotated[int, Field(ge=1)] = 250


class AseConfig(Limits):
    """Any calculator of ASE, named by its import path: the way to CP2K, Quantum ESPRESSO, VASP and many more.

    Attributes:
        engine: ``"ase"``.
        calculator: Module and class, such as ``ase.calculators.emt:EMT``.
        arguments: Keyword arguments of the class, as JSON values; part of the level.
        site_arguments: Further keyword arguments that say where and how it runs (a command, a folder of
            pseudopotentials) and change no number; no part of the level.
        level_settings: Whatever else tells levels apart: the program's version, a pseudopotential's checksum.
        charge_argument: Keyword argument that is given the charge of a structure; ``atoms`` if the calculator reads it
            off the Atoms object. Without it charged structures are refused.
        multiplicity_argument: The same for the multiplicity 2S + 1.
        failures: Import paths of further exceptions that are failures of physics, such as
            ``gpaw:KohnShamConvergenceError``; ASE's own need not be named.
    """

    engine: Literal["ase"] = "ase"
    calculator: str
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    site_arguments: dict[str, JsonValue] = Field(default_factory=dict)
    level_settings: dict[str, JsonValue] = Field(default_factory=dict)
    charge_argument: str | None = None
    multiplicity_argument: str | None = None
    failures: tuple[str, ...] = ()

    @field_validator("calculator", "failures")
    @classmethod
    def _import_paths(cls, given: Any) -> Any:
        for path in (given,) if isinstance(given, str) else given:
            if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", path):
                module, _, name = path.rpartition(".")
                hint = f" Did you mean '{module}:{name}'?" if ":" not in path and module and name else ""
                raise ValueError(f"expected module:class, such as 'ase.calculators.emt:EMT', found {path!r}.{hint}")
        return given


class CommitteeConfig(Limits):
    """A trained committee as teacher: its mean energy and forces are the labels.

    Attributes:
        engine: ``"committee"``.
        weights: Its weight file; in a YAML file it is looked up beside that file.
        sha256: The hash the file must have; nothing takes it from the file's name, if that is a hash.
    """

    engine: Literal["committee"] = "committee"
    weights: Annotated[str, Field(min_length=1)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None

    @field_validator("weights")
    @classmethod
    def _from_anywhere(cls, path: str) -> str:
        return str(Path(path).expanduser().absolute())  # a campaign may be continued from another folder


def make_periodic(config: PyscfPeriodicConfig) -> PyscfPeriodicReference:
    """Build the reference for cells a configuration describes; PySCF is not loaded.

    Raises:
        ValueError: Settings that do not go together.
    """
    return PyscfPeriodicReference(
        functional=config.functional,
        basis=config.basis,
        pseudopotential=config.pseudopotential,
        kpoints=config.kpoints,
        route=config.route,
        ke_cutoff_ha=config.ke_cutoff_ha,
        precision=config.precision,
        smearing_ha=config.smearing_ha,
        dispersion=config.dispersion,
        stress=config.stress,
        energy_tolerance_ha=config.energy_tolerance_ha,
        gradient_tolerance_ha=config.gradient_tolerance_ha,
        max_cycles=config.max_cycles,
        memory_mb=config.memory_limit_mb,
        threads=config.threads,
    )


def make_xtb(config: XtbConfig) -> TbliteReference:
    """Build the xTB reference a configuration describes; tblite is not loaded."""
    return TbliteReference(
        config.method, config.electronic_temperature_k, config.accuracy, max_iterations=config.max_iterations
    )


def make_ase(config: AseConfig) -> AseReference:
    """Build the reference around an ASE calculator; neither is loaded."""
    return AseReference(
        calculator=config.calculator,
        arguments=config.arguments,
        site_arguments=config.site_arguments,
        level_settings=config.level_settings,
        charge_argument=config.charge_argument,
        multiplicity_argument=config.multiplicity_argument,
        failures=config.failures,
    )
