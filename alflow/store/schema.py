"""The schema of a store: found, made and brought up to date by the migrations in ``db/``."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect

from alflow.errors import StoreError
from alflow.store.opening import writing

__all__ = ["check_schema", "make_schema", "migration_config", "migrations_folder"]

_LOCK_NUMBER: Final = 0x616C666C6F77  # "alflow"
_ALEMBIC_IS_NOT_THREAD_SAFE: Final = threading.Lock()


def migrations_folder(package: Path | None = None) -> Path:
    """Find the migrations.

    Args:
        package: Folder of the package ``alflow.store``; by default of the one that runs.

    Returns:
        ``migrations`` inside the package, where a wheel puts them, or ``db`` at the top of a source tree.

    Raises:
        StoreError: Neither is there; the installation is incomplete.
    """
    package = package or Path(__file__).parent
    for folder in (package / "migrations", package.parents[1] / "db"):
        if (folder / "env.py").is_file():
            return folder
    raise StoreError(f"The database migrations are missing beside {package}; alflow is not installed completely.")


def migration_config(connection: Connection | None = None) -> Config:
    """Alembic's configuration for the migrations of this installation.

    Args:
        connection: The open connection that they are to run on, in a transaction of the caller's.
    """
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def check_schema(engine: Engine, shown: str) -> None:
    """Check that a database has exactly the schema this alflow reads and writes.

    Args:
        engine: The database.
        shown: How to name it in messages.

    Raises:
        StoreError: It has no schema, an older or a newer one.
    """
    scripts = ScriptDirectory.from_config(migration_config())
    with engine.connect() as connection:
        current = _revision(connection, shown, scripts)
    if current is None:
        raise StoreError(f"{shown} is empty; start a campaign there to make it a store.")
    if current != scripts.get_current_head():
        raise StoreError(
            f"{shown} has the older schema {current}, this alflow needs {scripts.get_current_head()}; "
            "resume the campaign once with this alflow, which brings it up to date, or open it with create=True."
        )


def make_schema(engine: Engine, shown: str, new: bool = True) -> None:
    """Make the schema of a new database or bring an older one up to date, in one transaction.

    Any number of processes may do so at once: the first does the work, the others find it done.

    Args:
        engine: The database.
        shown: How to name it in messages.
        new: Whether to make tables where there are none.

    Raises:
        StoreError: The database belongs to something else or to a newer alflow.
    """
    scripts = ScriptDirectory.from_config(migration_config())
    with engine.connect() as connection:
        current = _revision(connection, shown, scripts)
        if current == scripts.get_current_head() or (current is None and not new):
            return
    with _ALEMBIC_IS_NOT_THREAD_SAFE, writing(engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK_NUMBER})")
        if _revision(connection, shown, scripts) != scripts.get_current_head():
            command.upgrade(migration_config(connection), "head")


def _revision(connection: Connection, shown: str, scripts: ScriptDirectory) -> str | None:
    tables = inspect(connection).get_table_names()
    current = MigrationContext.configure(connection).get_current_revision() if "alembic_version" in tables else None
    if current is None:
        others = sorted(set(tables) - {"alembic_version"})
        if others:
            raise StoreError(
                f"{shown} already holds tables of something else ({', '.join(others[:5])}); "
                "give alflow a database of its own."
            )
        return None
    known = {script.revision for script in scripts.walk_revisions()}
    if current not in known:
        raise StoreError(
            f"{shown} was written by a newer alflow (schema {current}; this one knows up to "
            f"{scripts.get_current_head()}); upgrade alflow."
        )
    return current
