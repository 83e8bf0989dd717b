"""Label a file of structures, without dynamics or training: each of them once, on all cores, whatever is killed.

The database keeps the same promises as for a campaign: a label is committed before it counts, one that exists at this
level is not computed again, one that was finished but not committed is found in the spool, every attempt has a row. The
same call continues what was interrupted.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from alflow.campaign.config import NAME_PATTERN
from alflow.campaign.ending import give_back
from alflow.campaign.executors import Executor
from alflow.campaign.interrupts import interruptible
from alflow.campaign.label_run import LabellingRun
from alflow.campaign.labelled import Labelled, Watcher
from alflow.campaign.site import PATIENCE_S, folder_of, working_folder
from alflow.domain import Level, Reference, Structure
from alflow.errors import CampaignPaused, ConfigError, Unavailable
from alflow.reference.config import Limits
from alflow.store import CampaignRecord, Holder, Lease, Store
from alflow.store.location import is_server, shown

__all__ = ["Labelled", "check_name", "find_or_create", "label_structures"]

log = logging.getLogger("alflow")


def label_structures(
    structures: Sequence[Structure],
    reference: Reference,
    limits: Limits,
    database: str,
    name: str,
    slots: int,
    executor: Callable[[], Executor],
    watcher: Watcher = lambda found: None,
) -> list[Labelled]:
    """Label structures.

    Args:
        structures: What to label; one that occurs twice is computed once.
        reference: What computes it.
        limits: Time, memory, threads and attempts of a label.
        database: SQLite file or PostgreSQL URL; made if it does not exist.
        name: Name under which jobs and executions are recorded; the same name continues. One name, one level.
        slots: Labels at once.
        executor: Makes what runs the labels; called only if there is something to compute.
        watcher: Told of every change.

    Returns:
        What became of each structure, in their order.

    Raises:
        ConfigError: The name is no name, belongs to a campaign, or has labels at another level of theory.
        CampaignLocked: Another live process labels under this name.
        CampaignPaused: The database went away and did not come back; the same call goes on.
        CampaignError: The reference raised an exception, or this machine fails one label after the other.
    """
    check_name(name)
    with Store.open(database, create=True, patience_s=PATIENCE_S) as store:
        record = find_or_create(store, database, name, reference.level)
        spool = folder_of(record, database) / "spool"
        with _pausing(spool):
            lease = store.acquire(record.id, Holder.current())
            run: LabellingRun | None = None
            left: int | None = None
            try:
                run = LabellingRun(store, lease, record.id, structures, reference, limits, spool, watcher)
                with interruptible(run.request_stop):
                    run.prepare(slots)
                    if run.waiting:
                        run.drive(executor)
                left = sum(item.state == "open" for item in run.found)
            except Unavailable as error:
                _give_back(store, lease, left, error)  # nothing can be settled now
                raise
            except BaseException as error:
                _end(store, lease, run, left, error)
                raise
            _end(store, lease, run, left, None)
        return run.found


@contextmanager
def _pausing(spool: Path) -> Iterator[None]:
    """A database that stays away is no failure: tell how to go on."""
    try:
        yield
    except Unavailable as error:
        raise CampaignPaused(
            f"{error} It stayed so for {PATIENCE_S:g} s. What was committed is safe; labels that were finished "
            f"meanwhile wait in {spool}. Once the database can be used again, the same command goes on."
        ) from None


def _end(store: Store, lease: Lease, run: LabellingRun | None, left: int | None, wrong: BaseException | None) -> None:
    """Leave nothing open, and give the name back."""
    try:
        if run is not None:
            run.settle()
    except BaseException as error:
        _give_back(store, lease, left, error)
        if wrong is None or not isinstance(error, Exception):
            raise
        log.info("What was under way could not be settled (%s); the same command does so.", error)
        return
    _give_back(store, lease, left, wrong)


def _give_back(store: Store, lease: Lease, left: int | None, wrong: BaseException | None) -> None:
    if left == 0:
        give_back(store, lease, "finished", "", wrong)
    else:
        reason = "it ended before all structures were labelled" if left is None else f"{left} structures are left"
        give_back(store, lease, "stopped", reason, wrong)


def check_name(name: str) -> None:
    """Check that labels can be recorded under a name.

    Raises:
        ConfigError: It is no name.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise ConfigError(f"--name {name!r}: expected letters, digits and any of ' _.+-', 80 at most.")


def find_or_create(store: Store, database: str, name: str, level: Level) -> CampaignRecord:
    """The row under which labels of one level are recorded, computed here or imported.

    Raises:
        ConfigError: The name belongs to a campaign, or has labels at another level of theory.
    """
    for record in store.campaigns():
        if record.name != name:
            continue
        if "labelling" not in record.config:
            raise ConfigError(
                f"{shown(database)} has a campaign named '{name}'; choose another --name for these labels."
            )
        if record.config["level_id"] != level.id:
            raise ConfigError(
                f"'{name}' in {shown(database)} has labels at another level of theory"
                f" ({record.config['level_id'][:12]}…, this is {level.id[:12]}…); choose another --name."
            )
        return record
    stored = {"labelling": {"engine": level.engine, "settings": dict(level.settings)}, "level_id": level.id}
    if is_server(database):
        stored["folder"] = str(working_folder(database, name).absolute())
    return store.create_campaign(name, stored, seed=0)
