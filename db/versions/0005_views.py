"""Views for people who ask in SQL, and indices for the questions they ask most.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

FRAMES = """
CREATE VIEW frames_v AS
SELECT f.id AS frame_id, c.name AS campaign, f.structure_id, s.formula, s.n_atoms, s.charge, s.multiplicity, s.pbc,
       f.origin, f.walker, f.step, f.time_fs, f.generation, f.disagreement_ev_ang, f.force_std_ev_ang, f.extrapolation,
       f.threshold_ev_ang, f.decision, f.reason, f.predicted_energy_ev, f.event_seq,
       j.state AS job_state, j.purpose, j.attempts, j.failure_kind,
       {split} AS split,
       l.level_id, l.energy_ev, l.max_force_ev_ang, f.predicted_energy_ev - l.energy_ev AS energy_error_ev,
       {max_error} AS max_force_error_ev_ang, l.created_at AS labelled_at, x.wall_s, x.peak_memory_mb, x.host,
       s.numbers, s.positions_ang, s.cell_ang, f.predicted_forces_ev_ang, l.forces_ev_ang, l.stress_ev_ang3
FROM frames AS f
JOIN campaigns AS c ON c.id = f.campaign_id
JOIN structures AS s ON s.id = f.structure_id
LEFT JOIN label_jobs AS j ON j.frame_id = f.id
LEFT JOIN labels AS l ON j.state = 'done' AND l.structure_id = j.structure_id AND l.level_id = j.level_id
LEFT JOIN executions AS x ON x.key = l.execution_key
LEFT JOIN events AS e
       ON j.state = 'done' AND e.campaign_id = j.campaign_id AND e.seq = j.event_seq AND e.kind = 'label_done'
"""

LABELS = """
CREATE VIEW labels_v AS
SELECT c.name AS campaign, j.frame_id, l.structure_id, l.level_id, v.engine, s.formula, s.n_atoms, s.charge,
       s.multiplicity, s.pbc, j.purpose, {split} AS split, f.generation, j.attempts, l.energy_ev, l.max_force_ev_ang,
       l.created_at AS labelled_at, x.wall_s, x.cpu_s, x.peak_memory_mb, x.threads, x.host,
       s.numbers, s.positions_ang, s.cell_ang, l.forces_ev_ang, l.stress_ev_ang3, l.diagnostics_json, l.provenance_json
FROM labels AS l
JOIN structures AS s ON s.id = l.structure_id
JOIN levels AS v ON v.id = l.level_id
LEFT JOIN label_jobs AS j ON j.structure_id = l.structure_id AND j.level_id = l.level_id AND j.state = 'done'
LEFT JOIN campaigns AS c ON c.id = j.campaign_id
LEFT JOIN frames AS f ON f.id = j.frame_id
LEFT JOIN executions AS x ON x.key = l.execution_key
"""

LEARNING_CURVE = """
CREATE VIEW learning_curve_v AS
SELECT n.name AS campaign, c.generation, c.state, d.n_train, d.n_validation, d.n_audit,
       {mae} AS audit_force_mae_ev_ang, {lower} AS audit_force_mae_lower_ev_ang,
       {upper} AS audit_force_mae_upper_ev_ang, c.sha256, c.dataset_digest, c.created_at
FROM committees AS c
JOIN campaigns AS n ON n.id = c.campaign_id
JOIN datasets AS d ON d.digest = c.dataset_digest
WHERE c.state <> 'rejected'
"""

SPLIT = """(SELECT m.split FROM dataset_members AS m JOIN committees AS k ON k.dataset_digest = m.dataset_digest
        WHERE m.structure_id = l.structure_id AND m.level_id = l.level_id AND k.campaign_id = j.campaign_id
        ORDER BY k.id DESC LIMIT 1)"""


def upgrade() -> None:
    sqlite = op.get_bind().dialect.name == "sqlite"

    def number(column: str, key: str) -> str:
        if sqlite:
            return f"json_extract({column}, '$.{key}')"
        return f"CAST(CAST({column} AS json) ->> '{key}' AS double precision)"

    errors = {
        side: number("c.metrics_json", f"audit_force_{side}_ev_ang") for side in ("mae", "mae_lower", "mae_upper")
    }
    op.create_index(op.f("ix_frames_disagreement_ev_ang"), "frames", ["disagreement_ev_ang"])
    op.create_index(op.f("ix_labels_max_force_ev_ang"), "labels", ["max_force_ev_ang"])
    op.execute(FRAMES.format(split=SPLIT, max_error=number("e.payload_json", "max_error")))
    op.execute(LABELS.format(split=SPLIT))
    op.execute(LEARNING_CURVE.format(mae=errors["mae"], lower=errors["mae_lower"], upper=errors["mae_upper"]))


def downgrade() -> None:
    for view in ("learning_curve_v", "labels_v", "frames_v"):
        op.execute(f"DROP VIEW {view}")
    op.drop_index(op.f("ix_labels_max_force_ev_ang"), "labels")
    op.drop_index(op.f("ix_frames_disagreement_ev_ang"), "frames")
