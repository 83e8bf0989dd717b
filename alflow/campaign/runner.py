"""Carries out what ``decide`` says: journal first, then act.

For every event, one transaction holds the journal entry, the data that came with it and the bookkeeping that follows
from it, fenced by the campaign's lease. Only when that is committed are the tasks it calls for submitted. Killing this
process at any instant loses at most the tasks in flight.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from alflow.campaign.commands import (
    Command,
    DropFrame,
    Finish,
    ProposeSeeds,
    PutJob,
    Start,
    StartExploring,
    StartLabel,
    StartScoring,
    StartTraining,
)
from alflow.campaign.config import comparable
from alflow.campaign.decide import decide, replay
from alflow.campaign.events import (
    CampaignResumed,
    CampaignStarted,
    CommitteeLost,
    Event,
    LabelDone,
    LabelFailed,
    StopRequested,
    WorkersChanged,
    event_from_payload,
    event_to_payload,
)
from alflow.campaign.executors import Completion, Executor
from alflow.campaign.orders import Orders
from alflow.campaign.pools import threads_for
from alflow.campaign.results import Interpretation, Results, cost_of, failure_of, spent_on
from alflow.campaign.site import Site, execution_key
from alflow.campaign.state import State
from alflow.campaign.tasks import Task
from alflow.domain import FailureKind, Structure
from alflow.errors import CampaignError
from alflow.exploration import rattle
from alflow.reference import LabelResult, remove_spooled, sweep_spool
from alflow.store import ExecutionKind, ExecutionRecord, JobRecord, Lease, Store, Transaction

__all__ = ["Observer", "Runner"]

BEAT_S = 5.0
WAIT_S = 0.5


class Observer(Protocol):
    """Something that watches a campaign, such as a progress display."""

    def seen(self, state: State, event: Event | None) -> None:
        """Take note of the state: after an event, or after a while without one."""
        ...


class Runner:
    """Drives one campaign until it ends or is stopped.

    Args:
        store: The database.
        lease: The right to drive the campaign.
        site: Structures, reference, folders.
        executor: Where tasks run.
        observers: Who watches.
    """

    def __init__(
        self, store: Store, lease: Lease, site: Site, executor: Executor, observers: Sequence[Observer] = ()
    ) -> None:
        self._store = store
        self._lease = lease
        self._site = site
        self._executor = executor
        self._observers = tuple(observers)
        self._orders = Orders(store, lease, site)
        self._results = Results(store, lease, site)
        self._tasks: dict[str, Task] = {}
        self._local: deque[Interpretation] = deque()
        self._state: State | None = None
        self._stopping = False

    def request_stop(self) -> None:
        """Ask the loop, from a signal handler, to start nothing new."""
        self._stopping = True

    def run(self) -> State:
        """Replay the journal, take up what was left, and carry on to the end.

        Returns:
            The last state: finished, stopped or failed.

        Raises:
            Fenced: Another process has taken the campaign over.
            CampaignError: The journal contradicts the program.
        """
        self._state = replay(event_from_payload(e.payload) for e in self._store.events(self._site.campaign_id))
        if self._state is None:
            ids = tuple(s.id for s in self._site.structures)
            self._record(Interpretation(CampaignStarted(comparable(self._site.config), ids, *self._workers())))
        else:
            self._import_spool()
            problem = self._orders.weights_problem()
            if problem is not None and not self._known.committee_lost:
                self._record(Interpretation(CommitteeLost(problem)))
            self._record(Interpretation(CampaignResumed(*self._workers())))
        beat = time.monotonic()
        while self._go_on():
            completion = self._executor.wait(WAIT_S)
            if completion is not None:
                self._take(completion)
            self._look_at_workers()
            if time.monotonic() - beat > BEAT_S:
                beat = time.monotonic()
                self._keep_alive()
            for observer in self._observers:
                observer.seen(self._known, None)
        return self._known

    def _workers(self) -> tuple[int, dict[str, int]]:
        return self._executor.slots, dict(self._executor.pools)

    def _look_at_workers(self) -> None:
        """Take note of workers that joined or left."""
        (slots, pools), drained = self._workers(), self._executor.drained
        if pools != self._known.pools and not self._known.ended:
            self._record(Interpretation(WorkersChanged(slots, pools, drained)))

    def _go_on(self) -> bool:
        """Record what happened in this process; tell whether the campaign is still under way."""
        self._record_local()
        return not self._known.ended

    @property
    def _known(self) -> State:
        if self._state is None:
            raise CampaignError("The campaign has no state yet; its journal is empty.")
        return self._state

    def _import_spool(self) -> None:
        """Commit labels that a previous orchestrator paid for and did not live to commit."""
        running = {
            r.request.structure_id: (task, r.request)
            for task, r in self._known.running.items()
            if r.kind == "label" and r.request is not None
        }
        for spooled in sweep_spool(self._site.spool):
            if spooled.level_id != self._site.reference.level.id:
                continue
            found = running.get(spooled.structure_id)
            if found is None:
                if self._store.find_label(spooled.structure_id, spooled.level_id) is not None:
                    remove_spooled(self._site.spool, spooled.result)
                continue
            task, request = found
            structure = self._store.structure(request.structure_id)
            result, execution = spooled.result, self._open_execution(task)
            self._record(self._results.recovered(task, request.frame_id, structure, result, execution))

    def _take(self, completion: Completion) -> None:
        task = self._tasks.pop(completion.task, None)
        if task is None:
            return
        self._record(self._results.interpret(task, completion, self._known), completion)

    def _keep_alive(self) -> None:
        self._store.beat(self._lease)
        asked = self._stopping or self._store.stop_requested(self._site.campaign_id)
        if asked and self._known.phase != "stopping":
            self._record(Interpretation(StopRequested()))

    def _record_local(self) -> None:
        if self._stopping and self._known.phase not in ("stopping", "finished", "stopped", "failed"):
            self._record(Interpretation(StopRequested("interrupted")))
        while self._local:
            self._record(self._local.popleft())

    def _record(self, found: Interpretation, completion: Completion | None = None) -> None:
        """Journal one event with all that belongs to it, then act on it."""
        state, commands = decide(self._state, found.event)
        with self._store.transaction(self._lease) as tx:
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
                self._finish_found(tx, found.event.task, found.spooled)
            for command in commands:
                self._write(tx, seq, command)
        self._state = state
        for checkpoint in found.walkers:
            self._orders.remember(checkpoint)
        for command in commands:
            if isinstance(command, DropFrame):
                self._results.forget(command.frame_id)
        for command in commands:
            self._act(command)
        if found.spooled is not None:
            remove_spooled(self._site.spool, found.spooled)
        for observer in self._observers:
            observer.seen(state, found.event)

    def _begin(self, tx: Transaction) -> None:
        tx.set_campaign_state("running", "")
        tx.add_level(self._site.reference.level)
        for structure in self._site.structures:
            tx.add_structure(structure)

    def _write(self, tx: Transaction, seq: int, command: Command) -> None:
        if isinstance(command, PutJob):
            tx.put_job(self._job(command, seq))
        elif isinstance(command, DropFrame):
            tx.set_frame_decision(command.frame_id, command.decision, command.reason)
        elif isinstance(command, Finish):
            tx.set_campaign_state(command.state, command.reason)
        elif isinstance(command, Start):
            tx.start_execution(self._execution(command))

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
            "failed" if failure else "done",
            failure_kind=failure.kind if failure else None,
            message=failure.message if failure else "",
            worker=completion.worker,
            host=cost.host,
            pid=cost.pid,
            wall_s=cost.wall_s,
            cpu_s=cost.cpu_s,
            peak_memory_mb=cost.peak_memory_mb,
        )

    def _finish_found(self, tx: Transaction, task: str, spooled: LabelResult | None) -> None:
        """Complete the execution of a label that nobody waited for: it was in the database, or in the spool."""
        key = self._open_execution(task) or self._key(task)
        if spooled is None:
            tx.finish_execution(key, "done", message="found: nothing had to be computed")
            return
        message = "found in the spool: it outlived its orchestrator"
        tx.finish_execution(key, "done", message=message, **spent_on(spooled))

    def _open_execution(self, task: str) -> str | None:
        """The execution of a task that was started, perhaps by an earlier orchestrator, and never completed."""
        rows = self._store.executions(self._site.campaign_id, kind="label")
        return next((r.key for r in rows if r.ended_at is None and r.key.endswith(f"-{task}")), None)

    def _act(self, command: Command) -> None:
        if isinstance(command, ProposeSeeds):
            self._local.append(self._results.seeds(self._propose(command.count)))
        elif isinstance(command, StartLabel):
            known = self._store.find_label(command.structure_id, self._site.reference.level.id)
            if known is not None:
                self._local.append(self._results.found(command.task, command.frame_id, known))
                return
            self._submit(self._orders.label(command))
        elif isinstance(command, StartExploring):
            self._submit(self._orders.explore(command))
        elif isinstance(command, StartTraining):
            self._submit(self._orders.train(command))
        elif isinstance(command, StartScoring):
            self._submit(self._orders.score(command))

    def _submit(self, task: Task) -> None:
        self._tasks[task.name] = task
        self._executor.submit(task)

    def _propose(self, count: int) -> list[Structure]:
        """Rattled frames around every starting structure, and those structures themselves."""
        config = self._site.config
        homes = self._site.structures[:count]
        frames = list(homes)
        share, extra = divmod(count - len(homes), len(homes))
        for number, home in enumerate(homes):
            wanted = share + (number < extra)
            if wanted:
                frames.extend(rattle(home, wanted, seed=config.seed + number, temperature=config.temperature_k))
        return frames


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
