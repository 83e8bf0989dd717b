"""What the symmetry functions of one element do over the training set: their range, and which of them say nothing.

A function is *dead* when it never changes: a pair of elements that never meets, a radius without neighbors. It is a
*duplicate* when another one tells the same up to a factor and a constant: an atom with one neighbor of an element has
cos θ = 1, so all degrees of that angular function are equal. Neither helps the networks on this training set; both cost
time and make the principal components degenerate.

What is dead on the training set may wake up elsewhere. The projection leaves it to random directions that are silent on
the training set, so that members differ and the check for extrapolation (:mod:`alflow.potentials.extrapolation`)
reports it when it does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch

__all__ = ["FunctionReport", "examine_functions"]

_DEAD: Final = 1e-10
"""Spread below which a function is dead, relative to its own size and to the typical spread."""

_DUPLICATE: Final = 1e-10
"""Two functions are duplicates when their correlation differs from ±1 by less."""

_ENOUGH_ATOMS: Final = 10
"""With fewer atoms functions look alike by chance, and no duplicates are looked for."""

_SLOPE_LENGTH_ANG: Final = 0.1
"""A slope counts like the change over this distance, as in the projection."""


@dataclass(frozen=True, eq=False)
class FunctionReport:
    """What was found about the symmetry functions of one element.

    Attributes:
        low: Smallest value over the training atoms, shape (feature,).
        high: Largest value, shape (feature,).
        kept: Indices of the functions that tell something, ascending, int64.
        dead: Indices of the functions that never change.
        duplicates: Pairs (dropped, kept) of indices of functions that tell the same.
    """

    low: torch.Tensor
    high: torch.Tensor
    kept: torch.Tensor
    dead: tuple[int, ...]
    duplicates: tuple[tuple[int, int], ...]

    @property
    def reasons(self) -> dict[int, str]:
        """Why each dropped function was dropped, by its index."""
        never = dict.fromkeys(self.dead, "never changes over the training set")
        repeats = {index: f"tells the same as function {first}" for index, first in self.duplicates}
        return dict(sorted((never | repeats).items()))

    def message(self, symbol: str) -> str | None:
        """One line for the user; None when every function is kept.

        Args:
            symbol: Symbol of the element whose environments were examined.
        """
        if not self.dead and not self.duplicates:
            return None
        return (
            f"Around {symbol}, of {len(self.low)} symmetry functions {len(self.duplicates)} repeat another and are "
            f"left out, {len(self.dead)} never change over the training set and are only watched for a change."
        )


def examine_functions(values: torch.Tensor, slopes: torch.Tensor | None = None) -> FunctionReport:
    """Find the range of each symmetry function of one element, and the dead and duplicate ones.

    The first of several equal functions is kept. When nothing varies at all, as for a single atom, nothing can be
    judged and everything is kept. Multiplying functions by constants changes no decision on duplicates.

    Args:
        values: Symmetry functions of all training atoms of the element, float64, shape (atom, feature).
        slopes: Their derivatives at some of the atoms, 1/Å, shape (atom · neighbor · 3, feature). With them a function
            that is constant over the training set but not flat (one label, equal atoms) is not mistaken for dead.

    Raises:
        ValueError: No atoms.

    Examples:
        >>> values = torch.rand((20, 1), dtype=torch.float64)
        >>> report = examine_functions(torch.cat([values, torch.ones_like(values), 3.0 - 2.0 * values], dim=1))
        >>> report.kept.tolist(), report.reasons
        ([0], {1: 'never changes over the training set', 2: 'tells the same as function 0'})
    """
    if len(values) == 0:
        raise ValueError("Symmetry functions are examined over at least one atom; found none.")
    low, high = values.amin(dim=0), values.amax(dim=0)
    changes = (values - values.mean(dim=0)) / len(values) ** 0.5
    if slopes is not None and len(slopes):
        changes = torch.cat([changes, slopes * (_SLOPE_LENGTH_ANG / len(slopes) ** 0.5)])
    spread = changes.square().sum(dim=0).sqrt()
    typical = spread.square().mean().sqrt()
    alive = spread > _DEAD * torch.maximum(values.abs().amax(dim=0), typical)
    if not bool(alive.any()):
        alive = torch.ones_like(alive)
    dead = tuple((~alive).nonzero()[:, 0].tolist())
    candidates = alive.nonzero()[:, 0]
    duplicates: tuple[tuple[int, int], ...] = ()
    if len(values) >= _ENOUGH_ATOMS and float(typical) > 0.0:
        duplicates = _duplicates(changes[:, candidates] / spread[candidates], candidates)
    repeated = torch.tensor([index for index, _ in duplicates], dtype=torch.int64, device=candidates.device)
    kept = candidates[~torch.isin(candidates, repeated)]
    return FunctionReport(low, high, kept, dead, duplicates)


def _duplicates(normalized: torch.Tensor, index: torch.Tensor) -> tuple[tuple[int, int], ...]:
    """Pairs (dropped, kept) among columns of unit length."""
    alike = (normalized.T @ normalized).abs() > 1.0 - _DUPLICATE
    dropped: dict[int, int] = {}
    for first, second in torch.triu(alike, diagonal=1).nonzero().tolist():
        if first not in dropped:
            dropped.setdefault(second, first)
    places = index.tolist()
    return tuple((places[second], places[first]) for second, first in sorted(dropped.items()))
