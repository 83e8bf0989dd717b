"""A structure whose request was dropped may be asked for again.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import re

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

KEY = "campaign_id, structure_id, level_id"
NAME = "uq_label_jobs_campaign_id_structure_id_level_id"
WHO_ASKS = "uq_label_jobs_who_asks"


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        _copy_without_constraint()
    else:
        op.drop_constraint(NAME, "label_jobs", type_="unique")
    op.execute(f"CREATE UNIQUE INDEX {WHO_ASKS} ON label_jobs ({KEY}) WHERE state <> 'dropped'")


def downgrade() -> None:
    # The older alflow knows one job of a structure: the one that was not dropped, else the last.
    better = "(b.state <> 'dropped' OR (a.state = 'dropped' AND (b.event_seq, b.id) > (a.event_seq, a.id)))"
    same = " AND ".join(f"b.{column} = a.{column}" for column in KEY.split(", "))
    op.execute(
        "DELETE FROM label_jobs WHERE id IN "
        f"(SELECT a.id FROM label_jobs a JOIN label_jobs b ON {same} AND b.id <> a.id AND {better})"
    )
    op.drop_index(WHO_ASKS, "label_jobs")
    if op.get_bind().dialect.name == "sqlite":
        op.execute(f"CREATE UNIQUE INDEX {NAME} ON label_jobs ({KEY})")
    else:
        op.create_unique_constraint(NAME, "label_jobs", KEY.split(", "))


def _copy_without_constraint() -> None:
    """SQLite drops no constraint: the table is copied, with every other word of its definition as it stands."""
    connection = op.get_bind()
    about = "SELECT sql FROM sqlite_master WHERE tbl_name = 'label_jobs' AND sql IS NOT NULL AND type = "
    table = connection.exec_driver_sql(about + "'table'").scalar_one()
    indices = connection.exec_driver_sql(about + "'index'").scalars().all()
    constraint = re.compile(rf",\s*CONSTRAINT {NAME} UNIQUE \([^)]*\)")
    if constraint.search(table) is None:  # a downgrade left an index in its place
        op.drop_index(NAME, "label_jobs")
        return
    new = constraint.sub("", table)
    new = re.sub(r"^CREATE TABLE \"?label_jobs\"?", "CREATE TABLE label_jobs_new", new)
    op.execute(new.replace(":", "\\:"))
    op.execute("INSERT INTO label_jobs_new SELECT * FROM label_jobs")
    op.execute("DROP TABLE label_jobs")
    op.execute("ALTER TABLE label_jobs_new RENAME TO label_jobs")
    for index in indices:
        op.execute(index)
