"""What can go wrong, as one tree.

::

    AlflowError
    ├── InputError          the user's input cannot be used: says what was expected, found, and what to do
    │   ├── ConfigError     a campaign configuration
    │   ├── FormatError     a file of labels
    │   ├── QueryError      a question about a data set
    │   └── StructureError  a structure
    ├── StoreError          the database cannot be used
    │   ├── Fenced          another process has taken the campaign over; this one must stop
    │   ├── CampaignLocked  another process is driving the campaign
    │   └── Unavailable     it is away, locked or full at present; the same may succeed later
    ├── CampaignPaused      the database stayed away for too long; nothing is lost, and it can be resumed
    ├── CheckpointError     a weight file is damaged, altered or of an unknown version
    └── CampaignError       the loop met a defect in alflow itself

A calculation that fails for reasons of physics (SCF not converged, an exploded walker) is not an exception:
it is a value, :class:`alflow.domain.Failure`.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "AlflowError",
    "CampaignError",
    "CampaignLocked",
    "CampaignPaused",
    "CheckpointError",
    "ConfigError",
    "Fenced",
    "FormatError",
    "InputError",
    "QueryError",
    "StoreError",
    "StructureError",
    "Unavailable",
    "did_you_mean",
]


class AlflowError(Exception):
    """Any error alflow raises on purpose. Its message is one sentence a user can act on."""


class InputError(AlflowError):
    """The user's input cannot be used."""


class ConfigError(InputError):
    """A campaign configuration is wrong."""


class FormatError(InputError):
    """A file of labels cannot be read as what it should be, or cannot hold what it should; names file and frame."""


class StructureError(InputError):
    """A structure is impossible: unknown element, non-finite or overlapping positions, odd electron count."""


class QueryError(InputError):
    """A question about a data set cannot be understood; where it was written as text, the place is marked below it."""


class StoreError(AlflowError):
    """The database cannot be opened, read or written."""


class Fenced(StoreError):
    """Another process has taken over this campaign; nothing more may be written by this one."""


class CampaignLocked(StoreError):
    """Another live process is driving this campaign."""


class Unavailable(StoreError):
    """The database is away, locked by somebody or full at present; the same may succeed later."""


class CampaignPaused(AlflowError):
    """The database stayed away for longer than a campaign waits. Nothing is lost; the campaign can be resumed."""


class CheckpointError(AlflowError):
    """A weight file is damaged, altered, or of a version this alflow does not read."""


class CampaignError(AlflowError):
    """The loop met a defect in alflow itself; the campaign is paused and can be resumed."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Suggest the known word closest to a misspelt one.

    Args:
        word: What the user wrote.
        known: The words that would have been understood.

    Returns:
        ``" Did you mean 'label_budget'?"``, or an empty string when nothing is close.

    Examples:
        >>> did_you_mean("temprature_k", ["temperature_k", "walkers"])
        " Did you mean 'temperature_k'?"
        >>> did_you_mean("zzz", ["temperature_k"])
        ''
    """
    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""
