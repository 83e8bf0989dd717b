"""Opening a database: addresses, engines, transactions, and one clear sentence when something is wrong."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, ExceptionContext, QueuePool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, OperationalError, SQLAlchemyError

from alflow.errors import StoreError, Unavailable
from alflow.store.filesystem import mounts_of_this_machine, refuse_network

__all__ = [
    "Address",
    "address_of",
    "engine_of",
    "may_be_idle",
    "prepare_file",
    "translated",
    "use_write_ahead_log",
    "writing",
]

_BUSY_TIMEOUT_S: Final = 30.0
_CONNECT_TIMEOUT_S: Final = 10
_SILENT_S: Final = 30
"""How long nothing may come back through the network before a connection counts as broken, s."""

_IDLE_S: Final = 60
"""How long a transaction that writes may be forgotten before the server ends it, and frees its locks, s."""

_KEPT_PROMISES: Final = (
    "SELECT set_config('synchronous_commit', 'on', false)"
    " WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')"
)
"""A commit is on disk before the server says so, as with SQLite's ``synchronous = FULL``; more is left as it is."""

_WRITE: Final = "alflow_write"
_PLAIN_WORDS: Final = {
    "file is not a database": "this file is not an SQLite database; give the path of a store, or of a new file",
    "malformed": "the database is damaged; restore it from a backup (sqlite3's .recover saves what is readable)",
    "database is locked": "another process has held the write lock for 30 s; end it, then start again",
    "lock timeout": "another process has held the write lock for 30 s; end it, then start again",
    "disk is full": "the disk is full; nothing of this transaction was stored. Free some space, then start again",
    "readonly database": "it is open for reading only; nothing was written",
    "read-only transaction": "it is open for reading only; nothing was written",
    "unable to open database file": "the file cannot be opened; its folder must exist and be writable, because "
    "SQLite keeps its log beside the file",
    "disk I/O error": "the disk did not do what it was asked to; check it, then start again",
}


_PASSING: Final = ("database is locked", "disk is full", "disk I/O error")
_PASSING_STATES: Final = {
    # until a standby takes over, or somebody who moves a server lets writers in again
    "25006": "the server takes no writes at present, as a standby or one that is being moved; nothing was written",
}
"""SQLSTATEs after which writing may succeed on another connection, and what to say.

psycopg calls others an operational error, which may pass anyway: a shutdown (57P01), a crash (57P02), a start (57P03).
"""


@dataclass(frozen=True)
class Address:
    """Where a database is.

    Attributes:
        url: For PostgreSQL, everything needed to connect; None for a file.
        path: For SQLite, the file, absolute and without symbolic links; None for a server.
    """

    url: URL | None
    path: Path | None

    @property
    def shown(self) -> str:
        """The address as it may be shown: never a user or a password."""
        if self.url is None:
            return str(self.path)
        host = self.url.host or self.url.query.get("host") or "localhost"
        port = f":{self.url.port}" if self.url.port else ""
        return f"postgresql://{host}{port}/{self.url.database or ''}"

    def without_secrets(self, text: str) -> str:
        """Blank the password out of a text, wherever a driver may have put it."""
        if self.url is not None:
            for secret in (self.url.password, self.url.query.get("password")):
                if secret:
                    text = text.replace(str(secret), "***")
        return text


def address_of(target: str | Path) -> Address:
    """Understand a path or a URL.

    Args:
        target: Path of a file, ``sqlite:///path`` or ``postgresql://user:password@host:port/database``.

    Raises:
        StoreError: It is neither, or a database alflow does not use.

    Examples:
        >>> address_of("postgresql://ada:secret@db.example.org/carbon").shown
        'postgresql://db.example.org/carbon'
    """
    if isinstance(target, Path) or "://" not in target:
        return Address(None, _resolved(Path(target)))
    scheme = target.split("://", 1)[0].split("+", 1)[0].lower()
    if scheme not in ("sqlite", "postgresql", "postgres"):
        raise StoreError(
            f"A store is an SQLite file or a PostgreSQL database; found a URL that begins with {scheme}://."
        )
    try:
        url = make_url("postgresql+psycopg://" + target.split("://", 1)[1] if scheme != "sqlite" else target)
    except (ArgumentError, ValueError):
        # neither shown nor chained: what cannot be parsed may hold a password anywhere
        raise StoreError(
            f"This {scheme} URL cannot be understood; expected postgresql://user:password@host:port/database, with "
            "special characters of the password written as %xx."
        ) from None
    if scheme != "sqlite":
        return Address(url, None)
    if not url.database or url.database == ":memory:":
        raise StoreError("A store outlives its process, so it needs a file; found an SQLite database in memory.")
    return Address(None, _resolved(Path(url.database)))


