"""Keeps a board supplied: a thread that reads the database, puts up snapshots and answers questions.

It never raises into anybody's work. What it spends, it rests for: a hundredth of a core, unless a look takes more than
0.1 s of processor time or it catches up with a long journal.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from alflow.errors import StoreError, Unavailable
from alflow.reports.answers import answer
from alflow.reports.snapshot import Live, SnapshotReader
from alflow.reports.tally import without_secrets
from alflow.store import Store

__all__ = ["Feed", "Place"]

log = logging.getLogger("alflow")

EVERY_S: Final = 1.0
REST: Final = 100
"""Rests so many times as long as a look took of processor time, …"""

LONGEST_REST_S: Final = 10.0
"""… but not so long that the page would call it stale."""

LONGEST_PAUSE_S: Final = 30.0
"""Between two attempts while it fails."""

STANDS_STILL_S: Final = 15.0
"""A holder whose beat stands still for this long, or that is known to be dead, drives nothing."""


class Place(Protocol):
    """Where snapshots are put up: a board, or the way to one on a scheduler."""

    def post(
        self,
        campaign: str,
        name: str,
        snapshot: bytes,
        ended: bool,
        stale_since_s: float | None = None,
        answers: Mapping[str, bytes] | None = None,
    ) -> Sequence[str]:
        """Put up a snapshot, and answers; returns questions that wait."""
        ...


class Feed:
    """Reads one campaign and supplies a board, until it is closed.

    Args:
        database: File or URL; read only.
        name: Name of the campaign; None for the only one.
        place: Where to put what was read.
        live: What the process that drives the campaign knows besides; None if this is another process, which then
            watches whether that one lives.
        wake: Set when a question waits that should not wait for the next look.

    Attributes:
        looks: How often it has looked.
        cpu_s: Processor time that took, s.
        size: Bytes of the last snapshot.
    """

    def __init__(
        self,
        database: str,
        name: str | None,
        place: Place,
        live: Callable[[], Live | None] | None = None,
        wake: threading.Event | None = None,
    ) -> None:
        self._database, self._name, self._place, self._live = database, name, place, live
        self._wake = wake or threading.Event()
        self._closing = False
        self._reader: SnapshotReader | None = None
        self._seen_beat: tuple[int, float] | None = None
        self._told = ""
        self.looks = self.size = 0
        self.cpu_s = 0.0
        self._thread = threading.Thread(target=self._run, name="alflow-page", daemon=True)

    def start(self) -> Feed:
        """Begin."""
        self._thread.start()
        return self

    def close(self, wait_s: float = 3.0) -> None:
        """Put up one last snapshot and end; what does not answer within this time is not waited for."""
        self._closing = True
        self._wake.set()
        self._thread.join(wait_s)

    def _run(self) -> None:
        pause, store = EVERY_S, None
        try:
            while True:
                closing = self._closing
                try:
                    if store is None:
                        store = Store.open(self._database, read_only=True)
                        self._reader = SnapshotReader(store, self._name)
                    pause = self._look(store)
                    self._told = ""
                except Exception as error:  # no page is worth a campaign
                    pause = min(2 * max(pause, EVERY_S), LONGEST_PAUSE_S)
                    self._tell(error)
                    if store is not None and isinstance(error, StoreError) and not isinstance(error, Unavailable):
                        store.close()  # its file may be another one now
                        store = None
                if closing:
                    return
                self._wake.wait(pause)
                self._wake.clear()
        finally:
            if store is not None:
                store.close()

    def _look(self, store: Store) -> float:
        """Read what is new, put it up, answer questions; returns how long to rest, s."""
        assert self._reader is not None
        began = time.thread_time()
        caught_up = self._reader.refresh()
        spent = time.thread_time() - began
        if not caught_up and not self._closing:
            # A long journal is read in pieces; a loop beside us must get its share of this process meanwhile.
            return 0.0 if self._live is None else min(max(0.1, 4 * spent), EVERY_S)
        questions = self._put_up(store, self._reader, {})
        if questions:
            found = {asked: answer(store, self._reader.campaign, asked) for asked in questions}
            self._put_up(store, self._reader, {asked: json.dumps(told).encode() for asked, told in found.items()})
        spent = time.thread_time() - began
        self.looks, self.cpu_s = self.looks + 1, self.cpu_s + spent
        return min(max(EVERY_S, REST * spent), LONGEST_REST_S)

    def _put_up(self, store: Store, reader: SnapshotReader, answers: Mapping[str, bytes]) -> Sequence[str]:
        snapshot = json.dumps(reader.snapshot(self._live() if self._live is not None else None)).encode()
        self.size = len(snapshot)
        campaign = reader.campaign
        stale = None if self._live is not None else self._stale_since(store, reader)
        return self._place.post(campaign.uuid, campaign.name, snapshot, not reader.under_way, stale, answers)

    def _stale_since(self, store: Store, reader: SnapshotReader) -> float | None:
        """Since when nobody has driven a campaign that is said to be driven: its last event."""
        campaign = reader.campaign
        if not reader.under_way:
            self._seen_beat = None
            return None
        if self._seen_beat is None or self._seen_beat[0] != campaign.beat:
            self._seen_beat = (campaign.beat, time.monotonic())
        stands_still = time.monotonic() - self._seen_beat[1] >= STANDS_STILL_S
        gone = stands_still or store.holder_is_alive(campaign.id) is False
        return round(reader.last_event_s, 1) if gone else None

    def _tell(self, error: Exception) -> None:
        """Say once what is wrong, until it is something else."""
        lines = str(error).strip().splitlines() or [""]
        told = without_secrets(f"{type(error).__name__}: {lines[0]}")
        if told != self._told:
            self._told = told
            log.info("The page about the campaign is not up to date (%s); the campaign goes on", told)
