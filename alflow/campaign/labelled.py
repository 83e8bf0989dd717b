"""What became of a structure that was to be labelled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from alflow.domain import Evaluation

__all__ = ["Labelled", "Watcher", "counted", "flags_in"]


@dataclass(frozen=True)
class Labelled:
    """What became of one structure.

    Attributes:
        number: Its place in the file, from 0.
        formula: Its sum formula.
        state: ``known`` (there was a label), ``done``, ``failed`` (given up), or ``open`` (not yet computed).
        message: Why it failed.
        flags: Warnings that its label carries, such as ``spin-contaminated``.
        expected_s: Time the label is expected to take, s; None if nothing is known yet, and 0 where the structure
            stands in the list again.
        wall_s: Time the label took, s; None unless it was computed now.
        cpu_s: Processor time it took, s.
        peak_memory_mb: Most memory it held, MB.
    """

    number: int
    formula: str
    state: str = "open"
    message: str = ""
    flags: tuple[str, ...] = ()
    expected_s: float | None = None
    wall_s: float | None = None
    cpu_s: float | None = None
    peak_memory_mb: float | None = None


Watcher = Callable[[Sequence[Labelled]], None]
"""Told of all structures, whenever something has changed."""


def flags_in(evaluation: Evaluation) -> tuple[str, ...]:
    """Warnings that a label carries; none where its reference knows no flags."""
    return tuple(str(flag) for flag in evaluation.diagnostics.get("flags", ()))


def counted(flags: Mapping[str, int]) -> str:
    """How many labels carry which flag, the most frequent first.

    Examples:
        >>> counted({"coarse-grid": 1, "spin-contaminated": 3})
        '3 spin-contaminated, 1 coarse-grid'
    """
    return ", ".join(f"{number} {flag}" for flag, number in sorted(flags.items(), key=lambda item: (-item[1], item[0])))
