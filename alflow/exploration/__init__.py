"""Exploration: walkers that move on a committee's mean forces and are watched at every step.

:func:`explore` is fetched when it is first asked for: it needs torch, and who only orders segments does not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from alflow.exploration.outcome import (
    FlaggedFrame,
    Reason,
    SegmentOutcome,
    UnphysicalFrame,
    WalkerOutcome,
    WalkerStatus,
)
from alflow.exploration.proposals import rattle
from alflow.exploration.settings import Ensemble, SegmentSettings
from alflow.exploration.walker import Walker, draw_velocities

if TYPE_CHECKING:
    from alflow.exploration.segment import explore

__all__ = [
    "Ensemble",
    "FlaggedFrame",
    "Reason",
    "SegmentOutcome",
    "SegmentSettings",
    "UnphysicalFrame",
    "Walker",
    "WalkerOutcome",
    "WalkerStatus",
    "draw_velocities",
    "explore",
    "rattle",
]


def __getattr__(name: str) -> Any:
    if name == "explore":
        return import_module("alflow.exploration.segment").explore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
