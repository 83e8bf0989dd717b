"""What a check of a database found: one invariant, and the rows that break it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Finding"]


@dataclass(frozen=True)
class Finding:
    """One invariant, looked at.

    Attributes:
        name: Its name.
        sentence: What must hold.
        checked: How many rows, files or events were looked at.
        broken: One line for each that breaks it; empty if it holds.
    """

    name: str
    sentence: str
    checked: int
    broken: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, sentence: str, checked: int, broken: Iterable[str] = ()) -> Finding:
        """Put a finding together.

        Examples:
            >>> Finding.of("journal", "Events are numbered without gaps.", 9, ["event 4 is missing"]).holds
            False
        """
        return cls(name, sentence, checked, tuple(broken))

    @property
    def holds(self) -> bool:
        """Whether nothing breaks it."""
        return not self.broken
