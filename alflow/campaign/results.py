"""From what a task returned to the event it means, and the data that is committed together with that event."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from alflow.campaign.checkpoints import digest_of
from alflow.campaign.events import (
    Event,
    FrameSeen,
    LabelDone,
    LabelFailed,
    QueueRescored,
    SeedsProposed,
    SegmentDone,
    TaskBroken,
    TaskLost,
    TrainingDone,
    WalkerReport,
)
from alflow.campaign.executors import Completion
from alflow.campaign.losses import is_last_try
from alflow.campaign.openframes import OpenFrames
from alflow.campaign.orders import Parts
from alflow.campaign.site import Site, execution_key, frame_name
from alflow.campaign.state import State
from alflow.campaign.tasks import Answer, ExploreTask, LabelTask, ScoreTask, Task, TrainingResult, TrainTask
from alflow.domain import Evaluation, Failure, FailureKind, Label, Structure
from alflow.exploration import FlaggedFrame, SegmentOutcome, WalkerOutcome
from alflow.reference import LabelResult
from alflow.reference.course import STEPS_MADE
from alflow.reference.spotcheck import grid_doubt
from alflow.selection import EnergyBand, Fingerprints, fingerprint
from alflow.store import CommitteeRecord, Dataset, FrameRecord, Lease, Store, Transaction, WalkerRecord

__all__ = ["Effects", "Interpretation", "Results"]

Effects = Callable[[Transaction], None]
"""Writes data that belongs to an event, in its transaction."""


def nothing(tx: Transaction) -> None:
    """No other data comes with this event."""


@dataclass(frozen=True)
class Interpretation:
    """An event, its data, and what follows once both are committed.

    Attributes:
        event: What happened.
        effects: Writes what came with it and is none of the following.
        frames: New frames, each with its structure; the number of the event is still missing in them.
        label: The label that was made or found, with the execution that made it.
        walkers: New checkpoints.
        spooled: The result that may leave the spool.
    """

    event: Event
    effects: Effects = nothing
    frames: tuple[tuple[FrameRecord, Structure], ...] = ()
    label: tuple[Label, str | None] | None = None
    walkers: tuple[WalkerRecord, ...] = ()
    spooled: LabelResult | None = None


class Results:
    """Reads answers of tasks.

    Args:
        store: The database.
        lease: The right to write to this campaign.
        site: Structures, reference, folders.
        open_frames: Frames that wait for their label.
    """

    def __init__(self, store: Store, lease: Lease, site: Site, open_frames: OpenFrames) -> None:
        self._open = open_frames
        self._epoch = lease.epoch
        self._site = site
        self._fingerprints = Fingerprints()
        self._band = EnergyBand()
        self._dataset: Dataset | None = None
        frames = {frame.id: frame for frame in store.frames(site.campaign_id)}
        seen = [frame for frame in frames.values() if frame.decision in ("seed", "flagged", "audit")]
        structures = store.structures_by_id(frame.structure_id for frame in seen)
        for frame in seen:
            self._fingerprints.add(frame.id, fingerprint(structures[frame.structure_id]))
        done = [job for job in store.jobs(site.campaign_id, state="done") if job.frame_id in frames]
        labels = store.labels_by_id([(job.structure_id, job.level_id) for job in done])
        for job, label in zip(done, labels, strict=True):
            self._learn(frames[job.frame_id], label)

    def interpret(self, task: Task, completion: Completion, state: State) -> Interpretation:
        """Say what a completion means."""
        if completion.lost is not None:
            last = is_last_try(state, task.name, completion.cause)
            return Interpretation(
                TaskLost(task.name, completion.lost, completion.cause.value, completion.worker, last=last)
            )
        if completion.answer is None:
            return Interpretation(TaskBroken(task.name, completion.broken or "it raised without a word"))
        value = completion.answer.value
        if isinstance(task, LabelTask) and isinstance(value, LabelResult):
            frame_id = _frame_of(state, task)
            return self.label(task.name, frame_id, task.request.structure, value)
        if isinstance(task, ExploreTask) and isinstance(value, SegmentOutcome):
            return self._segment(task, value, state)
        if isinstance(task, TrainTask) and isinstance(value, TrainingResult):
            return self._training(task, value, state)
        if isinstance(task, ScoreTask) and isinstance(value, dict):
            return Interpretation(QueueRescored(task.name, state.running[task.name].generation, value))
        return Interpretation(TaskBroken(task.name, f"it returned a {type(value).__name__}"))

    def remember(self, frame_id: str, structure: Structure) -> None:
        """A frame that has its label makes others repetitions."""
        self._fingerprints.add(frame_id, fingerprint(structure))

    def forget(self, frame_id: str) -> None:
        """A frame that will not be labelled makes no other frame a repetition."""
        self._fingerprints.discard(frame_id)

    def seeds(self, structures: list[Structure]) -> Interpretation:
        """Starting frames, as an event."""
        seen, records = [], []
        for number, structure in enumerate(structures):
            name = frame_name(self._site.campaign_id, "seed", -1, number, structure.id)
            self._fingerprints.add(name, fingerprint(structure))
            seen.append(FrameSeen(name, structure.id, -1, number, 0.0))
            records.append(FrameRecord(name, self._site.campaign_id, structure.id, "seed", "seed"))
            self._open.add(records[-1], structure)
        return Interpretation(SeedsProposed(tuple(seen)), frames=tuple(zip(records, structures, strict=True)))

    def label(
        self, task: str, frame_id: str, structure: Structure, result: LabelResult, execution: str | None = None
    ) -> Interpretation:
        """A finished attempt at a label, by an execution of this orchestrator unless another is named."""
        outcome = result.outcome
        if isinstance(outcome, Failure):
            if outcome.kind is FailureKind.BUG:
                return Interpretation(TaskBroken(task, str(outcome.diagnostics.get("traceback") or outcome.message)))
            if outcome.kind is FailureKind.WALLTIME:
                return Interpretation(
                    TaskLost(task, outcome.message, outcome.kind.value, steps_made=steps_made(outcome))
                )
            return Interpretation(LabelFailed(task, frame_id, outcome.kind.value, outcome.message))
        label = Label(structure, self._site.reference.level, outcome, result.provenance)
        execution = execution or execution_key(self._site.campaign_id, self._epoch, task)
        return replace(self.found(task, frame_id, label, execution), spooled=result)

    def found(self, task: str, frame_id: str, label: Label, execution: str | None = None) -> Interpretation:
        """A label that exists, just made or made before: to be learnt from, if its energy and its grid allow it."""
        frame = self._open.frame(frame_id)
        surprise = self._learn(frame, label)
        if frame.decision == "audit":  # left out where the committee errs most, the estimate would be too low
            surprise = None
        wrong = surprise or grid_doubt(label.evaluation.diagnostics)
        return _done(task, frame, label, execution) if wrong is None else _refused(task, frame, label, execution, wrong)

    def recovered(
        self, task: str, frame_id: str, structure: Structure, result: LabelResult, execution: str | None
    ) -> Interpretation:
        """A label that an orchestrator paid for and did not live to commit. Its energy is not judged, its grid is."""
        assert isinstance(result.outcome, Evaluation)
        label = Label(structure, self._site.reference.level, result.outcome, result.provenance)
        key = execution or execution_key(self._site.campaign_id, self._epoch, task)
        frame, wrong = self._open.frame(frame_id), grid_doubt(result.outcome.diagnostics)
        made = _done(task, frame, label, key) if wrong is None else _refused(task, frame, label, key, wrong)
        assert isinstance(made.event, LabelDone | LabelFailed)
        return replace(made, event=replace(made.event, recovered=True), spooled=result)

    def _learn(self, frame: FrameRecord, label: Label) -> str | None:
        """Hold a label's energy against the committee's; what is wrong, if anything."""
        if frame.predicted_energy is None or frame.disagreement is None or frame.threshold is None:
            return None
        error = label.evaluation.energy - frame.predicted_energy
        disagreement = max(frame.disagreement, frame.threshold)
        wrong = self._band.judge(error, disagreement)
        if wrong is None:
            self._band.learn(error, disagreement)
        return wrong

    def _segment(self, task: ExploreTask, outcome: SegmentOutcome, state: State) -> Interpretation:
        reports: list[WalkerReport] = []
        frames: list[tuple[FrameRecord, Structure]] = []
        checkpoints: list[WalkerRecord] = []
        generation = _generation_of(state, task)
        for result in outcome.walkers:
            seen = None
            if result.frame is not None:
                seen, record = self._flagged(result.frame, task, generation, "flagged", result.message)
                frames.append((record, result.frame.structure))
            elif result.unphysical is not None and result.unphysical.structure is not None:
                seen, record = self._unphysical(result, task, generation)
                frames.append((record, result.unphysical.structure))
            checkpoints.append(self._checkpoint(result, state, generation))
            reports.append(_report(result, seen, checkpoints[-1]))
        audit = None
        if outcome.audit is not None:
            audit, record = self._flagged(outcome.audit, task, generation, "audit", "drawn at random")
            if audit.duplicate_of is None:
                frames.append((record, outcome.audit.structure))
            else:
                audit = None
        event = SegmentDone(task.name, generation, tuple(reports), audit)
        return Interpretation(event, frames=tuple(frames), walkers=tuple(checkpoints))

    def _flagged(
        self, frame: FlaggedFrame, task: ExploreTask, generation: int, purpose: str, reason: str
    ) -> tuple[FrameSeen, FrameRecord]:
        name = frame_name(self._site.campaign_id, purpose, frame.walker, frame.step, frame.structure.id, task.name)
        mark = fingerprint(frame.structure)
        duplicate = self._fingerprints.twin(mark, self._site.config.duplicate_tolerance_ang)
        if duplicate is None:
            self._fingerprints.add(name, mark)
        record = FrameRecord(
            id=name,
            campaign_id=self._site.campaign_id,
            structure_id=frame.structure.id,
            origin="walker",
            decision="audit" if purpose == "audit" else "flagged",
            walker=frame.walker,
            step=frame.step,
            time=frame.step * task.settings.timestep,
            generation=generation,
            disagreement=frame.disagreement,
            force_std=frame.force_std,
            extrapolation=frame.extrapolation,
            threshold=task.settings.threshold,
            reason=reason,
            predicted_energy=frame.predicted_energy,
            predicted_forces=frame.predicted_forces,
        )
        if duplicate is None:
            self._open.add(record, frame.structure)
        seen = FrameSeen(name, frame.structure.id, frame.walker, frame.step, frame.disagreement, duplicate)
        return seen, record

    def _unphysical(self, result: WalkerOutcome, task: ExploreTask, generation: int) -> tuple[FrameSeen, FrameRecord]:
        frame = result.unphysical
        assert frame is not None
        assert frame.structure is not None
        where = (frame.walker, frame.step, frame.structure.id)
        name = frame_name(self._site.campaign_id, "unphysical", *where, task.name)
        record = FrameRecord(
            id=name,
            campaign_id=self._site.campaign_id,
            structure_id=frame.structure.id,
            origin="walker",
            decision="unphysical",
            walker=frame.walker,
            step=frame.step,
            time=frame.step * task.settings.timestep,
            generation=generation,
            disagreement=frame.disagreement,
            threshold=task.settings.threshold,
            reason=frame.message,
        )
        return FrameSeen(name, frame.structure.id, frame.walker, frame.step, frame.disagreement or 0.0), record

    def _checkpoint(self, result: WalkerOutcome, state: State, generation: int) -> WalkerRecord:
        walker = result.walker
        return WalkerRecord(
            campaign_id=self._site.campaign_id,
            walker=walker.walker,
            segment=state.walkers[walker.walker].segment,
            structure=walker.structure,
            velocities=walker.velocities,
            step=walker.step,
            resets=walker.resets,
            last_flag_step=walker.last_flag_step,
            status="paused" if result.status == "paused" else "running",
            reason=result.message,
            generation=generation,
            disagreement=result.max_disagreement,
            temperature=result.mean_temperature,
        )

    def _training(self, task: TrainTask, result: TrainingResult, state: State) -> Interpretation:
        weights = result.weights
        parts: Parts = {"train": list(task.train), "validation": list(task.validation), "audit": list(task.audit)}
        members = [(*label.key, split) for split, labels in parts.items() for label in labels]
        before, self._dataset = self._dataset, (task.dataset, frozenset(members))
        event = TrainingDone(
            task=task.name,
            n_labels=len(members),
            sha256=weights.sha256 if weights else None,
            accepted=result.accepted,
            reason=result.reason,
            metrics=result.metrics,
            machine=result.machine,
        )
        generation = state.generation + 1

        def effects(tx: Transaction) -> None:
            tx.add_dataset(task.dataset, members, before)
            if weights is not None:
                tx.add_committee(
                    CommitteeRecord(
                        campaign_id=self._site.campaign_id,
                        generation=generation,
                        sha256=weights.sha256,
                        path=f"weights/{weights.path.name}",
                        dataset_digest=task.dataset,
                        parent_sha256=task.start.sha256 if task.start else None,
                        state="active" if result.accepted else "rejected",
                        metrics=dict(result.metrics),
                    )
                )

        return Interpretation(event, effects)


def _done(task: str, frame: FrameRecord, label: Label, execution: str | None) -> Interpretation:
    """A label is there: how far the committee was off, and what is to be stored."""
    max_error = mean_error = None
    if frame.predicted_forces is not None:
        difference = frame.predicted_forces - label.evaluation.forces
        max_error = float(np.linalg.norm(difference, axis=1).max())
        mean_error = float(np.abs(difference).mean())

    return Interpretation(LabelDone(task, frame.id, max_error, mean_error), label=(label, execution))


def _refused(task: str, frame: FrameRecord, label: Label, execution: str | None, wrong: str) -> Interpretation:
    """A label is there, and something is wrong with it: it is stored all the same."""
    message = f"The label is stored and not learnt from: {wrong}."
    return Interpretation(LabelFailed(task, frame.id, FailureKind.REJECTED.value, message), label=(label, execution))


def _frame_of(state: State, task: LabelTask) -> str:
    request = state.running[task.name].request
    assert request is not None
    return request.frame_id


def _generation_of(state: State, task: ExploreTask) -> int:
    return state.running[task.name].generation


def _report(result: WalkerOutcome, seen: FrameSeen | None, checkpoint: WalkerRecord) -> WalkerReport:
    return WalkerReport(
        walker=result.walker.walker,
        status=result.status.value,
        reason=result.message,
        step=result.walker.step,
        steps=result.steps,
        max_disagreement=result.max_disagreement,
        temperature=result.mean_temperature,
        frame=seen,
        checkpoint=digest_of(checkpoint),
    )


@dataclass(frozen=True)
class Cost:
    """What an execution cost; of a label its own process is counted, not the thin task around it."""

    host: str
    pid: int
    wall_s: float
    cpu_s: float
    peak_memory_mb: float | None


def cost_of(answer: Answer) -> Cost:
    """Read the cost off an answer."""
    wall = answer.ended_at - answer.started_at
    if not isinstance(answer.value, LabelResult):
        return Cost(answer.host, answer.pid, wall, answer.cpu_s, None)
    spent = answer.value.provenance
    cpu, memory, pid = (spent.get(name) for name in ("cpu_s", "peak_memory_mb", "pid"))
    return Cost(
        answer.host,
        pid if isinstance(pid, int) else answer.pid,
        wall,
        float(cpu) if isinstance(cpu, int | float) else answer.cpu_s,
        float(memory) if isinstance(memory, int | float) else None,
    )


def spent_on(result: LabelResult) -> dict[str, Any]:
    """What a label cost, by its own account, as the columns of an execution."""
    return {name: result.provenance.get(name) for name in ("host", "pid", "wall_s", "cpu_s", "peak_memory_mb")}


def failure_of(answer: Answer) -> Failure | None:
    """The failure a label came back with, if it did."""
    outcome = answer.value.outcome if isinstance(answer.value, LabelResult) else None
    return None if outcome is None or isinstance(outcome, Evaluation) else outcome


def steps_made(failure: Failure) -> int:
    """Steps of an interrupted label that need not be made again."""
    return int(failure.diagnostics.get(STEPS_MADE, 0))
