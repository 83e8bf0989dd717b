"""Label a file of structures, without dynamics or training: each of them once, on all cores, whatever is killed.

The database keeps the same promises as for a campaign: a label is committed before it counts, one that exists at this
level is not computed again, one that was finished but not committed is found in the spool, every attempt has a row. The
same call continues what was interrupted.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from alflow.campaign.decide import LOSS_LIMIT
from alflow.campaign.executors import Completion, Executor
from alflow.campaign.interrupts import interruptible
from alflow.campaign.results import Cost, cost_of, failure_of
from alflow.campaign.site import execution_key, frame_name, working_folder
from alflow.campaign.tasks import LabelTask
from alflow.domain import Evaluation, Failure, FailureKind, Label, Reference, Structure
from alflow.errors import CampaignError, ConfigError
from alflow.reference import LabelRequest, LabelResult, remove_spooled
from alflow.reference.config import Limits
from alflow.store import CampaignRecord, ExecutionRecord, FrameRecord, Holder, JobRecord, Lease, Store
from alflow.store.location import shown

__all__ = ["Labelled", "LabellingRun", "label_structures"]

BEAT_S: Final = 5.0
WAIT_S: Final = 0.5


@dataclass(frozen=True)
class Labelled:
    """What became of one structure.

    Attributes:
        number: Its place in the file, from 0.
        formula: Its sum formula.
        state: ``known`` (there was a label), ``done``, ``failed`` (given up), or ``open`` (not yet computed).
        message: Why it failed.
        wall_s: Time the label took, s; None unless it was computed now.
        cpu_s: Processor time it took, s.
        peak_memory_mb: Most memory it held, MB.
    """

    number: int
    formula: str
    state: str = "open"
    message: str = ""
    wall_s: float | None = None
    cpu_s: float | None = None
    peak_memory_mb: float | None = None


Watcher = Callable[[Sequence[Labelled]], None]
"""Told of all structures, whenever something has changed."""


def label_structures(
    structures: Sequence[Structure],
    reference: Reference,
    limits: Limits,
    database: str,
    name: str,
    slots: int,
    executor: Callable[[], Executor],
    watcher: Watcher = lambda found: None,
) -> list[Labelled]:
    """Label structures.

    Args:
        structures: What to label; one that occurs twice is computed once.
        reference: What computes it.
        limits: Time, memory, threads and attempts of a label.
        database: SQLite file or PostgreSQL URL; made if it does not exist.
        name: Name under which jobs and executions are recorded; the same name continues.
        slots: Labels at once.
        executor: Makes what runs the labels; called only if there is something to compute.
        watcher: Told of every change.

    Returns:
        What became of each structure, in their order.

    Raises:
        ConfigError: The name belongs to a campaign.
        CampaignLocked: Another live process labels under this name.
        CampaignError: The reference raised an exception.
    """
    with Store.open(database, create=True) as store:
        record = _find_or_create(store, database, name, reference)
        lease = store.acquire(record.id, Holder.current())
        left: int | None = None
        try:
            spool = working_folder(database, name) / "spool"
            run = LabellingRun(store, lease, record.id, structures, reference, limits, spool, watcher)
            run.prepare(slots)
            if run.waiting:
                run.drive(executor)
            left = sum(item.state == "open" for item in run.found)
        finally:
            reason = "it ended before all structures were labelled" if left is None else f"{left} structures are left"
            store.release(lease, "stopped" if left != 0 else "finished", reason if left != 0 else "")
        return run.found


def _find_or_create(store: Store, database: str, name: str, reference: Reference) -> CampaignRecord:
    for record in store.campaigns():
        if record.name == name:
            if "labelling" not in record.config:
                raise ConfigError(
                    f"{shown(database)} has a campaign named '{name}'; choose another --name for these labels."
                )
            return record
    level = {"engine": reference.level.engine, "settings": dict(reference.level.settings)}
    return store.create_campaign(name, {"labelling": level, "level_id": reference.level.id}, seed=0)


class LabellingRun:
    """One process's work on a list of structures.

    Args:
        store: The database.
        lease: The right to write under this name.
        campaign_id: Row of that name.
        structures: What to label.
        reference: What computes it.
        limits: What a label may use.
        spool: Where finished labels wait to be committed.
        watcher: Told of every change.

    Attributes:
        found: What became of each structure so far.
        waiting: Jobs that wait for a worker.
    """

    def __init__(
        self,
        store: Store,
        lease: Lease,
        campaign_id: int,
        structures: Sequence[Structure],
        reference: Reference,
        limits: Limits,
        spool: Path,
        watcher: Watcher,
    ) -> None:
        self._store, self._lease, self._campaign_id = store, lease, campaign_id
        self._structures = {structure.id: structure for structure in structures}
        self._places: dict[str, list[int]] = {}
        for number, structure in enumerate(structures):
            self._places.setdefault(structure.id, []).append(number)
        self._reference, self._limits, self._spool, self._watcher = reference, limits, spool, watcher
        self._running: dict[str, tuple[JobRecord, LabelTask]] = {}
        self._stopping = False
        self.found = [Labelled(number, structure.formula) for number, structure in enumerate(structures)]
        self.waiting: deque[JobRecord] = deque()

    def prepare(self, slots: int) -> None:
        """Write down what is to be done, and find what is done already.

        Args:
            slots: Labels at once; recorded, so that the use of the cores can be told later.
        """
        level = self._reference.level.id
        before = {job.id: job for job in self._store.jobs(self._campaign_id)}
        known = {identity for identity in self._structures if self._store.find_label(identity, level) is not None}
        with self._store.transaction(self._lease) as tx:
            tx.close_lost_executions()
            seq = tx.append_event("labelling_started", {"slots": slots, "structures": len(self._structures)})
            tx.add_level(self._reference.level)
            for number, (identity, structure) in enumerate(self._structures.items()):
                frame = frame_name(self._campaign_id, "given", -1, 0, identity)
                job = before.get(f"{frame}-{level[:8]}")
                if job is None:
                    record = FrameRecord(
                        frame, self._campaign_id, identity, "given", "seed", step=number, event_seq=seq
                    )  # fmt: skip
                    tx.add_frame(record, structure)
                    job = JobRecord(f"{frame}-{level[:8]}", self._campaign_id, frame, identity, level, "seed")
                if identity in known:
                    job = replace(job, state="done", event_seq=seq if job.state != "done" else job.event_seq)
                elif job.state != "pending":
                    job = replace(job, state="pending", attempts=0)  # asked for again: a failure gets another chance
                tx.put_job(job)
                if identity not in known:
                    self.waiting.append(job)
        for identity in known:
            self._tell(identity, "known")
        self._watcher(self.found)

    def drive(self, executor: Callable[[], Executor]) -> None:
        """Compute what waits, until nothing does or a signal says stop."""
        self._spool.mkdir(parents=True, exist_ok=True)
        workers = executor()
        beaten = time.monotonic()
        try:
            with interruptible(self.request_stop):
                while self._running or (self.waiting and not self._stopping):
                    while self.waiting and len(self._running) < workers.slots and not self._stopping:
                        self._start(workers, self.waiting.popleft())
                    completion = workers.wait(WAIT_S)
                    if completion is not None:
                        self._finish(completion)
                        self._watcher(self.found)
                    if time.monotonic() - beaten > BEAT_S:
                        self._store.beat(self._lease)
                        if self._store.stop_requested(self._campaign_id):
                            self.request_stop()
                        beaten = time.monotonic()
        finally:
            workers.close()

    def request_stop(self) -> None:
        """Hand out nothing more; labels in flight may finish."""
        self._stopping = True

    def _start(self, workers: Executor, job: JobRecord) -> None:
        attempt, tries = job.attempts + 1, job.attempts + job.n_lost + 1
        request = LabelRequest(
            reference=self._reference,
            structure=self._structures[job.structure_id],
            key=f"label-{job.id}-a{attempt}-l{job.n_lost}",
            attempt=attempt,
            time_limit_s=self._limits.time_limit_s * attempt,
            memory_limit_mb=self._limits.memory_limit_mb * attempt,
            threads=self._limits.threads,
            spool=self._spool.absolute(),
        )
        task = LabelTask(request.key, request)
        execution = ExecutionRecord(
            self._campaign_id, self._key(task.name), "label", job.id, attempt=tries, epoch=self._lease.epoch,
            threads=self._limits.threads,
        )  # fmt: skip
        with self._store.transaction(self._lease) as tx:
            tx.start_execution(execution)
            tx.put_job(replace(job, state="running"))
        self._running[task.name] = (job, task)
        workers.submit(task)

    def _finish(self, completion: Completion) -> None:
        job, task = self._running.pop(completion.task)
        key, answer = self._key(task.name), completion.answer
        if completion.lost is not None:
            self._lose(job, key, completion.lost, completion.worker)
            return
        failure = failure_of(answer) if answer is not None else None
        if answer is None:
            self._give_up(job, key, completion.broken or "it raised without a word")
        elif failure is not None and failure.kind is FailureKind.BUG:
            self._give_up(job, key, str(failure.diagnostics.get("traceback", failure.message)))
        elif failure is not None:
            self._fail(job, key, failure, cost_of(answer))
        else:
            self._commit(job, key, answer.value, cost_of(answer))

    def _lose(self, job: JobRecord, key: str, message: str, worker: str) -> None:
        """A worker died: nobody's fault, and free."""
        again = replace(job, state="pending", n_lost=job.n_lost + 1, failure_message=message)
        with self._store.transaction(self._lease) as tx:
            tx.finish_execution(key, "lost", failure_kind=FailureKind.WORKER_LOST, message=message, worker=worker)
            tx.put_job(replace(again, state="quarantined") if again.n_lost >= LOSS_LIMIT else again)
        if again.n_lost >= LOSS_LIMIT:
            self._tell(job.structure_id, "failed", f"its worker was lost {again.n_lost} times: {message}")
        else:
            self.waiting.appendleft(again)

    def _give_up(self, job: JobRecord, key: str, story: str) -> None:
        """The reference raised an exception: every other label would too.

        Raises:
            CampaignError: Always.
        """
        with self._store.transaction(self._lease) as tx:
            tx.finish_execution(key, "failed", failure_kind=FailureKind.BUG, message=story)
            tx.put_job(replace(job, state="pending", failure_kind=FailureKind.BUG, failure_message=story))
        raise CampaignError(f"Labelling frame {self._places[job.structure_id][0]} raised an exception:\n{story}")

    def _fail(self, job: JobRecord, key: str, failure: Failure, cost: Cost) -> None:
        """Physics or resources failed: once more with larger limits, or not at all."""
        failed = replace(job, attempts=job.attempts + 1, failure_kind=failure.kind, failure_message=failure.message)
        given_up = failed.attempts >= self._limits.max_attempts
        with self._store.transaction(self._lease) as tx:
            tx.finish_execution(key, "failed", failure_kind=failure.kind, message=failure.message, **vars(cost))
            tx.put_job(replace(failed, state="quarantined" if given_up else "pending"))
        if given_up:
            self._tell(job.structure_id, "failed", f"{failure.kind}: {failure.message}", cost)
        else:
            self.waiting.append(failed)

    def _commit(self, job: JobRecord, key: str, result: object, cost: Cost) -> None:
        """Store a label, then let it leave the spool."""
        assert isinstance(result, LabelResult)
        assert isinstance(result.outcome, Evaluation)
        structure = self._structures[job.structure_id]
        label = Label(structure, self._reference.level, result.outcome, result.provenance)
        with self._store.transaction(self._lease) as tx:
            seq = tx.append_event("label_done", {"frame_id": job.frame_id})
            tx.add_label(label, key)
            tx.finish_execution(key, "done", **vars(cost))
            tx.put_job(replace(job, state="done", attempts=job.attempts + 1, event_seq=seq))
        remove_spooled(self._spool, result)
        self._tell(job.structure_id, "done", "", cost)

    def _key(self, task: str) -> str:
        return execution_key(self._campaign_id, self._lease.epoch, task)

    def _tell(self, structure_id: str, state: str, message: str = "", cost: Cost | None = None) -> None:
        """Change what is known of a structure; where it stands in the list again, it costs nothing again."""
        for number in self._places[structure_id]:
            found = replace(self.found[number], state=state, message=message)
            if cost is not None:
                found = replace(found, wall_s=cost.wall_s, cpu_s=cost.cpu_s, peak_memory_mb=cost.peak_memory_mb)
            self.found[number] = found
            state, cost = "known" if state == "done" else state, None
