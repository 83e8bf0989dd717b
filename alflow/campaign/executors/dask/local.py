"""Workers of this machine, on loopback: started with the campaign, brought back when they are gone, ended with it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import dask
from distributed import Client, Nanny, Scheduler, SpecCluster, WorkerPlugin
from distributed.client import Future

from alflow.campaign.executors.dask.executor import DaskExecutor
from alflow.campaign.executors.dask.seats import Seat
from alflow.campaign.pools import Pool, kinds_of, worker_environment
from alflow.campaign.tasks import Answer, Task
from alflow.campaign.work import LEARNING, load_learning, run_task
from alflow.errors import ConfigError
from alflow.reference.credentials import without_credentials

__all__ = ["LocalWorkers", "label_executor"]

log = logging.getLogger("alflow")

SETTINGS: Final[dict[str, Any]] = {
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.work-stealing": False,
    "distributed.scheduler.no-workers-timeout": "5s",
    "distributed.deploy.lost-worker-timeout": "1h",
    "distributed.worker.profile.enabled": False,
    "distributed.admin.log-format": "%(name)s - %(levelname)s - %(message)s",
    "logging.distributed": "error",
    "distributed.logging.distributed": "error",
}
"""Every execution must show in the database, so Dask may not repeat one by itself; workers come back whenever. A task
handed to a worker that died in that instant is given back as lost after the third of these times."""

HEAL_AFTER_S: Final = 10.0
"""A worker whose nanny has not brought it back within this time is started anew."""

START_ATTEMPTS: Final = 3
"""Times all workers are started before their failure is told."""

KILLED_ATTEMPTS: Final = 10
"""The same as long as one of them was killed meanwhile, which is no fault of what they are to import."""

HANG_AFTER_S: Final = 60.0
"""A nanny that has not brought its worker back within this time is not waited for any longer."""

GIB: Final = 1024**3


class DeafToInterrupts(WorkerPlugin):
    """Ctrl-C in a terminal reaches every process there; only the orchestrator may answer it."""

    name = "deaf-to-interrupts"

    def setup(self, worker: object) -> None:
        """Ignore the signal from now on."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)


class WithoutCredentials(WorkerPlugin):
    """Workers never open the database, so they hold nothing that does.

    They forget it themselves, before their first task: were it taken from our own environment while they are started,
    a connection that another thread makes in that instant would lack it, its encryption included.
    """

    name = "without-credentials"

    def setup(self, worker: object) -> None:
        """Forget what was inherited."""
        for variable in os.environ.keys() - without_credentials(os.environ).keys():
            del os.environ[variable]


class LoadsLearning(WorkerPlugin):
    """Workers that explore or train load what they need for it before their first task."""

    name = "loads-learning"

    def setup(self, worker: object) -> None:
        """Load it."""
        load_learning()


class PoolNanny(Nanny):
    """A nanny whose worker has an environment of its own.

    An allocator and an OpenMP runtime read theirs before a worker could set it, so Dask writes it into its own process,
    ours, and leaves it there. Here it is put back as soon as the worker's process has begun.

    Args:
        environment: The worker's variables.
        spawning: Held while this process has another's environment; one for all nannies of a cluster.
        killed: Told the process of each worker that ends by SIGKILL.
    """

    def __init__(
        self,
        *args: Any,
        environment: Mapping[str, str],
        spawning: asyncio.Lock,
        killed: Callable[[str], None],
        **given: Any,
    ) -> None:
        super().__init__(*args, **given)
        self.pre_spawn_env = dict(environment)
        self.env = dict(environment)
        self._spawning, self._killed = spawning, killed

    def _on_worker_exit_sync(self, exitcode: int) -> None:
        if exitcode == -signal.SIGKILL and self.status.name not in ("closing", "closed"):  # or it is Dask that ends it
            self._killed(str(self.name))
        super()._on_worker_exit_sync(exitcode)  # type: ignore[no-untyped-call]

    async def instantiate(self) -> Any:
        """Start the worker's process; returns when it is registered."""
        async with self._spawning:
            before = {name: os.environ.get(name) for name in self.pre_spawn_env}
            try:
                started = asyncio.ensure_future(super().instantiate())
                while not started.done() and not (self.process is not None and self.process.pid is not None):
                    await asyncio.sleep(0.002)
            finally:
                _put_back(before)
        return await started


