"""What is written for every event, in its transaction: the journal, the data that came with it, the bookkeeping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
from alflow.store import ExecutionKind, ExecutionRecord, JobRecord, Lease, Store, Transaction

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
        """Write events in their order, with the data that came with each, and what follows from them."""
        jobs: list[JobRecord] = []
        starts: list[ExecutionRecord] = []
        for step in steps:
            seq = self._write_event(tx, step)
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

    def _write_event(self, tx: Transaction, step: Step) -> int:
        found, completion = step.found, step.completion
        seq = tx.append_event(found.event.kind, event_to_payload(found.event))
        if isinstance(found.event, CampaignStarted):
            self._begin(tx)
        if isinstance(found.event, CampaignResumed):
            tx.close_lost_executions()
            tx.set_campaign_state("running", "")
        found.effects(tx, seq)
        if completion is not None:
            self._finish_execution(tx, completion)
        elif isinstance(found.event, LabelDone | LabelFailed):
            self._finish_found(tx, found.event, found.spooled)
        return seq

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

    def _finish_execution(self, tx: Transaction, completion: Completion) -> None:
        key, answer = self._key(completion.task), completion.answer
        if completion.lost is not None:
            cause, message = completion.cause, completion.lost
            tx.finish_execution(key, "lost", failure_kind=cause, message=message, worker=completion.worker)
            return
        if answer is None:
            broken = completion.broken or ""
            tx.finish_execution(key, "failed", failure_kind=FailureKind.BUG, message=broken, worker=completion.worker)
            return
        failure, cost = failure_of(answer), cost_of(answer)
        tx.finish_execution(
            key,
            "done" if failure is None else "failed" if failure.kind is not FailureKind.WALLTIME else "lost",
            failure_kind=failure.kind if failure else None,
            message=failure.message if failure else "",
            worker=completion.worker,
            host=cost.host,
            pid=cost.pid,
            wall_s=cost.wall_s,
            cpu_s=cost.cpu_s,
            peak_memory_mb=cost.peak_memory_mb,
        )

    def end_executions(self, tx: Transaction, tasks: Sequence[str], why: str) -> None:
        """Complete the executions of tasks that nobody waits for any more."""
        for task in tasks:
            tx.finish_execution(self._key(task), "lost", failure_kind=FailureKind.WORKER_LOST, message=why)

    def _finish_found(self, tx: Transaction, event: LabelDone | LabelFailed, spooled: LabelResult | None) -> None:
        """Complete the execution of a label that nobody waited for: it was in the database, or in the spool."""
        key = self.open_execution(event.task, event.frame_id) or self._key(event.task)
        if spooled is None:
            tx.finish_execution(key, "done", message="found: nothing had to be computed")
            return
        message = "found in the spool: it outlived its orchestrator"
        tx.finish_execution(key, "done", message=message, **spent_on(spooled))

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
