"""The lease: which one process drives a campaign, and how the next one takes over when it is gone.

A campaign carries an *epoch*, which grows whenever it changes hands, and a *beat*, which grows with every write of
its holder. Whoever writes says under which epoch; a process that was taken over while it slept is stopped by its
first write. No clock is ever compared between machines: a challenger watches the beat on its own monotonic clock.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
from sqlalchemy import Connection, Engine, select, update

from alflow.errors import CampaignLocked, Fenced, StoreError
from alflow.store.opening import writing
from alflow.store.records import CampaignRecord
from alflow.store.tables import CampaignRow

__all__ = ["Holder", "Lease", "acquire", "fence", "is_released", "process_mark", "release", "stands_still"]

_UNKNOWN_BOOT: Final = "?"
_LOOK_EVERY_S: Final = 1.0


@dataclass(frozen=True)
class Holder:
    """A process, named so that no other process, then or later, has the same name.

    Attributes:
        host: Name of its machine.
        pid: Its number there.
        mark: When it was started: boot of the machine, namespace of process numbers and start tick. Process numbers
            are used again; marks are not.

    Examples:
        >>> Holder.from_text(Holder.current().to_text()) == Holder.current()
        True
        >>> str(Holder("node7", 4242, "boot:ns:9"))
        'node7:4242'
    """

    host: str
    pid: int
    mark: str

    @classmethod
    def current(cls) -> Holder:
        """This process."""
        pid = os.getpid()
        return cls(socket.gethostname(), pid, process_mark(pid) or "")

    @classmethod
    def from_text(cls, text: str) -> Holder:
        """Read what :meth:`to_text` wrote."""
        name, _, mark = text.partition("@")
        host, _, pid = name.rpartition(":")
        return cls(host, int(pid), mark)

    def to_text(self) -> str:
        """``host:pid@mark``, as the table holds it."""
        return f"{self.host}:{self.pid}@{self.mark}"

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"

    def is_alive(self, seen_from: Holder) -> bool | None:
        """Tell whether this process still runs.

        Args:
            seen_from: The process that asks; normally this one.

        Returns:
            True or False if it can be seen from here; None if it runs on another machine, in another container or
            before a reboot, where nothing can be said.
        """
        if self.host != seen_from.host or self._place() != seen_from._place():
            return None
        return process_mark(self.pid) == self.mark

    def _place(self) -> str:
        return self.mark.rpartition(":")[0]


@dataclass(frozen=True)
class Lease:
    """The right to write to one campaign, until somebody takes it over.

    Attributes:
        campaign_id: The campaign.
        epoch: Fencing token.
        holder: Who holds it.
    """

    campaign_id: int
    epoch: int
    holder: Holder


def process_mark(pid: int) -> str | None:
    """Mark of a process, as in :class:`Holder`; None if no such process runs (a zombie does not)."""
    proc = Path("/proc")
    try:
        if not (proc / "self" / "stat").exists():
            process = psutil.Process(pid)
            dead = process.status() == psutil.STATUS_ZOMBIE
            return None if dead else f"{_UNKNOWN_BOOT}:{process.create_time():.2f}"
        # the name of the program, in parentheses, may itself hold spaces and parentheses
        fields = (proc / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
        boot = (proc / "sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink(proc / "self/ns/pid")
    except (OSError, psutil.NoSuchProcess):
        return None
    # the start tick is exact, unlike a start time, which moves when the clock of the machine is corrected
    return None if fields[0] in "ZX" else f"{boot}:{namespace}:{fields[19]}"


def acquire(engine: Engine, campaign_id: int, holder: Holder, ttl_s: float, take_over: bool) -> Lease:
    """Take the lease of a campaign.

    It is given at once if nobody holds it, if the holder is dead, or if the user insists. If nobody can tell whether
    the holder lives, its beat is watched for ``ttl_s``; of several challengers exactly one gets the lease, because
    each one's write counts only if the epoch is still the one it saw.

    Args:
        engine: The database.
        campaign_id: The campaign.
        holder: Who asks.
        ttl_s: How long a beat may be missing, s.
        take_over: Whether to take it even from a holder that lives.

    Raises:
        CampaignLocked: Another live process drives the campaign, or another challenger was faster.
        StoreError: There is no such campaign.
    """
    beaten = False
    while True:
        seen = _look(engine, campaign_id)
        watched = False
        if seen.holder is not None and Holder.from_text(seen.holder) != holder:
            other = Holder.from_text(seen.holder)
            alive = other.is_alive(holder)
            if alive is None and not take_over and not beaten:
                after = _watch(engine, seen, ttl_s)
                if after.holder is None:
                    continue
                watched = (after.epoch, after.beat) == (seen.epoch, seen.beat)
            if beaten or not (watched or take_over or alive is False):
                raise CampaignLocked(
                    f"Campaign '{seen.name}' is driven by {other}, which is alive; stop it first, or wait for its end."
                )
        if _take(engine, seen, holder, watched):
            return Lease(campaign_id, seen.epoch + 1, holder)
        beaten = True


def fence(connection: Connection, lease: Lease) -> None:
    """Prove, as the first statement of a transaction, that the lease still holds; and beat.

    Raises:
        Fenced: Another process has taken the campaign over, or the lease was released.
    """
    proved = connection.execute(
        update(CampaignRow)
        .where(CampaignRow.id == lease.campaign_id, CampaignRow.epoch == lease.epoch)
        .values(beat=CampaignRow.beat + 1)
    )
    if proved.rowcount != 1:
        raise Fenced(
            f"Process {lease.holder} no longer drives campaign {lease.campaign_id}: its lease (epoch "
            f"{lease.epoch}) was released or taken over. Nothing was written; this process must stop."
        )


def release(engine: Engine, lease: Lease, state: str, reason: str) -> None:
    """Give the lease back, for good: even a forgotten thread of this process can write no more.

    Raises:
        Fenced: It was taken over before.
    """
    with writing(engine) as connection:
        fence(connection, lease)
        connection.execute(
            update(CampaignRow)
            .where(CampaignRow.id == lease.campaign_id)
            .values(epoch=CampaignRow.epoch + 1, holder=None, state=state, reason=reason)
        )


def is_released(engine: Engine, lease: Lease) -> bool:
    """Whether this very lease was given back, and nobody has the campaign since."""
    seen = _look(engine, lease.campaign_id)
    return seen.holder is None and seen.epoch == lease.epoch + 1


def _look(engine: Engine, campaign_id: int) -> Any:
    columns = (CampaignRow.id, CampaignRow.name, CampaignRow.epoch, CampaignRow.beat, CampaignRow.holder)
    with engine.connect() as connection:
        row = connection.execute(select(*columns).where(CampaignRow.id == campaign_id)).one_or_none()
    if row is None:
        raise StoreError(f"There is no campaign number {campaign_id} in this store.")
    return row


def _watch(engine: Engine, seen: Any, ttl_s: float) -> Any:
    deadline = time.monotonic() + ttl_s
    while time.monotonic() < deadline:
        time.sleep(min(_LOOK_EVERY_S, ttl_s / 10))
        row = _look(engine, seen.id)
        if row.holder is None or (row.epoch, row.beat) != (seen.epoch, seen.beat):
            return row
    return _look(engine, seen.id)


def stands_still(engine: Engine, seen: CampaignRecord, ttl_s: float) -> bool:
    """Watch a holder that cannot be seen from here; tell whether nothing came of it for ``ttl_s``."""
    after = _watch(engine, seen, ttl_s)
    return after.holder is None or (after.epoch, after.beat) == (seen.epoch, seen.beat)


def _take(engine: Engine, seen: Any, holder: Holder, watched: bool) -> bool:
    unchanged = [CampaignRow.id == seen.id, CampaignRow.epoch == seen.epoch]
    if watched:
        unchanged.append(CampaignRow.beat == seen.beat)  # it may have woken up since the last look
    with writing(engine) as connection:
        taken = connection.execute(
            update(CampaignRow)
            .where(*unchanged)
            .values(
                epoch=CampaignRow.epoch + 1,
                beat=CampaignRow.beat + 1,
                holder=holder.to_text(),
                state="running",
                reason="",
                stop_requested=False,
            )
        )
    return taken.rowcount == 1
