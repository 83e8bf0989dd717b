"""Pools: which workers take which tasks, how the cores are shared among them, and whether one of them is free."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from io import StringIO
from itertools import combinations
from typing import Final, Literal

from rich.console import Console
from rich.table import Table

from alflow.campaign.config import CampaignConfig, available_cores
from alflow.campaign.machine import machine_gib
from alflow.campaign.pool_config import PoolConfig, PoolsConfig
from alflow.errors import ConfigError

__all__ = [
    "KINDS",
    "SHARED",
    "Kind",
    "Pool",
    "check_resources",
    "fitted",
    "has_room",
    "kind_of",
    "kinds_of",
    "local_pools",
    "pool_table",
    "pools_of",
    "rooms",
    "slots_for",
    "threads_for",
    "worker_environment",
]

log = logging.getLogger("alflow")

Kind = Literal["label", "explore", "train"]
"""What a worker may serve. A scoring counts as exploring: it too is one pass of the committee."""

KINDS: Final[tuple[Kind, ...]] = ("label", "explore", "train")

_TAKEN_BY: Final[Mapping[str, Kind]] = {"label": "label", "explore": "explore", "score": "explore", "train": "train"}

SHARED: Final = "shared"
"""Name of the pool that takes every task."""

LABEL_SHARE: Final = 0.75
"""Share of the cores that nobody spoke for that labels get: where an ethanol campaign spent its time (0002)."""


@dataclass(frozen=True)
class Pool:
    """Equal workers.

    Attributes:
        name: The kinds it serves, joined by ``+``; ``shared`` for all of them.
        workers: How many, each running one task at a time.
        threads: Threads of each of their tasks.
        memory_gib: Memory of one worker's own process, GiB; None for no limit.
        environment: Variables its workers have.
    """

    name: str
    workers: int
    threads: int
    memory_gib: float | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def cores(self) -> int:
        """Cores that all its workers together keep busy."""
        return self.workers * self.threads


def kind_of(task: str) -> Kind:
    """Which workers take a task.

    Args:
        task: ``label``, ``explore``, ``train`` or ``score``, or the name of such a task, which begins with it.

    Examples:
        >>> kind_of("score-t3"), kind_of("label")
        ('explore', 'label')
    """
    return _TAKEN_BY[task.partition("-")[0]]


def kinds_of(pool: str) -> frozenset[str]:
    """What the workers of a pool take.

    Examples:
        >>> sorted(kinds_of("explore+train")), len(kinds_of("shared"))
        (['explore', 'train'], 3)
    """
    return frozenset(KINDS if pool == SHARED else pool.split("+"))


def slots_for(pools: Mapping[str, int], kind: str) -> int:
    """How many workers take a kind of task, busy or not."""
    return sum(workers for name, workers in pools.items() if kind_of(kind) in kinds_of(name))


def rooms(pools: Mapping[str, int], running: Mapping[str, int]) -> frozenset[Kind]:
    """The kinds of tasks of which one more can start.

    Workers may take several kinds, so this is a question of who could sit where: it can be answered by counting, for
    every set of kinds, the tasks of these kinds against the workers that take any of them (Hall's theorem).

    Args:
        pools: Workers by name of their pool.
        running: Numbers of the tasks in flight, by kind.

    Examples:
        >>> sorted(rooms({"label": 1, "explore+label": 1}, {"label": 1}))
        ['explore', 'label']
        >>> sorted(rooms({"label": 1, "explore+label": 1}, {"label": 2}))
        []
    """
    now = running.get
    return _rooms(tuple(pools.items()), now("label", 0), now("explore", 0) + now("score", 0), now("train", 0))


@lru_cache(4096)
def _rooms(pools: tuple[tuple[str, int], ...], *busy: int) -> frozenset[Kind]:
    """The same from the numbers of tasks in flight, in the order of :data:`KINDS`."""
    tasks = dict(zip(KINDS, busy, strict=True))
    sets = [frozenset(kinds) for size in range(1, len(KINDS) + 1) for kinds in combinations(KINDS, size)]
    full = [
        kinds
        for kinds in sets
        if sum(tasks[kind] for kind in kinds) >= sum(count for name, count in pools if kinds & kinds_of(name))
    ]
    return frozenset(kind for kind in KINDS if not any(kind in kinds for kinds in full))


def has_room(pools: Mapping[str, int], running: Iterable[str], task: str) -> bool:
    """Whether there is a worker for one more task of a kind, beside tasks of these kinds; see :func:`rooms`."""
    return kind_of(task) in rooms(pools, Counter(running))


def threads_for(config: CampaignConfig, task: str) -> int:
    """Threads of a task: those of its pool, or those of a label where all share one."""
    kind = kind_of(task)
    if config.pools is None or kind == "label" or config.executor == "inline":
        return config.reference.threads
    return (config.pools.explore if kind == "explore" else config.pools.train).threads or 1


def worker_environment(threads: int) -> dict[str, str]:
    """Variables of a worker: its thread budget, and an allocator that keeps memory (1.4 to 2.2 times faster)."""
    n = str(threads)
    return {
        "OMP_NUM_THREADS": n,
        "MKL_NUM_THREADS": n,
        "OPENBLAS_NUM_THREADS": n,
        "OMP_WAIT_POLICY": "PASSIVE",
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": "100000000000",
        "MALLOC_TOP_PAD_": "268435456",
        "PYTHONHASHSEED": "6640",  # Dask's own: workers agree on hashes
    }


def local_pools(slots: int, threads: int) -> tuple[Pool, ...]:
    """One pool of equal workers for every task."""
    return (Pool(SHARED, slots, threads),)


def pools_of(config: CampaignConfig) -> tuple[Pool, ...]:
    """The pools of a campaign on this machine, with everything filled in that was left out."""
    cores = config.cores if config.cores is not None else available_cores()
    threads = config.reference.threads
    if config.executor == "inline":
        return local_pools(1, threads)
    if config.pools is None:
        return local_pools(max(1, cores // threads), threads)
    return _shared_out(config.pools, cores, threads)


def _shared_out(pools: PoolsConfig, cores: int, label_threads: int) -> tuple[Pool, ...]:
    """Give what is left of the cores to the pools that did not say how many workers they want.

    Training gets one worker, labels three quarters of the rest, dynamics what remains; each at least one worker.
    """
    threads = {"label": label_threads, "explore": pools.explore.threads or 1, "train": pools.train.threads or 1}
    told: dict[str, PoolConfig] = {kind: getattr(pools, kind) for kind in KINDS}
    workers = {kind: given.workers for kind, given in told.items()}
    workers["train"] = 1
    left = cores - sum((count or 0) * threads[kind] for kind, count in workers.items())
    labels, explorers = workers["label"], workers["explore"]
    if labels is None:
        share = left if explorers is not None else min(LABEL_SHARE * left, left - threads["explore"])
        labels = max(1, int(share // threads["label"]))
        left -= labels * threads["label"]
    if explorers is None:
        explorers = max(1, left // threads["explore"])
    counts = {"label": labels, "explore": explorers, "train": 1}
    return tuple(
        Pool(kind, counts[kind], threads[kind], told[kind].memory_gib, dict(told[kind].environment)) for kind in KINDS
    )


def pool_table(pools: Sequence[Pool], cores: int) -> str:
    """The pools as a table in plain text, for a terminal, a log or an error.

    Examples:
        >>> print(pool_table((Pool("shared", 2, 1),), 2))
        pool    tasks                   workers  threads each  cores
        shared  label, explore, train         2             1      2  of 2
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    memory = any(pool.memory_gib is not None for pool in pools)
    for column in ("pool", "tasks"):
        table.add_column(column)
    for column in ("workers", "threads each", *(("GiB each",) if memory else ()), "cores"):
        table.add_column(column, justify="right")
    table.add_column("")
    for pool in pools:
        tasks = ", ".join(kind for kind in KINDS if kind in kinds_of(pool.name))
        given = () if not memory else ("–" if pool.memory_gib is None else f"{pool.memory_gib:g}",)
        last = f"of {cores}" if len(pools) == 1 else ""
        table.add_row(pool.name, tasks, str(pool.workers), str(pool.threads), *given, str(pool.cores), last)
    if len(pools) > 1:
        sums = [str(sum(pool.workers for pool in pools)), "", *([""] if memory else [])]
        table.add_row("all", "", *sums, str(sum(pool.cores for pool in pools)), f"of {cores}")
    out = StringIO()
    Console(file=out, width=100, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip().splitlines())


def fitted(config: CampaignConfig) -> CampaignConfig:
    """The configuration of a campaign that is taken up, perhaps on a smaller machine than it was begun on.

    Cores it does not have are not used. Pools that do not fit become one, with a warning.
    """
    cores = available_cores()
    if config.cores is not None:
        config = config.model_copy(update={"cores": min(config.cores, cores)})
    cores, wanted = config.cores or cores, sum(pool.cores for pool in pools_of(config))
    memory_gib = _given_gib(pools_of(config))
    fits = wanted <= cores and memory_gib <= machine_gib()
    if config.pools is not None and not config.pools.oversubscribe and not fits:
        log.warning(
            "Its pools (%d threads, %g GiB) do not fit on %d cores and %.1f GiB: one pool takes every task",
            wanted, memory_gib, cores, machine_gib(),
        )  # fmt: skip
        return config.model_copy(update={"pools": None})
    return config


def _given_gib(pools: Iterable[Pool]) -> float:
    """Memory that workers were given by name, together."""
    return sum(pool.workers * (pool.memory_gib or 0.0) for pool in pools)


def check_resources(config: CampaignConfig) -> None:
    """Refuse a configuration that asks for more than this machine has.

    Raises:
        ConfigError: More cores than there are, more threads in a label than cores, or pools that do not fit on them, or
            in memory.
    """
    if config.cluster != "local":
        return
    available = available_cores()
    cores = config.cores if config.cores is not None else available
    if cores > available:
        raise ConfigError(f"cores: {cores} were asked for and this process may use {available}; lower cores.")
    if config.reference.threads > cores and not (config.pools and config.pools.oversubscribe):
        raise ConfigError(
            f"reference.threads: a label of {config.reference.threads} threads does not fit on {cores} cores; "
            "lower reference.threads or raise cores."
        )
    pools = pools_of(config)
    wanted = sum(pool.cores for pool in pools)
    if config.pools is not None and wanted > cores and not config.pools.oversubscribe:
        raise ConfigError(
            f"pools: {wanted} threads do not fit on {cores} cores; lower workers or threads, leave pools: out so that "
            f"all tasks share one pool, or set pools.oversubscribe: true.\n{pool_table(pools, cores)}"
        )
    given_gib = _given_gib(pools)
    if config.pools is not None and given_gib > machine_gib() and not config.pools.oversubscribe:
        raise ConfigError(
            f"pools: {given_gib:g} GiB for all workers are more than the {machine_gib():.1f} of this machine; lower "
            f"memory_gib or workers, or set pools.oversubscribe: true.\n{pool_table(pools, cores)}"
        )
    n_labels = sum(pool.workers for pool in pools if "label" in kinds_of(pool.name))
    labels_gib = n_labels * config.reference.memory_limit_mb * 1e6 / 2**30
    if labels_gib > machine_gib():
        log.warning(
            "%d labels at a time may use %g MB each (reference.memory_limit_mb), together %.0f GiB, and this machine "
            "has %.1f; if they do, the kernel ends some of them",
            n_labels, config.reference.memory_limit_mb, labels_gib, machine_gib(),
        )  # fmt: skip
