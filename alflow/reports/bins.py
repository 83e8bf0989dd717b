"""Numbers in the course of time, thinned out so that a curve has as many points after a month as after a minute."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Bins"]


@dataclass
class Bins:
    """Counts, means and maxima in equal stretches of time, which double in length when there are too many.

    Attributes:
        width_s: Length of a stretch, s; grows.
        most: Stretches that are kept at most.

    Examples:
        >>> bins = Bins(width_s=1.0, most=2)
        >>> for second in range(3):
        ...     bins.add(second, float(second))
        >>> bins.width_s, bins.points()
        (2.0, [(0.0, 2, 0.5, 1.0), (2.0, 1, 2.0, 2.0)])
    """

    width_s: float = 2.0
    most: int = 160

    def __post_init__(self) -> None:
        self._bins: dict[int, tuple[int, float, float]] = {}

    def add(self, time_s: float, value: float) -> None:
        """Count a value at a time."""
        self._put(int(time_s // self.width_s), (1, value, value))
        while len(self._bins) > self.most:
            before, self._bins = self._bins, {}
            self.width_s *= 2
            for number, held in before.items():
                self._put(number // 2, held)

    def points(self) -> list[tuple[float, int, float, float]]:
        """Begin of each stretch in which there was something, s; how many values, their mean, their maximum."""
        return [(n * self.width_s, count, total / count, top) for n, (count, total, top) in sorted(self._bins.items())]

    def _put(self, number: int, new: tuple[int, float, float]) -> None:
        count, total, top = self._bins.get(number, (0, 0.0, new[2]))
        self._bins[number] = (count + new[0], total + new[1], max(top, new[2]))
