"""Reading structures, labels and datasets; and the story of a frame, which needs them all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from sqlalchemy import Select, exists, select

from alflow.domain import Label, Level, Structure
from alflow.errors import StoreError
from alflow.store.query import CampaignReading
from alflow.store.reading import every
from alflow.store.records import CommitteeRecord, DatasetRecord, FrameRecord, FrameStory, JobRecord, Purpose, Split
from alflow.store.rows import LABEL_COLUMNS, dataset_of, job_of, label_of, structure_of
from alflow.store.tables import CommitteeRow, DatasetMemberRow, DatasetRow, JobRow, LabelRow, LevelRow, StructureRow

__all__ = ["DatasetReading"]

_IDS_PER_QUERY: Final = 500


class DatasetReading(CampaignReading):
    """What all campaigns of a store share, by content: structures, levels, labels and datasets."""

    def structure(self, structure_id: str) -> Structure:
        """Read a structure.

        Raises:
            StoreError: There is none with this id.
        """
        row = self._one(every(StructureRow).where(StructureRow.id == structure_id))
        if row is None:
            raise StoreError(f"There is no structure {structure_id} in {self._address.shown}.")
        return structure_of(row)

    def structures_by_id(self, ids: Iterable[str]) -> dict[str, Structure]:
        """Read many structures; those that are not in the store are left out."""
        wanted = sorted(set(ids))
        found: dict[str, Structure] = {}
        for start in range(0, len(wanted), _IDS_PER_QUERY):
            some = StructureRow.id.in_(wanted[start : start + _IDS_PER_QUERY])
            found |= {row.id: structure_of(row) for row in self._all(every(StructureRow).where(some))}
        return found

    def level(self, level_id: str) -> Level:
        """Read a level of theory.

        Raises:
            StoreError: There is none with this id.
        """
        row = self._one(every(LevelRow).where(LevelRow.id == level_id))
        if row is None:
            raise StoreError(f"There is no level of theory {level_id} in {self._address.shown}.")
        return Level(row.engine, row.settings_json)

    def find_label(self, structure_id: str, level_id: str) -> Label | None:
        """Look up the label of a structure at a level of theory; None if it was never computed."""
        one = (LabelRow.structure_id == structure_id, LabelRow.level_id == level_id)
        row = self._one(_labels().where(*one))
        return None if row is None else label_of(row, {level_id: self.level(level_id)})

    def labelled(self, structure_ids: Iterable[str], level_id: str) -> set[str]:
        """Those of some structures that have a label at a level of theory."""
        wanted = sorted(set(structure_ids))
        found: set[str] = set()
        for start in range(0, len(wanted), _IDS_PER_QUERY):
            some = LabelRow.structure_id.in_(wanted[start : start + _IDS_PER_QUERY])
            rows = self._all(select(LabelRow.structure_id).where(LabelRow.level_id == level_id, some))
            found.update(row.structure_id for row in rows)
        return found

    def labels(
        self, campaign_id: int | None = None, level_id: str | None = None, purpose: Purpose | None = None
    ) -> Iterator[Label]:
        """Read labels.

        Args:
            campaign_id: Only those a campaign asked for and has received; None for all of the store.
            level_id: Only those at this level of theory.
            purpose: Only those that were asked for with this purpose.

        Yields:
            The labels: of one campaign in the order in which they were completed, of the whole store by id.
        """
        statement = _labels()
        order: list[Any] = [LabelRow.structure_id, LabelRow.level_id]
        same = (JobRow.structure_id == LabelRow.structure_id) & (JobRow.level_id == LabelRow.level_id)
        if level_id is not None:
            statement = statement.where(LabelRow.level_id == level_id)
        if campaign_id is not None:
            statement = statement.add_columns(JobRow.event_seq).join(JobRow, same)
            statement = statement.where(JobRow.campaign_id == campaign_id, JobRow.state == "done")
            # by the job's own columns, in the order of its index, so that a page costs the same wherever it begins
            order = [JobRow.event_seq, JobRow.structure_id, JobRow.level_id]
            if purpose is not None:
                statement = statement.where(JobRow.purpose == purpose)
        elif purpose is not None:
            statement = statement.where(exists().where(same, JobRow.purpose == purpose))
        levels = self._levels()
        for row in self._pages(statement, order):
            if row.level_id not in levels:
                levels = self._levels()
            yield label_of(row, levels)

    def labels_by_id(self, pairs: Iterable[tuple[str, str]]) -> list[Label]:
        """Read labels by their keys.

        Args:
            pairs: (structure id, level id) of each.

        Returns:
            The labels in the order of the pairs.

        Raises:
            StoreError: Some of them are not in the store.
        """
        wanted = list(pairs)
        levels = self._levels()
        found: dict[tuple[str, str], Label] = {}
        for level_id in {level_id for _, level_id in wanted}:
            ids = [structure_id for structure_id, its_level in wanted if its_level == level_id]
            for start in range(0, len(ids), _IDS_PER_QUERY):
                some = LabelRow.structure_id.in_(ids[start : start + _IDS_PER_QUERY])
                for row in self._all(_labels().where(LabelRow.level_id == level_id, some)):
                    found[row.structure_id, row.level_id] = label_of(row, levels)
        missing = [
            f"{structure_id[:12]} at {level_id[:12]}"
            for structure_id, level_id in wanted
            if (structure_id, level_id) not in found
        ]
        if missing:
            raise StoreError(f"{len(missing)} labels are not in {self._address.shown}: {', '.join(missing[:5])}.")
        return [found[pair] for pair in wanted]

    def label_costs(self, level_id: str, threads: int, most: int = 1000) -> list[tuple[float, float]]:
        """Size and time of labels at a level of theory, to foretell those to come.

        Args:
            level_id: The level.
            threads: Only those of this many threads.
            most: How many to read, the newest.

        Returns:
            (size as the reference counts it, wall time in s) of each that was computed here.
        """
        statement = select(LabelRow.provenance_json).where(LabelRow.level_id == level_id)
        rows = self._all(statement.order_by(LabelRow.created_at.desc()).limit(most))
        stories = [row.provenance_json for row in rows if row.provenance_json.get("threads") == threads]
        pairs = [(story.get("size"), story.get("wall_s")) for story in stories]
        return [(float(size), float(time)) for size, time in pairs if size is not None and time is not None]

    def dataset_members(self, digest: str) -> list[tuple[str, str, Split]]:
        """Read the members of a dataset.

        Args:
            digest: The dataset.

        Returns:
            (structure id, level id, split) of each label, ordered by id.

        Raises:
            StoreError: There is no such dataset.
        """
        members = select(DatasetMemberRow.structure_id, DatasetMemberRow.level_id, DatasetMemberRow.split)
        rows = self._all(
            members.where(DatasetMemberRow.dataset_digest == digest).order_by(
                DatasetMemberRow.structure_id, DatasetMemberRow.level_id
            )
        )
        if not rows and self._one(select(DatasetRow.digest).where(DatasetRow.digest == digest)) is None:
            raise StoreError(f"There is no dataset {digest} in {self._address.shown}.")
        return [(row.structure_id, row.level_id, row.split) for row in rows]

    def datasets(self, campaign_id: int) -> dict[str, DatasetRecord]:
        """Read what the committees of a campaign were trained with and judged by: data sets by their digests."""
        own = select(CommitteeRow.dataset_digest).where(CommitteeRow.campaign_id == campaign_id)
        rows = self._all(every(DatasetRow).where(DatasetRow.digest.in_(own)))
        return {row.digest: dataset_of(row) for row in rows}

    def datasets_of(self, structure_id: str, level_id: str) -> list[tuple[DatasetRecord, Split]]:
        """Datasets a label entered, and into which part of each, oldest first."""
        statement = (
            every(DatasetRow)
            .add_columns(DatasetMemberRow.split)
            .join(DatasetMemberRow, DatasetMemberRow.dataset_digest == DatasetRow.digest)
            .where(DatasetMemberRow.structure_id == structure_id, DatasetMemberRow.level_id == level_id)
            .order_by(DatasetRow.created_at, DatasetRow.digest)
        )
        return [(dataset_of(row), row.split) for row in self._all(statement)]

    def frame_story(self, frame_id: str) -> FrameStory:
        """Gather everything known about one frame.

        Args:
            frame_id: Its id, or enough of the beginning.

        Raises:
            StoreError: No frame or more than one begins like this.
        """
        frame = self.frame(frame_id)
        job = self._job_of(frame)
        return FrameStory(
            frame=frame,
            structure=self.structure(frame.structure_id),
            job=job,
            executions=() if job is None else tuple(self.executions(frame.campaign_id, "label", job.id)),
            label=None if job is None else self.find_label(job.structure_id, job.level_id),
            committees=self._committees_of(frame),
            datasets=() if job is None else tuple(self.datasets_of(job.structure_id, job.level_id)),
        )

    def _job_of(self, frame: FrameRecord) -> JobRecord | None:
        # by structure, not by frame: a duplicate has no job of its own, but its label was asked for by its twin
        here = (JobRow.campaign_id == frame.campaign_id, JobRow.structure_id == frame.structure_id)
        row = self._one(every(JobRow).where(*here).order_by(JobRow.event_seq.desc(), JobRow.id))
        return None if row is None else job_of(row)

    def _committees_of(self, frame: FrameRecord) -> tuple[CommitteeRecord, ...]:
        return tuple(c for c in self.committees(frame.campaign_id) if c.generation == frame.generation)

    def _levels(self) -> dict[str, Level]:
        return {row.id: Level(row.engine, row.settings_json) for row in self._all(every(LevelRow))}


def _labels() -> Select[Any]:
    return select(*LABEL_COLUMNS).join(StructureRow, StructureRow.id == LabelRow.structure_id)