def prepare_file(path: Path, create: bool) -> None:
    """Check that an SQLite file can be where it is said to be.

    Raises:
        StoreError: The folder is missing, read-only or on a network; the path is a folder; the file is missing.
    """
    if not path.parent.is_dir():
        raise StoreError(f"The folder {path.parent} does not exist; make it first, or correct the path of the store.")
    refuse_network(path.parent, mounts_of_this_machine())
    if path.is_dir():
        raise StoreError(f"{path} is a folder; a store is a file, such as {path / 'store.db'}.")
    if not path.exists() and not create:
        raise StoreError(f"There is no store at {path}; check the path, or start a campaign there to make one.")
    if create and not os.access(path.parent, os.W_OK):
        raise StoreError(f"The folder {path.parent} is read-only, so no store can be written there; choose another.")


def engine_of(address: Address, read_only: bool = False) -> Engine:
    """Make the engine of an address; connections are opened when they are needed.

    On SQLite alflow begins and ends every transaction itself: the driver of Python before 3.12 begins one only at
    the first change, which lets two readers both believe they may write.

    Raises:
        StoreError: The driver for PostgreSQL is not installed.
    """
    engine = _sqlite_engine(address.path, read_only) if address.path else _postgres_engine(address, read_only)
    return engine.execution_options(preserve_rowcount=True)


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Open one write transaction: all of it is stored when the block ends, or nothing if it raises.

    On SQLite the write lock is taken at once (BEGIN IMMEDIATE). Taking it only at the first change, after a read,
    fails without waiting when another process has written in between.
    """
    with engine.execution_options(**{_WRITE: True}).begin() as connection:
        yield connection


@contextmanager
def translated(address: Address) -> Iterator[None]:
    """Turn whatever the database says into one :class:`StoreError` sentence, without secrets."""
    try:
        yield
    except SQLAlchemyError as error:
        found = getattr(error, "orig", None) or error
        if isinstance(found, StoreError):
            raise found from None
        kind = Unavailable if _may_pass(error, str(found), address) else StoreError
        raise kind(_sentence(error, str(found), address)) from None
    except sqlite3.Error as error:
        kind = Unavailable if _may_pass(error, str(error), address) else StoreError
        raise kind(_sentence(error, str(error), address)) from None


def use_write_ahead_log(engine: Engine) -> None:
    """Switch an SQLite file to its write-ahead log, so that readers never wait for the writer.

    Raises:
        StoreError: The file system does not support it.
    """
    deadline = time.monotonic() + _BUSY_TIMEOUT_S
    while True:
        connection = engine.raw_connection()
        try:
            cursor = connection.cursor()
            mode = cursor.execute("PRAGMA journal_mode").fetchone()
            if mode[0] != "wal":
                mode = cursor.execute("PRAGMA journal_mode = WAL").fetchone()
            cursor.close()
            break
        except sqlite3.OperationalError as error:
            # SQLite does not wait by itself when two processes switch the mode at the same time
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
        finally:
            connection.close()
        time.sleep(0.02)
    if mode[0] != "wal":
        raise StoreError(
            f"This file system does not support SQLite's write-ahead log (mode is {mode[0]}); use another."
        )


def _resolved(path: Path) -> Path:
    return path.expanduser().resolve()


def _sqlite_engine(path: Path, read_only: bool) -> Engine:
    watch = _Watch(path)

    def connect() -> sqlite3.Connection:
        watch.look()
        uri = f"file:{quote(str(path))}?mode={'ro' if read_only else 'rw'}"
        if read_only and not os.access(path.parent, os.W_OK) and not Path(f"{path}-wal").exists():
            uri += "&immutable=1"  # an archive on a read-only disk: SQLite cannot make its index file, nor needs it
        connection = sqlite3.connect(
            uri, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, uri=True
        )
        try:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA query_only = {'ON' if read_only else 'OFF'}")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool, hide_parameters=True)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        immediate = connection.get_execution_options().get(_WRITE, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    @event.listens_for(engine, "checkout")
    def checkout(connection: Any, record: Any, proxy: Any) -> None:
        watch.look()

    return engine


class _Watch:
    """Refuses every use of a file that was removed or replaced after it was opened.

    The system would let a process go on with it, and all that is written would be gone with the process.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: tuple[int, int] | None = None

    def look(self) -> None:
        """See whether the file is still the one that was there at the first look.

        Raises:
            StoreError: It is not.
        """
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            found = None
        except OSError:
            return  # it cannot be looked at now; the database will say what is wrong
        if found is not None and self._opened in (None, (found.st_dev, found.st_ino)):
            self._opened = found.st_dev, found.st_ino
            return
        what = "was removed or moved away" if found is None else "was replaced by another file"
        raise StoreError(
            f"{self._path} {what} while it was open; nothing of this transaction was stored. Put the file back, with "
            "the -wal file beside it if there is one, then start again."
        )


