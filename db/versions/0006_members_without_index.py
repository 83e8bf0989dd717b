"""Members of data sets have no index by label: every training wrote all of it anew.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

INDEX = "ix_dataset_members_structure_id_level_id"


def upgrade() -> None:
    op.drop_index(INDEX, "dataset_members")


def downgrade() -> None:
    op.create_index(INDEX, "dataset_members", ["structure_id", "level_id"])
