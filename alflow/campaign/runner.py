"""Carries out what ``decide`` says: journal first, then act.

One transaction, fenced by the campaign's lease, holds the journal entry of an event, the data that came with it and the
bookkeeping that follows from it; events that come together share one, because a commit waits for the disk. Only when it
is committed are the tasks that it calls for submitted. Killing this process at any instant loses at most the tasks in
flight.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Protocol

from alflow.campaign.bookmark import Bookmark
from alflow.campaign.checkpoints import loss_of, lost_checkpoints
from alflow.campaign.commands import (
    Command,
    DropFrame,
    ProposeSeeds,
    PutJob,
    StartExploring,
    StartLabel,
    StartScoring,
    StartTraining,
    TakeCommittee,
    TakeLabels,
)
from alflow.campaign.config import comparable
from alflow.campaign.decide import decide
from alflow.campaign.events import (
    CampaignResumed,
    CampaignStarted,
    CommitteeLost,
    Event,
    StopRequested,
    TaskLost,
    TrainingDone,
    WorkersChanged,
)
from alflow.campaign.executors import Completion, Executor
from alflow.campaign.given import given_committee, given_labels, restore_committee
from alflow.campaign.ledger import Ledger, Step
from alflow.campaign.leftovers import keep_leftovers
from alflow.campaign.openframes import OpenFrames
from alflow.campaign.orders import Orders, problem_of
from alflow.campaign.results import Interpretation, Results
from alflow.campaign.retry import retries_wanted
from alflow.campaign.site import Site
from alflow.campaign.state import State
from alflow.campaign.tasks import LabelTask, Task, TrainTask
from alflow.domain import Structure
from alflow.errors import CampaignError
from alflow.exploration import rattle
from alflow.reference import remove_spooled, sweep_spool
from alflow.reference.course import forget_checkpoint
from alflow.store import Lease, Store, Transaction

__all__ = ["Observer", "Runner"]

BEAT_S = 5.0
WAIT_S = 0.5
SHORT_WAIT_S = 0.05
BRIEFLY_S = 0.01


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
        self._bookmark = Bookmark(store, site.campaign_id, site.folder)
        self._ledger = Ledger(store, lease, site)
        self._open = OpenFrames(store)
        self._orders = Orders(store, lease, site, self._open)
        self._results = Results(store, lease, site, self._open)
        self._tasks: dict[str, Task] = {}
        self._local: deque[Interpretation] = deque()
        self._state: State | None = None
        self._written: list[Future[Task]] = []
        self._stopping = False
        self._drained: tuple[str, ...] = ()

    def request_stop(self) -> None:
        """Ask the loop, from a signal handler, to start nothing new."""
        self._stopping = True

    def run(self, begun: Callable[[], None] = lambda: None) -> State:
        """Replay the journal, take up what was left, and carry on to the end.

        Args:
            begun: Called when the loop begins, which beats by itself.

        Returns:
            The last state: finished, stopped or failed.

        Raises:
            Fenced: Another process has taken the campaign over.
            CampaignError: The journal contradicts the program.
        """
        with ThreadPoolExecutor(1, "orders") as self._clerk, _without_pauses():
            self._take_up()
            begun()
            self._loop()
        return self._known

    def _take_up(self) -> None:
        """Begin, or find out where things stand."""
        self._state = self._bookmark.replay()
        if self._state is None:
            ids = tuple(s.id for s in self._site.structures)
            self._record(Interpretation(CampaignStarted(comparable(self._site.config), ids, *self._workers())))
        else:
            self._import_spool()
            restore_committee(self._store, self._site)
            problem = self._orders.weights_problem()
            if problem is not None and not self._known.committee_lost:
                self._record(Interpretation(CommitteeLost(problem)))
            self._give_up_checkpoints()
            if self._known.phase != "finished":
                self._take_retries()
            self._record(Interpretation(CampaignResumed(*self._workers())))

    def _give_up_checkpoints(self) -> None:
        """Let walkers begin anew whose checkpoints are not what was written."""
        lost = lost_checkpoints(self._known, *self._store.readable_walkers(self._site.campaign_id))
        if lost:
            self._orders.forget_walkers(lost)
            self._record(Interpretation(loss_of(lost), lambda tx: tx.remove_walkers(lost)))

    def _loop(self) -> None:
        beat = time.monotonic()
        while self._go_on():
            self._submit_written()
            self._take(self._executor.wait(SHORT_WAIT_S if self._written else WAIT_S))
            self._look_at_workers()
            if time.monotonic() - beat > BEAT_S:
                beat = time.monotonic()
                self._keep_alive()
            for observer in self._observers:
                observer.seen(self._known, None)

    def _workers(self) -> tuple[int, dict[str, int]]:
        return self._executor.slots, dict(self._executor.pools)

    def _look_at_workers(self) -> None:
        """Take note of workers that joined or left, and of machines that get no more labels."""
        changed = self._executor.pools != self._known.pools or self._executor.drained != self._drained
        if changed and not self._known.ended:
            self._tell_workers()

    def _tell_workers(self) -> None:
        self._drained = self._executor.drained
        self._record(Interpretation(WorkersChanged(*self._workers(), self._drained)))

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
            found = running.get(spooled.structure_id)
            if found is None or spooled.level_id != self._site.reference.level.id:
                continue
            task, request = found
            structure = self._store.structure(request.structure_id)
            result, execution = spooled.result, self._ledger.open_execution(task, request.frame_id)
            self._record(self._results.recovered(task, request.frame_id, structure, result, execution))
        keep_leftovers(self._store, self._lease, self._site.spool, self._site.reference.level.id)

    def _take(self, completions: Sequence[Completion]) -> None:
        steps: list[Step] = []
        state, broken = self._known, list[tuple[Completion, str]]()
        for completion in completions:
            task = self._tasks.pop(completion.task, None)
            problem = self._broken_by_weights(task, completion)
            if problem is not None:
                broken.append((completion, problem))
            elif task is not None:
                steps.append(self._step(state, self._results.interpret(task, completion, state), completion))
                state = steps[-1].state
        if steps:
            self._commit(steps)
        self._without_weights(broken)

    def _broken_by_weights(self, task: Task | None, completion: Completion) -> str | None:
        """What is wrong with the weight file of a task's committee, if it has stumbled over it."""
        if completion.broken is None or task is None or isinstance(task, LabelTask) or self._known.committee_lost:
            return None
        weights = task.start if isinstance(task, TrainTask) else task.committee
        return problem_of(weights) if weights is not None else None

    def _without_weights(self, broken: Sequence[tuple[Completion, str]]) -> None:
        """Tasks stumbled over weights: those of the active committee, or of an earlier one, which nobody needs now."""
        problem = self._orders.weights_problem() if broken else None
        if problem is not None and not self._known.ended:
            self._give_up_committee(problem)
            return
        for completion, why in broken:
            if not self._known.ended:
                lost = TaskLost(completion.task, f"the weights of its committee are lost, another is active: {why}")
                self._commit([self._step(self._known, Interpretation(lost), completion)])

    def _give_up_committee(self, problem: str) -> None:
        """Train another from nothing. What still runs with the one that is lost brings nothing any more."""
        ended = [name for name, running in self._known.running.items() if running.kind != "label"]
        for name in ended:
            self._tasks.pop(name, None)

        def effects(tx: Transaction) -> None:
            self._ledger.end_executions(tx, ended, f"the weights of its committee are lost: {problem}")

        self._record(Interpretation(CommitteeLost(problem), effects))
        self._tell_workers()

    def _keep_alive(self) -> None:
        self._store.beat(self._lease)
        asked = self._stopping or self._store.stop_requested(self._site.campaign_id)
        if asked and self._known.phase != "stopping":
            self._record(Interpretation(StopRequested()))
        if self._known.phase == "running":
            self._take_retries()

    def _take_retries(self) -> None:
        """Let labels that were given up wait again, if somebody asked for them before the campaign began to close."""
        wanted = None if self._known.ending else retries_wanted(self._store, self._site.campaign_id)
        if wanted is not None:
            self._record(Interpretation(wanted))

    def _record_local(self) -> None:
        if self._stopping and self._known.phase not in ("stopping", "finished", "stopped", "failed"):
            self._record(Interpretation(StopRequested("interrupted")))
        while self._local:
            self._record(self._local.popleft())

    def _record(self, found: Interpretation) -> None:
        self._commit([self._step(self._state, found)])

    def _step(self, before: State | None, found: Interpretation, completion: Completion | None = None) -> Step:
        state, commands = decide(before, found.event)
        for command in commands:
            if isinstance(command, DropFrame):
                self._results.forget(command.frame_id)
        return Step(found, completion, state, commands)

    def _commit(self, steps: Sequence[Step]) -> None:
        """Journal events with all that belongs to them, all or none; then act on them."""
        self._store.write(self._lease, lambda tx: self._ledger.write(tx, steps))
        self._state = steps[-1].state
        self._bookmark.keep(self._state)
        for step in steps:
            for checkpoint in step.found.walkers:
                self._orders.remember(checkpoint)
        wanted = [c.structure_id for step in steps for c in step.commands if isinstance(c, StartLabel)]
        labelled = self._store.labelled(wanted, self._site.reference.level.id)
        for step in steps:
            if isinstance(step.found.event, TrainingDone):
                self._orders.forget_weights()
            for command in step.commands:
                if isinstance(command, PutJob) and command.state in ("done", "quarantined", "dropped"):
                    self._open.discard(command.frame_id)
                    forget_checkpoint(self._site.spool, command.structure_id, self._site.reference.level.id)
                self._act(command, labelled)
            if step.found.spooled is not None:
                remove_spooled(self._site.spool, step.found.spooled)
            for observer in self._observers:
                observer.seen(step.state, step.found.event)

    def _act(self, command: Command, labelled: AbstractSet[str]) -> None:
        if isinstance(command, ProposeSeeds):
            self._local.append(self._results.seeds(self._propose(command.count)))
        elif isinstance(command, TakeLabels):
            self._local.append(given_labels(self._store, self._site, self._results.remember))
        elif isinstance(command, TakeCommittee):
            self._local.append(given_committee(self._site))
        elif isinstance(command, StartLabel):
            level_id = self._site.reference.level.id
            known = self._store.find_label(command.structure_id, level_id) if command.structure_id in labelled else None
            if known is not None:
                self._local.append(self._results.found(command.task, command.frame_id, known))
                return
            self._submit(self._orders.label(command))
        elif isinstance(command, StartExploring):
            self._submit(self._orders.explore(command))
        elif isinstance(command, StartTraining):
            self._order_training(command)
        elif isinstance(command, StartScoring):
            self._submit(self._orders.score(command))

    def _order_training(self, command: StartTraining) -> None:
        """Thousands of labels take a while to read: labels and walkers must not wait for that."""
        if self._executor.slots == 1 and not self._written:  # two must not read labels at once
            self._submit(self._orders.train(command))
            return
        self._written.append(self._clerk.submit(self._orders.train, command))
        wait(self._written, BRIEFLY_S)
        self._submit_written()

    def _submit_written(self) -> None:
        for order in [order for order in self._written if order.done()]:
            self._written.remove(order)
            if order.result().name in self._known.running:  # it may have been given up meanwhile
                self._submit(order.result())

    def _submit(self, task: Task) -> None:
        self._tasks[task.name] = task
        self._executor.submit(task)

    def _propose(self, count: int) -> list[Structure]:
        """Rattled frames around every starting structure, and those structures themselves unless they were given."""
        config, homes = self._site.config, self._site.structures
        known = {job.structure_id for job in self._store.jobs(self._site.campaign_id, state="done")}
        frames = [home for home in homes if home.id not in known]
        share, extra = divmod(max(0, count - len(frames)), len(homes))
        for number, home in enumerate(homes):
            wanted = share + (number < extra)
            if wanted:
                frames.extend(rattle(home, wanted, seed=config.seed + number, temperature=config.temperature_k))
        return frames


@contextmanager
def _without_pauses() -> Iterator[None]:
    """Keep the garbage collector from what is there already: the libraries' objects take it 0.2 s, now and then."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
