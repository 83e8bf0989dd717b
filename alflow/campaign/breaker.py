"""A machine that crashes label after label, while others make theirs, is given no more."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from typing import Final

__all__ = ["CRASH_LIMIT", "HostBreaker"]

CRASH_LIMIT: Final = 3
"""Crashes in a row on one machine after which it is not the structures."""


@dataclass
class HostBreaker:
    """Counts crashes in a row on each machine, and knows whether another one makes its labels.

    The last machine that makes labels is never drained: then nobody knows whether it is the machine or the work.
    Another need not make a label meanwhile, which may take hours while this one crashes one a second: its last counts.

    Attributes:
        limit: Crashes in a row that are too many.
        drained: Machines that have had too many.

    Examples:
        >>> breaker, both = HostBreaker(), {"a", "b"}
        >>> [breaker.record(host, crashed, both) for host, crashed in [("b", 0), ("a", 1), ("a", 1), ("a", 1)]]
        [set(), set(), set(), {'a'}]
    """

    limit: int = CRASH_LIMIT
    drained: set[str] = field(default_factory=set)
    _crashes: dict[str, int] = field(default_factory=dict)

    def record(self, host: str, crashed: bool, present: Set[str]) -> set[str]:
        """Take note of how a label ended, whatever else became of it.

        Args:
            host: The machine.
            crashed: Whether its process died; any other end counts as one that went well.
            present: Machines that have workers for labels now.

        Returns:
            Machines that are drained from now on; it may be another's success that tells.
        """
        self._crashes[host] = self._crashes.get(host, 0) + 1 if crashed else 0
        if not any(self._crashes.get(other) == 0 for other in present - self.drained):
            return set()
        bad = {other for other, count in self._crashes.items() if count >= self.limit} - self.drained
        self.drained |= bad
        return bad
