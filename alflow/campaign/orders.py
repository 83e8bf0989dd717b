"""From commands to tasks: everything a worker needs, read from the store and put into one value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from alflow.campaign.commands import StartExploring, StartLabel, StartScoring, StartTraining, WalkerOrder
from alflow.campaign.openframes import OpenFrames
from alflow.campaign.requests import label_request
from alflow.campaign.site import DETACHMENT_ANG, Site, split_of
from alflow.campaign.tasks import ExploreTask, LabelTask, ScoreTask, TrainTask, WeightFile
from alflow.domain import Label, Structure
from alflow.domain.identity import content_id, digest_of_bytes
from alflow.errors import CampaignError
from alflow.exploration import Ensemble, SegmentSettings, Walker, draw_velocities
from alflow.reference import CostModel
from alflow.store import Lease, Split, Store, WalkerRecord
from alflow.units import FS_PER_PS

__all__ = ["Orders", "Parts", "dataset_digest", "named_dataset", "problem_of", "walker_of"]

Parts = dict[Split, list[Label]]
"""Labels by the part of the data set they belong to."""

FIRST_LOOK: Final = 8
"""Labels handed out before their cost is looked at; then twice as many, and so on."""


class Orders:
    """Writes out orders for workers.

    Args:
        store: The database, which holds checkpoints, frames, labels and committees.
        lease: The right to write to this campaign.
        site: Structures, reference, folders.
        open_frames: Frames that wait for their label.
    """

    def __init__(self, store: Store, lease: Lease, site: Site, open_frames: OpenFrames) -> None:
        self._store = store
        self._open = open_frames
        self._lease = lease
        self._site = site
        self._labelled_homes: tuple[Structure, ...] | None = None
        self._walkers = {r.walker: r for r in store.readable_walkers(site.campaign_id)[0]}
        self._weights: WeightFile | None = None
        self._cost: CostModel | None = None
        self._labels_ordered = self._look_again = 0
        self._learnt: list[tuple[Split, Label]] = []
        self._learnt_to = 0

    def remember(self, record: WalkerRecord) -> None:
        """Take note of a walker's new checkpoint."""
        self._walkers[record.walker] = record

    def forget_walkers(self, numbers: Iterable[int]) -> None:
        """The checkpoints of some walkers are lost."""
        for number in numbers:
            self._walkers.pop(number, None)

    def label(self, command: StartLabel) -> LabelTask:
        """One structure for the reference; a later attempt has more time and memory than the one that ran out of it.

        Once there are labels to learn from, one that takes many times longer than its like counts as hanging.
        """
        reference = self._site.reference
        if self._labels_ordered == self._look_again:
            self._cost = CostModel.of(self._store.label_costs(reference.level.id, self._site.config.reference.threads))
            self._look_again = max(2 * self._look_again, FIRST_LOOK)
        self._labels_ordered += 1
        return LabelTask(
            command.task,
            label_request(
                reference,
                self._open.structure(command.frame_id),
                self._site.config.reference,
                command.task,
                command.attempt,
                self._site.spool,
                self._cost,
            ),
        )

    def explore(self, command: StartExploring) -> ExploreTask:
        """A group of walkers for one segment."""
        config = self._site.config
        settings = SegmentSettings(
            n_steps=command.steps,
            threshold=command.threshold,
            temperature=config.temperature_k,
            seed=config.seed,
            segment=command.segment,
            audit=command.audit,
            timestep=config.timestep_fs,
            friction=config.friction_per_ps / FS_PER_PS,
            ensemble=Ensemble(config.ensemble),
            refractory_steps=round(config.flag_spacing_fs / config.timestep_fs),
            # An atom that no member sees is one on which all agree: it must not get that far.
            detachment=min(DETACHMENT_ANG, 0.95 * config.model.cutoff_ang),
        )
        walkers = tuple(self._walker(order) for order in command.walkers)
        return ExploreTask(command.task, self.active_weights(), walkers, settings)

    def train(self, command: StartTraining) -> TrainTask:
        """Every label committed up to the command's watermark, in three parts."""
        config = self._site.config
        parts = self.dataset(command.n_labels)
        start = self.active_weights() if command.generation > 1 and self.weights_problem() is None else None
        return TrainTask(
            name=command.task,
            train=tuple(parts["train"]),
            validation=tuple(parts["validation"]),
            audit=tuple(parts["audit"]),
            dataset=dataset_digest(parts),
            model=config.model,
            training=config.training,
            seed=config.seed + command.generation,
            start=start,
            folder=self._site.weights.absolute(),
        )

    def score(self, command: StartScoring) -> ScoreTask:
        """Frames that wait for a label."""
        structures = tuple(self._open.structure(frame_id) for frame_id in command.frame_ids)
        return ScoreTask(command.task, self.active_weights(), command.frame_ids, structures)

    def dataset(self, n_labels: int) -> Parts:
        """The first so many labels of the campaign, split for good.

        They are kept, because a training holds them anyway, and each but the newest has been read for the one before.
        """
        if len(self._learnt) < n_labels:
            done = self._store.jobs(self._site.campaign_id, state="done", after=self._learnt_to)
            labels = self._store.labels_by_id([(job.structure_id, job.level_id) for job in done])
            splits = [split_of(job.structure_id, job.purpose) for job in done]
            self._learnt += list(zip(splits, labels, strict=True))
            self._learnt_to = max((job.event_seq for job in done), default=self._learnt_to)
        parts: Parts = {"train": [], "validation": [], "audit": []}
        for split, label in self._learnt[:n_labels]:
            parts[split].append(label)
        return parts

    def active_weights(self) -> WeightFile:
        """The weight file of the active committee."""
        if self._weights is None:
            record = self._store.active_committee(self._site.campaign_id)
            if record is None:
                raise CampaignError("No committee is active yet; only labelling may run before the first training.")
            path = self._site.weights.absolute() / f"{record.sha256}.safetensors"
            self._weights = WeightFile(path, record.sha256)
        return self._weights

    def forget_weights(self) -> None:
        """Another committee may be active now."""
        self._weights = None

    def weights_problem(self) -> str | None:
        """What is wrong with the active committee's weight file; None if it is whole, or if there is none yet."""
        record = self._store.active_committee(self._site.campaign_id)
        if record is None:
            return None
        return problem_of(WeightFile(self._site.weights / f"{record.sha256}.safetensors", record.sha256))

    def _homes(self) -> tuple[Structure, ...]:
        """Starting structures that have a label: of another one the committee may not know the elements."""
        if self._labelled_homes is None:
            level = self._site.reference.level.id
            known = tuple(s for s in self._site.structures if self._store.find_label(s.id, level) is not None)
            self._labelled_homes = known or self._site.structures
        return self._labelled_homes

    def _walker(self, order: WalkerOrder) -> Walker:
        config = self._site.config
        record = self._walkers.get(order.walker)
        homes = self._homes()
        home = homes[order.walker % len(homes)]
        walker = walker_of(record) if record is not None else None
        if walker is not None and not order.restart:
            return walker
        # a segment holds at most two resets: a walker whose count is lost is given velocities that it never had
        resets = walker.resets + 1 if walker is not None else 2 * (order.segment - 1)
        velocities = draw_velocities(home, config.temperature_k, config.seed, order.walker, resets)
        if walker is None:
            return Walker(order.walker, home, velocities, order.step, resets)
        return replace(walker, structure=home, velocities=velocities, resets=resets)


def problem_of(weights: WeightFile) -> str | None:
    """What is wrong with a weight file; None if it is whole."""
    try:
        whole = digest_of_bytes(weights.path.read_bytes()) == weights.sha256
    except OSError as error:
        return f"{weights.path}: {error.strerror}"
    return None if whole else f"{weights.path} is not what was written"


def walker_of(record: WalkerRecord) -> Walker:
    """The checkpoint that a row holds."""
    return Walker(
        walker=record.walker,
        structure=record.structure,
        velocities=record.velocities,
        step=record.step,
        resets=record.resets,
        last_flag_step=record.last_flag_step,
    )


def dataset_digest(parts: Parts) -> str:
    """Name a data set by its members and their split."""
    return named_dataset([(*label.key, split) for split, labels in parts.items() for label in labels])


def named_dataset(members: Iterable[tuple[str, str, Split]]) -> str:
    """Name a data set by (structure id, level id, split) of its members, in any order."""
    return content_id("dataset", {"members": sorted(list(member) for member in members)})
