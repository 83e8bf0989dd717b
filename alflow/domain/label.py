"""Levels of theory, evaluations, failures and labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from alflow.domain.identity import canonical_json, content_id
from alflow.domain.structure import FloatArray, Structure, frozen_array

__all__ = ["Evaluation", "Failure", "FailureKind", "Label", "Level", "NonFiniteError", "Outcome", "Reference"]


@dataclass(frozen=True, eq=False)
class Level:
    """A level of theory: which engine, with which settings. What makes two labels comparable.

    Attributes:
        engine: Name of the reference that computes it, such as ``"pyscf"`` or ``"morse"``.
        settings: Everything that changes the result, fully resolved (no defaults left to guess), as plain JSON
            values. Physical settings carry their unit in the key.

    Examples:
        >>> a = Level("pyscf", {"functional": "pbe", "basis": "def2-svp"})
        >>> a.id == Level("pyscf", {"basis": "def2-svp", "functional": "pbe"}).id
        True
    """

    engine: str
    settings: Mapping[str, Any]

    @cached_property
    def id(self) -> str:
        """SHA-256 of engine and settings, 64 hexadecimal characters."""
        return content_id("level", {"engine": self.engine, "settings": dict(self.settings)})

    def to_json(self) -> str:
        """Canonical JSON of engine and settings."""
        return canonical_json({"engine": self.engine, "settings": dict(self.settings)})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Level) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)


class NonFiniteError(ValueError):
    """A number of an evaluation is NaN or infinite. Raised inside a reference, it counts as a failure of physics."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Energy and forces of one structure, from anything that can give them.

    Attributes:
        energy: Potential energy, eV, as computed (no baseline removed).
        forces: Force on each atom, the exact −∂E/∂r, eV/Å, shape (atom, 3).
        stress: Cauchy stress, eV/Å³, shape (3, 3), positive under tension; None for molecules.
        diagnostics: Further numbers worth keeping (SCF cycles, gradient norm, gap …); finite JSON values, unit in
            the key.

    Raises:
        NonFiniteError: A number is not finite.
        ValueError: A shape is wrong.
    """

    energy: float
    forces: FloatArray
    stress: FloatArray | None = None
    diagnostics: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        forces = frozen_array(self.forces)
        if forces.ndim != 2 or forces.shape[1] != 3:
            raise ValueError(f"Forces have shape (atom, 3); found {forces.shape}.")
        stress = None if self.stress is None else frozen_array(self.stress)
        if stress is not None and stress.shape != (3, 3):
            raise ValueError(f"Stress has shape (3, 3); found {stress.shape}.")
        finite = np.isfinite(self.energy) and np.isfinite(forces).all()
        if not finite or (stress is not None and not np.isfinite(stress).all()):
            raise NonFiniteError("Energy, forces and stress must be finite numbers.")
        object.__setattr__(self, "energy", float(self.energy))
        object.__setattr__(self, "forces", forces)
        object.__setattr__(self, "stress", stress)

    @property
    def max_force(self) -> float:
        """Largest force on any atom, eV/Å."""
        return float(np.linalg.norm(self.forces, axis=1).max())


class FailureKind(StrEnum):
    """Classes of failure.

    The first six are physics or resources and count against a label's attempts; the last four are the machinery's
    fault: a lost worker or scheduler, or a worker whose time was up, is free; a bug pauses the campaign.

    Attributes:
        SCF_FAIL: The self-consistent field did not converge, or ended at a saddle point.
        TIMEOUT: It took longer than its limit, and was ended.
        OOM: It used more memory than its limit, or than its job or machine had, and was ended.
        CRASH: Its process died.
        NON_FINITE: It gave a number that is NaN or infinite.
        REJECTED: The reference refused the structure, or the result did not pass its checks.
        WORKER_LOST: The worker died while it was computed.
        SCHEDULER_LOST: The scheduler died while it was computed.
        WALLTIME: The job of its worker came to the end of its time, or was cancelled.
        BUG: An exception: a defect of the code.
    """

    SCF_FAIL = "SCF_FAIL"
    TIMEOUT = "TIMEOUT"
    OOM = "OOM"
    CRASH = "CRASH"
    NON_FINITE = "NON_FINITE"
    REJECTED = "REJECTED"
    WORKER_LOST = "WORKER_LOST"
    SCHEDULER_LOST = "SCHEDULER_LOST"
    WALLTIME = "WALLTIME"
    BUG = "BUG"

    @property
    def counts(self) -> bool:
        """Whether this failure uses up one of the label's attempts."""
        free = (FailureKind.WORKER_LOST, FailureKind.SCHEDULER_LOST, FailureKind.WALLTIME, FailureKind.BUG)
        return self not in free


@dataclass(frozen=True)
class Failure:
    """A calculation that gave no usable result, as a value.

    Attributes:
        kind: The class of failure.
        message: One sentence: what happened.
        diagnostics: Numbers that help to understand it; plain JSON values.
    """

    kind: FailureKind
    message: str
    diagnostics: Mapping[str, Any] = field(default_factory=dict)


Outcome = Evaluation | Failure
"""What a reference returns: a result, or the reason why there is none."""


def check_forces(structure: Structure, evaluation: Evaluation) -> None:
    """Check that an evaluation has one force for each atom of a structure.

    Raises:
        ValueError: It is of another number of atoms.
    """
    if evaluation.forces.shape != (len(structure), 3):
        raise ValueError(
            f"{structure.formula} needs forces of shape ({len(structure)}, 3); found {evaluation.forces.shape}."
        )


@dataclass(frozen=True, eq=False)
class Label:
    """A stored evaluation by a reference.

    Attributes:
        structure: What was computed.
        level: At which level of theory.
        evaluation: The result.
        provenance: Who computed it, how and when: versions, host, wall seconds, peak memory, attempt; JSON values.
    """

    structure: Structure
    level: Level
    evaluation: Evaluation
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_forces(self.structure, self.evaluation)

    @property
    def key(self) -> tuple[str, str]:
        """The pair (structure id, level id): never computed twice."""
        return (self.structure.id, self.level.id)


class Reference(Protocol):
    """What makes labels. Satisfied by PySCF, by the toy references, and by any object of the user's own.

    A reference must be picklable: every label is computed in a process of its own. Names of modules in an attribute
    ``preload`` (a tuple, optional) are imported once for all labels instead of once for each; importing them must not
    start threads. A method ``size(structure)`` (optional) counts what the time of a label grows with, such as basis
    functions; without it atoms are counted. A method ``evaluate_in_steps(structure, course)`` (optional) can be
    interrupted when the time of its worker is up, see :mod:`alflow.reference.course`.
    """

    @property
    def level(self) -> Level:
        """The level of theory of every label this reference makes."""
        ...

    def evaluate(self, structure: Structure) -> Outcome:
        """Compute energy and forces; a failure of physics is returned, never raised."""
        ...
