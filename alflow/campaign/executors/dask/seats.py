"""What an executor needs to know of workers, wherever they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from distributed.client import Client, Future

from alflow.campaign.pools import kinds_of
from alflow.campaign.tasks import Answer, Task

__all__ = ["Again", "Seat", "Workers"]


@dataclass(frozen=True)
class Seat:
    """A live worker, which runs one task at a time.

    Attributes:
        address: Its Dask address.
        name: Its name, such as ``label-0``.
        host: The machine it runs on, as its answers name it.
        pool: Name of its pool, which says what it takes.
        node: What SLURM calls the machine; empty if nobody has said so.
        job: Its job in SLURM's queue, such as ``12_0``; empty likewise.
    """

    address: str
    name: str
    host: str
    pool: str
    node: str = ""
    job: str = ""

    @property
    def kinds(self) -> frozenset[str]:
        """What it takes."""
        return kinds_of(self.pool)


@dataclass(frozen=True)
class Again:
    """A task came back because something was missing where it ran; with this it may be sent there once more."""

    luggage: Any


class Workers(Protocol):
    """Workers and the scheduler that knows them."""

    @property
    def dashboard(self) -> str | None:
        """Address of Dask's dashboard, if there is one."""
        ...

    @property
    def client(self) -> Client | None:
        """The connection to the scheduler; None while there is none."""
        ...

    @property
    def seats(self) -> Sequence[Seat]:
        """Those that live and may be given a task now, busy with one of ours or not."""
        ...

    @property
    def pools(self) -> Mapping[str, int]:
        """How many there are, or will be again in a moment, by the name of their pool."""
        ...

    @property
    def session(self) -> int:
        """Number of the connection to a scheduler; another one knows nothing of what was sent under this."""
        ...

    def tend(self) -> None:
        """Look after them: bring back what is gone, find out what has joined.

        Raises:
            CampaignError: Their scheduler is gone for longer than anybody wants to wait.
        """
        ...

    def miss(self, lacking: Sequence[str], idle: bool) -> None:
        """Tell of kinds of tasks that no worker takes now.

        Args:
            lacking: These kinds; machines that get no labels any more take none.
            idle: Whether nothing runs anywhere.

        Raises:
            CampaignError: It has been so, with nothing running, for longer than anybody wants to wait.
        """
        ...

    def gone(self, seat: Seat) -> bool:
        """Whether a worker has left for good, so that what it was running will not come back."""
        ...

    def leaves(self, seat: Seat) -> bool:
        """Whether a worker's time is nearly up, so that it is given nothing more."""
        ...

    def forget(self, seat: Seat) -> None:
        """A worker died, which is known from its task: it is given nothing more, whoever was seen before."""
        ...

    def avoid(self, host: str) -> None:
        """A machine gets no more labels: whoever starts workers starts those for labels elsewhere."""
        ...

    def send(self, task: Task, seat: Seat, luggage: Any = None) -> Future[Any]:
        """Start a task on a worker."""
        ...

    def unpack(self, task: Task, seat: Seat, value: Any) -> Answer | Again:
        """What a task returned, with its files where they belong."""
        ...

    def close(self) -> None:
        """End what was started here; a cluster that was there before stays."""
        ...
