"""One process's work on a list of structures: hand out, commit, try again, and leave nothing open behind."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from alflow.campaign.decide import FAILURE_LIMIT, WORTH_REPEATING
from alflow.campaign.executors import Completion, Executor
from alflow.campaign.labelled import Labelled, Watcher, flags_in
from alflow.campaign.losses import Losses
from alflow.campaign.requests import label_request
from alflow.campaign.results import Cost, cost_of, failure_of, spent_on, steps_made
from alflow.campaign.site import execution_key, frame_name
from alflow.campaign.tasks import Answer, LabelTask
from alflow.domain import Evaluation, Failure, FailureKind, Label, Reference, Structure
from alflow.errors import CampaignError, Fenced
from alflow.reference import CostModel, LabelResult, remove_spooled, size_of, sweep_spool
from alflow.reference.config import Limits
from alflow.reference.course import forget_checkpoint
from alflow.reference.spool import FOUND_IN_SPOOL
from alflow.store import ExecutionEnd, ExecutionRecord, FrameRecord, JobRecord, Lease, Store, Transaction

__all__ = ["LabellingRun"]

BEAT_S: Final = 5.0
WAIT_S: Final = 0.5
EXPECT_EVERY_S: Final = 4.0


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
        waiting: Jobs that wait for a worker, the longest first, because the last to end should be short; and after all
            others those that failed before.
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
        self._sizes = {identity: size_of(reference, structure) for identity, structure in self._structures.items()}
        self._costs = store.label_costs(reference.level.id, limits.threads)
        self._model = CostModel.of(self._costs)
        self._running: dict[str, tuple[JobRecord, LabelTask]] = {}
        self._stopping, self._failures, self._losses = False, 0, Losses()
        self._smallest_failed, self._expected = math.inf, -math.inf
        self._largest_done: float | None = None
        self.found = [Labelled(number, structure.formula) for number, structure in enumerate(structures)]
        self.waiting: deque[JobRecord] = deque()

    def prepare(self, slots: int) -> None:
        """Write down what is to be done, and find what is done already.

        Args:
            slots: Labels at once; recorded, so that the use of the cores can be told later.
        """
        level = self._reference.level
        before = {job.id: job for job in self._store.jobs(self._campaign_id)}
        self._import_spool()
        known: dict[str, tuple[str, ...]] = {}
        for identity in self._structures:
            label = self._store.find_label(identity, level.id)
            if label is not None:
                known[identity] = flags_in(label.evaluation)
        write = partial(self._write_down, slots, before, known)
        waiting = self._store.write(self._lease, write)
        self.waiting.extend(job for *_, job in sorted(waiting, key=lambda item: item[:2]))
        for identity, flags in known.items():
            self._tell(identity, "known", flags=flags)
        self._expect()
        self._watcher(self.found)

    def _write_down(
        self, slots: int, before: Mapping[str, JobRecord], known: Collection[str], tx: Transaction
    ) -> list[tuple[bool, float, JobRecord]]:
        """Write down what is to be done; returns the jobs that wait, each after what tells its place in the line."""
        level = self._reference.level
        tx.close_lost_executions()
        tx.set_campaign_state("running", "")
        seq = tx.append_event("labelling_started", {"slots": slots, "structures": len(self._structures)})
        tx.add_level(level)
        frames: list[tuple[FrameRecord, Structure]] = []
        jobs: list[JobRecord] = []
        waiting: list[tuple[bool, float, JobRecord]] = []
        for number, (identity, structure) in enumerate(self._structures.items()):
            job = before.get(self._job_name(identity))
            if job is None:
                name = frame_name(self._campaign_id, "given", -1, 0, identity)
                frame = FrameRecord(name, self._campaign_id, identity, "given", "seed", step=number, event_seq=seq)
                frames.append((frame, structure))
                job = JobRecord(self._job_name(identity), self._campaign_id, name, identity, level.id, "seed")
            failed = job.state == "quarantined"
            if failed:
                job = replace(job, attempts=0, n_lost=0)  # asked for again: it gets another chance
            if identity in known:
                job = _done(job, seq if job.state != "done" else job.event_seq)
            else:
                job = replace(job, state="pending")
                waiting.append((failed, -self._sizes[identity], job))
            jobs.append(job)
        tx.add_frames(frames)
        strays = [j for j in before.values() if j.state == "running" and j.structure_id not in self._structures]
        tx.put_jobs([*jobs, *(replace(job, state="pending") for job in strays)])  # of another file, before a kill
        return waiting

    def drive(self, executor: Callable[[], Executor]) -> None:
        """Compute what waits, until nothing does or a signal says stop."""
        self._spool.mkdir(parents=True, exist_ok=True)
        workers = executor()
        beaten = time.monotonic()
        try:
            while self._running or (self.waiting and not self._stopping):
                while self.waiting and len(self._running) < workers.slots and not self._stopping:
                    self._start(workers, self.waiting.popleft())
                for completion in (completions := workers.wait(WAIT_S)):
                    self._finish(completion)
                if completions:
                    self._expect()
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

    def settle(self) -> None:
        """Leave nothing open: commit what is in the spool, and close the executions nobody waits for any more.

        After a good end there is nothing to do. A process that was fenced leaves it to the one that took over.
        """
        try:
            self._import_spool()
            self._store.write(self._lease, self._close)
        except Fenced:
            return

    def _close(self, tx: Transaction) -> None:
        tx.close_lost_executions()
        for job in self._store.jobs(self._campaign_id, state="running"):
            if self._store.find_label(job.structure_id, job.level_id) is None:
                tx.put_job(replace(job, state="pending"))
            else:
                tx.put_job(_done(job, tx.append_event("label_done", {"frame_id": job.frame_id})))

    def _import_spool(self) -> None:
        """Commit labels that were computed by somebody who did not live to commit them."""
        level = self._reference.level
        for spooled in sweep_spool(self._spool):
            if spooled.level_id != level.id:
                continue
            structure = self._structures.get(spooled.structure_id)
            stored = self._store.find_label(spooled.structure_id, level.id) is not None
            if structure is None and not stored:
                continue  # of another file: it is found when that structure is asked for again
            evaluation = spooled.result.outcome
            if structure is not None and not stored and isinstance(evaluation, Evaluation):
                name = self._job_name(structure.id)
                rows = self._store.executions(self._campaign_id, "label", name)
                key = next((row.key for row in reversed(rows) if row.ended_at is None), None)
                label = Label(structure, level, evaluation, spooled.result.provenance)
                self._store.write(self._lease, partial(_write_found, label, key, spooled.result))
            remove_spooled(self._spool, spooled.result)

    def _start(self, workers: Executor, job: JobRecord) -> None:
        attempt, tries = job.attempts + 1, job.attempts + job.n_lost + 1
        label = self._store.find_label(job.structure_id, job.level_id)
        if label is not None:
            told = {"frame_id": job.frame_id}  # under another name, meanwhile
            self._store.write(self._lease, lambda tx: tx.put_job(_done(job, tx.append_event("label_done", told))))
            self._tell(job.structure_id, "known", flags=flags_in(label.evaluation))
            return
        key = f"label-{job.id}-a{attempt}-l{job.n_lost}"
        structure = self._structures[job.structure_id]
        request = label_request(self._reference, structure, self._limits, key, attempt, self._spool, self._model)
        task = LabelTask(request.key, request)
        execution = ExecutionRecord(
            self._campaign_id, self._key(task.name), "label", job.id, attempt=tries, epoch=self._lease.epoch,
            threads=self._limits.threads,
        )  # fmt: skip

        def write(tx: Transaction) -> None:
            tx.start_execution(execution)
            tx.put_job(replace(job, state="running"))

        self._store.write(self._lease, write)
        self._running[task.name] = (job, task)
        workers.submit(task)

    def _finish(self, completion: Completion) -> None:
        if completion.cause is FailureKind.WORKER_LOST and completion.lost is not None:
            self._losses.worker(completion.task, self._running)
        job, task = self._running.pop(completion.task)
        key, answer = self._key(task.name), completion.answer
        if completion.lost is not None:
            self._lose(job, key, completion.lost, completion.worker, completion.cause)
            return
        self._losses.in_a_row = 0
        failure = failure_of(answer) if answer is not None else None
        if answer is None:
            self._give_up(job, key, completion.broken or "it raised without a word")
        elif failure is not None and failure.kind is FailureKind.BUG:
            self._give_up(job, key, str(failure.diagnostics.get("traceback", failure.message)))
        elif failure is not None and failure.kind is FailureKind.WALLTIME:
            self._lose(job, key, failure.message, completion.worker, failure.kind, answer)
        elif failure is not None:
            self._fail(job, key, failure, cost_of(answer))
        else:
            self._commit(job, key, answer.value, cost_of(answer))

    def _lose(
        self, job: JobRecord, key: str, message: str, worker: str, cause: FailureKind, answer: Answer | None = None
    ) -> None:
        """A worker or its scheduler died, or its time was up: nobody's fault, and free.

        Raises:
            CampaignError: It happened too often in a row.
        """
        again = replace(job, state="pending", n_lost=job.n_lost + 1, failure_message=message)
        failure = failure_of(answer) if answer is not None else None
        given_up = self._losses.label(job.id, cause, steps_made(failure) if failure is not None else 0)
        spent = vars(cost_of(answer)) if answer is not None else {}

        def write(tx: Transaction) -> None:
            tx.finish_execution(ExecutionEnd(key, "lost", cause, message, worker, **spent))
            tx.put_job(replace(again, state="quarantined", failure_kind=cause) if given_up else again)

        self._store.write(self._lease, write)
        if given_up:
            forget_checkpoint(self._spool, job.structure_id, job.level_id)
            self._tell(job.structure_id, "failed", f"its worker was lost {again.n_lost} times: {message}")
        else:
            self.waiting.appendleft(again)
        if self._losses.too_many:
            raise CampaignError(f"Workers were lost {self._losses.in_a_row} times in a row; the last: {message}")

    def _give_up(self, job: JobRecord, key: str, story: str) -> None:
        """The reference raised an exception: every other label would too.

        Raises:
            CampaignError: Always.
        """

        def write(tx: Transaction) -> None:
            tx.finish_execution(ExecutionEnd(key, "failed", FailureKind.BUG, story))
            tx.put_job(replace(job, state="pending", failure_kind=FailureKind.BUG, failure_message=story))

        self._store.write(self._lease, write)
        raise CampaignError(f"Labelling frame {self._places[job.structure_id][0]} raised an exception:\n{story}")

    def _fail(self, job: JobRecord, key: str, failure: Failure, cost: Cost) -> None:
        """Physics or resources failed: resources once more with larger limits, physics would fail again.

        Raises:
            CampaignError: Resources failed too often in a row: it is not the structures.
        """
        resources, size = failure.kind in WORTH_REPEATING, self._sizes[job.structure_id]
        if not resources:
            self._failures = 0
        elif self._largest_done is None or size <= self._largest_done:
            self._failures += 1  # what is larger than all that was done may be too large for its limits
        failed = replace(job, attempts=job.attempts + 1, failure_kind=failure.kind, failure_message=failure.message)
        given_up = not resources or failed.attempts >= self._limits.max_attempts

        def write(tx: Transaction) -> None:
            tx.finish_execution(ExecutionEnd(key, "failed", failure.kind, failure.message, **vars(cost)))
            tx.put_job(replace(failed, state="quarantined" if given_up else "pending"))

        self._store.write(self._lease, write)
        if given_up:
            forget_checkpoint(self._spool, job.structure_id, job.level_id)
            self._tell(job.structure_id, "failed", f"{failure.kind}: {failure.message}", cost)
        else:
            self.waiting.append(failed)
        self._smallest_failed = min(self._smallest_failed, size)
        if self._failures >= FAILURE_LIMIT and not self._try_a_smaller_one():
            raise CampaignError(
                f"{self._failures} labels in a row ran out of time or memory or crashed; the last: {failure.message}"
            )

    def _try_a_smaller_one(self) -> bool:
        """Whether a structure smaller than all that failed waits: it comes next, for the fault may be their size."""
        smallest = min(self.waiting, key=lambda job: self._sizes[job.structure_id], default=None)
        if smallest is None or self._sizes[smallest.structure_id] >= self._smallest_failed:
            return False
        self.waiting.remove(smallest)
        self.waiting.appendleft(smallest)
        return True

    def _commit(self, job: JobRecord, key: str, result: object, cost: Cost) -> None:
        """Store a label, then let it leave the spool."""
        assert isinstance(result, LabelResult)
        assert isinstance(result.outcome, Evaluation)
        self._failures = 0
        self._largest_done = max(self._largest_done or 0.0, self._sizes[job.structure_id])
        structure = self._structures[job.structure_id]
        label = Label(structure, self._reference.level, result.outcome, result.provenance)

        def write(tx: Transaction) -> None:
            seq = tx.append_event("label_done", {"frame_id": job.frame_id})
            tx.add_label(label, key)
            tx.finish_execution(ExecutionEnd(key, "done", **vars(cost)))
            tx.put_job(_done(replace(job, attempts=job.attempts + 1), seq))

        self._store.write(self._lease, write)
        remove_spooled(self._spool, result)
        if not result.from_spool:
            self._costs.append((self._sizes[structure.id], cost.wall_s))
        self._tell(structure.id, "done", "", None if result.from_spool else cost, flags_in(result.outcome))

    def _expect(self) -> None:
        """Write down, now and then, how long what is left will take."""
        if self._model is not None and time.monotonic() - self._expected < EXPECT_EVERY_S:
            return
        self._expected = time.monotonic()
        model = self._model = CostModel.of(self._costs)
        if model is None:
            return
        for identity, places in self._places.items():
            if self.found[places[0]].state == "open":
                expected: float = model.seconds(self._sizes[identity])
                for number in places:
                    self.found[number], expected = replace(self.found[number], expected_s=expected), 0.0

    def _job_name(self, structure_id: str) -> str:
        frame = frame_name(self._campaign_id, "given", -1, 0, structure_id)
        return f"{frame}-{self._reference.level.id[:8]}"

    def _key(self, task: str) -> str:
        return execution_key(self._campaign_id, self._lease.epoch, task)

    def _tell(
        self, structure_id: str, state: str, message: str = "", cost: Cost | None = None, flags: tuple[str, ...] = ()
    ) -> None:
        """Change what is known of a structure; where it stands in the list again, it costs nothing again."""
        for number in self._places[structure_id]:
            found = replace(self.found[number], state=state, message=message, flags=flags)
            if cost is not None:
                found = replace(found, wall_s=cost.wall_s, cpu_s=cost.cpu_s, peak_memory_mb=cost.peak_memory_mb)
            self.found[number] = found
            state, cost = "known" if state == "done" else state, None


def _write_found(label: Label, key: str | None, result: LabelResult, tx: Transaction) -> None:
    """A label that was in the spool, and the execution that made it."""
    tx.add_label(label, key)
    if key is not None:
        message = f"{FOUND_IN_SPOOL}: it outlived the process that waited for it"
        tx.finish_execution(ExecutionEnd(key, "done", message=message, **spent_on(result)))


def _done(job: JobRecord, seq: int) -> JobRecord:
    """The job with its label, and without the failures on the way."""
    return replace(job, state="done", failure_kind=None, failure_message="", event_seq=seq)
