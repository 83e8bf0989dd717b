"""Exploration: walkers that move on a committee's mean forces and are watched at every step."""

from alflow.exploration.outcome import (
    FlaggedFrame,
    Reason,
    SegmentOutcome,
    UnphysicalFrame,
    WalkerOutcome,
    WalkerStatus,
)
from alflow.exploration.proposals import rattle
from alflow.exploration.segment import explore
from alflow.exploration.settings import Ensemble, SegmentSettings
from alflow.exploration.walker import Walker, draw_velocities

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
