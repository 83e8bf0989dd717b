"""What comes back from a segment of exploration."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from alflow.domain import Structure
from alflow.domain.structure import FloatArray
from alflow.exploration.walker import Walker

__all__ = ["FlaggedFrame", "Reason", "SegmentOutcome", "UnphysicalFrame", "WalkerOutcome", "WalkerStatus"]


class WalkerStatus(StrEnum):
    """How a walker left its segment.

    RUNNING: it reached the end and can go on at once. PAUSED: it stands on a flagged frame and waits for the label.
    RESET: it was put back on a trusted frame with fresh velocities and can go on at once.
    """

    RUNNING = "running"
    PAUSED = "paused"
    RESET = "reset"


class Reason(StrEnum):
    """Why a walker stopped before the end of its segment.

    DISAGREEMENT pauses; all others reset. When several hold at once, the first of NON_FINITE, SHORT_CONTACT,
    DETACHED_ATOM, TEMPERATURE, ENERGY, CEILING, DISAGREEMENT is given.
    """

    DISAGREEMENT = "disagreement"
    CEILING = "ceiling"
    SHORT_CONTACT = "short_contact"
    DETACHED_ATOM = "detached_atom"
    TEMPERATURE = "temperature"
    ENERGY = "energy"
    NON_FINITE = "non_finite"


@dataclass(frozen=True, eq=False)
class FlaggedFrame:
    """A frame worth a label, with what the committee said about it. Audit frames are told in the same words.

    Attributes:
        walker: Which walker.
        step: At which of its steps.
        structure: Where the atoms are.
        disagreement: Disagreement of the frame, eV/Å.
        force_std: Standard deviation of the members' forces on the atom where it is largest, eV/Å.
        predicted_energy: Mean energy over members, eV.
        predicted_forces: Mean forces over members, eV/Å, shape (atom, 3).
        extrapolation: How far it lies outside of what the committee was trained on, in units of the range; None if
            nobody has measured it.
    """

    walker: int
    step: int
    structure: Structure
    disagreement: float
    force_std: float
    predicted_energy: float
    predicted_forces: FloatArray
    extrapolation: float | None = None


@dataclass(frozen=True, eq=False)
class UnphysicalFrame:
    """A frame that must never be labelled, kept for the record.

    Attributes:
        walker: Which walker.
        step: At which of its steps.
        reason: What is wrong with it.
        message: The same in a sentence, with the numbers.
        structure: Where the atoms are; None when a position is not finite.
        disagreement: Disagreement of the frame, eV/Å; None when it is not finite.
    """

    walker: int
    step: int
    reason: Reason
    message: str
    structure: Structure | None
    disagreement: float | None


@dataclass(frozen=True, eq=False)
class WalkerOutcome:
    """What one walker did in a segment.

    Attributes:
        walker: The checkpoint to go on from.
        status: Running, paused or reset.
        reason: Why it stopped early; None while running.
        message: The same in a sentence, with the numbers; empty while running.
        frame: The flagged frame of a paused walker.
        unphysical: The offending frame of a reset walker.
        steps: Steps done in this segment.
        max_disagreement: Largest finite disagreement seen, eV/Å.
        mean_temperature: Kinetic temperature averaged over the watched frames, K.
    """

    walker: Walker
    status: WalkerStatus
    reason: Reason | None
    message: str
    frame: FlaggedFrame | None
    unphysical: UnphysicalFrame | None
    steps: int
    max_disagreement: float
    mean_temperature: float


@dataclass(frozen=True, eq=False)
class SegmentOutcome:
    """What a segment brought.

    Attributes:
        walkers: One outcome for each walker, in the order they were given.
        audit: A trusted frame drawn uniformly from all of the segment, a candidate for measuring the true error;
            None when no frame was trusted or none was asked for.
        n_trusted: How many frames it was drawn from, so its probability was 1/n_trusted; 0 when none was asked for.
        walker_steps: Steps done by all walkers together.
    """

    walkers: tuple[WalkerOutcome, ...]
    audit: FlaggedFrame | None
    n_trusted: int
    walker_steps: int
