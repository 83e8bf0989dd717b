"""Configuration of the references that are neither PySCF nor a toy: xTB, any ASE calculator, a trained committee.

None of the three is loaded here: a configuration only says what will be.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, field_validator

from alflow.reference.calculator import AseReference
from alflow.reference.limits import Limits
from alflow.reference.xtb import Method, TbliteReference

__all__ = ["AseConfig", "CommitteeConfig", "XtbConfig", "make_ase", "make_xtb"]


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
