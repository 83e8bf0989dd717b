"""Jobs that end before their workers have joined, while others of their class work: pauses, each twice as long."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

__all__ = ["FRUITLESS_LIMIT", "LONGEST_PAUSE_S", "Fruitless", "PutOff"]

FRUITLESS_LIMIT: Final = 3
"""Times in a row that jobs may end without any of their workers having joined."""

LONGEST_PAUSE_S: Final = 600.0
"""Between two attempts to submit jobs; each pause is twice as long as the last."""

FORGIVEN_AFTER_LOOKS: Final = 10
"""Looks at the queue after a pause within which the next such end is one in a row."""


@dataclass(frozen=True)
class PutOff:
    """Jobs that are not submitted now: since when, and when they are, on the monotonic clock."""

    since: float
    pause_s: float
    next_try: float


class Fruitless:
    """Which classes of jobs wait because a node, or something else, ends those that begin on it.

    A job that dies leaves its node free, so its successor is likely to begin, and to die, on the same one.

    Args:
        look_every_s: How often the queue is looked at, s.

    Examples:
        >>> fruitless = Fruitless(30.0)
        >>> [fruitless.ended("label", now) for now in (0.0, 30.0, 60.0, 150.0, 9000.0)]
        [None, None, 60.0, 120.0, None]
    """

    def __init__(self, look_every_s: float) -> None:
        self._look_every_s = look_every_s
        self._count: Counter[str] = Counter()
        self._put_off: dict[str, PutOff] = {}

    def ended(self, name: str, now: float) -> float | None:
        """Take note of a look at which jobs of a class had ended in vain.

        Returns:
            How long the class waits now, s; None if it does not, because it has happened a few times only.
        """
        before = self._put_off.get(name, PutOff(now, 0.0, now))
        if now > before.next_try + FORGIVEN_AFTER_LOOKS * self._look_every_s:
            self._count[name], before = 0, PutOff(now, 0.0, now)
        self._count[name] += 1
        pause_s = 0.0
        if self._count[name] >= FRUITLESS_LIMIT:
            pause_s = min(2 * max(before.pause_s, self._look_every_s), LONGEST_PAUSE_S)
        self._put_off[name] = PutOff(before.since, pause_s, now + pause_s)
        return pause_s or None

    def waits(self, name: str, now: float) -> bool:
        """Whether jobs of a class are not submitted yet."""
        return name in self._put_off and now < self._put_off[name].next_try
