"""The tables. A drawing of them is in ``db/README.md``; column names carry their unit."""

from __future__ import annotations

from datetime import datetime
from typing import Any, get_args

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from alflow.domain.structure import FloatArray, IntArray
from alflow.store.columns import ArrayColumn, FiniteNumber, FreeText, Json, UtcTime
from alflow.store.records import (
    CampaignState,
    CommitteeState,
    ExecutionKind,
    ExecutionStatus,
    FrameDecision,
    FrameOrigin,
    JobState,
    Purpose,
    Split,
    WalkerStatus,
)

__all__ = [
    "CampaignRow",
    "CommitteeRow",
    "DatasetMemberRow",
    "DatasetRow",
    "EventRow",
    "ExecutionRow",
    "FrameRow",
    "JobRow",
    "LabelRow",
    "LevelRow",
    "StructureRow",
    "TableRow",
    "WalkerRow",
]


class TableRow(DeclarativeBase):
    """What every table shares: predictable names of keys and constraints, so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def _one_of(column: str, words: Any) -> CheckConstraint:
    listed = ", ".join(f"'{word}'" for word in get_args(words))
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def _finite(column: str) -> CheckConstraint:
    # True on both databases for finite numbers and NULL only: PostgreSQL sorts NaN above everything, so a plain
    # comparison with itself would let it pass; 1e300 is beyond any physical number and safely below infinity.
    return CheckConstraint(f"{column} BETWEEN -1e300 AND 1e300", name=f"{column}_finite")


class CampaignRow(TableRow):
    """One campaign, with the lease of the process that drives it."""

    __tablename__ = "campaigns"
    __table_args__ = (_one_of("state", CampaignState),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    uuid: Mapped[str] = mapped_column(String(36), unique=True)
    name: Mapped[str] = mapped_column(Text, unique=True)
    config_json: Mapped[Any] = mapped_column(Json("config_json"))
    config_digest: Mapped[str] = mapped_column(String(64))
    seed: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(FreeText)
    epoch: Mapped[int] = mapped_column(BigInteger)
    beat: Mapped[int] = mapped_column(BigInteger)
    holder: Mapped[str | None] = mapped_column(Text)
    stop_requested: Mapped[bool] = mapped_column()
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    alflow_version: Mapped[str] = mapped_column(Text)


class StructureRow(TableRow):
    """One structure, by content."""

    __tablename__ = "structures"
    __table_args__ = (
        CheckConstraint("length(id) = 64", name="id"),
        CheckConstraint("n_atoms > 0", name="n_atoms"),
        CheckConstraint("multiplicity > 0", name="multiplicity"),
    )

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    formula: Mapped[str] = mapped_column(Text, index=True)
    n_atoms: Mapped[int] = mapped_column()
    charge: Mapped[int] = mapped_column()
    multiplicity: Mapped[int] = mapped_column()
    numbers: Mapped[IntArray] = mapped_column(ArrayColumn("numbers", shared=True))
    positions_ang: Mapped[FloatArray] = mapped_column(ArrayColumn("positions_ang"))
    cell_ang: Mapped[FloatArray] = mapped_column(ArrayColumn("cell_ang", shared=True))
    pbc: Mapped[str] = mapped_column(String(3))


class LevelRow(TableRow):
    """One level of theory, by content."""

    __tablename__ = "levels"
    __table_args__ = (CheckConstraint("length(id) = 64", name="id"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    engine: Mapped[str] = mapped_column(Text)
    settings_json: Mapped[Any] = mapped_column(Json("settings_json"))


class FrameRow(TableRow):
    """One frame and what was decided about it."""

    __tablename__ = "frames"
    __table_args__ = (
        _one_of("origin", FrameOrigin),
        _one_of("decision", FrameDecision),
        _finite("time_fs"),
        _finite("disagreement_ev_ang"),
        _finite("force_std_ev_ang"),
        _finite("extrapolation"),
        _finite("threshold_ev_ang"),
        _finite("predicted_energy_ev"),
        Index(None, "campaign_id", "event_seq", "id"),
        Index(None, "campaign_id", "generation"),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"))
    structure_id: Mapped[str] = mapped_column(ForeignKey("structures.id"), index=True)
    origin: Mapped[str] = mapped_column(String(16))
    walker: Mapped[int | None] = mapped_column()
    step: Mapped[int | None] = mapped_column(BigInteger)
    time_fs: Mapped[float | None] = mapped_column(FiniteNumber("time_fs"))
    generation: Mapped[int | None] = mapped_column()
    disagreement_ev_ang: Mapped[float | None] = mapped_column(FiniteNumber("disagreement_ev_ang"), index=True)
    force_std_ev_ang: Mapped[float | None] = mapped_column(FiniteNumber("force_std_ev_ang"))
    extrapolation: Mapped[float | None] = mapped_column(FiniteNumber("extrapolation"))
    threshold_ev_ang: Mapped[float | None] = mapped_column(FiniteNumber("threshold_ev_ang"))
    decision: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(FreeText)
    predicted_energy_ev: Mapped[float | None] = mapped_column(FiniteNumber("predicted_energy_ev"))
    predicted_forces_ev_ang: Mapped[FloatArray | None] = mapped_column(ArrayColumn("predicted_forces_ev_ang"))
    event_seq: Mapped[int] = mapped_column(BigInteger)


class JobRow(TableRow):
    """One label to be computed; a campaign asks for each once, and again only if it was dropped."""

    __tablename__ = "label_jobs"
    __table_args__ = (
        _one_of("purpose", Purpose),
        _one_of("state", JobState),
        _finite("priority"),
        Index(
            "uq_label_jobs_who_asks",
            "campaign_id",
            "structure_id",
            "level_id",
            unique=True,
            sqlite_where=text("state <> 'dropped'"),
            postgresql_where=text("state <> 'dropped'"),
        ),
        Index("ix_label_jobs_completed", "campaign_id", "state", "event_seq", "structure_id", "level_id"),
        Index(None, "structure_id", "level_id"),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"))
    frame_id: Mapped[str] = mapped_column(ForeignKey("frames.id"), index=True)
    structure_id: Mapped[str] = mapped_column(ForeignKey("structures.id"))
    level_id: Mapped[str] = mapped_column(ForeignKey("levels.id"))
    purpose: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(16))
    priority: Mapped[float] = mapped_column(FiniteNumber("priority"))
    attempts: Mapped[int] = mapped_column()
    n_lost: Mapped[int] = mapped_column()
    failure_kind: Mapped[str | None] = mapped_column(String(32))
    failure_message: Mapped[str] = mapped_column(FreeText)
    event_seq: Mapped[int] = mapped_column(BigInteger)
    retry_requested: Mapped[bool] = mapped_column(server_default=false())


class ExecutionRow(TableRow):
    """One attempt at one task."""

    __tablename__ = "executions"
    __table_args__ = (
        _one_of("kind", ExecutionKind),
        _one_of("status", ExecutionStatus),
        _finite("wall_s"),
        _finite("cpu_s"),
        _finite("peak_memory_mb"),
        CheckConstraint("(status = 'running') = (ended_at IS NULL)", name="ended"),
        Index(None, "campaign_id", "kind", "subject"),
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"))
    key: Mapped[str] = mapped_column(Text, unique=True)
    kind: Mapped[str] = mapped_column(String(16))
    subject: Mapped[str] = mapped_column(Text)
    attempt: Mapped[int] = mapped_column()
    epoch: Mapped[int] = mapped_column(BigInteger)
    worker: Mapped[str | None] = mapped_column(Text)
    host: Mapped[str | None] = mapped_column(Text)
    pid: Mapped[int | None] = mapped_column(BigInteger)
    started_at: Mapped[datetime] = mapped_column(UtcTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcTime)
    status: Mapped[str] = mapped_column(String(16))
    failure_kind: Mapped[str | None] = mapped_column(String(32))
    message: Mapped[str] = mapped_column(FreeText)
    wall_s: Mapped[float | None] = mapped_column(FiniteNumber("wall_s"))
    cpu_s: Mapped[float | None] = mapped_column(FiniteNumber("cpu_s"))
    peak_memory_mb: Mapped[float | None] = mapped_column(FiniteNumber("peak_memory_mb"))
    threads: Mapped[int | None] = mapped_column()


class LabelRow(TableRow):
    """One label: a structure at a level of theory, computed once for all campaigns."""

    __tablename__ = "labels"
    __table_args__ = (_finite("energy_ev"), _finite("max_force_ev_ang"))

    structure_id: Mapped[str] = mapped_column(ForeignKey("structures.id"), primary_key=True)
    level_id: Mapped[str] = mapped_column(ForeignKey("levels.id"), primary_key=True, index=True)
    energy_ev: Mapped[float] = mapped_column(FiniteNumber("energy_ev"))
    forces_ev_ang: Mapped[FloatArray] = mapped_column(ArrayColumn("forces_ev_ang"))
    stress_ev_ang3: Mapped[FloatArray | None] = mapped_column(ArrayColumn("stress_ev_ang3"))
    max_force_ev_ang: Mapped[float] = mapped_column(FiniteNumber("max_force_ev_ang"), index=True)
    diagnostics_json: Mapped[Any] = mapped_column(Json("diagnostics_json"))
    provenance_json: Mapped[Any] = mapped_column(Json("provenance_json"))
    execution_key: Mapped[str | None] = mapped_column(ForeignKey("executions.key"))
    created_at: Mapped[datetime] = mapped_column(UtcTime)


class WalkerRow(TableRow):
    """The latest checkpoint of one walker."""

    __tablename__ = "walkers"
    __table_args__ = (
        _one_of("status", WalkerStatus),
        _finite("disagreement_ev_ang"),
        _finite("temperature_k"),
    )

    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"), primary_key=True)
    walker: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    segment: Mapped[int] = mapped_column(BigInteger)
    step: Mapped[int] = mapped_column(BigInteger)
    resets: Mapped[int] = mapped_column()
    last_flag_step: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(FreeText)
    generation: Mapped[int | None] = mapped_column()
    disagreement_ev_ang: Mapped[float | None] = mapped_column(FiniteNumber("disagreement_ev_ang"))
    temperature_k: Mapped[float | None] = mapped_column(FiniteNumber("temperature_k"))
    charge: Mapped[int] = mapped_column()
    multiplicity: Mapped[int] = mapped_column()
    numbers: Mapped[IntArray] = mapped_column(ArrayColumn("numbers", shared=True))
    positions_ang: Mapped[FloatArray] = mapped_column(ArrayColumn("positions_ang"))
    cell_ang: Mapped[FloatArray] = mapped_column(ArrayColumn("cell_ang", shared=True))
    pbc: Mapped[str] = mapped_column(String(3))
    velocities_ang_fs: Mapped[FloatArray] = mapped_column(ArrayColumn("velocities_ang_fs"))


class CommitteeRow(TableRow):
    """One trained committee; at most one of a campaign is active."""

    __tablename__ = "committees"
    __table_args__ = (
        _one_of("state", CommitteeState),
        Index(None, "campaign_id", "generation"),
        Index(
            "uq_committees_active",
            "campaign_id",
            unique=True,
            sqlite_where=text("state = 'active'"),
            postgresql_where=text("state = 'active'"),
        ),
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"))
    generation: Mapped[int] = mapped_column()
    sha256: Mapped[str] = mapped_column(String(64))
    path: Mapped[str] = mapped_column(Text)
    dataset_digest: Mapped[str] = mapped_column(ForeignKey("datasets.digest"), index=True)
    parent_sha256: Mapped[str | None] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))
    metrics_json: Mapped[Any] = mapped_column(Json("metrics_json"))
    created_at: Mapped[datetime] = mapped_column(UtcTime)


class DatasetRow(TableRow):
    """One immutable set of labels."""

    __tablename__ = "datasets"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"), index=True)
    n_train: Mapped[int] = mapped_column()
    n_validation: Mapped[int] = mapped_column()
    n_audit: Mapped[int] = mapped_column()
    created_at: Mapped[datetime] = mapped_column(UtcTime)


class DatasetMemberRow(TableRow):
    """One label in one dataset, and in which part of it."""

    __tablename__ = "dataset_members"
    __table_args__ = (
        _one_of("split", Split),
        ForeignKeyConstraint(["structure_id", "level_id"], ["labels.structure_id", "labels.level_id"]),
    )

    dataset_digest: Mapped[str] = mapped_column(ForeignKey("datasets.digest"), primary_key=True)
    structure_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    level_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    split: Mapped[str] = mapped_column(String(16))


class EventRow(TableRow):
    """One line of the journal of a campaign."""

    __tablename__ = "events"

    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(Text)
    payload_json: Mapped[Any] = mapped_column(Json("payload_json"))
    recorded_at: Mapped[datetime] = mapped_column(UtcTime)
