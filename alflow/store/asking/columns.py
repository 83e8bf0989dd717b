"""The columns that can be asked for: name, type, unit and meaning, in one table.

``docs/query.md``, ``alflow query --columns-list`` and the view ``frames_v`` have exactly these.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, get_args

from alflow.domain import FailureKind
from alflow.errors import QueryError, did_you_mean
from alflow.store.records import FrameDecision, FrameOrigin, JobState, Purpose, Split

__all__ = ["COLUMNS", "DEFAULT_COLUMNS", "Described", "Kind", "Source", "described"]


class Kind(StrEnum):
    """What a column holds."""

    WHOLE = "whole number"
    NUMBER = "number"
    TEXT = "text"
    WORD = "word"
    TIME = "time"
    ARRAY = "array"


class Source(StrEnum):
    """Where a column comes from; beyond the frame and its structure it may be missing."""

    FRAME = "frame"
    STRUCTURE = "structure"
    JOB = "job"
    LABEL = "label"
    EXECUTION = "execution"
    EVENT = "event"


@dataclass(frozen=True)
class Described:
    """One column of a frame.

    Attributes:
        name: Its true name, with the unit.
        kind: What it holds.
        source: What it belongs to.
        unit: Its unit; empty for what has none.
        meaning: What it tells.
        aliases: Shorter names that mean the same.
        words: The only values it takes, if these are a few words.
    """

    name: str
    kind: Kind
    source: Source
    unit: str
    meaning: str
    aliases: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


_F, _S, _J, _L = Source.FRAME, Source.STRUCTURE, Source.JOB, Source.LABEL
_WHOLE, _NUMBER, _TEXT, _WORD, _ARRAY = Kind.WHOLE, Kind.NUMBER, Kind.TEXT, Kind.WORD, Kind.ARRAY


def _words(literal: Any) -> tuple[str, ...]:
    return get_args(literal)


COLUMNS: Final[tuple[Described, ...]] = (
    Described("frame_id", _TEXT, _F, "", "name of the frame, as `alflow why` takes it", ("id", "frame")),
    Described("campaign", _TEXT, _F, "", "name of its campaign"),
    Described("structure_id", _TEXT, _F, "", "SHA-256 of the structure's content", ("structure",)),
    Described("formula", _TEXT, _S, "", "formula in Hill order; any spelling is understood"),
    Described("n_atoms", _WHOLE, _S, "", "number of atoms", ("atoms",)),
    Described("charge", _WHOLE, _S, "e", "total charge"),
    Described("multiplicity", _WHOLE, _S, "", "spin multiplicity 2S + 1"),
    Described("pbc", _TEXT, _S, "", "which cell vectors repeat: FFF for a molecule, TTT for a crystal"),
    Described("origin", _WORD, _F, "", "where the frame comes from", (), _words(FrameOrigin)),
    Described("walker", _WHOLE, _F, "", "number of the walker that reached it"),
    Described("step", _WHOLE, _F, "", "step of that walker"),
    Described("time_fs", _NUMBER, _F, "fs", "simulated time of that walker", ("time",)),
    Described("generation", _WHOLE, _F, "", "committee that looked at it; none before the first"),
    Described("disagreement_ev_ang", _NUMBER, _F, "eV/Å", "largest disagreement of any atom", ("disagreement",)),
    Described(
        "force_std_ev_ang", _NUMBER, _F, "eV/Å", "largest standard deviation of the members' forces", ("force_std",)
    ),
    Described("extrapolation", _NUMBER, _F, "", "how far outside of the training data, in units of its range"),
    Described("threshold_ev_ang", _NUMBER, _F, "eV/Å", "threshold in force when it was seen", ("threshold",)),
    Described("decision", _WORD, _F, "", "what was decided about it", (), _words(FrameDecision)),
    Described("reason", _TEXT, _F, "", "why that was decided"),
    Described("predicted_energy_ev", _NUMBER, _F, "eV", "energy according to the committee", ("predicted_energy",)),
    Described("event_seq", _WHOLE, _F, "", "event of the journal that recorded it", ("event",)),
    Described("job_state", _WORD, _J, "", "how far its label is; none without", ("state",), _words(JobState)),
    Described("purpose", _WORD, _J, "", "what its label is for", (), _words(Purpose)),
    Described("attempts", _WHOLE, _J, "", "attempts at the label that count"),
    Described("failure_kind", _WORD, _J, "", "class of the last failure", ("failure",), tuple(FailureKind)),
    Described("split", _WORD, _L, "", "part of the newest data set it entered; none before", (), _words(Split)),
    Described("level_id", _TEXT, _L, "", "level of theory of the label", ("level",)),
    Described("energy_ev", _NUMBER, _L, "eV", "energy of the label, as computed", ("energy",)),
    Described("max_force_ev_ang", _NUMBER, _L, "eV/Å", "largest force on any atom in the label", ("max_force",)),
    Described("energy_error_ev", _NUMBER, _L, "eV", "predicted energy minus the label's", ("energy_error",)),
    Described(
        "max_force_error_ev_ang",
        _NUMBER,
        Source.EVENT,
        "eV/Å",
        "largest force error over atoms of the committee that saw the frame",
        ("force_error", "max_force_error"),
    ),
    Described("labelled_at", Kind.TIME, _L, "UTC", "when the label was stored"),
    Described("wall_s", _NUMBER, Source.EXECUTION, "s", "time the label took", ("wall",)),
    Described("peak_memory_mb", _NUMBER, Source.EXECUTION, "MB", "memory the label took", ("peak_memory",)),
    Described("host", _TEXT, Source.EXECUTION, "", "machine that computed the label"),
    Described("numbers", _ARRAY, _S, "", "atomic numbers, shape (atom,)"),
    Described("positions_ang", _ARRAY, _S, "Å", "positions, shape (atom, 3)", ("positions",)),
    Described("cell_ang", _ARRAY, _S, "Å", "cell vectors as rows, shape (3, 3); zeros for a molecule", ("cell",)),
    Described(
        "predicted_forces_ev_ang", _ARRAY, _F, "eV/Å", "forces of the committee, (atom, 3)", ("predicted_forces",)
    ),
    Described("forces_ev_ang", _ARRAY, _L, "eV/Å", "forces of the label, shape (atom, 3)", ("forces",)),
    Described("stress_ev_ang3", _ARRAY, _L, "eV/Å³", "stress of the label, (3, 3); none of molecules", ("stress",)),
)
"""Every column, in the order of the view ``frames_v``."""

DEFAULT_COLUMNS: Final = (
    "frame_id",
    "formula",
    "generation",
    "disagreement_ev_ang",
    "decision",
    "job_state",
    "energy_ev",
    "max_force_ev_ang",
    "max_force_error_ev_ang",
)
"""What is shown if nothing else is asked for."""

_BY_NAME: Final = {name: column for column in COLUMNS for name in (column.name, *column.aliases)}


def described(name: str) -> Described:
    """Find a column by its name or a shorter one; capitals do not matter.

    Raises:
        QueryError: There is none of that name.

    Examples:
        >>> described("disagreement").name
        'disagreement_ev_ang'
    """
    found = _BY_NAME.get(name.lower())
    if found is None:
        hint = did_you_mean(name.lower(), _BY_NAME) or " `alflow query --columns-list` lists them."
        raise QueryError(f"There is no column '{name}'.{hint}")
    return found
