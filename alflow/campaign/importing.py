"""Take labels of a file into a database, each once, in batches that are stored whole or not at all.

A structure that has a label at this level keeps it: the same value again is counted, another value is a conflict, which
is reported and left out. An import that was killed is run again: what it had stored is known by then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np

from alflow.campaign.ending import give_back
from alflow.campaign.interrupts import interruptible
from alflow.campaign.labelling import check_name, find_or_create
from alflow.campaign.plausibility import implausible
from alflow.campaign.site import PATIENCE_S, frame_name
from alflow.domain import Evaluation, Label, Level
from alflow.errors import CampaignPaused, FormatError, Unavailable
from alflow.formats import Entry, Source
from alflow.store import FrameRecord, Holder, JobRecord, Lease, Store, Transaction
from alflow.store.location import shown

__all__ = ["Conflict", "Imported", "Origin", "check_source", "import_labels"]

BATCH: Final = 1000
"""Labels stored in one transaction."""

SAME_ENERGY_EV: Final = 1e-6
SAME_FORCE_EV_ANG: Final = 1e-5
"""Two values of one label that differ by less are the same, written with fewer digits."""

Watcher = Callable[[int], None]
"""Told of how many more entries were dealt with."""


@dataclass(frozen=True)
class Origin:
    """Where labels come from, for their provenance.

    Attributes:
        file: Path of the file, as it was given.
        sha256: SHA-256 of its content.
        units: The units its numbers were taken to have.
        stated: How the level of theory was stated.
    """

    file: str
    sha256: str
    units: str
    stated: str


@dataclass(frozen=True)
class Conflict:
    """A structure whose label is there already, with another value.

    Attributes:
        place: Where the other value stands in the file.
        structure_id: The structure.
        energy_ev: Energy of the file minus that of the database, eV.
        force_ev_ang: Largest difference of a force component, eV/Å.
    """

    place: str
    structure_id: str
    energy_ev: float
    force_ev_ang: float


@dataclass
class Imported:
    """What became of the labels of a file.

    Attributes:
        level: Their level of theory.
        new: Stored now.
        known: In the database before, with the same value.
        repeated: Again in the file, with the same value.
        conflicts: Left out, because the structure has another value.
        left: Not looked at, because somebody asked to stop.
    """

    level: Level
    new: int = 0
    known: int = 0
    repeated: int = 0
    conflicts: list[Conflict] = field(default_factory=list)
    left: int = 0


def check_source(source: Source, file: str, watcher: Watcher, implausible_too: bool = False) -> Level | None:
    """Read a whole file before anything of it is stored.

    Args:
        source: The file.
        file: Its name, for messages.
        watcher: Told of progress.
        implausible_too: Whether numbers are taken that look like those of another unit.

    Returns:
        The level of theory that alflow wrote into all of it; None if it says nothing of one.

    Raises:
        FormatError: A frame is no label, or looks as if its units were others, or the file is of several levels.
    """
    levels: dict[str | None, Level | None] = {}
    number = 0
    for number, entry in enumerate(source, start=1):
        reason = None if implausible_too else implausible(entry.structure, entry.evaluation, geometry=number == 1)
        if reason is not None:
            raise FormatError(
                f"{file}, {entry.place}: {reason}. Its numbers were read with {source.units.text}. State the right "
                "units (--energy-unit, --force-unit, --length-unit), or pass --implausible to take it as it is. "
                "Nothing was imported."
            )
        levels[None if entry.level is None else entry.level.id] = entry.level
        watcher(1)
    if number == 0:
        raise FormatError(f"{file} holds no label.")
    if len(levels) > 1:
        raise FormatError(f"{file} holds labels of {len(levels)} levels of theory; import a file for each of them.")
    return next(iter(levels.values()))


def import_labels(
    source: Source, level: Level, origin: Origin, database: str, name: str, watcher: Watcher = lambda n: None
) -> Imported:
    """Store the labels of a file.

    Args:
        source: The file, checked before.
        level: Level of theory of all of them.
        origin: Where they come from.
        database: SQLite file or PostgreSQL URL; made if it does not exist.
        name: Name under which they are recorded; one name, one level.
        watcher: Told of progress.

    Returns:
        What became of them.

    Raises:
        ConfigError: The name is no name, belongs to a campaign, or has labels at another level.
        CampaignLocked: Another live process writes under this name.
        CampaignPaused: The database went away; the same call goes on.
        FormatError: The file changed meanwhile; the batches before are stored.
    """
    check_name(name)
    with Store.open(database, create=True, patience_s=PATIENCE_S) as store, _pausing(database):
        record = find_or_create(store, database, name, level)
        lease = store.acquire(record.id, Holder.current())
        run = _Run(store, lease, record.id, level, origin)
        ended = "it ended before all labels were imported"
        wrong: BaseException | None = None
        try:
            with interruptible(run.request_stop):
                run.begin(len(source))
                for batch in _batches(source):
                    if run.stopping or store.stop_requested(record.id):
                        break
                    run.take(batch)
                    watcher(len(batch))
            ended = run.end()
        except BaseException as error:
            wrong = error
            raise
        finally:
            give_back(store, lease, "stopped" if ended else "finished", ended, wrong)
        return run.done


@contextmanager
def _pausing(database: str) -> Iterator[None]:
    """A database that stays away is no failure: tell how to go on."""
    try:
        yield
    except Unavailable as error:
        raise CampaignPaused(
            f"{error} What was imported until then is safe; once {shown(database)} can be used again, the same "
            "command goes on."
        ) from None


class _Run:
    """One process's work on a file."""

    def __init__(self, store: Store, lease: Lease, campaign_id: int, level: Level, origin: Origin) -> None:
        self._store, self._lease, self._campaign_id = store, lease, campaign_id
        self._level, self._origin = level, origin
        self._jobs = {job.id: job.state for job in store.jobs(campaign_id)}
        self._seen: set[str] = set()
        self._number = 0
        self._about = {
            "imported_from": origin.file,
            "file_sha256": origin.sha256,
            "level_stated_as": origin.stated,
            "units": origin.units,
            "imported_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": {"alflow": version("alflow")},
        }
        self.done = Imported(level)
        self.stopping = False

    def request_stop(self) -> None:
        """Ask, from a signal handler, to begin no further batch."""
        self.stopping = True

    def begin(self, n_labels: int) -> None:
        self.done.left = n_labels
        told = {"file": self._origin.file, "sha256": self._origin.sha256, "labels": n_labels}

        def write(tx: Transaction) -> None:
            tx.set_campaign_state("running", "")
            tx.append_event("import_started", told)
            tx.add_level(self._level)

        self._store.write(self._lease, write)

    def end(self) -> str:
        """Write down what came of it; say why there is more to do under this name, if there is."""
        done = self.done
        told = {"new": done.new, "known": done.known, "conflicts": len(done.conflicts), "left": done.left}
        self._store.write(self._lease, lambda tx: tx.append_event("import_ended", told))
        waiting = sum(state in ("pending", "running") for state in self._jobs.values())
        if done.left:
            return f"{done.left} labels are left to be imported"
        return f"{waiting} structures are left to be labelled" if waiting else ""

    def take(self, batch: Sequence[Entry]) -> None:
        """Store a batch, without what is known, repeated or in conflict."""
        known = self._stored(batch)
        fresh: dict[str, Label] = {}
        counts = Counter[str]()
        wanted: list[tuple[int, Entry]] = []
        conflicts = []
        for number, entry in enumerate(batch, start=self._number):
            identity = entry.structure.id
            other = known.get(identity) or (fresh[identity].evaluation if identity in fresh else None)
            if other is None:
                fresh[identity] = Label(entry.structure, self._level, entry.evaluation, self._provenance(entry))
            elif (conflict := _conflict(entry, other)) is not None:
                conflicts.append(conflict)
                continue
            elif identity in self._seen or identity in fresh:
                counts["repeated"] += 1
            else:
                counts["known"] += 1
            if identity not in self._seen:
                wanted.append((number, entry))
                self._seen.add(identity)
        self._store.write(self._lease, lambda tx: self._write(tx, list(fresh.values()), wanted, len(batch)))
        self._number += len(batch)
        self.done.left -= len(batch)
        self.done.new += len(fresh)
        self.done.known += counts["known"]
        self.done.repeated += counts["repeated"]
        self.done.conflicts += conflicts

    def _stored(self, batch: Sequence[Entry]) -> Mapping[str, Evaluation]:
        ids = self._store.labelled((entry.structure.id for entry in batch), self._level.id)
        found = self._store.labels_by_id([(identity, self._level.id) for identity in sorted(ids)])
        return {label.structure.id: label.evaluation for label in found}

    def _provenance(self, entry: Entry) -> dict[str, Any]:
        before = {"before": dict(entry.told)} if entry.told else {}
        return {**self._about, "place": entry.place, **before}

    def _write(self, tx: Transaction, labels: Sequence[Label], wanted: Sequence[tuple[int, Entry]], size: int) -> None:
        told = {"first": self._number, "entries": size, "new": len(labels)}
        seq = tx.append_event("labels_imported", told)
        frames, jobs = [], []
        source = Path(self._origin.file).name
        for number, entry in wanted:
            structure = entry.structure
            frame = frame_name(self._campaign_id, "given", -1, 0, structure.id)
            job = f"{frame}-{self._level.id[:8]}"
            if self._jobs.get(job) == "done":
                continue
            self._jobs[job] = "done"
            reason = f"imported from {source}, {entry.place}"
            record = FrameRecord(
                frame, self._campaign_id, structure.id, "given", "seed", step=number, reason=reason, event_seq=seq
            )
            frames.append((record, structure))
            jobs.append(
                JobRecord(
                    job, self._campaign_id, frame, structure.id, self._level.id, "seed", "done", event_seq=seq
                )
            )  # fmt: skip
        tx.add_frames(frames)
        tx.add_labels([(label, None) for label in labels])
        tx.put_jobs(jobs)


def _conflict(entry: Entry, stored: Evaluation) -> Conflict | None:
    """What differs, if it is more than digits that were left out."""
    energy = entry.evaluation.energy - stored.energy
    force = float(np.abs(entry.evaluation.forces - stored.forces).max())
    if abs(energy) <= SAME_ENERGY_EV and force <= SAME_FORCE_EV_ANG:
        return None
    return Conflict(entry.place, entry.structure.id, energy, force)


def _batches(source: Source) -> Iterator[list[Entry]]:
    entries = iter(source)
    while batch := list(islice(entries, BATCH)):
        yield batch
