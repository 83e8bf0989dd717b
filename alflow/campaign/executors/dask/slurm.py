"""Workers as jobs of SLURM: the scheduler lives in this process, behind TLS, and the jobs come to it."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import dask
from distributed import Scheduler, SpecCluster
from distributed.utils import format_dashboard_link

from alflow.campaign.certificates import make_certificates
from alflow.campaign.config import CampaignConfig
from alflow.campaign.executors.dask import drain
from alflow.campaign.executors.dask.cluster import ANSWER_WITHIN_S, ClusterWorkers, Unreachable, security_of
from alflow.campaign.executors.dask.local import SETTINGS
from alflow.campaign.executors.dask.seats import Seat
from alflow.campaign.job_scripts import job_scripts
from alflow.campaign.pool_config import ExternalCluster, SecurityConfig, is_loopback
from alflow.campaign.pools import threads_for
from alflow.campaign.slurm_config import SlurmCluster, SlurmConfig
from alflow.campaign.slurm_jobs import SlurmJobs
from alflow.errors import CampaignError, ConfigError

__all__ = ["SlurmWorkers"]

LOST_SCHEDULER_S: Final = 60.0
"""How long a scheduler of this process may be unreachable, s; then something is wrong with the machine itself."""


class SlurmWorkers(ClusterWorkers):
    """A scheduler of our own, and workers in jobs that are submitted, replaced and cancelled.

    The campaign begins at once, without workers; each one counts from the moment it joins, however long it waited in
    the queue.

    Args:
        config: A campaign with ``cluster: {slurm: …}``.
        folder: The campaign's folder; nodes must see it under the same path.

    Raises:
        ConfigError: SLURM is not here, refuses the jobs, or this machine's name is of no use to the nodes.
    """

    def __init__(self, config: CampaignConfig, folder: Path) -> None:
        assert isinstance(config.cluster, SlurmCluster)
        slurm, place = config.cluster.slurm, (folder / "cluster").absolute()
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._avoided: set[str] = set()
        self._asked: set[str] = set()
        self._jobs = SlurmJobs(slurm, place, config.name)
        self._jobs.cancel_left_behind()
        security = _fresh_certificates(place)
        self._own_settings = dask.config.set(SETTINGS)
        self._own_scheduler: SpecCluster | None = None
        self._dashboard_host = config.dashboard_address.rpartition(":")[0]
        try:
            self._own_scheduler = _scheduler(slurm, security, config.dashboard_address)
            address: str = self._own_scheduler.scheduler_address
            _refuse_hidden(address, slurm)
            for name, script in job_scripts(config, place, address, security).items():
                (place / f"{name}.sh").write_text(script, encoding="utf-8")
        except BaseException:
            self._end()
            raise
        where = ExternalCluster(address=address, security=security, wait_s=LOST_SCHEDULER_S)
        super().__init__(where, partial(threads_for, config), folder)

    @property
    def dashboard(self) -> str | None:
        """Address of the dashboard of our own scheduler.

        It listens on loopback, the scheduler where the nodes see it; Dask would name the scheduler's host.
        """
        if self._own_scheduler is None:
            return None
        port = self._own_scheduler.scheduler_info["services"]["dashboard"]
        link: str = format_dashboard_link(self._dashboard_host, port)
        return link

    def tend(self) -> None:
        """See who is there, who should not be, and submit jobs for those that have ended.

        Raises:
            ConfigError: SLURM refuses the jobs.
            CampaignError: Jobs end, again and again, before their workers have joined.
        """
        super().tend()
        if self._avoided:
            self._ask_to_leave()
        self._jobs.tend(self.pools, {seat.job for seat in self.seats if seat.job})

    def avoid(self, host: str) -> None:
        """Have jobs that make labels begin on other nodes; workers there that take nothing else leave.

        Their jobs end with them and are followed elsewhere. Workers that take more than labels stay.
        """
        there = {_node(seat) for seat in self.seats if seat.host == host}
        self._jobs.avoid(there or {_short(host)})
        self._avoided.add(host)

    def close(self) -> None:
        """Cancel the jobs and end the scheduler."""
        try:
            super().close()
        finally:
            self._end()

    def _begin(self) -> None:
        """Submit the jobs; nobody waits for them here."""
        self.tend()

    def miss(self, lacking: Sequence[str], idle: bool) -> None:
        """Be patient: jobs that follow others may wait in the queue for hours, and those that fail are counted.

        Raises:
            CampaignError: Nobody takes labels but machines that crash them, on which SLURM insists.
        """
        makers = [seat for seat in self.seats if "label" in seat.kinds] if "label" in lacking and idle else []
        insisted = not any(self._jobs.avoids(seat.pool, _node(seat)) for seat in makers)
        if makers and insisted and {seat.host for seat in makers} <= self._avoided:
            raise CampaignError(
                f"Labels crash on {', '.join(sorted(self._avoided))}, and SLURM gives no other node. alflow status "
                "shows how; when that is mended, resume the campaign, which gives these nodes another chance."
            )
        if lacking and idle:
            self._tell(f"Waiting for workers: SLURM has started no job whose worker takes {', '.join(lacking)} now")

    def _ask_to_leave(self) -> None:
        """Ask each worker once that nobody will give anything; if its successor may begin there too, it stays."""
        self._asked &= self._live.keys()
        idle = [seat for seat in self.seats if seat.host in self._avoided and seat.kinds == {"label"}]
        away = [s.address for s in idle if s.address not in self._asked and self._jobs.avoids(s.pool, _node(s))]
        if not away or self._client is None:
            return
        try:
            answers = self._client.sync(
                self._client._run, drain.leave,
                workers=away, on_error="return", callback_timeout=ANSWER_WITHIN_S,
            )  # fmt: skip
        except Unreachable:
            return
        self._asked.update(address for address, told in answers.items() if not isinstance(told, BaseException))

    def _end(self) -> None:
        self._jobs.cancel()
        if self._own_scheduler is not None:
            self._own_scheduler.close(timeout=30)
            self._own_scheduler = None
        self._own_settings.__exit__(None, None, None)


def _node(seat: Seat) -> str:
    """What SLURM calls the machine of a worker."""
    return seat.node or _short(seat.host)


def _short(host: str) -> str:
    return host.partition(".")[0]


def _fresh_certificates(folder: Path) -> SecurityConfig:
    """New ones each time, so that no job of an earlier scheduler meets this one."""
    for name in ("cert.pem", "key.pem"):
        (folder / name).unlink(missing_ok=True)
    return make_certificates(folder)


def _scheduler(slurm: SlurmConfig, security: SecurityConfig, dashboard_address: str) -> SpecCluster:
    options: dict[str, Any] = {
        "host": slurm.host or socket.gethostname(),
        "protocol": "tls://",
        "port": slurm.port,
        "security": security_of(security),
        "dashboard": True,
        "dashboard_address": dashboard_address,
    }
    try:
        return SpecCluster(
            workers={},
            scheduler={"cls": Scheduler, "options": options},
            security=security_of(security),
            silence_logs=logging.ERROR,
            name="alflow",
        )
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            f"cluster.slurm: no scheduler can listen on {options['host']}, port {slurm.port} ({error}); give host and "
            "port of this machine by which the nodes reach it."
        ) from error


def _refuse_hidden(address: str, slurm: SlurmConfig) -> None:
    """Refuse a host name that means this machine to itself alone, unless that is what was asked for."""
    if slurm.host is None and is_loopback(address):
        raise ConfigError(
            f"cluster.slurm: the name of this machine, {socket.gethostname()}, means {address} here, which "
            "nodes cannot reach; give host: the name or address by which they reach it, or 127.0.0.1 if the jobs "
            "run here."
        )