class LocalWorkers:
    """A scheduler and pools of single-task workers on this machine.

    Args:
        pools: The pools.
        dashboard_address: Where the dashboard listens; another port is taken when it is in use.
        heal_after_s: How long to wait for a nanny to bring its worker back, s.

    Raises:
        ConfigError: The script that starts the campaign cannot be imported by its workers.
    """

    def __init__(self, pools: Sequence[Pool], dashboard_address: str, heal_after_s: float = HEAL_AFTER_S) -> None:
        self._pools = tuple(pools)
        self._pool_of = {f"{pool.name}-{number}": pool for pool in pools for number in range(pool.workers)}
        self._dashboard_address, self._heal_after_s = dashboard_address, heal_after_s
        self.session = 0
        self._missing: dict[str, float] = {}
        self._killed: set[str] = set()
        # Dask reads the level of its log when it is imported, long before: a worker slow to end is no user's concern.
        self._log_level = logging.getLogger("distributed").level
        logging.getLogger("distributed").setLevel(logging.ERROR)
        self._settings = dask.config.set(SETTINGS)
        try:
            self._start()
        except RuntimeError as error:
            self._restore()
            if self._killed:
                raise ConfigError(
                    f"Workers were killed (SIGKILL) while they started, {KILLED_ATTEMPTS} times in a row, at last "
                    f"{', '.join(sorted(self._killed))}; the kernel does so when memory runs out. Give this campaign "
                    f"fewer workers or cores, or end what uses the memory. ({error})"
                ) from error
            raise ConfigError(
                "Dask's workers could not be started. They import the script that starts a campaign, so it must call "
                f"run() under: if __name__ == '__main__': ({error})"
            ) from error
        except BaseException:
            self._restore()
            raise

    @property
    def dashboard(self) -> str | None:
        """Address of Dask's dashboard."""
        link: str = self._cluster.dashboard_link
        return link

    @property
    def client(self) -> Client | None:
        """The connection to the scheduler."""
        return self._client

    @property
    def pools(self) -> Mapping[str, int]:
        """Workers there should be; one that is being started again counts."""
        return {pool.name: pool.workers for pool in self._pools}

    @property
    def seats(self) -> Sequence[Seat]:
        """Workers that live."""
        scheduler = self._cluster.scheduler
        if scheduler is None:
            return ()
        host = socket.gethostname()
        return [
            Seat(worker.address, str(worker.name), host, self._pool_of[str(worker.name)].name)
            for worker in list(scheduler.workers.values())
            if worker.status.name == "running" and str(worker.name) in self._pool_of
        ]

    def gone(self, seat: Seat) -> bool:
        """Never to be said here: this scheduler tells of every worker it loses."""
        return False

    def leaves(self, seat: Seat) -> bool:
        """Never: these workers stay as long as the campaign."""
        return False

    def forget(self, seat: Seat) -> None:
        """Nothing is remembered here: this scheduler is asked each time."""

    def avoid(self, host: str) -> None:
        """There is no other machine."""

    def send(self, task: Task, seat: Seat, luggage: Any = None) -> Future[Any]:
        """Start a task on a worker."""
        threads = self._pool_of[seat.name].threads
        return self._client.submit(
            run_task, task, threads, key=task.name, pure=False, retries=0, workers=[seat.address]
        )

    def unpack(self, task: Task, seat: Seat, value: Any) -> Answer:
        """Everything is where it belongs: these workers share our folders."""
        answer: Answer = value
        return answer

    def tend(self) -> None:
        """Bring back the workers that nobody else would, and the scheduler."""
        if self._cluster.scheduler is None or self._cluster.scheduler.status.name != "running":
            log.warning("Dask's scheduler is gone; scheduler and workers are started again")
            self._client.sync(_abandon, self._cluster)
            self._stop()
            self._start()
        living = {seat.name for seat in self.seats}
        now = time.monotonic()
        self._missing = {name: self._missing.get(name, now) for name in self._pool_of if name not in living}
        late = {name for name, since in self._missing.items() if now - since > self._heal_after_s}
        if late:
            hung = {name for name in late if now - self._missing[name] > HANG_AFTER_S + self._heal_after_s}
            replaced = self._client.sync(_respawn, self._cluster, late, hung)
            if replaced:
                log.warning("Worker %s was gone for good and is started again", ", ".join(sorted(replaced)))

    def miss(self, lacking: Sequence[str], idle: bool) -> None:
        """Nobody is missed: all of these workers are brought back."""

    def close(self) -> None:
        """End workers and scheduler."""
        self._stop()
        self._restore()

    def _start(self) -> None:
        """Start all, and again if one of them was killed meanwhile; Dask gives up them all for one."""
        for attempt in range(1, KILLED_ATTEMPTS):
            self._killed.clear()
            try:
                return self._start_together()
            except RuntimeError as error:
                if attempt >= START_ATTEMPTS and not self._killed:
                    raise
                what = "was killed" if self._killed else "died"
                log.warning("A worker %s while it started (%s); all are started again", what, error)
        return self._start_together()

    def _start_together(self) -> None:
        self._missing = {}
        self.session += 1
        spawning = asyncio.Lock()
        self._cluster = SpecCluster(
            workers={name: _nanny(pool, spawning, self._killed.add) for name, pool in self._pool_of.items()},
            scheduler={
                "cls": Scheduler,
                "options": {
                    "host": "127.0.0.1",
                    "protocol": "tcp://",
                    "port": 0,
                    "dashboard": True,
                    "dashboard_address": self._dashboard_address,
                },
            },
            silence_logs=logging.ERROR,
            name="alflow",
        )
        try:
            self._client = Client(self._cluster)
        except BaseException:
            self._cluster.close()
            raise

    def _stop(self) -> None:
        self._client.close(timeout=5)
        self._cluster.close(timeout=30)

    def _restore(self) -> None:
        """Put back Dask's settings."""
        self._settings.__exit__(None, None, None)
        logging.getLogger("distributed").setLevel(self._log_level)


