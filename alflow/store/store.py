"""The store: one database that holds everything a campaign knows."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, func, insert, select, update

from alflow.errors import StoreError
from alflow.store.asking.selecting import Selecting
from alflow.store.checking import Checking
from alflow.store.lease import Holder, Lease, acquire, fence, is_released, release
from alflow.store.opening import Address, address_of, engine_of, prepare_file, translated, use_write_ahead_log, writing
from alflow.store.patience import Patience
from alflow.store.reading import one_moment
from alflow.store.records import CampaignRecord, CampaignState, now
from alflow.store.rows import config_values
from alflow.store.schema import check_schema, make_schema
from alflow.store.tables import CampaignRow, JobRow
from alflow.store.transaction import Transaction

__all__ = ["Snapshot", "Store"]

_IDS_PER_STATEMENT: Final = 500
_T = TypeVar("_T")


class Snapshot(Selecting, Checking):
    """A store as it was at one moment; whatever is read from it belongs together."""

    def __init__(self, engine: Engine, address: Address, connection: Connection) -> None:
        super().__init__(engine, address)
        self._connection = connection

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with translated(self._address):
            yield self._connection


class Store(Selecting):
    """A database of campaigns: an SQLite file, or PostgreSQL.

    Structures, levels and labels are shared by all campaigns, by content. Everything else belongs to one campaign
    and is written only by the process that holds its lease. Any number of threads and processes may read meanwhile.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder, Store.open(f"{folder}/store.db", create=True) as store:
        ...     campaign = store.create_campaign("water", {"walkers": 8}, seed=1)
        ...     lease = store.acquire(campaign.id, Holder.current())
        ...     with store.transaction(lease) as tx:
        ...         seq = tx.append_event("started", {"walkers": 8})
        ...     store.release(lease, "finished")
        ...     [(event.seq, event.kind) for event in store.events(campaign.id)]
        [(1, 'started')]
    """

    @classmethod
    def open(
        cls,
        target: str | Path,
        create: bool = False,
        read_only: bool = False,
        upgrade: bool = False,
        patience_s: float = 0.0,
    ) -> Store:
        """Open a store.

        Args:
            target: Path of an SQLite file, or ``postgresql://user:password@host:port/database``.
            create: Whether to make the file and its tables if they are missing, and to bring older ones up to date.
            read_only: Whether to make writing impossible.
            upgrade: Whether to bring tables of an older alflow up to date, and make none.
            patience_s: How long to try again when the database goes away after it was opened, s. Reading, beating,
                :meth:`write` and taking and giving back a lease do so; what else fails is for the caller to try again.

        Raises:
            StoreError: It cannot be opened; the message says why and what to do.
        """
        if (create or upgrade) and read_only:
            raise StoreError("A store cannot be created or upgraded and be read-only at once; choose one.")
        address = address_of(target)
        if address.path is not None:
            prepare_file(address.path, create)
        engine = engine_of(address, read_only)
        try:
            with translated(address):
                if address.path is not None and create:
                    _touch(address.path)
                if address.path is not None and not read_only:
                    use_write_ahead_log(engine)
                if create or upgrade:
                    make_schema(engine, address.shown, new=create)
                check_schema(engine, address.shown)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine, address, Patience(patience_s))

    def connect_read_only(self) -> Any:
        """A connection of your own to the same database, for SQL, on which writing is impossible.

        Returns:
            For a file, a ``sqlite3.Connection`` opened with ``mode=ro``; for a server, a ``psycopg.Connection`` whose
            transactions are all read-only. Close it when you are done. ``db/README.md`` draws the tables; the views
            ``frames_v``, ``labels_v`` and ``learning_curve_v`` join them.

        Examples:
            >>> from tempfile import TemporaryDirectory
            >>> with TemporaryDirectory() as folder, Store.open(f"{folder}/store.db", create=True) as store:
            ...     connection = store.connect_read_only()
            ...     connection.execute("SELECT count(*) FROM frames_v").fetchone()
            ...     connection.close()
            (0,)
        """
        with translated(self._address):
            connection = engine_of(self._address, read_only=True).raw_connection()
            connection.detach()
            return connection.dbapi_connection

    def close(self) -> None:
        """Close every connection. The store can be read and written by others as before."""
        self._engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def create_campaign(self, name: str, config: Mapping[str, Any], seed: int) -> CampaignRecord:
        """Create a campaign that nobody drives yet.

        Args:
            name: Its name, new in this store.
            config: Its whole configuration, as plain JSON values.
            seed: Seed of every random number.

        Raises:
            StoreError: The name is empty or taken, or the configuration is not plain JSON.
        """
        if not name.strip():
            raise StoreError("A campaign needs a name; found an empty one.")
        values = {
            "uuid": str(uuid.uuid4()),
            "name": name,
            **config_values(config),
            "seed": seed,
            "state": "created",
            "reason": "",
            "epoch": 0,
            "beat": 0,
            "holder": None,
            "stop_requested": False,
            "created_at": now(),
            "alflow_version": version("alflow"),
        }
        with translated(self._address), writing(self._engine) as connection:
            taken = select(func.count()).where(CampaignRow.name == name)
            if connection.execute(taken).scalar_one():
                raise StoreError(
                    f"There is a campaign '{name}' in {self._address.shown} already; resume it, or rename."
                )
            connection.execute(insert(CampaignRow), [values])
        return self.campaign(name)

    def acquire(self, campaign_id: int, holder: Holder, ttl_s: float = 30.0, take_over: bool = False) -> Lease:
        """Take the lease of a campaign; it is then running, and no stop is requested.

        It is given at once if the campaign is free, or its holder is dead and was of this machine. If that cannot be
        told (another machine), the holder's beat is watched for ``ttl_s`` and the lease is given if it stands still.
        A process that holds the lease already gets a new one; its old one is fenced.

        Args:
            campaign_id: The campaign.
            holder: The process that will drive it; :meth:`Holder.current` for this one.
            ttl_s: How long a beat may stand still before its holder counts as dead, s. Beat several times as often.
            take_over: Take it even from a holder that lives; that one is stopped by its next write.

        Raises:
            CampaignLocked: Another live process drives it, or another challenger was faster.
            Unavailable: The database stayed away for as long as this store is patient.
            StoreError: There is no such campaign.
        """

        def take() -> Lease:
            with translated(self._address):
                return acquire(self._engine, campaign_id, holder, ttl_s, take_over)

        return self._patience.keep_trying(take)

    def beat(self, lease: Lease) -> None:
        """Show that the holder of a lease lives. Every transaction does so too.

        Raises:
            Fenced: The campaign was taken over.
        """

        def prove() -> None:
            with translated(self._address), writing(self._engine) as connection:
                fence(connection, lease)

        self._patience.keep_trying(prove)

    def release(self, lease: Lease, state: CampaignState, reason: str = "", patience_s: float | None = None) -> None:
        """Give a lease back and record why the campaign no longer runs.

        Args:
            lease: The lease.
            state: How the campaign ended.
            reason: Why.
            patience_s: How long to try again when the database is away, s; None for as long as this store does.

        Raises:
            Fenced: The campaign was taken over.
            Unavailable: The database stayed away for that long.
        """
        in_doubt = False

        def give_back() -> None:
            nonlocal in_doubt
            with translated(self._address):
                if not (in_doubt and is_released(self._engine, lease)):
                    in_doubt = True
                    release(self._engine, lease, state, reason)

        (self._patience if patience_s is None else Patience(patience_s)).keep_trying(give_back)

    def holder_is_alive(self, campaign_id: int) -> bool | None:
        """Whether the process that holds a campaign still runs; None if nobody does or it cannot be seen from here."""
        with self._reading() as connection:
            text = connection.execute(select(CampaignRow.holder).where(CampaignRow.id == campaign_id)).scalar()
        return None if text is None else Holder.from_text(text).is_alive(Holder.current())

    def request_stop(self, campaign_id: int) -> None:
        """Ask the process that drives a campaign to stop at the next good moment. Needs no lease.

        Raises:
            StoreError: There is no such campaign.
        """
        with translated(self._address), writing(self._engine) as connection:
            asked = update(CampaignRow).where(CampaignRow.id == campaign_id).values(stop_requested=True)
            if connection.execute(asked).rowcount != 1:
                raise StoreError(f"There is no campaign number {campaign_id} in {self._address.shown}.")

    def request_retry(self, campaign_id: int, jobs: Sequence[str]) -> int:
        """Ask the process that drives a campaign, now or next, to try labels again that were given up.

        Needs no lease. The next change of a job takes the request back, so none is lost and none is granted twice.

        Args:
            campaign_id: The campaign.
            jobs: Names of the jobs.

        Returns:
            How many of them are given up, and are now asked for.
        """
        here = (JobRow.campaign_id == campaign_id, JobRow.state == "quarantined")
        asked = 0
        with translated(self._address), writing(self._engine) as connection:
            for start in range(0, len(jobs), _IDS_PER_STATEMENT):
                some = JobRow.id.in_(jobs[start : start + _IDS_PER_STATEMENT])
                wish = update(JobRow).where(*here, some).values(retry_requested=True)
                asked += connection.execute(wish).rowcount
        return asked

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Read many things that belong together, as they were when the block began, while others write."""
        with one_moment(self._engine, self._address) as connection:
            yield Snapshot(self._engine, self._address, connection)

    @contextmanager
    def transaction(self, lease: Lease) -> Iterator[Transaction]:
        """Write: all of the block is stored together when it ends, or nothing of it if it raises.

        Args:
            lease: The right to write; proved by the first statement.

        Raises:
            Fenced: The campaign was taken over, so nothing was written; this process must stop.
            StoreError: The database refused; nothing was written.
        """
        with translated(self._address), writing(self._engine) as connection:
            yield Transaction(connection, lease)

    def write(self, lease: Lease, body: Callable[[Transaction], _T]) -> _T:
        """Write in one transaction, and try again while the database is away.

        A connection that breaks in the instant of a commit leaves open whether it was stored. So before the body runs
        once more, the journal is asked for the events of the attempt before, behind the lock that the attempt held: if
        they are there, all of it is.

        Args:
            lease: The right to write.
            body: What to write. It may run several times, and at most one of them counts.

        Returns:
            What the body returned in the attempt that was stored.

        Raises:
            Fenced: The campaign was taken over, so nothing was written; this process must stop.
            Unavailable: The database stayed away for as long as this store is patient. What was written last may or
                may not be stored; its events in the journal tell.
            StoreError: The database refused; nothing was written.
        """
        in_doubt: list[tuple[Transaction, _T]] = []

        def attempt() -> _T:
            with self.transaction(lease) as tx:
                if in_doubt and tx.has_events_of(in_doubt[-1][0]):
                    return in_doubt[-1][1]
                tx.repeats = bool(in_doubt)
                result = body(tx)
                in_doubt.append((tx, result))  # until the commit is confirmed
            return result

        return self._patience.keep_trying(attempt)


def _touch(path: Path) -> None:
    try:
        path.touch()
    except OSError as error:
        raise StoreError(f"The file {path} cannot be written ({error.strerror}); choose another folder.") from None
