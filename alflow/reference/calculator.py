"""Any ASE calculator as a reference: a small picklable noun. ASE is reached through its one door, and only to compute.

A calculator is made anew for every label, in the label's own scratch folder: nothing it remembers or writes reaches the
next one.
"""

from __future__ import annotations

import contextlib
import pkgutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module, metadata
from importlib.util import find_spec
from typing import Any, Final

import cloudpickle

from alflow.domain import Failure, FailureKind, Level, Outcome, Structure
from alflow.domain.identity import canonical_json
from alflow.errors import ConfigError, StructureError, did_you_mean
from alflow.reference.check import check_overlap

__all__ = ["AseReference", "load_object"]

PROCEDURE: Final = 1
"""Version of how a label is computed; part of the level, raised whenever a change alters the numbers."""

FROM_ATOMS: Final = "atoms"
"""Instead of a keyword argument: the calculator reads the charge or the spin off the Atoms object."""

_DOOR: Final = "alflow.domain.ase"


@dataclass(frozen=True, eq=False)
class AseReference:
    """Energy, forces and, in a cell, stress from an ASE calculator.

    The energy is the one whose derivative the forces are (ASE's ``free_energy``) wherever the calculator gives it.

    Attributes:
        calculator: Module and class, such as ``"ase.calculators.emt:EMT"``; None with a factory of your own.
        factory: What makes the calculator instead; see :meth:`of`.
        arguments: Keyword arguments, as JSON values; part of the level.
        site_arguments: Further keyword arguments that change no number; no part of the level.
        level_settings: Whatever else tells levels apart, as JSON values.
        charge_argument: Keyword argument that is given a structure's charge; ``"atoms"`` if the calculator reads
            ``info["charge"]`` or the sum of the initial charges. None refuses charged structures.
        multiplicity_argument: The same for the multiplicity 2S + 1; with ``"atoms"`` it is in
            ``info["multiplicity"]`` and ``info["spin"]``, and the initial magnetic moments add up to 2S.
        failures: Import paths of further exceptions that are failures of physics.

    Raises:
        ConfigError: Neither or both of calculator and factory, or settings that are no JSON values.

    Examples:
        >>> AseReference("ase.calculators.emt:EMT").level.settings["calculator"]
        'ase.calculators.emt:EMT'
    """

    calculator: str | None = None
    factory: Callable[..., Any] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    site_arguments: Mapping[str, Any] = field(default_factory=dict)
    level_settings: Mapping[str, Any] = field(default_factory=dict)
    charge_argument: str | None = None
    multiplicity_argument: str | None = None
    failures: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.calculator is None) == (self.factory is None):
            raise ConfigError("An ASE reference needs a calculator's import path or a factory: one of the two.")
        for name in ("arguments", "level_settings"):
            try:
                canonical_json(dict(getattr(self, name)))
            except (TypeError, ValueError) as error:
                raise ConfigError(
                    f"{name} must be JSON values, because they are the level of theory ({error}); make the calculator"
                    " in a factory of your own, AseReference.of(factory, level_settings)."
                ) from error

    @classmethod
    def of(
        cls,
        factory: Callable[..., Any],
        level_settings: Mapping[str, Any],
        charge_argument: str | None = None,
        multiplicity_argument: str | None = None,
        failures: tuple[str, ...] = (),
    ) -> AseReference:
        """Use a calculator that a function of your own makes, with arguments that are no JSON values.

        Args:
            factory: Makes the calculator; called in the process of each label, with the keyword arguments that
                ``charge_argument`` and ``multiplicity_argument`` name.
            level_settings: Everything that changes its numbers, as JSON values: the whole level of theory.
            charge_argument: As for the class.
            multiplicity_argument: As for the class.
            failures: As for the class.

        Raises:
            ConfigError: The factory cannot be pickled, or there are no level settings.

        Examples:
            >>> def copper():
            ...     return EMT(asap_cutoff=True)
            >>> AseReference.of(copper, {"potential": "emt", "asap_cutoff": True}).level.engine
            'ase'
        """
        if not level_settings:
            raise ConfigError(
                "level_settings must name everything that changes the numbers of the factory's calculator, or labels of"
                " different levels are mixed; found nothing."
            )
        try:
            cloudpickle.dumps(factory)
        except Exception as error:  # whatever the object's own pickling raises
            raise ConfigError(
                f"The factory cannot be sent to the process of a label ({type(error).__name__}: {error}); make the"
                " calculator, open its files and start its program inside the function, not before it."
            ) from error
        return cls(
            factory=factory,
            level_settings=level_settings,
            charge_argument=charge_argument,
            multiplicity_argument=multiplicity_argument,
            failures=failures,
        )

    @property
    def preload(self) -> tuple[str, ...]:
        """ASE, and the calculator's module if it is one of ASE's own: others may start threads when imported."""
        module = (self.calculator or "").partition(":")[0]
        return (_DOOR, module) if module.startswith("ase.") else (_DOOR,)

    @cached_property
    def level(self) -> Level:
        """Calculator and arguments; versions are provenance unless ``level_settings`` names one."""
        return Level(
            "ase",
            {
                "procedure": PROCEDURE,
                "calculator": self.calculator,
                "arguments": dict(self.arguments),
                "settings": dict(self.level_settings),
                "charge_argument": self.charge_argument,
                "multiplicity_argument": self.multiplicity_argument,
            },
        )

    def make(self, structure: Structure) -> Any:
        """Make the calculator for one structure.

        Raises:
            ConfigError: The import path leads nowhere.
        """
        arguments = {**self.arguments, **self.site_arguments}
        for name, value in (
            (self.charge_argument, structure.charge),
            (self.multiplicity_argument, structure.multiplicity),
        ):
            if name is not None and name != FROM_ATOMS:
                arguments[name] = value
        make = self.factory if self.factory is not None else load_object(str(self.calculator))
        return make(**arguments)

    def check(self, structure: Structure) -> None:
        """Import and make the calculator, in a temporary folder, and ask what it can compute; it computes nothing.

        Raises:
            ConfigError: A wrong import path, arguments it does not take, no forces.
            StructureError: A charge or a spin that would not reach the calculator.
        """
        refusal = self._refusal(structure)
        if refusal is not None:
            raise StructureError(refusal)
        for path in self.failures:
            self._failure(path)
        name = self.calculator or getattr(self.factory, "__name__", "the factory")
        with tempfile.TemporaryDirectory(prefix="alflow-") as folder, contextlib.chdir(folder):
            try:
                made = self.make(structure)
            except ConfigError:
                raise
            except Exception as error:  # calculators raise whatever they like
                found = " ".join(str(error).split())
                raise ConfigError(
                    f"{name} cannot be made ({type(error).__name__}: {found}); check arguments."
                ) from error
            known = getattr(made, "implemented_properties", None)
        if not hasattr(made, "get_forces"):
            raise ConfigError(f"{name} makes a {type(made).__name__}, which is no ASE calculator.")
        if known is not None and not {"energy", "forces"} <= set(known):
            raise ConfigError(f"{name} gives {', '.join(known) or 'nothing'}; a label needs energy and forces.")

    def evaluate(self, structure: Structure) -> Outcome:
        """Compute energy, forces and, in a cell, stress; files are written into the current folder.

        Args:
            structure: What to compute; its charge and multiplicity go where the two arguments say.

        Returns:
            The evaluation, or a failure: REJECTED (a structure the calculator does not take), SCF_FAIL (it gave up).

        Raises:
            ConfigError: The import path leads nowhere.
            Exception: What the calculator raises and neither ASE nor ``failures`` calls a failure.
        """
        refusal = self._refusal(structure)
        if refusal is not None:
            return Failure(FailureKind.REJECTED, refusal)
        failures = tuple(self._failure(path) for path in self.failures)
        door: Any = import_module(_DOOR)
        atoms = door.to_atoms(structure)
        if self.charge_argument == FROM_ATOMS or self.multiplicity_argument == FROM_ATOMS:
            door.set_charge_and_spin(atoms, structure)
        outcome: Outcome = door.evaluate_calculator(lambda: self.make(structure), atoms, failures, self._versions())
        return outcome

    def _refusal(self, structure: Structure) -> str | None:
        told = (
            ("charge", structure.charge, 0, self.charge_argument),
            ("multiplicity", structure.multiplicity, 1, self.multiplicity_argument),
        )
        for name, value, default, argument in told:
            if value != default and argument is None:
                return (
                    f"{structure.formula} has {name} {value}, and nothing tells the calculator; name its"
                    f" keyword in {name}_argument, or write '{FROM_ATOMS}' if it reads the Atoms object."
                )
        try:
            check_overlap(structure)
        except StructureError as error:
            return str(error)
        return None

    def _failure(self, path: str) -> type[Exception]:
        found = load_object(path)
        if not (isinstance(found, type) and issubclass(found, Exception)):
            raise ConfigError(f"failures: {path} is no exception.")
        return found

    def _versions(self) -> dict[str, str]:
        packages = ["ase", (self.calculator or "").partition(".")[0].partition(":")[0]]
        versions = {}
        for package in packages:
            with contextlib.suppress(metadata.PackageNotFoundError, ValueError):
                versions[package] = metadata.version(package)
        return versions