def label_executor(slots: int, threads: int = 1, dashboard_address: str = "127.0.0.1:8787") -> DaskExecutor:
    """Equal workers on this machine, for nothing but labels."""
    return DaskExecutor(LocalWorkers((Pool("label", slots, threads),), dashboard_address))


def _nanny(pool: Pool, spawning: asyncio.Lock, killed: Callable[[str], None]) -> dict[str, Any]:
    """What a worker of a pool is; one Dask thread, for it runs one task at a time."""
    loading = [LoadsLearning()] if kinds_of(pool.name) & LEARNING else []
    options = {
        "nthreads": 1,
        "host": "127.0.0.1",
        "protocol": "tcp://",
        "dashboard": False,
        "memory_limit": round(pool.memory_gib * GIB) if pool.memory_gib is not None else 0,
        "resources": dict.fromkeys(sorted(kinds_of(pool.name)), 1.0),
        "silence_logs": logging.ERROR,
        "environment": worker_environment(pool.threads) | dict(pool.environment),
        "spawning": spawning,
        "killed": killed,
        # Told to all together, a worker that dies meanwhile would break the start.
        "plugins": [DeafToInterrupts(), WithoutCredentials(), *loading],
    }
    return {"cls": PoolNanny, "options": options}


def _put_back(before: Mapping[str, str | None]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


async def _abandon(cluster: Any) -> None:
    """End workers that have no scheduler to say good-bye to."""
    cluster.worker_spec.clear()
    cluster.shutdown_scheduler = False  # it would be asked, for half a minute
    await asyncio.gather(*(nanny.close(timeout=1) for nanny in cluster.workers.values()))


async def _respawn(cluster: Any, late: set[str], hung: set[str]) -> set[str]:
    """Replace workers whose nanny is gone: nobody else would start them again. Returns their names."""
    replaced = set()
    for name in late:
        nanny = cluster.workers.get(name)
        if nanny is None or nanny.status.name in ("closed", "failed", "closing") or name in hung:
            replaced.add(name)
            if nanny is not None:
                del cluster.workers[name]
                if name in hung:
                    await nanny.close(timeout=5)
    await cluster._correct_state()
    return replaced