def _postgres_engine(address: Address, read_only: bool) -> Engine:
    assert address.url is not None
    query = {"connect_timeout": str(_CONNECT_TIMEOUT_S), **_signs_of_life(), **address.url.query}
    try:
        engine = create_engine(address.url.set(query=query), pool_pre_ping=True, hide_parameters=True)
    except ModuleNotFoundError:
        raise StoreError(
            "PostgreSQL needs the driver psycopg; install it with: pip install 'alflow[postgres]'."
        ) from None

    @event.listens_for(engine, "connect")
    def connect(connection: Any, record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = '{_BUSY_TIMEOUT_S:g}s'")
            cursor.execute("SET client_min_messages = warning")
            cursor.execute(_KEPT_PROMISES)
            if not read_only:
                cursor.execute(f"SET idle_in_transaction_session_timeout = '{_IDLE_S}s'")
        connection.commit()
        if read_only:  # and else as the server has it: READ WRITE at each BEGIN is an error on a standby, even to read
            connection.read_only = True

    if not read_only:
        event.listen(engine, "handle_error", _leave_who_takes_no_writes)
    return engine


def _leave_who_takes_no_writes(context: ExceptionContext) -> None:
    """Count a connection as broken that may not write: it would stay with that server, whoever takes over."""
    if getattr(context.original_exception, "sqlstate", None) in _PASSING_STATES:
        context.is_disconnect = True


def _signs_of_life() -> dict[str, str]:
    """Settings of libpq with which a network that swallows everything is noticed; by itself it waits for hours."""
    idle, interval, count = max(1, _SILENT_S // 3), max(1, _SILENT_S // 6), 4
    return {
        "keepalives": "1",
        "keepalives_idle": str(idle),
        "keepalives_interval": str(interval),
        "keepalives_count": str(count),
        "tcp_user_timeout": str(1000 * _SILENT_S),
    }


def may_be_idle(connection: Connection) -> None:
    """Let a transaction stay open while something else takes long: files that are copied, a journal replayed."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")


def _may_pass(error: Exception, found: str, address: Address) -> bool:
    """Whether the same may succeed later: the server is away, another process writes, the disk is full."""
    if address.path is not None:
        return any(words in found for words in _PASSING)
    # psycopg calls a lost or refused connection, a shutdown, a deadlock and a full disk an operational error
    return isinstance(error, OperationalError) or (isinstance(error, DBAPIError) and error.connection_invalidated)


def _sentence(error: Exception, found: str, address: Address) -> str:
    state = getattr(getattr(error, "orig", None), "sqlstate", None)
    if state in _PASSING_STATES and isinstance(error, DBAPIError) and error.connection_invalidated:
        return f"{address.shown}: {_PASSING_STATES[state]}."
    for words, plain in _PLAIN_WORDS.items():
        if words in found:
            return f"{address.shown}: {plain}."
    first = address.without_secrets(found.strip().splitlines()[0] if found.strip() else type(error).__name__)
    if isinstance(error, IntegrityError):
        return f"{address.shown}: a row breaks a rule of the tables ({first}); nothing of this transaction was stored."
    if address.url is not None and "connection" in first:
        return f"{address.shown} cannot be reached ({first}); check that the server runs and that the URL is right."
    return f"{address.shown}: the database answered: {first}."
