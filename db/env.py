"""Where Alembic finds the tables, and the database.

The store runs the migrations on a connection of its own. By hand, from the top of the source tree:
``alembic -x url=sqlite:///scratch.db upgrade head``, then ``alembic -x url=sqlite:///scratch.db check``.
"""

from __future__ import annotations

from alembic import context
from alembic.util import CommandError
from sqlalchemy import Connection

from alflow.store.opening import address_of, engine_of, writing
from alflow.store.tables import TableRow


def migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=TableRow.metadata,
        render_as_batch=True,  # SQLite changes a column by copying its table
    )
    with context.begin_transaction():
        context.run_migrations()


def migrate_by_hand() -> None:
    url = context.get_x_argument(as_dictionary=True).get("url")
    if context.is_offline_mode() or not isinstance(url, str):
        raise CommandError("Say which database: alembic -x url=sqlite:///scratch.db ... (SQL scripts are not written)")
    address = address_of(url)
    if address.path is not None:
        address.path.touch()
    engine = engine_of(address)
    with writing(engine) as connection:
        migrate(connection)
    engine.dispose()


given = context.config.attributes.get("connection")
if given is None:
    migrate_by_hand()
else:
    migrate(given)
