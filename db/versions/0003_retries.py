"""Whether somebody asked to try a label again that was given up.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # In SQL, because Alembic would copy SQLite's table, and lose the checks of all other columns on the way.
    op.execute("ALTER TABLE label_jobs ADD COLUMN retry_requested BOOLEAN NOT NULL DEFAULT false")


def downgrade() -> None:
    op.execute("ALTER TABLE label_jobs DROP COLUMN retry_requested")
