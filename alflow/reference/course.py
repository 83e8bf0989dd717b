"""The course of a calculation that may be interrupted: how much time it has, and the checkpoint it goes on from.

A reference that can be interrupted has a method ``evaluate_in_steps(structure, course)``. It calls :meth:`Course.step`
after each step with what it would need to go on from there, and :meth:`Course.look` where it cannot; near the end of
the time of its worker both raise :exc:`Interrupted`. A checkpoint must be the whole state of the calculation, so that
going on from it takes the same way as never having stopped: a label depends on its structure only, not on what happened
to it.

Checkpoints lie beside the results in the spool, named like them. One that is damaged, or of another calculation, is
ignored with a note.
"""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from alflow.domain.identity import canonical_json, digest_of_bytes
from alflow.reference.spool import write_durably

__all__ = ["STEPS_MADE", "Checkpoint", "Course", "Interrupted", "checkpoint_path", "forget_checkpoint"]

WRITING_S: Final = 5.0
"""Time before the end of a worker by which a label must have written its checkpoint and given its answer, s."""

STEPS_AHEAD: Final = 1.5
"""A step is begun if there is time for this many of the longest so far."""

STEPS_MADE: Final = "steps_made"
"""In the diagnostics of a label that was interrupted, and in a checkpoint: steps made so far, by all attempts."""

_FORMAT: Final = "alflow-checkpoint-1"


class Interrupted(Exception):
    """The time of the worker is nearly up: not a failure, and no :exc:`RuntimeError`, which references may catch.

    Args:
        steps_made: Steps that need not be made again: those in the checkpoint.
    """

    def __init__(self, steps_made: int = 0) -> None:
        super().__init__()
        self.steps_made = steps_made


def checkpoint_path(directory: Path, structure_id: str, level_id: str) -> Path:
    """Where the checkpoint for a structure at a level lies; the same for every attempt."""
    return Path(directory) / f"{structure_id[:32]}-{level_id[:16]}.checkpoint"


def forget_checkpoint(directory: Path, structure_id: str, level_id: str) -> None:
    """Remove the checkpoint of a label that exists, or was given up; one that stays does no harm."""
    with suppress(OSError):
        checkpoint_path(directory, structure_id, level_id).unlink(missing_ok=True)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The whole state of a calculation between two steps.

    Attributes:
        arrays: Its arrays by name.
        told: Everything else, as JSON values.
    """

    arrays: Mapping[str, np.ndarray]
    told: Mapping[str, Any]

    def to_bytes(self, structure_id: str, level_id: str) -> bytes:
        """A line that says what it is, with a checksum, and the arrays."""
        body = io.BytesIO()
        np.savez(body, allow_pickle=False, **dict(self.arrays))
        data = body.getvalue()
        head = {"format": _FORMAT, "structure_id": structure_id, "level_id": level_id, "told": dict(self.told)}
        text = canonical_json(head)
        sealed = canonical_json({"head": text, "sha256": digest_of_bytes(text.encode() + data)})
        return sealed.encode() + b"\n" + data

    @classmethod
    def from_bytes(cls, data: bytes, structure_id: str, level_id: str) -> Checkpoint:
        """Read what :meth:`to_bytes` has written.

        Raises:
            ValueError: It is damaged, or of another calculation.
        """
        line, _, body = data.partition(b"\n")
        try:
            sealed = json.loads(line)
            text = sealed["head"]
            if digest_of_bytes(text.encode() + body) != sealed["sha256"]:
                raise ValueError("the checksum does not match")
            head = json.loads(text)
            found = (head["format"], head["structure_id"], head["level_id"])
            if found != (_FORMAT, structure_id, level_id):
                raise ValueError("it is of another calculation, or of another version of alflow")
            with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
                return cls({name: arrays[name] for name in arrays.files}, head["told"])
        except (KeyError, TypeError, AttributeError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(f"not a whole checkpoint: {error}") from error


class Course:
    """What a calculation knows of its time and of its checkpoint.

    Args:
        path: Where the checkpoint lies.
        structure_id: Id of the structure.
        level_id: Id of the level of theory.
        end_file: A file which, once it is there, holds the end of the worker on the clock that all processes of a
            machine share (``time.monotonic``, s).
        every_s: Least time between two checkpoints, s; half of it before the last.

    Attributes:
        restarted: Whether the calculation went on from a checkpoint.
        note: Why a checkpoint was ignored, or not written.
    """

    def __init__(self, path: Path, structure_id: str, level_id: str, end_file: Path, every_s: float) -> None:
        self._path, self._ids, self._end_file, self._every_s = path, (structure_id, level_id), end_file, every_s
        self._saved = self._stepped = time.monotonic()
        self._longest_s = 0.0
        self._asked = False
        self.restarted = False
        self.note: str | None = None
        self._n_steps = self._n_kept = 0

    def take(self) -> Checkpoint | None:
        """The checkpoint an earlier process has left, if there is one that is whole and of this calculation.

        Whoever goes on from it says so with ``restarted``; whoever cannot, with :meth:`ignore`.
        """
        try:
            found = Checkpoint.from_bytes(self._path.read_bytes(), *self._ids)
            self._n_steps = self._n_kept = int(found.told.get(STEPS_MADE, 0))
            return found
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            self.ignore(str(error))
            return None

    def ignore(self, why: str | None = None) -> None:
        """Begin anew in spite of a checkpoint; say why unless that is as it should be."""
        self.note = why or self.note
        self._n_steps = self._n_kept = 0

    def forget(self) -> None:
        """Remove the checkpoint: its calculation has ended, or what follows from it is not believed."""
        self._path.unlink(missing_ok=True)
        self.restarted = False
        self._n_steps = self._n_kept = 0

    def stop(self) -> None:
        """Ask for an interruption after the step that is being made; may be called from a signal handler."""
        self._asked = True

    def step(self, state: Callable[[], Checkpoint], last: bool = False) -> None:
        """A step is done.

        Args:
            state: Makes the checkpoint from which the next step would begin.
            last: Whether no step follows, but something else that may take long and leaves no checkpoint.

        Raises:
            Interrupted: There is no time for another step.
        """
        now = time.monotonic()
        self._n_steps += 1
        self._longest_s = max(self._longest_s, now - self._stepped)
        over = self._is_over(now)
        if over or now - self._saved >= (0.5 if last else 1.0) * self._every_s:
            self._save(state())
        self._stepped = time.monotonic()
        if over:
            raise Interrupted(self._n_kept)

    def look(self) -> None:
        """Between two things that leave no checkpoint.

        Raises:
            Interrupted: There is no time for another step.
        """
        if self._is_over(time.monotonic()):
            raise Interrupted(self._n_kept)

    def _save(self, checkpoint: Checkpoint) -> None:
        try:
            made = replace(checkpoint, told={**checkpoint.told, STEPS_MADE: self._n_steps})
            write_durably(self._path, made.to_bytes(*self._ids))
            self._n_kept = self._n_steps
        except OSError as error:  # work may be lost, the label must not be
            self.note = f"no checkpoint could be written: {error.strerror}"
        self._saved = time.monotonic()

    def _is_over(self, now: float) -> bool:
        if self._asked:
            return True
        try:
            end = float(self._end_file.read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):
            return False
        return now + STEPS_AHEAD * self._longest_s > end - WRITING_S
