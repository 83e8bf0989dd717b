"""Workers of a Dask cluster that somebody else has started; they may come and go, and so may its scheduler."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import cloudpickle
import dask
from distributed import Client
from distributed.client import Future
from distributed.security import Security

from alflow.campaign.elsewhere import Delivery, Luggage, Wanted, checkpoint_for, deliver, mark, pack, run_elsewhere
from alflow.campaign.executors.dask import census
from alflow.campaign.executors.dask.seats import Again, Seat
from alflow.campaign.pool_config import ExternalCluster, SecurityConfig, refused
from alflow.campaign.pools import KINDS, SHARED, slots_for
from alflow.campaign.tasks import Answer, Task
from alflow.errors import CampaignError, ConfigError

__all__ = ["ClusterWorkers", "security_of"]

log = logging.getLogger("alflow")

LOOK_EVERY_S: Final = 1.0
"""How often the scheduler is asked who is there."""

ANSWER_WITHIN_S: Final = 10.0
"""Time a scheduler or a worker has to answer."""

TELL_EVERY_S: Final = 10.0
"""How often somebody who waits is told what for."""

LONGEST_PAUSE_S: Final = 15.0
"""Between two attempts to reach a scheduler that is gone; the first pause is a second, each next twice as long."""

ROLES: Final = ("client", "scheduler", "worker")
"""Who shows a certificate."""

SETTINGS: Final[dict[str, Any]] = {"logging.distributed": "error", "distributed.comm.timeouts.connect": "5s"}

Unreachable = (OSError, asyncio.TimeoutError, TimeoutError, ValueError, KeyError)
"""What Dask raises when a scheduler is not there, or not there any more."""


class ClusterWorkers:
    """A connection to a running scheduler, and those of its workers that are fit for us.

    Args:
        config: Where it is, and how to be let in.
        threads: Threads of a task, given its kind.
        folder: The campaign's folder.
        waiting: Called again and again while the first workers are waited for.

    Raises:
        ConfigError: It cannot be reached, a worker has other versions, or no worker takes some kind of task, for as
            long as the configuration says to wait.
    """

    def __init__(
        self,
        config: ExternalCluster,
        threads: Callable[[str], int],
        folder: Path,
        waiting: Callable[[], None] = lambda: None,
    ) -> None:
        self._config, self._threads, self._folder, self._waiting = config, threads, folder, waiting
        self._mark = f".here-{secrets.token_hex(8)}"
        self.session = 0
        self._prefix = secrets.token_hex(4)
        self._own = census.introduce()
        self._client: Client | None = None
        self._known: dict[str, Seat | None] = {}
        self._live: dict[str, Mapping[str, Any]] = {}
        self._arrived: dict[str, list[str]] = {}
        self._leaving: set[str] = set()
        self._looked = self._told = 0.0
        self._repeats = 0
        self._away_since: float | None = None
        self._lacking_since: float | None = None
        self._next_try, self._pause = 0.0, 1.0
        self._n_sent = 0
        self._log_level = logging.getLogger("distributed").level
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        self._settings = dask.config.set(SETTINGS)
        cloudpickle.register_pickle_by_value(census)
        mark(folder, self._mark)
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    @property
    def dashboard(self) -> str | None:
        """Address of the scheduler's dashboard."""
        link: str | None = self._client.dashboard_link if self._client is not None else None
        return link

    @property
    def client(self) -> Client | None:
        """The connection to the scheduler; None while it is away."""
        return self._client

    @property
    def seats(self) -> Sequence[Seat]:
        """Workers that are there, have our versions and were seen idle once."""
        fit = [address for address, worker in self._live.items() if worker.get("status") == "running"]
        return [seat for address in fit if (seat := self._known.get(address)) is not None and seat.pool]

    @property
    def pools(self) -> Mapping[str, int]:
        """The same, counted by what they take."""
        return Counter(seat.pool for seat in self.seats)

    def gone(self, seat: Seat) -> bool:
        """Whether the scheduler no longer knows a worker."""
        return self._client is not None and seat.address not in self._live

    def leaves(self, seat: Seat) -> bool:
        """Whether a worker has said that it takes nothing more, before it left or while it is still there."""
        return seat.address in self._leaving

    def forget(self, seat: Seat) -> None:
        """A worker that died is not there any more, whatever the last look saw; if it is, the next one says so."""
        self._live.pop(seat.address, None)
        self._known.pop(seat.address, None)

    def avoid(self, host: str) -> None:
        """Nothing to do: whoever started the workers there knows best."""

    def send(self, task: Task, seat: Seat, luggage: Any = None) -> Future[Any]:
        """Start a task on a worker. The key is new each time: a scheduler may remember those of an earlier session."""
        assert self._client is not None
        self._n_sent += 1
        arrived = tuple(self._arrived.pop(seat.host, ()))
        packed = luggage if isinstance(luggage, Luggage) else Luggage(self._mark)
        packed = Luggage(packed.mark, packed.weights, arrived, checkpoint_for(task))
        key = f"{task.name}-{self._prefix}-{self._n_sent}"
        return self._client.submit(
            run_elsewhere, task, self._threads(task.name), packed,
            key=key, pure=False, retries=0, workers=[seat.address],
        )  # fmt: skip

    def unpack(self, task: Task, seat: Seat, value: Any) -> Answer | Again:
        """What a task returned; its files are written into the campaign's folder first."""
        if isinstance(value, Wanted):
            packed = pack(task, value, self._mark)
            if packed is None:
                raise FileNotFoundError(f"The weight file {value.sha256[:12]}… is neither on {seat.host} nor here.")
            return Again(packed)
        assert isinstance(value, Delivery)
        answer = deliver(task, value)
        if value.spool_file is not None:  # only now: that machine removes the file with its next task
            self._arrived.setdefault(seat.host, []).append(value.spool_file)
        return answer

    def tend(self) -> None:
        """See who is there; look for a scheduler that is gone.

        Raises:
            CampaignError: It has been gone for longer than the configuration says to wait.
        """
        if self._client is not None and self._client.status != "running":
            log.warning(
                "The connection to Dask's scheduler at %s is lost; what it was running will run again", self._at
            )
            self._let_go()
        if self._client is None:
            self._look_for_scheduler()
        if self._client is not None and time.monotonic() - self._looked > LOOK_EVERY_S:
            self._look()

    def miss(self, lacking: Sequence[str], idle: bool) -> None:
        """Wait for workers when those of some kind have left, are of no use, or get no labels any more.

        While anything runs nobody is kept waiting for good, and a running worker that has not been seen idle yet may be
        fit; what is lacking is told all the same.

        Raises:
            CampaignError: For longer than the configuration says to.
        """
        if not lacking or self._client is None:
            self._lacking_since = None
            return
        self._tell(f"Waiting for workers at {self._at}: none takes {', '.join(lacking)} now")
        new = [self._live[address] for address in self._live.keys() - self._known.keys()]
        unknown = Counter(_pool(worker.get("resources") or {}) for worker in new if worker.get("status") == "running")
        lacking = [kind for kind in lacking if not slots_for(unknown, kind)]
        if not lacking or not idle:
            self._lacking_since = None
            return
        now = time.monotonic()
        self._lacking_since = now if self._lacking_since is None else self._lacking_since
        if now - self._lacking_since > self._config.wait_s:
            raise CampaignError(
                f"No worker at {self._at} has taken {', '.join(lacking)} for {self._config.wait_s:g} s, and nothing "
                "else is left to do. All that was committed is kept; start some workers, and resume the campaign."
            )

    def close(self) -> None:
        """Let go of the cluster; it goes on without us."""
        self._let_go()
        (self._folder / self._mark).unlink(missing_ok=True)
        cloudpickle.unregister_pickle_by_value(census)
        self._settings.__exit__(None, None, None)
        logging.getLogger("distributed").setLevel(self._log_level)

    @property
    def _at(self) -> str:
        return str(self._config.address or self._config.scheduler_file)

    def _begin(self) -> None:
        self._wait_for_workers()

    def _wait_for_workers(self) -> None:
        """Wait until there is a worker for every kind of task."""
        began = time.monotonic()
        while True:
            try:
                self.tend()
            except CampaignError as error:
                raise ConfigError(str(error)) from None
            lacking = [kind for kind in KINDS if not slots_for(self.pools, kind)]
            if not lacking:
                log.info("Dask cluster at %s: %s", self._at, self._described())
                return
            if self._client is not None and time.monotonic() - began > self._config.wait_s:
                raise ConfigError(
                    f"cluster: no worker at {self._at} takes {', '.join(lacking)} after {self._config.wait_s:g} s; "
                    f"start some with: dask worker {self._at} --nthreads 1 --resources {lacking[0]}=1, or without "
                    "--resources for all kinds of tasks."
                )
            if self._client is not None:
                self._tell(f"Waiting for workers at {self._at}: none takes {', '.join(lacking)} yet")
            self._waiting()
            time.sleep(0.2)

    def _described(self) -> str:
        hosts = len({seat.host for seat in self.seats})
        pools = ", ".join(f"{count} {name}" for name, count in sorted(self.pools.items()))
        return f"{len(self.seats)} worker(s) on {hosts} machine(s): {pools}"

    def _tell(self, what: str) -> None:
        if time.monotonic() - self._told > TELL_EVERY_S:
            self._told = time.monotonic()
            log.info("%s", what)

    def _look_for_scheduler(self) -> None:
        now = time.monotonic()
        if self._away_since is None:
            self._away_since, self._next_try, self._pause = now, now, 1.0
        if now < self._next_try:
            return
        try:
            self._client = self._connected()
        except Unreachable as error:
            away = time.monotonic() - self._away_since
            if away > self._config.wait_s:
                raise CampaignError(
                    f"The Dask scheduler at {self._at} could not be reached for {away:.0f} s ({type(error).__name__}). "
                    "All that was committed is kept; start the scheduler and its workers, and resume the campaign."
                ) from None
            self._tell(f"Waiting for the Dask scheduler at {self._at}, for {away:.0f} s now")
            self._next_try = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE_S)
            return
        self.session += 1
        self._away_since = self._lacking_since = None
        self._looked = 0.0
        self._ask_whether_it_repeats(self._client)

    def _ask_whether_it_repeats(self, client: Client) -> None:
        """Warn of a scheduler that runs a task again by itself, once."""
        try:
            repeats = client.sync(client._run_on_scheduler, census.repeats, callback_timeout=ANSWER_WITHIN_S)
        except Exception as error:  # whatever it does not understand; workers are asked for their versions
            log.info("The Dask scheduler at %s does not say whether it repeats tasks: %s", self._at, error)
            return
        if repeats not in (0, self._repeats):
            log.warning(
                "The Dask scheduler at %s runs a task again whose worker died, up to %d times, and tells nobody, so "
                "the database misses executions; start it with DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES=0 in its "
                "environment", self._at, repeats,
            )  # fmt: skip
        self._repeats = repeats

    def _connected(self) -> Client:
        """Connect.

        Raises:
            ConfigError: The address in a scheduler file is not one that may be used.
            OSError: The scheduler is not there.
        """
        address, given = self._config.address, self._config.security
        if address is None:
            assert self._config.scheduler_file is not None
            address = str(json.loads(self._config.scheduler_file.read_text(encoding="utf-8"))["address"])
            refusal = refused(address, given)
            if refusal:
                raise ConfigError(f"cluster.scheduler_file: {refusal}.")
        security = security_of(given) if given is not None else None
        return Client(address, security=security, timeout=5, name="alflow")

    def _let_go(self) -> None:
        client, self._client = self._client, None
        self.session += 1
        self._live, self._known, self._arrived = {}, {}, {}
        if client is not None:
            client.close(timeout=2)

    def _look(self) -> None:
        """Ask the scheduler for its workers, and new ones who they are."""
        assert self._client is not None
        self._looked = time.monotonic()
        try:
            scheduler: Any = self._client.scheduler
            told = self._client.sync(scheduler.identity, callback_timeout=ANSWER_WITHIN_S)
        except Unreachable:
            return  # if the connection is gone, its status says so
        self._live = dict(told["workers"])
        for address in [address for address in self._known if address not in self._live]:
            del self._known[address]
        for address, seat in self._known.items():
            pool = _pool(self._live[address].get("resources") or {})
            if seat is not None and seat.pool != pool:
                self._known[address] = replace(seat, pool=pool)
                if not pool:
                    self._leaving.add(address)
        # What an orchestrator that died had started may still run: such a worker is ours once it is idle.
        idle = [address for address in self._live if address not in self._known and not _executing(self._live[address])]
        if idle:
            self._introduce(idle)

    def _introduce(self, addresses: list[str]) -> None:
        """Ask new workers for their versions.

        Raises:
            ConfigError: One has others than we have, and the campaign has not begun.
        """
        assert self._client is not None
        try:
            answers = self._client.sync(
                self._client._run, census.introduce, workers=addresses, on_error="return",
                callback_timeout=ANSWER_WITHIN_S,
            )  # fmt: skip
        except Unreachable:
            return
        for address, told in answers.items():
            if not isinstance(told, dict):
                continue  # it left while it was asked
            wrong = census.mismatch(self._own, told)
            if wrong and not self.seats and not self._n_sent:
                raise ConfigError(
                    f"cluster: the worker {address} on {told['host']} has {wrong}; tasks and answers are exchanged as "
                    "Python objects, so install the same versions there."
                )
            if wrong:
                log.warning("The worker %s on %s is not used: it has %s", address, told["host"], wrong)
            worker = self._live[address]
            named, pool = str(worker.get("name")), _pool(worker.get("resources") or {})
            seat = Seat(address, named, told["host"], pool, told["node"], told["job"])
            self._known[address] = None if wrong else seat


def security_of(given: SecurityConfig) -> Security:
    """Certificates as Dask wants them, the same for all of its roles."""
    roles = {f"tls_{role}_{part}": str(getattr(given, part)) for role in ROLES for part in ("cert", "key")}
    return Security(require_encryption=True, tls_ca_file=str(given.ca), **roles)


def _pool(resources: Mapping[str, float]) -> str:
    """What a worker takes, by the resources it declares; everything, if it declares none of ours.

    Nothing, which has an empty name, if it declares that it has none of them left.

    Examples:
        >>> _pool({"train": 1.0, "label": 1.0}), _pool({"GPU": 2.0})
        ('label+train', 'shared')
        >>> _pool({"label": 0.0})
        ''
    """
    kinds = [kind for kind in KINDS if resources.get(kind, 0) > 0]
    declares = any(kind in resources for kind in KINDS)
    return "+".join(kinds) if declares and len(kinds) < len(KINDS) else SHARED


def _executing(worker: Mapping[str, Any]) -> bool:
    counts = (worker.get("metrics") or {}).get("task_counts") or {}
    return bool(counts.get("executing"))
