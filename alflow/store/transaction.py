"""Writing: everything between the beginning and the end of one transaction is stored together, or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, literal, select, update

from alflow.domain import FailureKind, Label, Level, Structure
from alflow.domain.identity import canonical_json
from alflow.errors import StoreError
from alflow.store.columns import printable
from alflow.store.lease import Lease, fence
from alflow.store.records import (
    CampaignState,
    CommitteeRecord,
    Dataset,
    ExecutionEnd,
    ExecutionRecord,
    FrameDecision,
    FrameRecord,
    JobRecord,
    Split,
    WalkerRecord,
    now,
)
from alflow.store.rows import (
    config_values,
    ending_values,
    execution_values,
    frame_values,
    job_values,
    label_values,
    structure_values,
    walker_values,
)
from alflow.store.statements import complete_execution, insert_new, insert_or_update
from alflow.store.tables import (
    CampaignRow,
    CommitteeRow,
    DatasetMemberRow,
    DatasetRow,
    EventRow,
    ExecutionRow,
    FrameRow,
    JobRow,
    LabelRow,
    LevelRow,
    StructureRow,
    TableRow,
    WalkerRow,
)

__all__ = ["Transaction"]

_SPLITS: Final = ("train", "validation", "audit")


class Transaction:
    """One write transaction of the process that holds a campaign's lease.

    Made by :meth:`alflow.store.Store.transaction`. Adding what is there already changes nothing, so a task or an
    event may be recorded twice without harm.

    Attributes:
        repeats: Whether the same was written before and may have been stored, or not: what is there already is no
            surprise then.
    """

    def __init__(self, connection: Connection, lease: Lease) -> None:
        fence(connection, lease)
        self._connection = connection
        self._lease = lease
        self._last_seq: int | None = None
        self._appended: list[dict[str, Any]] = []
        self.repeats = False
        self._known_levels: set[str] = set()

    def append_event(self, kind: str, payload: Mapping[str, Any]) -> int:
        """Write the next line of the journal.

        Args:
            kind: What happened.
            payload: The particulars; plain JSON values.

        Returns:
            Number of the event: 1 for the first of the campaign, then without gaps.
        """
        return self.append_events([(kind, payload)])[0]

    def append_events(self, events: Sequence[tuple[str, Mapping[str, Any]]], first: int | None = None) -> list[int]:
        """Write the next lines of the journal, as :meth:`append_event` does.

        Args:
            events: What happened, each with the particulars.
            first: Number that the first of them must get, because whoever writes knows all events before it.

        Returns:
            Number of each event.

        Raises:
            StoreError: The journal does not end where it should, so nothing was written.
        """
        if self._last_seq is None:
            last = select(func.max(EventRow.seq)).where(EventRow.campaign_id == self._lease.campaign_id)
            self._last_seq = self._connection.execute(last).scalar() or 0
        if first is not None and first != self._last_seq + 1:
            raise StoreError(
                f"The journal of campaign {self._lease.campaign_id} ends at event {self._last_seq}, and this process "
                f"knows {first - 1}: the database lost what it had confirmed, or somebody else writes to this journal. "
                "Nothing was written; start again, and the campaign goes on from what the database has."
            )
        rows: list[dict[str, Any]] = [
            {
                "campaign_id": self._lease.campaign_id,
                "seq": seq,
                "kind": kind,
                "payload_json": dict(payload),
                "recorded_at": now(),
            }
            for seq, (kind, payload) in enumerate(events, self._last_seq + 1)
        ]
        self._connection.execute(insert(EventRow), rows)
        self._appended.extend(rows)
        self._last_seq += len(rows)
        return [row["seq"] for row in rows]

    def has_events_of(self, earlier: Transaction) -> bool:
        """Whether the journal holds what an earlier transaction of this lease wrote there, so that it was stored.

        Raises:
            StoreError: Another event is in their place; somebody writes to this journal without a lease.
        """
        if not earlier._appended:
            return False
        row = earlier._appended[0]  # stored together or not at all: the first tells of all
        here = (EventRow.campaign_id == row["campaign_id"], EventRow.seq == row["seq"])
        found = self._connection.execute(select(EventRow.kind, EventRow.payload_json).where(*here)).first()
        if found is None:
            return False
        meant = printable(canonical_json(row["payload_json"]))
        if (found.kind, canonical_json(found.payload_json)) != (row["kind"], meant):
            raise StoreError(
                f"Event {row['seq']} of campaign {row['campaign_id']} is {found.kind} where {row['kind']} was written: "
                "somebody else writes to this journal. Nothing was written."
            )
        return True

    def set_campaign_state(self, state: CampaignState, reason: str = "") -> None:
        """Record where the life of the campaign stands, and why."""
        here = CampaignRow.id == self._lease.campaign_id
        self._connection.execute(update(CampaignRow).where(here).values(state=state, reason=reason))

    def set_config(self, config: Mapping[str, Any]) -> None:
        """Record another configuration of the campaign, as plain JSON values."""
        here = CampaignRow.id == self._lease.campaign_id
        self._connection.execute(update(CampaignRow).where(here).values(config_values(config)))

    def add_structure(self, structure: Structure) -> bool:
        """Store a structure; returns whether it is new."""
        return self._add(StructureRow, structure_values(structure)) == 1

    def add_level(self, level: Level) -> bool:
        """Store a level of theory; returns whether it is new."""
        values = {"id": level.id, "engine": level.engine, "settings_json": dict(level.settings)}
        self._known_levels.add(level.id)
        return self._add(LevelRow, values) == 1

    def add_frame(self, frame: FrameRecord, structure: Structure) -> bool:
        """Store a frame and its structure; returns whether the frame is new.

        Raises:
            StoreError: It is a frame of another campaign, or of another structure.
        """
        return self.add_frames([(frame, structure)]) == 1

    def add_frames(self, frames: Sequence[tuple[FrameRecord, Structure]]) -> int:
        """Store frames and their structures; returns how many of the frames are new.

        Raises:
            StoreError: One is a frame of another campaign, or of another structure.
        """
        for frame, structure in frames:
            self._check_campaign(frame.campaign_id, f"Frame {frame.id}")
            if frame.structure_id != structure.id:
                raise StoreError(
                    f"Frame {frame.id} is of structure {frame.structure_id}, but was given with {structure.id}."
                )
        # every process in the same order, or two with some structures in common may wait for each other
        structures = {structure.id: structure for _, structure in frames}
        self._add(StructureRow, *(structure_values(structures[identity]) for identity in sorted(structures)))
        return self._add(FrameRow, *(frame_values(frame) for frame, _ in frames))

    def set_frame_decision(self, frame_id: str, decision: FrameDecision, reason: str = "") -> None:
        """Change what was decided about a frame.

        Raises:
            StoreError: The campaign has no such frame.
        """
        here = (FrameRow.id == frame_id, FrameRow.campaign_id == self._lease.campaign_id)
        changed = self._connection.execute(update(FrameRow).where(*here).values(decision=decision, reason=reason))
        if changed.rowcount != 1:
            raise StoreError(f"Campaign {self._lease.campaign_id} has no frame {frame_id} to decide about.")

    def put_job(self, job: JobRecord) -> None:
        """Store a job, or bring it up to date.

        Raises:
            StoreError: The campaign asks for the same label under another job already.
        """
        self.put_jobs([job])

    def put_jobs(self, jobs: Sequence[JobRecord]) -> None:
        """Store jobs, as :meth:`put_job` does, in their order: the last word on a job counts."""
        for job in jobs:
            self._check_campaign(job.campaign_id, f"Job {job.id}")
        self._put(JobRow, *map(job_values, jobs))

    def add_label(self, label: Label, execution_key: str | None = None) -> bool:
        """Store a label, with its structure and its level of theory.

        Args:
            label: The label.
            execution_key: The execution that computed it; None if it came from elsewhere.

        Returns:
            True if it is new; False if that structure has its label at that level already, which stays as it is.
        """
        self.add_structure(label.structure)
        return self.add_labels([(label, execution_key)]) == 1

    def add_labels(self, labels: Sequence[tuple[Label, str | None]]) -> int:
        """Store labels of structures that are stored, each with its execution; returns how many are new."""
        for level in {label.level.id: label.level for label, _ in labels}.values():
            if level.id not in self._known_levels:
                self.add_level(level)
        return self._add(LabelRow, *(label_values(label, key) for label, key in labels))

    def start_execution(self, execution: ExecutionRecord) -> None:
        """Record that a task is handed out.

        Raises:
            StoreError: There was an execution of this key before.
        """
        self.start_executions([execution])

    def start_executions(self, executions: Sequence[ExecutionRecord]) -> None:
        """Record that tasks are handed out, as :meth:`start_execution` does."""
        for execution in executions:
            self._check_campaign(execution.campaign_id, f"Execution {execution.key}")
        new = self._add(ExecutionRow, *map(execution_values, executions))
        if new < len(executions) and not self.repeats:
            keys = ", ".join(execution.key for execution in executions)
            raise StoreError(f"There was an execution {keys} before; each attempt needs a key of its own.")

    def finish_execution(self, ending: ExecutionEnd) -> bool:
        """Complete an execution, once.

        Args:
            ending: How it ended; what is None in it leaves what was recorded at the start.

        Returns:
            False if it had ended before; its row stays as it is.

        Raises:
            StoreError: The campaign never started such an execution.
        """
        return self.finish_executions([ending]) == 1

    def finish_executions(self, endings: Sequence[ExecutionEnd]) -> int:
        """Complete executions, as :meth:`finish_execution` does; returns how many had not ended before."""
        rows = [ending_values(ending, self._lease.campaign_id) for ending in endings]
        ended = self._write(complete_execution(), rows)
        if ended < len(rows):
            keys = {ending.key for ending in endings}
            mine = (ExecutionRow.key.in_(keys), ExecutionRow.campaign_id == self._lease.campaign_id)
            never = keys - set(self._connection.execute(select(ExecutionRow.key).where(*mine)).scalars())
            if never:
                raise StoreError(f"Campaign {self._lease.campaign_id} never started an execution {min(never)}.")
        return ended

    def close_lost_executions(self) -> int:
        """Record every execution that still runs as lost: after a restart, nobody will ever hear of it.

        Returns:
            How many there were.
        """
        here = (ExecutionRow.campaign_id == self._lease.campaign_id, ExecutionRow.ended_at.is_(None))
        values = {
            "status": "lost",
            "failure_kind": FailureKind.SCHEDULER_LOST,
            "message": "The process that waited for it ended first.",
            "ended_at": now(),
        }
        return self._connection.execute(update(ExecutionRow).where(*here).values(**values)).rowcount

    def put_walker(self, walker: WalkerRecord) -> bool:
        """Store a walker's checkpoint, unless a later one is there.

        Returns:
            Whether it was stored. A segment that arrives a second time, or late, is not.
        """
        return self.put_walkers([walker]) == 1

    def put_walkers(self, walkers: Sequence[WalkerRecord]) -> int:
        """Store checkpoints, as :meth:`put_walker` does; returns how many were stored."""
        for walker in walkers:
            self._check_campaign(walker.campaign_id, f"Walker {walker.walker}")
            if walker.velocities.shape != walker.structure.positions.shape:
                raise StoreError(
                    f"Velocities of walker {walker.walker} have shape {walker.structure.positions.shape}; found "
                    f"{walker.velocities.shape}."
                )
        return self._put(WalkerRow, *map(walker_values, walkers))

    def remove_walkers(self, numbers: Iterable[int]) -> None:
        """Remove checkpoints from which nobody can go on."""
        here = (WalkerRow.campaign_id == self._lease.campaign_id, WalkerRow.walker.in_(list(numbers)))
        self._connection.execute(delete(WalkerRow).where(*here))

    def add_committee(self, committee: CommitteeRecord) -> None:
        """Store a trained committee; an active one takes the place of the one before."""
        self._check_campaign(committee.campaign_id, f"Committee {committee.sha256[:12]}")
        if committee.state == "active":
            before = (CommitteeRow.campaign_id == committee.campaign_id, CommitteeRow.state == "active")
            self._connection.execute(update(CommitteeRow).where(*before).values(state="superseded"))
        values = dict(vars(committee))
        values["metrics_json"] = dict(values.pop("metrics"))
        self._connection.execute(insert(CommitteeRow), [values])

    def add_dataset(
        self, digest: str, members: Sequence[tuple[str, str, Split]], grown_from: Dataset | None = None
    ) -> bool:
        """Store a dataset.

        Args:
            digest: SHA-256 of its content.
            members: (structure id, level id, split) of each label; all of them stored before.
            grown_from: A stored dataset; if it is a part of this one, its rows are copied inside the database, which
                is ten times faster.

        Returns:
            Whether it is new.

        Raises:
            StoreError: There is another dataset of this digest, or a label is missing.
        """
        counts = {f"n_{split}": sum(member[2] == split for member in members) for split in _SPLITS}
        values = {"digest": digest, "campaign_id": self._lease.campaign_id, "created_at": now(), **counts}
        if not self._add(DatasetRow, values):
            columns = (DatasetRow.n_train, DatasetRow.n_validation, DatasetRow.n_audit)
            known = self._connection.execute(select(*columns).where(DatasetRow.digest == digest)).one()
            if tuple(known) != tuple(counts.values()):
                raise StoreError(
                    f"Dataset {digest[:12]} is stored with {tuple(known)} labels for training, validation and audit, "
                    f"now given with {tuple(counts.values())}: the digest does not name its content."
                )
            return False
        copied = self._copy_dataset(digest, members, grown_from)
        rows = [
            {"dataset_digest": digest, "structure_id": member[0], "level_id": member[1], "split": member[2]}
            for member in members
            if member not in copied
        ]
        if rows:
            self._connection.execute(insert(DatasetMemberRow), rows)
        return True

    def _copy_dataset(
        self, digest: str, members: Sequence[tuple[str, str, Split]], part: Dataset | None
    ) -> AbstractSet[tuple[str, str, Split]]:
        """Copy the members of a stored dataset into one that contains them; returns those that are copied."""
        if part is None or not part[1] <= set(members):
            return frozenset()
        row = DatasetMemberRow
        names = ["dataset_digest", "structure_id", "level_id", "split"]
        its = select(literal(digest), row.structure_id, row.level_id, row.split).where(row.dataset_digest == part[0])
        copied = self._connection.execute(insert(row).from_select(names, its)).rowcount
        if copied != len(part[1]):
            raise StoreError(f"Dataset {part[0][:12]} is stored with {copied} labels; expected {len(part[1])}.")
        return part[1]

    def _check_campaign(self, campaign_id: int, what: str) -> None:
        if campaign_id != self._lease.campaign_id:
            raise StoreError(
                f"{what} belongs to campaign {campaign_id}, but this transaction writes to {self._lease.campaign_id}."
            )

    def _add(self, table: type[TableRow], *rows: Mapping[str, Any]) -> int:
        """Insert rows that are not there yet; returns how many were new."""
        return self._write(insert_new(self._connection.dialect.name, table), rows)

    def _put(self, table: type[TableRow], *rows: Mapping[str, Any]) -> int:
        """Insert rows or bring them up to date; returns how many were written."""
        return self._write(insert_or_update(self._connection.dialect.name, table), rows)

    def _write(self, statement: Any, rows: Sequence[Mapping[str, Any]]) -> int:
        return self._connection.execute(statement, [dict(row) for row in rows]).rowcount if rows else 0
