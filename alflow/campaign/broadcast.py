"""Shows a running campaign on the page: hands the loop's state to a thread that does all the rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from alflow.campaign.events import Event
from alflow.campaign.state import State
from alflow.reports.feed import Feed, Place
from alflow.reports.snapshot import Live

__all__ = ["Broadcast", "broadcasting"]


class Broadcast:
    """An observer that only remembers the state; another thread asks for what the page needs of it."""

    def __init__(self) -> None:
        self._state: State | None = None

    def seen(self, state: State, event: Event | None) -> None:
        """Remember the state."""
        self._state = state

    def live(self) -> Live | None:
        """What the loop knows and the database does not."""
        state = self._state
        if state is None:
            return None
        return Live(
            phase=state.phase,
            reason=state.reason,
            statuses=[walker.status for walker in state.walkers],
            reasons={walker.walker: walker.reason for walker in state.walkers if walker.reason},
        )


@contextmanager
def broadcasting(database: str, name: str, place: Place | None) -> Iterator[list[Broadcast]]:
    """Supply a page while the block runs.

    Args:
        database: File or URL.
        name: Name of the campaign.
        place: Where the page is; None for no page.

    Yields:
        Observers for the loop.
    """
    if place is None:
        yield []
        return
    watcher = Broadcast()
    feed = Feed(database, name, place, watcher.live).start()
    try:
        yield [watcher]
    finally:
        feed.close()
