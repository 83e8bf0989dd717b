"""The first tables.

Revision ID: 0001
Revises: none
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# A migration is a fossil: it imports nothing from alflow, so that it does the same when the tables have moved on.


def upgrade() -> None:
    _campaigns()
    _levels()
    _structures()
    _datasets()
    _events()
    _executions()
    _frames()
    _walkers()
    _committees()
    _label_jobs()
    _labels()
    _dataset_members()


def downgrade() -> None:
    for table in (
        "dataset_members",
        "labels",
        "label_jobs",
        "committees",
        "walkers",
        "frames",
        "executions",
        "events",
        "datasets",
        "structures",
        "levels",
        "campaigns",
    ):
        op.drop_table(table)


def _one_of(table: str, column: str, *words: str) -> sa.CheckConstraint:
    listed = ", ".join(f"'{word}'" for word in words)
    return sa.CheckConstraint(f"{column} IN ({listed})", name=op.f(f"ck_{table}_{column}"))


def _finite(table: str, column: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(f"{column} BETWEEN -1e300 AND 1e300", name=op.f(f"ck_{table}_{column}_finite"))


def _campaigns() -> None:
    op.create_table(
        "campaigns",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("config_json", sa.Text(), nullable=False),
        sa.Column("config_digest", sa.String(length=64), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("beat", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.Text()),
        sa.Column("stop_requested", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("alflow_version", sa.Text(), nullable=False),
        _one_of("campaigns", "state", "created", "running", "stopped", "finished", "failed"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_campaigns")),
        sa.UniqueConstraint("name", name=op.f("uq_campaigns_name")),
        sa.UniqueConstraint("uuid", name=op.f("uq_campaigns_uuid")),
    )


def _levels() -> None:
    op.create_table(
        "levels",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("engine", sa.Text(), nullable=False),
        sa.Column("settings_json", sa.Text(), nullable=False),
        sa.CheckConstraint("length(id) = 64", name=op.f("ck_levels_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_levels")),
    )


def _structures() -> None:
    op.create_table(
        "structures",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("formula", sa.Text(), nullable=False),
        sa.Column("n_atoms", sa.Integer(), nullable=False),
        sa.Column("charge", sa.Integer(), nullable=False),
        sa.Column("multiplicity", sa.Integer(), nullable=False),
        sa.Column("numbers", sa.LargeBinary(), nullable=False),
        sa.Column("positions_ang", sa.LargeBinary(), nullable=False),
        sa.Column("cell_ang", sa.LargeBinary(), nullable=False),
        sa.Column("pbc", sa.String(length=3), nullable=False),
        sa.CheckConstraint("length(id) = 64", name=op.f("ck_structures_id")),
        sa.CheckConstraint("multiplicity > 0", name=op.f("ck_structures_multiplicity")),
        sa.CheckConstraint("n_atoms > 0", name=op.f("ck_structures_n_atoms")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_structures")),
    )
    op.create_index(op.f("ix_structures_formula"), "structures", ["formula"])


def _datasets() -> None:
    op.create_table(
        "datasets",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("n_train", sa.Integer(), nullable=False),
        sa.Column("n_validation", sa.Integer(), nullable=False),
        sa.Column("n_audit", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_datasets_campaign_id")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_datasets")),
    )
    op.create_index(op.f("ix_datasets_campaign_id"), "datasets", ["campaign_id"])


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("payload_json", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_events_campaign_id")),
        sa.PrimaryKeyConstraint("campaign_id", "seq", name=op.f("pk_events")),
    )


def _executions() -> None:
    op.create_table(
        "executions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("worker", sa.Text()),
        sa.Column("host", sa.Text()),
        sa.Column("pid", sa.BigInteger()),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("failure_kind", sa.String(length=32)),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("wall_s", sa.Double()),
        sa.Column("cpu_s", sa.Double()),
        sa.Column("peak_memory_mb", sa.Double()),
        sa.Column("threads", sa.Integer()),
        sa.CheckConstraint("(status = 'running') = (ended_at IS NULL)", name=op.f("ck_executions_ended")),
        _one_of("executions", "kind", "label", "explore", "train", "score"),
        _one_of("executions", "status", "running", "done", "failed", "lost"),
        _finite("executions", "cpu_s"),
        _finite("executions", "peak_memory_mb"),
        _finite("executions", "wall_s"),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_executions_campaign_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_executions")),
        sa.UniqueConstraint("key", name=op.f("uq_executions_key")),
    )
    op.create_index(op.f("ix_executions_campaign_id_kind_subject"), "executions", ["campaign_id", "kind", "subject"])


def _frames() -> None:
    op.create_table(
        "frames",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("structure_id", sa.String(length=64), nullable=False),
        sa.Column("origin", sa.String(length=16), nullable=False),
        sa.Column("walker", sa.Integer()),
        sa.Column("step", sa.BigInteger()),
        sa.Column("time_fs", sa.Double()),
        sa.Column("generation", sa.Integer()),
        sa.Column("disagreement_ev_ang", sa.Double()),
        sa.Column("force_std_ev_ang", sa.Double()),
        sa.Column("threshold_ev_ang", sa.Double()),
        sa.Column("decision", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("predicted_energy_ev", sa.Double()),
        sa.Column("predicted_forces_ev_ang", sa.LargeBinary()),
        sa.Column("event_seq", sa.BigInteger(), nullable=False),
        _one_of("frames", "decision", "seed", "flagged", "audit", "duplicate", "unphysical", "dropped"),
        _one_of("frames", "origin", "seed", "walker", "given"),
        _finite("frames", "disagreement_ev_ang"),
        _finite("frames", "force_std_ev_ang"),
        _finite("frames", "predicted_energy_ev"),
        _finite("frames", "threshold_ev_ang"),
        _finite("frames", "time_fs"),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_frames_campaign_id")),
        sa.ForeignKeyConstraint(["structure_id"], ["structures.id"], name=op.f("fk_frames_structure_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_frames")),
    )
    op.create_index(op.f("ix_frames_campaign_id_event_seq_id"), "frames", ["campaign_id", "event_seq", "id"])
    op.create_index(op.f("ix_frames_campaign_id_generation"), "frames", ["campaign_id", "generation"])
    op.create_index(op.f("ix_frames_structure_id"), "frames", ["structure_id"])


def _walkers() -> None:
    op.create_table(
        "walkers",
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("walker", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("segment", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("resets", sa.Integer(), nullable=False),
        sa.Column("last_flag_step", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer()),
        sa.Column("disagreement_ev_ang", sa.Double()),
        sa.Column("temperature_k", sa.Double()),
        sa.Column("charge", sa.Integer(), nullable=False),
        sa.Column("multiplicity", sa.Integer(), nullable=False),
        sa.Column("numbers", sa.LargeBinary(), nullable=False),
        sa.Column("positions_ang", sa.LargeBinary(), nullable=False),
        sa.Column("cell_ang", sa.LargeBinary(), nullable=False),
        sa.Column("pbc", sa.String(length=3), nullable=False),
        sa.Column("velocities_ang_fs", sa.LargeBinary(), nullable=False),
        _one_of("walkers", "status", "running", "paused", "exploring"),
        _finite("walkers", "disagreement_ev_ang"),
        _finite("walkers", "temperature_k"),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_walkers_campaign_id")),
        sa.PrimaryKeyConstraint("campaign_id", "walker", name=op.f("pk_walkers")),
    )


def _committees() -> None:
    op.create_table(
        "committees",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("dataset_digest", sa.String(length=64), nullable=False),
        sa.Column("parent_sha256", sa.String(length=64)),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("metrics_json", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        _one_of("committees", "state", "active", "superseded", "rejected"),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_committees_campaign_id")),
        sa.ForeignKeyConstraint(["dataset_digest"], ["datasets.digest"], name=op.f("fk_committees_dataset_digest")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_committees")),
    )
    op.create_index(op.f("ix_committees_campaign_id_generation"), "committees", ["campaign_id", "generation"])
    op.create_index(op.f("ix_committees_dataset_digest"), "committees", ["dataset_digest"])
    op.create_index(
        "uq_committees_active",
        "committees",
        ["campaign_id"],
        unique=True,
        sqlite_where=sa.text("state = 'active'"),
        postgresql_where=sa.text("state = 'active'"),
    )


def _label_jobs() -> None:
    op.create_table(
        "label_jobs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("frame_id", sa.Text(), nullable=False),
        sa.Column("structure_id", sa.String(length=64), nullable=False),
        sa.Column("level_id", sa.String(length=64), nullable=False),
        sa.Column("purpose", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("priority", sa.Double(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("n_lost", sa.Integer(), nullable=False),
        sa.Column("failure_kind", sa.String(length=32)),
        sa.Column("failure_message", sa.Text(), nullable=False),
        sa.Column("event_seq", sa.BigInteger(), nullable=False),
        _one_of("label_jobs", "purpose", "seed", "flagged", "audit"),
        _one_of("label_jobs", "state", "pending", "running", "done", "quarantined", "dropped"),
        _finite("label_jobs", "priority"),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_label_jobs_campaign_id")),
        sa.ForeignKeyConstraint(["frame_id"], ["frames.id"], name=op.f("fk_label_jobs_frame_id")),
        sa.ForeignKeyConstraint(["level_id"], ["levels.id"], name=op.f("fk_label_jobs_level_id")),
        sa.ForeignKeyConstraint(["structure_id"], ["structures.id"], name=op.f("fk_label_jobs_structure_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_label_jobs")),
        sa.UniqueConstraint(
            "campaign_id", "structure_id", "level_id", name=op.f("uq_label_jobs_campaign_id_structure_id_level_id")
        ),
    )
    op.create_index(
        "ix_label_jobs_completed", "label_jobs", ["campaign_id", "state", "event_seq", "structure_id", "level_id"]
    )
    op.create_index(op.f("ix_label_jobs_frame_id"), "label_jobs", ["frame_id"])
    op.create_index(op.f("ix_label_jobs_structure_id_level_id"), "label_jobs", ["structure_id", "level_id"])


def _labels() -> None:
    op.create_table(
        "labels",
        sa.Column("structure_id", sa.String(length=64), nullable=False),
        sa.Column("level_id", sa.String(length=64), nullable=False),
        sa.Column("energy_ev", sa.Double(), nullable=False),
        sa.Column("forces_ev_ang", sa.LargeBinary(), nullable=False),
        sa.Column("stress_ev_ang3", sa.LargeBinary()),
        sa.Column("max_force_ev_ang", sa.Double(), nullable=False),
        sa.Column("diagnostics_json", sa.Text(), nullable=False),
        sa.Column("provenance_json", sa.Text(), nullable=False),
        sa.Column("execution_key", sa.Text()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        _finite("labels", "energy_ev"),
        _finite("labels", "max_force_ev_ang"),
        sa.ForeignKeyConstraint(["execution_key"], ["executions.key"], name=op.f("fk_labels_execution_key")),
        sa.ForeignKeyConstraint(["level_id"], ["levels.id"], name=op.f("fk_labels_level_id")),
        sa.ForeignKeyConstraint(["structure_id"], ["structures.id"], name=op.f("fk_labels_structure_id")),
        sa.PrimaryKeyConstraint("structure_id", "level_id", name=op.f("pk_labels")),
    )
    op.create_index(op.f("ix_labels_level_id"), "labels", ["level_id"])


def _dataset_members() -> None:
    op.create_table(
        "dataset_members",
        sa.Column("dataset_digest", sa.String(length=64), nullable=False),
        sa.Column("structure_id", sa.String(length=64), nullable=False),
        sa.Column("level_id", sa.String(length=64), nullable=False),
        sa.Column("split", sa.String(length=16), nullable=False),
        _one_of("dataset_members", "split", "train", "validation", "audit"),
        sa.ForeignKeyConstraint(
            ["dataset_digest"], ["datasets.digest"], name=op.f("fk_dataset_members_dataset_digest")
        ),
        sa.ForeignKeyConstraint(
            ["structure_id", "level_id"],
            ["labels.structure_id", "labels.level_id"],
            name=op.f("fk_dataset_members_structure_id_level_id"),
        ),
        sa.PrimaryKeyConstraint("dataset_digest", "structure_id", "level_id", name=op.f("pk_dataset_members")),
    )
    op.create_index(op.f("ix_dataset_members_structure_id_level_id"), "dataset_members", ["structure_id", "level_id"])
