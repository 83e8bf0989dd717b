"""Reading campaigns, and what happened in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, cast, get_args

from sqlalchemy import Select, Text, and_, func, select, type_coerce

from alflow.errors import AlflowError, StoreError, did_you_mean
from alflow.store.reading import Reading, every
from alflow.store.records import (
    CampaignRecord,
    CommitteeRecord,
    EventRecord,
    ExecutionKind,
    ExecutionRecord,
    FrameDecision,
    FrameRecord,
    JobRecord,
    JobState,
    WalkerRecord,
)
from alflow.store.rows import (
    as_stored,
    campaign_of,
    committee_of,
    event_of,
    execution_of,
    frame_of,
    job_of,
    stored_walker,
    walker_of,
)
from alflow.store.tables import (
    CampaignRow,
    CommitteeRow,
    EventRow,
    ExecutionRow,
    FrameRow,
    JobRow,
    LabelRow,
    WalkerRow,
)

__all__ = ["CampaignReading"]

_IDS_PER_QUERY: Final = 500


class CampaignReading(Reading):
    """Everything that belongs to one campaign."""

    def campaigns(self) -> list[CampaignRecord]:
        """All campaigns of the store, oldest first."""
        return [campaign_of(row) for row in self._all(every(CampaignRow).order_by(CampaignRow.id))]

    def campaign(self, name: str | None = None) -> CampaignRecord:
        """Find a campaign by its name.

        Args:
            name: Its name; None for the only one there is.

        Raises:
            StoreError: There is none of that name, or the name is needed because there are several.
        """
        if name is not None:
            row = self._one(every(CampaignRow).where(CampaignRow.name == name))
            if row is not None:
                return campaign_of(row)
        found = self.campaigns()
        named = {campaign.name: campaign for campaign in found}
        if name is None and len(found) == 1:
            return found[0]
        if not found:
            raise StoreError(f"{self._address.shown} holds no campaign yet; start one first.")
        listed = ", ".join(sorted(named))
        if name is None:
            raise StoreError(f"{self._address.shown} holds {len(found)} campaigns; name one of them: {listed}.")
        raise StoreError(f"There is no campaign '{name}'.{did_you_mean(name, named)} Campaigns here: {listed}.")

    def stop_requested(self, campaign_id: int) -> bool:
        """Whether somebody asked a campaign to stop since it was last started."""
        row = self._one(select(CampaignRow.stop_requested).where(CampaignRow.id == campaign_id))
        return bool(row is not None and row.stop_requested)

    def events(self, campaign_id: int, after: int = 0) -> Iterator[EventRecord]:
        """Read the journal.

        Args:
            campaign_id: The campaign.
            after: Only events with a larger number than this.

        Yields:
            The events, in order.
        """
        statement = every(EventRow).where(EventRow.campaign_id == campaign_id, EventRow.seq > after)
        return map(event_of, self._pages(statement, [EventRow.seq]))

    def journal_texts(self, campaign_id: int, after: int = 0, last: int | None = None) -> Iterator[str]:
        """Read some of the journal as it is stored, which is faster than to understand it.

        Args:
            campaign_id: The campaign.
            after: Only events with a larger number than this.
            last: The last event; None for all that there are.

        Yields:
            The canonical JSON of each event, in order.
        """
        text = type_coerce(EventRow.payload_json, Text).label("text")
        statement = select(EventRow.seq, text).where(EventRow.campaign_id == campaign_id, EventRow.seq > after)
        if last is not None:
            statement = statement.where(EventRow.seq <= last)
        return (row.text for row in self._pages(cast(Select[Any], statement), [EventRow.seq]))

    def next_events(self, campaign_id: int, after: int, most: int) -> list[EventRecord]:
        """Read a part of the journal: at most so many events, with larger numbers than this, in order."""
        statement = every(EventRow).where(EventRow.campaign_id == campaign_id, EventRow.seq > after)
        return [event_of(row) for row in self._all(statement.order_by(EventRow.seq).limit(most))]

    def frame(self, prefix: str) -> FrameRecord:
        """Find a frame by the beginning of its id, or of its structure's.

        Args:
            prefix: Enough characters that only one frame is meant.

        Raises:
            StoreError: No frame or more than one begins like this; the message lists them.
        """
        if not prefix:
            raise StoreError("Give the beginning of a frame's id; found an empty one.")
        exact = self._one(every(FrameRow).where(FrameRow.id == prefix))
        if exact is not None:
            return frame_of(exact)
        for column in (FrameRow.id, FrameRow.structure_id):
            begins = func.substr(column, 1, len(prefix)) == prefix
            rows = self._all(every(FrameRow).where(begins).order_by(FrameRow.id).limit(11))
            if len(rows) == 1:
                return frame_of(rows[0])
            if rows:
                listed = ", ".join(row.id for row in rows[:10]) + (", …" if len(rows) > 10 else "")
                raise StoreError(f"More than one frame begins with '{prefix}': {listed}. Give more characters.")
        newest = self._all(select(FrameRow.id).order_by(FrameRow.event_seq.desc(), FrameRow.id).limit(5))
        listed = ", ".join(row.id for row in newest) or "none"
        raise StoreError(f"No frame or structure begins with '{prefix}'. The newest frames here: {listed}.")

    def frames_by_id(self, ids: Iterable[str]) -> dict[str, FrameRecord]:
        """Read many frames by their whole ids; those that are not in the store are left out."""
        wanted = sorted(set(ids))
        found: dict[str, FrameRecord] = {}
        for start in range(0, len(wanted), _IDS_PER_QUERY):
            some = FrameRow.id.in_(wanted[start : start + _IDS_PER_QUERY])
            found |= {row.id: frame_of(row) for row in self._all(every(FrameRow).where(some))}
        return found

    def frames(
        self,
        campaign_id: int,
        decision: FrameDecision | None = None,
        generation: int | None = None,
        walker: int | None = None,
        structure_id: str | None = None,
    ) -> Iterator[FrameRecord]:
        """Read frames in the order in which they were recorded.

        Args:
            campaign_id: The campaign.
            decision: Only those of this decision.
            generation: Only those this generation looked at.
            walker: Only those of this walker.
            structure_id: Only those of this structure.

        Yields:
            The frames, ordered by event and id.
        """
        statement = every(FrameRow).where(FrameRow.campaign_id == campaign_id)
        if decision is not None:
            statement = statement.where(FrameRow.decision == decision)
        if generation is not None:
            statement = statement.where(FrameRow.generation == generation)
        if walker is not None:
            statement = statement.where(FrameRow.walker == walker)
        if structure_id is not None:
            statement = statement.where(FrameRow.structure_id == structure_id)
        return map(frame_of, self._pages(statement, [FrameRow.event_seq, FrameRow.id]))

    def jobs(self, campaign_id: int, state: JobState | None = None, after: int = 0) -> list[JobRecord]:
        """Labels asked for, in the order of their last change.

        Args:
            campaign_id: The campaign.
            state: Only those in this state.
            after: Only those that changed after this event of the journal.
        """
        statement = every(JobRow).where(JobRow.campaign_id == campaign_id)
        if after:
            statement = statement.where(JobRow.event_seq > after)
        if state is not None:
            statement = statement.where(JobRow.state == state)
        return [job_of(row) for row in self._all(statement.order_by(JobRow.event_seq, JobRow.id))]

    def job_counts(self, campaign_id: int) -> dict[JobState, int]:
        """Number of labels asked for, by state; states without any are there with 0."""
        statement = (
            select(JobRow.state, func.count().label("number"))
            .where(JobRow.campaign_id == campaign_id)
            .group_by(JobRow.state)
        )
        counts: dict[JobState, int] = dict.fromkeys(get_args(JobState), 0)
        counts.update((row.state, row.number) for row in self._all(statement))
        return counts

    def flags(self, campaign_id: int) -> dict[str, int]:
        """Number of a campaign's labels that carry each flag of their reference, such as ``spin-contaminated``.

        Counted are the labels that were asked for, also those whose request is in quarantine.
        """
        of_job = (LabelRow.structure_id == JobRow.structure_id) & (LabelRow.level_id == JobRow.level_id)
        text = type_coerce(LabelRow.diagnostics_json, Text)
        asked = select(LabelRow.diagnostics_json).join(JobRow, of_job).where(JobRow.campaign_id == campaign_id)
        # canonical JSON: a list of flags that is not empty begins like this
        flagged = asked.where(JobRow.state != "dropped", text.contains('"flags":["', autoescape=True))
        return dict(Counter(flag for row in self._all(flagged) for flag in row[0].get("flags", ())))

    def label_flags(self, campaign_id: int, after: int, last: int) -> list[tuple[str, ...]]:
        """Warnings of references, of labels that came with the events after one number of the journal up to another.

        Returns:
            The flags of each label that has any, in the order in which they came.
        """
        of_job = and_(LabelRow.structure_id == JobRow.structure_id, LabelRow.level_id == JobRow.level_id)
        came = and_(
            JobRow.campaign_id == campaign_id, JobRow.state == "done", JobRow.event_seq.between(after + 1, last)
        )
        flagged = type_coerce(LabelRow.diagnostics_json, Text).like('%"flags":["%')
        statement = select(LabelRow.diagnostics_json).join(JobRow, of_job).where(came, flagged)
        rows = self._all(statement.order_by(JobRow.event_seq, JobRow.id))
        return [tuple(row.diagnostics_json.get("flags", ())) for row in rows]

    def executions(
        self, campaign_id: int, kind: ExecutionKind | None = None, subject: str | None = None
    ) -> list[ExecutionRecord]:
        """Attempts, oldest first.

        Args:
            campaign_id: The campaign.
            kind: Only those of this kind.
            subject: Only those that worked on this.
        """
        statement = every(ExecutionRow).where(ExecutionRow.campaign_id == campaign_id)
        if kind is not None:
            statement = statement.where(ExecutionRow.kind == kind)
        if subject is not None:
            statement = statement.where(ExecutionRow.subject == subject)
        return [execution_of(row) for row in self._all(statement.order_by(ExecutionRow.id))]

    def executions_after(self, campaign_id: int, after: int, most: int) -> list[tuple[int, ExecutionRecord]]:
        """Read attempts that began later than some attempt: at most so many, oldest first, each with its number."""
        newer = every(ExecutionRow).where(ExecutionRow.campaign_id == campaign_id, ExecutionRow.id > after)
        return [(row.id, execution_of(row)) for row in self._all(newer.order_by(ExecutionRow.id).limit(most))]

    def executions_ended(self, numbers: Sequence[int]) -> list[tuple[int, ExecutionRecord]]:
        """Those of some attempts, given by their numbers, that have ended; oldest first, each with its number."""
        found: list[tuple[int, ExecutionRecord]] = []
        for start in range(0, len(numbers), _IDS_PER_QUERY):
            some = ExecutionRow.id.in_(numbers[start : start + _IDS_PER_QUERY])
            ended = every(ExecutionRow).where(some, ExecutionRow.ended_at.is_not(None)).order_by(ExecutionRow.id)
            found.extend((row.id, execution_of(row)) for row in self._all(ended))
        return found

    def jobs_of(self, frame_ids: Sequence[str]) -> list[JobRecord]:
        """Labels that were asked for some frames, in no order."""
        return [job_of(row) for row in self._all(every(JobRow).where(JobRow.frame_id.in_(list(frame_ids))))]

    def frames_of_walker(self, campaign_id: int, walker: int, most: int) -> list[FrameRecord]:
        """The newest frames a walker reached, newest first, at most so many."""
        own = every(FrameRow).where(FrameRow.campaign_id == campaign_id, FrameRow.walker == walker)
        return [frame_of(row) for row in self._all(own.order_by(FrameRow.event_seq.desc(), FrameRow.id).limit(most))]

    def walker(self, campaign_id: int, number: int) -> WalkerRecord | None:
        """Latest checkpoint of one walker; None before its first."""
        row = self._one(every(WalkerRow).where(WalkerRow.campaign_id == campaign_id, WalkerRow.walker == number))
        return None if row is None else walker_of(row)

    def walkers(self, campaign_id: int) -> list[WalkerRecord]:
        """Latest checkpoint of each walker, by number."""
        statement = every(WalkerRow).where(WalkerRow.campaign_id == campaign_id).order_by(WalkerRow.walker)
        return [walker_of(row) for row in self._all(statement)]

    def readable_walkers(self, campaign_id: int) -> tuple[list[WalkerRecord], dict[int, str]]:
        """Latest checkpoint of each walker that can be read, and what is wrong with the others, by number."""
        statement = select(*as_stored(WalkerRow)).where(WalkerRow.campaign_id == campaign_id)
        found: list[WalkerRecord] = []
        unreadable: dict[int, str] = {}
        for row in self._all(statement.order_by(WalkerRow.walker)):
            try:
                found.append(stored_walker(row))
            except (AlflowError, ValueError, TypeError, LookupError) as error:
                unreadable[row.walker] = f"its checkpoint cannot be read: {error}"
        return found, unreadable

    def committees(self, campaign_id: int) -> list[CommitteeRecord]:
        """Committees by generation, and of one generation in the order in which they were recorded."""
        statement = every(CommitteeRow).where(CommitteeRow.campaign_id == campaign_id)
        rows = self._all(statement.order_by(CommitteeRow.generation, CommitteeRow.id))
        return [committee_of(row) for row in rows]

    def active_committee(self, campaign_id: int) -> CommitteeRecord | None:
        """The committee in use; None before the first is trained."""
        active = CommitteeRow.state == "active"
        row = self._one(every(CommitteeRow).where(CommitteeRow.campaign_id == campaign_id, active))
        return None if row is None else committee_of(row)
