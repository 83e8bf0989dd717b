"""What is written for every event, in its transaction: the journal, the data that came with it, the bookkeeping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from alflow.campaign.commands import (
    Command,
    DropFrame,
    Finish,
    PutJob,
    Start,
    StartExploring,
    StartLabel,
    StartScoring,
    StartTraining,
)
from alflow.campaign.events import CampaignResumed, CampaignStarted, LabelDone, LabelFailed, event_to_payload
from alflow.campaign.executors import Completion
from alflow.campaign.pools import threads_for
from alflow.campaign.results import Interpretation, cost_of, failure_of, spent_on
from alflow.campaign.site import Site, execution_key
from alflow.campaign.state import State
from alflow.domain import FailureKind
from alflow.reference import LabelResult
from alflow.reference.spool import FOUND_IN_SPOOL
from alflow.store import ExecutionEnd, ExecutionKind, ExecutionRecord, JobRecord, Lease, Store, Transaction

__all__ = ["Ledger", "Step"]


@dataclass(frozen=True)
class Step:
    """One event on its way into the journal: what it means, what ended for it, and what ``decide`` made of it."""

    found: Interpretation
    completion: Completion | None
    state: State
    commands: Sequence[Command]


class Ledger:
    """Writes down what happened. Every attempt at every task has a row, whatever becomes of it.

    Args:
        store: The database.
        lease: The right to write to this campaign.
        site: Structures, reference, folders.
    """

    def __init__(self, store: Store, lease: Lease, site: Site) -> None:
        self._store = store
        self._lease = lease
        self._site = site

    def write(self, tx: Transaction, steps: Sequence[Step]) -> None:
        """Write events in their order, with the data that came with each, and what follows from them.

        Raises:
            StoreError: The journal does not end at the state from which these events follow.
        """
        events = [(step.found.event.kind, event_to_payload(step.found.event)) for step in steps]
        numbers = tx.append_events(events, first=steps[0].state.n_events)
        self._write_data(tx, steps, numbers)
        tx.finish_executions([ending for step in steps if (ending := self._ending(step)) is not None])
        jobs: list[JobRecord] = []
        starts: list[ExecutionRecord] = []
        for step, seq in zip(steps, numbers, strict=True):
            for command in step.commands:
                if isinstance(command, PutJob):
                    jobs.append(self._job(command, seq))
                elif isinstance(command, DropFrame):
                    tx.set_frame_decision(command.frame_id, command.decision, command.reason)
                elif isinstance(command, Finish):
                    tx.set_campaign_state(command.state, command.reason)
                elif isinstance(command, Start):
                    starts.append(self._execution(command))
        tx.put_jobs(jobs)
        tx.start_executions(starts)

    def _write_data(self, tx: Transaction, steps: Sequence[Step], numbers: Sequence[int]) -> None:
        """Write what came with events: rows of a table together, because each statement takes longer than a row."""
        frames = [
            (replace(record, event_seq=seq), structure)
            for step, seq in zip(steps, numbers, strict=True)
            for record, structure in step.found.frames
        ]
        tx.add_frames(frames)
        tx.put_walkers([checkpoint for step in steps for checkpoint in step.found.walkers])
        tx.add_labels([step.found.label for step in steps if step.found.label is not None])
        for step in steps:
            if isinstance(step.found.event, CampaignStarted):
                self._begin(tx)
            if isinstance(step.found.event, CampaignResumed):
                tx.close_lost_executions()
                tx.set_campaign_state("running", "")
            step.found.effects(tx)

    def _ending(self, step: Step) -> ExecutionEnd | None:
        """The execution that an event ends, if it ends one."""
        if step.completion is not None:
            return self._ended(step.completion)
        if isinstance(step.found.event, LabelDone | LabelFailed):
            return self._found(step.found.event, step.found.spooled)
        return None

    def _begin(self, tx: Transaction) -> None:
        tx.set_campaign_state("running", "")
        tx.add_level(self._site.reference.level)
        for structure in self._site.structures:
            tx.add_structure(structure)

    def _job(self, command: PutJob, seq: int) -> JobRecord:
        return JobRecord(
            id=command.frame_id,
            campaign_id=self._site.campaign_id,
            frame_id=command.frame_id,
            structure_id=command.structure_id,
            level_id=self._site.reference.level.id,
            purpose=command.purpose,
            state=command.state,
            priority=command.priority,
            attempts=command.attempts,
            n_lost=command.n_lost,
            failure_kind=FailureKind(command.failure) if command.failure else None,
            failure_message=command.message or "",
            event_seq=seq,
        )

    def _execution(self, command: Start) -> ExecutionRecord:
        subject = command.frame_id if isinstance(command, StartLabel) else f"generation {command.generation}"
        if isinstance(command, StartExploring):
            subject += " walkers " + " ".join(str(order.walker) for order in command.walkers)
        return ExecutionRecord(
            campaign_id=self._site.campaign_id,
            key=self._key(command.task),
            kind=_kind_of(command),
            subject=subject,
            attempt=command.attempt if isinstance(command, StartLabel) else 1,
            epoch=self._lease.epoch,
            threads=threads_for(self._site.config, _kind_of(command)),
        )

    def _key(self, task: str) -> str:
        return execution_key(self._site.campaign_id, self._lease.epoch, task)

    def _ended(self, completion: Completion) -> ExecutionEnd:
        key, answer = self._key(completion.task), completion.answer
        if completion.lost is not None:
            return ExecutionEnd(key, "lost", completion.cause, completion.lost, completion.worker)
        if answer is None:
            return ExecutionEnd(key, "failed", FailureKind.BUG, completion.broken or "", completion.worker)
        failure, cost = failure_of(answer), cost_of(answer)
        return ExecutionEnd(
            key,
            "done" if failure is None else "failed" if failure.kind is not FailureKind.WALLTIME else "lost",
            failure_kind=failure.kind if failure else None,
            message=failure.message if failure else "",
            worker=completion.worker,
            **vars(cost),
        )

    def end_executions(self, tx: Transaction, tasks: Sequence[str], why: str) -> None:
        """Complete the executions of tasks that nobody waits for any more."""
        tx.finish_executions([ExecutionEnd(self._key(task), "lost", FailureKind.WORKER_LOST, why) for task in tasks])

    def _found(self, event: LabelDone | LabelFailed, spooled: LabelResult | None) -> ExecutionEnd:
        """The end of the execution of a label that nobody waited for: it was in the database, or in the spool."""
        key = self.open_execution(event.task, event.frame_id) or self._key(event.task)
        if spooled is None:
            return ExecutionEnd(key, "done", message="found: nothing had to be computed")
        message = f"{FOUND_IN_SPOOL}: it outlived its orchestrator"
        return ExecutionEnd(key, "done", message=message, **spent_on(spooled))

    def open_execution(self, task: str, frame_id: str) -> str | None:
        """The execution of a label that was started, perhaps by an earlier orchestrator, and never completed."""
        rows = self._store.executions(self._site.campaign_id, "label", frame_id)
        return next((r.key for r in rows if r.ended_at is None and r.key.endswith(f"-{task}")), None)


def _kind_of(command: Start) -> ExecutionKind:
    match command:
        case StartLabel():
            return "label"
        case StartExploring():
            return "explore"
        case StartTraining():
            return "train"
        case StartScoring():
            return "score"
