"""Does a label's energy lie where the committee could have expected it?

A field that converged to another electronic state has an energy off by half an eV and more, with forces that look
sound. The committee's own energy is no measure of that far from its data; but how far it errs for a given disagreement
is known from the labels before.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from typing import Final

__all__ = ["EnergyBand"]

FEWEST: Final = 10
"""Labels before there is a band."""

QUANTILE: Final = 0.9
WIDTH: Final = 10.0
"""Width of the band, in units of the error that nine in ten labels before did not reach."""

LEAST_EV: Final = 0.5
"""An error below this is no other state."""


class EnergyBand:
    """What is known of the committee's errors in energy, |E_label − E_committee| per disagreement.

    Examples:
        >>> band = EnergyBand()
        >>> for error in range(-10, 10):
        ...     assert band.judge(error / 200, 0.4) is None
        ...     band.learn(error / 200, 0.4)
        >>> band.judge(0.9, 0.4)
        'its energy is 0.90 eV above the committee, and 0.50 eV may lie between at a disagreement of 0.40 eV/Å'
        >>> band.judge(0.9, 4.0) is None
        True
    """

    def __init__(self) -> None:
        self._ratios: list[float] = []

    def learn(self, error: float, disagreement: float) -> None:
        """Take note of a label that was accepted.

        Args:
            error: Energy of the label minus the committee's, eV.
            disagreement: The committee's disagreement there, at least the threshold, eV/Å.
        """
        insort(self._ratios, abs(error) / disagreement)

    def judge(self, error: float, disagreement: float) -> str | None:
        """Say what is wrong with a label's energy.

        Args:
            error: Energy of the label minus the committee's, eV.
            disagreement: The committee's disagreement there, at least the threshold, eV/Å.

        Returns:
            Half a sentence, or None if it lies in the band, or if there is no band yet.
        """
        if len(self._ratios) < FEWEST:
            return None
        limit = max(LEAST_EV, WIDTH * _quantile(self._ratios, QUANTILE) * disagreement)
        if abs(error) <= limit:
            return None
        side = "above" if error > 0 else "below"
        return (
            f"its energy is {abs(error):.2f} eV {side} the committee, and {limit:.2f} eV may lie between"
            f" at a disagreement of {disagreement:.2f} eV/Å"
        )


def _quantile(ordered: Sequence[float], share: float) -> float:
    """As :func:`numpy.quantile`, of numbers in order: every label asks for it, and there may be thousands."""
    place = share * (len(ordered) - 1)
    below = int(place)
    after = ordered[min(below + 1, len(ordered) - 1)]
    return ordered[below] + (place - below) * (after - ordered[below])
