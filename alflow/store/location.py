"""Whether a database could be used, found out without making or changing one."""

from __future__ import annotations

import os
from pathlib import Path

from alflow.errors import StoreError
from alflow.store.opening import address_of, engine_of, prepare_file, translated

__all__ = ["check_location", "is_server", "place_of", "shown"]


def check_location(target: str | Path) -> None:
    """Check that a store can be opened, or made, where it is said to be.

    Args:
        target: Path of an SQLite file, or URL of a PostgreSQL database.

    Raises:
        StoreError: The folder is missing, read-only or on a network; the file cannot be written or is no database;
            the server does not answer.
    """
    address = address_of(target)
    if address.path is not None:
        prepare_file(address.path, create=True)
        if not address.path.exists():
            return
        if not os.access(address.path, os.W_OK):
            raise StoreError(f"{address.path} is read-only; make it writable, or choose another file.")
    engine = engine_of(address, read_only=True)
    with translated(address), engine.connect() as connection:
        connection.exec_driver_sql("SELECT count(*) FROM sqlite_master" if address.path else "SELECT 1")
    engine.dispose()


def is_server(target: str | Path) -> bool:
    """Whether an address names a database server, not a file."""
    return address_of(target).path is None


def place_of(target: str | Path) -> str:
    """An address that is the same from every folder, without user and password."""
    return address_of(target).shown


def shown(target: str | Path) -> str:
    """An address as it may be shown: a file as the user wrote it, a server without user and password.

    Examples:
        >>> shown("postgresql://ada:secret@db.example.org/carbon")
        'postgresql://db.example.org/carbon'
        >>> shown("runs/ethanol.db")
        'runs/ethanol.db'
    """
    address = address_of(target)
    return str(target) if address.path is not None else address.shown
