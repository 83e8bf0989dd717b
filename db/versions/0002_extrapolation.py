"""How far a frame lies outside of what its committee was trained on.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    kind = "DOUBLE" if op.get_bind().dialect.name == "sqlite" else "DOUBLE PRECISION"
    # In SQL, because Alembic would copy SQLite's table, and lose the checks of all other columns on the way.
    op.execute(
        f"ALTER TABLE frames ADD COLUMN extrapolation {kind} "
        "CONSTRAINT ck_frames_extrapolation_finite CHECK (extrapolation BETWEEN -1e300 AND 1e300)"
    )


def downgrade() -> None:
    op.execute("ALTER TABLE frames DROP COLUMN extrapolation")
