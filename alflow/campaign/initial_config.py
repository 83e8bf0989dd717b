"""What a campaign begins with, besides frames of its own making."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from alflow.domain.config import ClosedModel

__all__ = ["InitialConfig", "initial_beside"]


class InitialConfig(ClosedModel):
    """Labels and a committee that are there already.

    Attributes:
        labels: Whether all labels of this database at the campaign's own level, of its elements, charge and
            multiplicity, are its first data. They cost nothing of the budget, and none of them is an audit. Starting
            frames are labelled only if they are too few.
        committee: Weight file of a trained committee: it is generation 1, and the walkers move at once. It must know
            all elements, and have the form that ``model:`` describes. Without ``labels:`` the next committee learns
            from new labels alone.
    """

    labels: bool = False
    committee: Annotated[str, Field(min_length=1)] | None = None


def initial_beside(file: Path, initial: Any) -> Any:
    """The keys of ``initial:`` in a YAML file, with the weight file looked up beside that file."""
    weights = initial.get("committee") if isinstance(initial, Mapping) else None
    if not isinstance(weights, str) or not weights or weights.startswith("~"):
        return initial
    return {**initial, "committee": str(file.parent.absolute() / weights)}
