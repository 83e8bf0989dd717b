"""A bookmark in the journal: what a replay of the first events gives, kept so that the next one need not begin there.

The journal alone is the truth. A bookmark is believed only if it is what was written, by the very program that reads
it, and if the journal still begins with the very events that it stands for, told by their hash. It can be deleted at
any time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from functools import cache
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from alflow import campaign, domain, selection
from alflow.campaign.decide import replay
from alflow.campaign.events import event_from_json
from alflow.campaign.state import State
from alflow.domain.identity import digest_of_bytes
from alflow.store import Store

__all__ = ["EVERY", "Bookmark"]

log = logging.getLogger("alflow")

EVERY: Final = 5000
"""Events after which a bookmark may be moved. A state takes 0.1 to 0.4 s to write and check, 5000 events to replay."""

PAUSE_S: Final = 60.0
"""Time after a bookmark before the next, in which nothing waits for one: the loop stands still while it is written."""

_PROGRAM: Final = (campaign, domain, selection)


class Bookmark:
    """The state of a campaign, found from its last bookmark on.

    Args:
        store: The database.
        campaign_id: The campaign.
        folder: Where its files are; the bookmark is one of them.
    """

    def __init__(self, store: Store, campaign_id: int, folder: Path) -> None:
        self._store = store
        self._campaign_id = campaign_id
        self._file = folder / "bookmark.json"
        self._hash = hashlib.sha256()
        self._hashed = self._kept = 0
        self._not_before = 0.0

    def replay(self) -> State | None:
        """The state that the journal leads to; None for one without events.

        Raises:
            CampaignError: The journal contradicts the program.
        """
        begin = self._read()
        self._kept = begin.n_events if begin is not None else 0
        stored = self._store.journal_texts(self._campaign_id, after=self._kept)
        return replay(map(event_from_json, stored), begin)

    def keep(self, state: State) -> None:
        """Move the bookmark, if it is time to: every event that the state knows of must be committed."""
        if state.n_events - self._kept < EVERY or time.monotonic() < self._not_before:
            return
        self._kept, self._not_before = state.n_events, time.monotonic() + PAUSE_S
        saved = _ADAPTER.dump_python(state, mode="json")
        try:
            exact = _ADAPTER.validate_python(saved) == state
        except ValidationError:
            exact = False
        if not exact:
            log.debug("The state after event %d cannot be written down exactly; no bookmark.", state.n_events)
            return
        content = {"program": _program(), "journal": self._journal(state.n_events), "state": saved}
        self._write({**content, "sealed": _seal(content)})

    def _read(self) -> State | None:
        """The bookmark's state, if there is a bookmark and it belongs to this journal and this program."""
        try:
            found = json.loads(self._file.read_text())
            if found["program"] != _program() or found.pop("sealed") != _seal(found):
                return None
            state = _ADAPTER.validate_python(found["state"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        return state if self._journal(state.n_events) == found["journal"] else None

    def _journal(self, n_events: int) -> str:
        """Hash of the journal's first events; each is read once."""
        for text in self._store.journal_texts(self._campaign_id, after=self._hashed, last=n_events):
            self._hash.update(text.encode() + b"\n")
            self._hashed += 1
        return self._hash.hexdigest()

    def _write(self, content: dict[str, Any]) -> None:
        beside = self._file.with_suffix(f".{os.getpid()}.tmp")
        try:
            beside.write_text(json.dumps(content))
            beside.replace(self._file)
        except OSError as error:
            log.debug("No bookmark was written (%s).", error)


_ADAPTER: Final = TypeAdapter(State)


def _seal(content: dict[str, Any]) -> str:
    return digest_of_bytes(json.dumps(content).encode())  # which holds what canonical JSON refuses: an infinity


@cache
def _program() -> str:
    """Hash of the code that makes states of events: with other code, another state might follow."""
    files = [file for room in _PROGRAM for file in sorted(Path(str(room.__file__)).parent.glob("*.py"))]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()
