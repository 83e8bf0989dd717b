"""A reference that is slow and unreliable on purpose, to measure and try out everything around a label."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from statistics import NormalDist

from alflow.domain import Failure, FailureKind, Level, Outcome, Reference, Structure
from alflow.domain.identity import content_id

__all__ = ["Synthetic"]


@dataclass(frozen=True)
class Synthetic:
    """Another reference, each evaluation of which takes a given time and may fail.

    How long a structure takes, and whether it fails, follows from its content: a second attempt fares like the first,
    and two campaigns meet the same fate. The level of theory is that of the reference inside.

    Attributes:
        reference: What computes energy and forces.
        duration_s: Median time of an evaluation, s; what the reference inside takes comes on top.
        spread: Standard deviation of the logarithm of the time; 0 makes all equally long.
        failure_rate: Share of structures whose evaluation does not converge, from 0 to 1.
        seed: Another seed, another fate.

    Raises:
        ValueError: A negative duration or spread, or a failure rate outside of 0 to 1.

    Examples:
        >>> from alflow.reference import Morse
        >>> hydrogen = Structure.of("HH", [[0, 0, 0], [0, 0, 0.75]])
        >>> round(Synthetic(Morse(), duration_s=0.0).evaluate(hydrogen).energy, 3)
        -4.5
        >>> Synthetic(Morse(), duration_s=0.0, failure_rate=1.0).evaluate(hydrogen).kind
        <FailureKind.SCF_FAIL: 'SCF_FAIL'>
    """

    reference: Reference
    duration_s: float
    spread: float = 0.0
    failure_rate: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.duration_s) and self.duration_s >= 0 and self.spread >= 0):
            raise ValueError(f"A duration and its spread are 0 or more; found {self.duration_s} s and {self.spread}.")
        if not 0 <= self.failure_rate <= 1:
            raise ValueError(f"A failure rate is a share from 0 to 1; found {self.failure_rate}.")

    @property
    def level(self) -> Level:
        """The level of the reference inside: neither patience nor luck is physics."""
        return self.reference.level

    def takes_s(self, structure: Structure) -> float:
        """How long an evaluation of this structure takes, s."""
        return self.duration_s * math.exp(self.spread * NormalDist().inv_cdf(self._chance("duration", structure)))

    def fails(self, structure: Structure) -> bool:
        """Whether an evaluation of this structure fails."""
        return self._chance("failure", structure) < self.failure_rate

    def evaluate(self, structure: Structure) -> Outcome:
        """Wait, then compute, or fail."""
        time.sleep(self.takes_s(structure))
        return self.at_once(structure)

    def at_once(self, structure: Structure) -> Outcome:
        """The same outcome without the wait."""
        if self.fails(structure):
            return Failure(FailureKind.SCF_FAIL, "it was told not to converge")
        return self.reference.evaluate(structure)

    def _chance(self, what: str, structure: Structure) -> float:
        """A number between 0 and 1, both excluded, that follows from the structure."""
        digest = content_id(f"synthetic-{what}", {"structure": structure.id, "seed": self.seed})
        return (int(digest[:12], 16) + 0.5) / 16**12
