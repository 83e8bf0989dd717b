"""Label requests that wait: a bounded queue as an immutable tuple, in the order in which they will run.

Seeds come first, then audits, then flagged frames by falling disagreement; equals keep the order in which they came.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, Final, Literal

__all__ = ["Purpose", "Request", "admit", "has_advanced", "next_request", "rescore", "waiting_for"]

Purpose = Literal["seed", "flagged", "audit"]
"""Why a label is wanted: to begin with, because the committee disagreed, or to measure the error honestly."""

_FRAME_ID: Final = attrgetter("frame_id")
_RANK: Final[Mapping[str, int]] = {"seed": 0, "audit": 1, "flagged": 2}


@dataclass(frozen=True)
class Request:
    """A label that is wanted.

    Attributes:
        frame_id: The frame it belongs to; a frame waits at most once.
        structure_id: What is to be computed.
        purpose: ``seed``, ``flagged`` or ``audit``.
        disagreement: Disagreement of the frame when last measured, eV/Å.
        walker: The walker it comes from; -1 for none.
        generation: The committee that measured the disagreement; 0 before the first.
        attempts: Attempts that were started.
        n_lost: Times an attempt was lost with its worker, which costs none.
        n_suspect: Those of them that it may have brought about itself.
        retry: Which request to try again what was given up let it wait; 0 for none.
        steps_made: Most steps that an interrupted attempt had kept.

    Raises:
        ValueError: An unknown purpose or a disagreement that is not a finite number.
    """

    frame_id: str
    structure_id: str
    purpose: Purpose
    disagreement: float
    walker: int
    generation: int
    attempts: int = 0
    n_lost: int = 0
    retry: int = 0
    n_suspect: int = 0
    steps_made: int = 0

    def __post_init__(self) -> None:
        if self.purpose not in _RANK:
            raise ValueError(f"A purpose is one of {', '.join(_RANK)}; found {self.purpose!r}.")
        if not math.isfinite(self.disagreement):
            raise ValueError(f"Frame {self.frame_id} has a disagreement of {self.disagreement}; expected a number.")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, unit in the key."""
        return {
            "frame_id": self.frame_id,
            "structure_id": self.structure_id,
            "purpose": self.purpose,
            "disagreement_ev_ang": self.disagreement,
            "walker": self.walker,
            "generation": self.generation,
            "attempts": self.attempts,
            "n_lost": self.n_lost,
            "retry": self.retry,
            "n_suspect": self.n_suspect,
            "steps_made": self.steps_made,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Request:
        """Read what :meth:`to_json` wrote.

        Examples:
            >>> request = Request("f1", "s1", "flagged", 0.3, walker=2, generation=1)
            >>> Request.from_json(request.to_json()) == request
            True
        """
        fields = dict(data)
        fields["disagreement"] = fields.pop("disagreement_ev_ang")
        return cls(**fields)


def has_advanced(before: int, steps_made: int) -> bool:
    """Whether an interrupted calculation has come closer to its end than it ever was.

    One step does not say so: after the last cycle there is always one more to make, and a label whose gradient takes
    longer than its worker lives would seem to advance for ever.

    Args:
        before: Most steps it had kept when it was interrupted before.
        steps_made: Steps it has kept now.
    """
    return steps_made >= before + 2


Queue = tuple[Request, ...]
Dropped = tuple[tuple[Request, str], ...]
"""Requests that left the queue without a label, each with the reason in a sentence."""


def admit(queue: Queue, requests: Iterable[Request], capacity: int) -> tuple[Queue, Dropped]:
    """Let requests wait, in the order in which they came.

    A full queue drops its least urgent flagged frames, which may be the new ones. Seeds and audits are never dropped:
    they enter a queue that holds nothing else even above its capacity. A frame that waits already is left as it is.

    Args:
        queue: Those that wait.
        requests: The new ones; of a frame among them that waits already, or comes twice, the first counts.
        capacity: How many may wait, at least 1.

    Returns:
        The new queue, and what was dropped.

    Raises:
        ValueError: A capacity below 1.
    """
    if capacity < 1:
        raise ValueError(f"A queue needs room for one request at least; found a capacity of {capacity}.")
    waiting, known = list(queue), set(map(_FRAME_ID, queue))
    for request in requests:
        if request.frame_id not in known:
            insort_right(waiting, request, key=_urgency)  # behind its equals
            known.add(request.frame_id)
    dropped: list[tuple[Request, str]] = []
    while len(waiting) > capacity and waiting[-1].purpose == "flagged":
        last = waiting.pop()
        dropped.append((last, f"the queue of {capacity} is full of frames with more disagreement"))
    return tuple(waiting), tuple(dropped)


def next_request(queue: Queue) -> tuple[Request, Queue]:
    """Take the most urgent request out.

    Raises:
        ValueError: Nothing waits.
    """
    if not queue:
        raise ValueError("Nothing waits for a label; look before taking the next request.")
    return queue[0], queue[1:]


def waiting_for(queue: Queue, purpose: Purpose) -> int:
    """How many requests of a purpose wait; found by bisection, because they stand together.

    Examples:
        >>> waiting_for((Request("f1", "s1", "seed", 0.0, walker=-1, generation=0),), "seed")
        1
    """
    rank = _RANK[purpose]
    return bisect_right(queue, rank, key=_rank) - bisect_left(queue, rank, key=_rank)


def rescore(queue: Queue, scores: Mapping[str, float], threshold: float, generation: int) -> tuple[Queue, Dropped]:
    """Take a new committee's disagreement into account: drop flagged frames it is sure of, put the rest in order.

    Seeds and audits stay whatever their score: they are not there because of it. A score that is not a finite number
    says nothing, so its frame keeps the old one.

    Args:
        queue: Those that wait.
        scores: New disagreement by frame, eV/Å; frames without one keep theirs.
        threshold: Disagreement below which a frame is dropped, eV/Å.
        generation: The committee that measured the scores.

    Returns:
        The new queue, and what was dropped.
    """
    kept: list[Request] = []
    dropped: list[tuple[Request, str]] = []
    for request in queue:
        score = scores.get(request.frame_id, math.nan)
        if not math.isfinite(score):
            kept.append(request)
            continue
        scored = replace(request, disagreement=float(score), generation=generation)
        if request.purpose == "flagged" and score < threshold:
            reason = f"committee {generation} disagrees by {score:.3f} eV/Å only, below {threshold:.3f}"
            dropped.append((scored, reason))
        else:
            kept.append(scored)
    return tuple(sorted(kept, key=_urgency)), tuple(dropped)


def _rank(request: Request) -> int:
    return _RANK[request.purpose]


def _urgency(request: Request) -> tuple[int, float]:
    return _RANK[request.purpose], -request.disagreement if request.purpose == "flagged" else 0.0
