"""Whether whoever drives a campaign still beats: a probe for health checks, which reads one row and remembers it.

No clock of another machine is asked: a beat that is the same as at a look some time ago, by the clock of the machine
that looks, stands still. What was last seen is in a small file of the temporary folder, so that each look can be a
process of its own.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from alflow.domain.identity import digest_of_bytes
from alflow.errors import ConfigError
from alflow.store import CampaignRecord, Store
from alflow.store.location import place_of

__all__ = ["STILL_S", "is_alive", "show_alive"]

STILL_S: Final = 120.0
"""How long a beat must have been the same before it counts as standing still, s.

The loop beats every 5 s, but waits longer for a database that is away or takes no writes.
"""


@dataclass(frozen=True)
class _Look:
    """A beat, and when it was first seen.

    Attributes:
        epoch: How often the campaign had changed hands.
        beat: Its beat.
        at_s: The monotonic clock of this machine, which all its processes share, s.
    """

    epoch: int
    beat: int
    at_s: float


def show_alive(console: Console, database: str, name: str | None = None) -> bool:
    """Look at a campaign, and print in one sentence what was seen.

    Returns:
        False if somebody drives it whose beat stands still; True otherwise.

    Raises:
        StoreError: No such database or campaign, or the database is away.
        ConfigError: What was seen cannot be remembered.
    """
    with Store.open(database, read_only=True) as store:
        campaign = store.campaign(name)
    alive, sentence = is_alive(campaign, _file_of(database, campaign), time.monotonic())
    console.print(sentence, highlight=False, markup=False, soft_wrap=True)
    return alive


def is_alive(campaign: CampaignRecord, file: Path, now_s: float) -> tuple[bool, str]:
    """Compare a campaign with what was seen of it before, and remember what is new.

    Args:
        campaign: Its row, as it is now.
        file: Where the last look is; one that is missing, damaged or of before the machine started counts for nothing.
        now_s: The monotonic clock of this machine, s.

    Returns:
        Whether all is well as far as can be told, and a sentence for the user.

    Raises:
        ConfigError: The file cannot be written.
    """
    if campaign.holder is None:
        return True, f"'{campaign.name}' is {campaign.state}, and nobody drives it."
    driven = f"'{campaign.name}' is driven by {campaign.holder}"
    before = _read(file, now_s)
    if before is None or (before.epoch, before.beat) != (campaign.epoch, campaign.beat):
        _write(file, _Look(campaign.epoch, campaign.beat, now_s))
        return True, f"{driven}, {'which is looked at for the first time' if before is None else 'which beats'}."
    same_s = now_s - before.at_s
    if same_s < STILL_S:
        return True, f"{driven}; the beat is what it was {same_s:.0f} s ago, which tells nothing before {STILL_S:g} s."
    if campaign.config.get("config", {}).get("executor") == "inline":
        return True, f"{driven} without workers, so that it beats between two tasks only; the last beat tells nothing."
    return False, (
        f"{driven}, whose beat has stood still for {same_s:.0f} s: it is dead, or it hangs. End it if it still runs; "
        "the command that began it goes on with it."
    )


def _file_of(database: str, campaign: CampaignRecord) -> Path:
    """For each user, so that nobody finds a file there that is not theirs to replace."""
    about = f"{place_of(database)}\0{campaign.uuid}\0{os.getuid()}"
    return Path(tempfile.gettempdir()) / f"alflow-alive-{digest_of_bytes(about.encode())[:24]}.json"


def _read(file: Path, now_s: float) -> _Look | None:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        look = _Look(int(found["epoch"]), int(found["beat"]), float(found["at_s"]))
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return look if 0 <= look.at_s <= now_s else None  # the clock begins anew with the machine


def _write(file: Path, look: _Look) -> None:
    beside: Path | None = None
    try:
        number, name = tempfile.mkstemp(dir=file.parent, prefix=f"{file.stem}-")
        beside = Path(name)
        with open(number, "w", encoding="utf-8") as opened:
            json.dump(asdict(look), opened)
        beside.replace(file)
    except OSError as error:
        if beside is not None:
            with suppress(OSError):
                beside.unlink()
        raise ConfigError(
            f"{file} cannot be written ({error.strerror}), so no look can be compared with the next; name another "
            "folder with TMPDIR."
        ) from None
