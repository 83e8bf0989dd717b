"""The keys ``pools:`` and ``cluster:``: how many workers of which kind, and whose they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from alflow.campaign.slurm_config import SlurmCluster
from alflow.domain.config import ClosedModel

__all__ = ["ClusterConfig", "ExternalCluster", "PoolConfig", "PoolsConfig", "SecurityConfig", "is_loopback", "refused"]

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]

LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")


class PoolConfig(ClosedModel):
    """The workers of one kind of task. What is left out is filled in from the cores that are left.

    Attributes:
        workers: Workers, each running one task at a time.
        threads: Threads of each of their tasks; of labels it must agree with ``reference.threads``, if both are given.
        memory_gib: Memory of one worker's own process, GiB; its nanny starts it again beyond. No limit by default. The
            processes of labels have limits of their own, see ``reference.memory_limit_mb``.
        environment: Variables that these workers have in their environment, and no other process.
    """

    workers: Count | None = None
    threads: Count | None = None
    memory_gib: Positive | None = None
    environment: Mapping[str, str] = Field(default_factory=dict)


class PoolsConfig(ClosedModel):
    """Separate workers for labels, dynamics and training. By default one pool of equal workers takes every task.

    Attributes:
        label: Workers that make labels.
        explore: Workers that run dynamics, and score the frames that wait for a label.
        train: The worker that trains committees; there is one, for one committee is trained at a time.
        oversubscribe: Whether workers may have more threads together than there are cores, and more ``memory_gib`` than
            the machine has.
    """

    label: PoolConfig = PoolConfig()
    explore: PoolConfig = PoolConfig()
    train: PoolConfig = PoolConfig()
    oversubscribe: bool = False

    @model_validator(mode="after")
    def _one_trainer(self) -> PoolsConfig:
        if self.train.workers not in (None, 1):
            raise ValueError(
                f"train.workers must be 1, for one committee is trained at a time (found {self.train.workers}); "
                "give it more threads instead"
            )
        return self


class SecurityConfig(ClosedModel):
    """Certificates with which scheduler, workers and alflow know each other; paths of PEM files.

    Attributes:
        ca: The authority that signed all of them.
        cert: This process's certificate.
        key: The key of that certificate.
    """

    ca: Path
    cert: Path
    key: Path


class ExternalCluster(ClosedModel):
    """A Dask cluster that somebody else has started. Its workers say with Dask resources which tasks they take.

    Attributes:
        address: Address of the scheduler, such as ``tcp://127.0.0.1:8786``.
        scheduler_file: The file that ``dask scheduler --scheduler-file`` has written, instead of an address.
        security: Certificates; required unless the scheduler is on loopback.
        wait_s: How long to wait for workers at the start, for a scheduler that is gone, and, once nothing runs, for
            workers of a kind that have all left or are of no use, s.
    """

    address: str | None = None
    scheduler_file: Path | None = None
    security: SecurityConfig | None = None
    wait_s: Positive = 600.0

    @model_validator(mode="after")
    def _one_way_in(self) -> ExternalCluster:
        if (self.address is None) == (self.scheduler_file is None):
            raise ValueError("expected either address or scheduler_file")
        if self.address is not None:
            refusal = refused(self.address, self.security)
            if refusal:
                raise ValueError(refusal)
        return self


def _whose(value: object) -> str:
    """Which of the three is meant, so that a mistake is told of that one alone."""
    if isinstance(value, str):
        return "local"
    slurm = isinstance(value, SlurmCluster) or (isinstance(value, Mapping) and "slurm" in value)
    return "slurm" if slurm else "external"


ClusterConfig = Annotated[
    Annotated[Literal["local"], Tag("local")]
    | Annotated[ExternalCluster, Tag("external")]
    | Annotated[SlurmCluster, Tag("slurm")],
    Discriminator(_whose),
]


def is_loopback(address: str) -> bool:
    """Whether an address of a scheduler can be reached from this machine only.

    Examples:
        >>> is_loopback("tcp://127.0.0.1:8786"), is_loopback("tls://node7:8786")
        (True, False)
    """
    return address.partition("://")[2].rpartition(":")[0] in LOOPBACK


def refused(address: str, security: SecurityConfig | None) -> str | None:
    """Why a scheduler's address may not be used; None if it may.

    Examples:
        >>> refused("tls://node7:8786", None)
        'tls://node7:8786 needs security: with the paths ca, cert and key'
    """
    protocol, found, rest = address.partition("://")
    if not found or protocol not in ("tcp", "tls") or not rest.rpartition(":")[2].isdigit():
        return f"expected an address such as tcp://127.0.0.1:8786 (found {address!r})"
    if protocol == "tls" and security is None:
        return f"{address} needs security: with the paths ca, cert and key"
    if protocol == "tcp" and security is not None:
        return f"{address} has security:, so it must begin with tls://"
    if protocol == "tcp" and not is_loopback(address):
        return (
            f"{address} is not on loopback: whoever reaches a Dask scheduler runs code as you, so it must be tls:// "
            "with security: (ca, cert, key)"
        )
    return None
