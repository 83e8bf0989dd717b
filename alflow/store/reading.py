"""How everything is read: in short transactions, page by page, so that no reader ever holds a writer up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Connection, Engine, Executable, Select, select, tuple_

from alflow.store.opening import Address, may_be_idle, translated
from alflow.store.patience import NONE, Patience
from alflow.store.tables import TableRow

__all__ = ["Reading", "every", "one_moment"]

_PAGE: Final = 2000


class Reading:
    """A connection to a database, for reading.

    Args:
        engine: The database.
        address: Where it is.
        patience: How long to try again when it is away.
    """

    def __init__(self, engine: Engine, address: Address, patience: Patience = NONE) -> None:
        self._engine = engine
        self._address = address
        self._patience = patience

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with translated(self._address), self._engine.connect() as connection:
            yield connection

    def _all(self, statement: Executable) -> Sequence[Any]:
        def ask() -> Sequence[Any]:
            with self._reading() as connection:
                return connection.execute(statement).all()

        return self._patience.keep_trying(ask)

    def _one(self, statement: Executable) -> Any:
        def ask() -> Any:
            with self._reading() as connection:
                return connection.execute(statement).first()

        return self._patience.keep_trying(ask)

    def _pages(self, statement: Select[Any], order: Sequence[Any], size: int = _PAGE) -> Iterator[Any]:
        """Read rows in the order of some columns that no two rows share and that the statement selects.

        Each page begins after the last row of the one before (not after a number of rows, which would skip some
        when others are inserted meanwhile). A transaction left open for hours would make SQLite's log grow without
        end and keep PostgreSQL from tidying up.
        """
        after: tuple[Any, ...] | None = None
        while True:
            page = statement.order_by(*order).limit(size)
            if after is not None:
                page = page.where(tuple_(*order) > tuple_(*after))
            rows = self._all(page)
            yield from rows
            if len(rows) < size:
                return
            after = tuple(rows[-1]._mapping[column.key] for column in order)


@contextmanager
def one_moment(engine: Engine, address: Address) -> Iterator[Connection]:
    """A connection that sees the database as it was at one moment, whatever is written meanwhile.

    Not for long: SQLite's log grows as long as it is open.
    """
    with translated(address), engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        transaction = connection.begin()
        try:
            may_be_idle(connection)
            yield connection
        finally:
            transaction.rollback()


def every(table: type[TableRow]) -> Select[Any]:
    """Select all columns of a table."""
    return select(*table.__table__.columns)
