"""Hands tasks to workers, one each, and collects what comes back."""

from __future__ import annotations

import logging
import queue
import traceback
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distributed.client import Future, FutureCancelledError
from distributed.comm.core import CommClosedError
from distributed.scheduler import KilledWorker, NoValidWorkerError, NoWorkerError

from alflow.campaign.breaker import HostBreaker
from alflow.campaign.executors.dask.page import SchedulerBoard
from alflow.campaign.executors.dask.seats import Again, Seat, Workers
from alflow.campaign.executors.protocol import Completion
from alflow.campaign.pools import KINDS, kind_of, kinds_of, slots_for
from alflow.campaign.results import failure_of
from alflow.campaign.tasks import Answer, LabelTask, Task
from alflow.domain import FailureKind
from alflow.reference.process import BY_KERNEL, WORKER_ENDS

__all__ = ["DaskExecutor"]

log = logging.getLogger("alflow")


@dataclass(frozen=True)
class _Sent:
    """A task on its way: what, where, and under which connection."""

    task: Task
    seat: Seat
    session: int


class DaskExecutor:
    """Runs tasks on Dask workers.

    Args:
        workers: The workers; ended, or left to themselves, with the executor.
    """

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._done: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        self._waiting: deque[Task] = deque()
        self._sent: dict[str, tuple[_Sent, Future[Any]]] = {}
        self._lost: deque[Completion] = deque()
        self._breaker = HostBreaker()
        self._board = SchedulerBoard(workers)
        self._ending: set[str] = set()

    @property
    def dashboard(self) -> str | None:
        """Address of Dask's dashboard."""
        return self._workers.dashboard

    @property
    def board(self) -> SchedulerBoard:
        """The page in Dask's dashboard."""
        return self._board

    @property
    def slots(self) -> int:
        """Workers in all."""
        return sum(self.pools.values())

    @property
    def pools(self) -> Mapping[str, int]:
        """Workers by the name of their pool; what is on a drained machine takes no labels."""
        pools = Counter(self._workers.pools)
        for seat in self._workers.seats if self._breaker.drained else ():
            if seat.host in self._breaker.drained and "label" in seat.kinds:
                pools[seat.pool] -= 1
                pools[_without_labels(seat.pool)] += 1
        return {name: count for name, count in sorted(pools.items()) if count > 0 and name}

    @property
    def drained(self) -> tuple[str, ...]:
        """Machines that are given no more labels."""
        return tuple(sorted(self._breaker.drained))

    def submit(self, task: Task) -> None:
        """Send a task to a free worker; it waits here, not at Dask, while there is none."""
        self._waiting.append(task)
        self._hand_out()

    def wait(self, timeout_s: float) -> list[Completion]:
        """All completions there are, once there is one. Also looks after the workers.

        Raises:
            CampaignError: The cluster, or all its workers for some kind of task, are gone for longer than anybody wants
                to wait.
        """
        self._workers.tend()
        self._ending &= {seat.address for seat in self._workers.seats}  # another worker may get the same address
        self._give_up_what_left()
        self._hand_out()
        pools = self.pools
        self._workers.miss([kind for kind in KINDS if not slots_for(pools, kind)], idle=not self._sent)
        if self._lost:
            completions, self._lost = list(self._lost), deque()
            return completions
        completions = []
        try:
            future = self._done.get(timeout=timeout_s)
            while True:
                completion = self._receive(future)
                if completion is not None:
                    completions.append(completion)
                future = self._done.get_nowait()
        except queue.Empty:
            return completions

    def close(self) -> None:
        """End the workers, or let go of them."""
        self._workers.close()

    def _receive(self, future: Future[Any]) -> Completion | None:
        if str(future.key) not in self._sent:
            return None  # its loss was told before
        sent, _ = self._sent[str(future.key)]
        completion = self._completion(future, sent)
        # Only now: a worker that dies with a result nobody has fetched must not take the next task with it.
        self._sent.pop(str(future.key), None)
        if isinstance(completion, Again):
            self._send(sent.task, sent.seat, completion.luggage)
            return None
        self._judge(sent, completion)
        self._hand_out()
        return completion

    def _hand_out(self) -> None:
        """Give every live worker without a task the first that waits and that it takes, and to no other worker.

        Left to Dask, a task sent while a worker is being started again would be queued behind another one, and
        would be counted as lost too if that one took its worker down. While the scheduler is gone nobody is a worker.
        """
        client = self._workers.client
        if not self._waiting or client is None or client.status != "running":
            return
        busy = {sent.seat.address for sent, _ in self._sent.values()}
        # Workers that take little come first, so that those that take more stay free for the rest.
        free = sorted(
            (seat for seat in self._workers.seats if seat.address not in busy | self._ending),
            key=lambda seat: (len(seat.kinds), seat.address),
        )
        for task in list(self._waiting):
            kind = kind_of(task.name)
            seat = next((seat for seat in free if kind in seat.kinds and not self._spared(seat, kind)), None)
            if seat is not None:
                free.remove(seat)
                self._waiting.remove(task)
                self._send(task, seat)

    def _spared(self, seat: Seat, kind: str) -> bool:
        return kind == "label" and seat.host in self._breaker.drained

    def _send(self, task: Task, seat: Seat, luggage: Any = None) -> None:
        future = self._workers.send(task, seat, luggage)
        self._sent[str(future.key)] = (_Sent(task, seat, self._workers.session), future)
        future.add_done_callback(self._done.put)

    def _give_up_what_left(self) -> None:
        """Another scheduler knows nothing of a task, and the same one waits for ever for a worker that has left."""
        for key, (sent, future) in list(self._sent.items()):
            if sent.session != self._workers.session:
                del self._sent[key]
                self._lost.append(_lost_with_scheduler(sent))
            elif not future.done() and self._workers.gone(sent.seat):
                future.cancel(reason="worker-left", msg=f"worker {sent.seat.name} left")

    def _judge(self, sent: _Sent, completion: Completion) -> None:
        """Remember which machine made or crashed a label."""
        if not isinstance(sent.task, LabelTask) or completion.answer is None:
            return
        failure = failure_of(completion.answer)
        if failure is not None and failure.diagnostics.get(WORKER_ENDS) is True:
            self._ending.add(sent.seat.address)  # it will say so itself, but the next task would be quicker
        if failure is not None and failure.diagnostics.get(BY_KERNEL) is True:
            return  # of a machine without memory, or of a label that is too large: nobody knows
        crashed = failure is not None and failure.kind is FailureKind.CRASH
        present = {seat.host for seat in self._workers.seats if "label" in seat.kinds}
        for host in self._breaker.record(sent.seat.host, crashed, present):
            log.warning(
                "%s gets no more labels: the last %d there crashed while other machines made theirs",
                host,
                self._breaker.limit,
            )
            self._workers.avoid(host)

    def _lost_at(self, sent: _Sent, why: str, worker: str) -> Completion:
        """A task whose worker is gone; of one that was to leave, its time was up."""
        cause = FailureKind.WALLTIME if self._workers.leaves(sent.seat) else FailureKind.WORKER_LOST
        return Completion(sent.task.name, lost=why, worker=worker, cause=cause)

    def _completion(self, future: Future[Any], sent: _Sent) -> Completion | Again:
        name, worker = sent.task.name, sent.seat.address
        try:
            answer = self._workers.unpack(sent.task, sent.seat, future.result(timeout=30))
        except KilledWorker as error:
            worker = getattr(error.last_worker, "address", worker)
            lost = self._lost_at(sent, f"worker {worker} died", worker)
            self._workers.forget(sent.seat)  # or it would be given the next task before anybody looks who is there
            return lost
        except FutureCancelledError as error:
            if error.reason == "scheduler-connection-lost":
                return _lost_with_scheduler(sent)
            return self._lost_at(sent, f"{type(error).__name__}: {error}", worker)
        except (NoValidWorkerError, NoWorkerError, CommClosedError, TimeoutError) as error:
            return self._lost_at(sent, f"{type(error).__name__}: {error}", worker)
        except Exception:
            return Completion(name, broken=traceback.format_exc(), worker=worker)
        finally:
            future.release()
        if isinstance(answer, Answer):
            return Completion(name, answer=answer, worker=f"{answer.host}:{answer.pid}")
        return answer


def _lost_with_scheduler(sent: _Sent) -> Completion:
    why = "the connection to Dask's scheduler was lost"
    return Completion(sent.task.name, lost=why, worker=sent.seat.address, cause=FailureKind.SCHEDULER_LOST)


def _without_labels(pool: str) -> str:
    """Name of the pool of the same workers without labels; empty if nothing is left.

    Examples:
        >>> _without_labels("shared"), _without_labels("label")
        ('explore+train', '')
    """
    return "+".join(kind for kind in KINDS if kind in kinds_of(pool) and kind != "label")
