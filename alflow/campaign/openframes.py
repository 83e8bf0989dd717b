"""Frames whose label is open, at hand: as few as wait or run, whatever the campaign has done."""

from __future__ import annotations

from alflow.domain import Structure
from alflow.store import FrameRecord, Store

__all__ = ["OpenFrames"]


class OpenFrames:
    """The frames that wait for their label, with their structures; read from the store only after a restart.

    Args:
        store: Where they are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, tuple[FrameRecord, Structure]] = {}

    def add(self, frame: FrameRecord, structure: Structure) -> None:
        """Keep a frame at hand whose label is asked for."""
        self._known[frame.id] = (frame, structure)

    def frame(self, frame_id: str) -> FrameRecord:
        """A frame by its whole id."""
        return self._found(frame_id)[0]

    def structure(self, frame_id: str) -> Structure:
        """The structure of a frame."""
        return self._found(frame_id)[1]

    def discard(self, frame_id: str) -> None:
        """Forget a frame whose label is settled."""
        self._known.pop(frame_id, None)

    def _found(self, frame_id: str) -> tuple[FrameRecord, Structure]:
        if frame_id not in self._known:
            frame = self._store.frame(frame_id)
            self.add(frame, self._store.structure(frame.structure_id))
        return self._known[frame_id]