def load_object(path: str) -> Any:
    """Import what a path names.

    Args:
        path: Module and name, such as ``"ase.calculators.emt:EMT"``.

    Raises:
        ConfigError: No such module or name; says which one was probably meant.

    Examples:
        >>> load_object("ase.calculators.emtt:EMT")
        Traceback (most recent call last):
        alflow.errors.ConfigError: ase.calculators.emtt:EMT: no module 'ase.calculators.emtt'. Did you mean 'emt'?
    """
    module, _, name = path.partition(":")
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and not f"{module}.".startswith(f"{error.name}."):
            raise ConfigError(f"{path}: importing {module} needs the package {error.name!r}; install it.") from error
        raise ConfigError(f"{path}: no module {error.name!r}.{_nearest(str(error.name))}") from error
    except ImportError as error:
        raise ConfigError(f"{path}: {module} cannot be imported ({error}).") from error
    if not hasattr(found, name):
        classes = [key for key, value in vars(found).items() if isinstance(value, type)]
        raise ConfigError(f"{path}: {module} has no {name!r}.{did_you_mean(name, classes)}")
    return getattr(found, name)


def _nearest(module: str) -> str:
    """Which module of the same package was probably meant."""
    parent, _, name = module.rpartition(".")
    if not parent:
        return " Is the package installed?"
    spec = find_spec(parent)
    siblings = [found.name for found in pkgutil.iter_modules(spec.submodule_search_locations if spec else None)]
    return did_you_mean(name, siblings)
