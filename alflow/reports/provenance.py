"""What was done, with what, where, and what went wrong: read off rows, nothing computed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Final

import numpy as np

from alflow.domain import Label
from alflow.domain.elements import SYMBOLS
from alflow.domain.structure import FloatArray
from alflow.store import EventRecord, ExecutionRecord, JobRecord

__all__ = [
    "Costs",
    "Machine",
    "Walks",
    "cost_labels",
    "geometries",
    "machines",
    "settings",
    "trained_on",
    "versions",
    "walks",
]

MOST_ATOMS: Final = 5000
"""Starting structures of more atoms in all are not written out."""


@dataclass(frozen=True)
class Machine:
    """One machine and what it did.

    Attributes:
        host: Its name.
        tasks: Executions by kind.
        core_s: Processor time of them, s.
        failed: How many of them failed or were lost.
    """

    host: str
    tasks: Mapping[str, int]
    core_s: float
    failed: int


@dataclass(frozen=True, eq=False)
class Costs:
    """What labels cost.

    Attributes:
        wall_s: Wall time of every successful attempt, in order, s.
        core_s: Processor time of those, s; NaN where it is not known.
        n_atoms: Atoms of what was labelled; 0 where it is not known.
        peak_memory_mb: Largest memory of any, MB; None if not known.
        wasted_s: Wall time of attempts that brought no label, s.
        n_wasted: How many there were.
        n_found: Labels that existed before and cost nothing.
    """

    wall_s: FloatArray
    core_s: FloatArray
    n_atoms: FloatArray
    peak_memory_mb: float | None
    wasted_s: float
    n_wasted: int
    n_found: int


@dataclass(frozen=True, eq=False)
class Walks:
    """What walkers reported after each of their segments.

    Attributes:
        walker: Number of the walker, shape (report,).
        time: Its own simulated time, ps, shape (report,).
        temperature: Mean over the segment, K, shape (report,).
        disagreement: Largest met in the segment, eV/Å, shape (report,).
        generation: Committee it moved on, shape (report,).
        status: running, paused or reset, shape (report,).
        resets: Reasons of resets with their number.
    """

    walker: FloatArray
    time: FloatArray
    temperature: FloatArray
    disagreement: FloatArray
    generation: FloatArray
    status: tuple[str, ...]
    resets: Mapping[str, int]


def machines(executions: Sequence[ExecutionRecord]) -> list[Machine]:
    """Machines by name, each with what it did."""
    found: dict[str, list[ExecutionRecord]] = {}
    for row in executions:
        if row.host is not None:
            found.setdefault(row.host, []).append(row)
    return [
        Machine(
            host,
            dict(Counter(row.kind for row in rows)),
            sum(row.cpu_s or 0.0 for row in rows),
            sum(row.status in ("failed", "lost") for row in rows),
        )
        for host, rows in sorted(found.items())
    ]


def versions(labels: Sequence[Label]) -> dict[str, dict[str, int]]:
    """Programs that made labels: by name, each version with its number of labels.

    An imported label was made by what its file tells, not by what has imported it.
    """
    found: dict[str, Counter[str]] = {}
    for label in labels:
        made: Any = label.provenance
        file = made.get("imported_from")
        while isinstance(made, Mapping) and "imported_from" in made:
            before = made.get("before")
            made = before.get("provenance") if isinstance(before, Mapping) else None
        # what runs a label is told by its process, what computes it by the reference
        ran = made.get("versions") if isinstance(made, Mapping) else None
        told = [some for some in (ran, label.evaluation.diagnostics.get("versions")) if isinstance(some, Mapping)]
        if file is not None and not told:
            told = [{"not told by the file": PurePath(str(file)).name}]
        for some in told:
            for name, version in some.items():
                found.setdefault(str(name), Counter())[str(version)] += 1
    return {name: dict(found[name]) for name in sorted(found)}


def trained_on(events: Sequence[EventRecord]) -> list[tuple[dict[str, str], int]]:
    """Machines that trained committees, the busiest first, each with its trainings; as far as the journal tells."""
    told = [event.payload.get("machine") for event in events if event.kind == "training_done"]
    counts = Counter(tuple(machine.items()) for machine in told if machine)
    return [(dict(machine), count) for machine, count in counts.most_common()]


def geometries(config: Mapping[str, Any]) -> str:
    """Starting structures of a stored configuration as extended XYZ, every digit; empty where atoms are too many."""
    structures: Sequence[Mapping[str, Any]] = config.get("structures", ())
    if sum(len(known["numbers"]) for known in structures) > MOST_ATOMS:
        return ""
    frames = []
    for known in structures:
        cell = " ".join(repr(x) for vector in known["cell_ang"] for x in vector)
        lattice = f'Lattice="{cell}" ' if any(known["pbc"]) else ""
        pbc = " ".join("T" if periodic else "F" for periodic in known["pbc"])
        comment = f'{lattice}Properties=species:S:1:pos:R:3 pbc="{pbc}" '
        comment += f"charge={known['charge']} multiplicity={known['multiplicity']}"
        atoms = [
            " ".join([SYMBOLS[number], *map(repr, position)])
            for number, position in zip(known["numbers"], known["positions_ang"], strict=True)
        ]
        frames.append("\n".join([str(len(atoms)), comment, *atoms]))
    return "\n".join(frames)


def settings(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A stored configuration as (dotted key, value) lines; geometries are counted, not shown."""
    shown = dict(config.get("config", {}))
    if "labelling" in config:
        shown["labelling"] = config["labelling"]
    lines = list(_flat("", shown))
    if "structures" in config:
        lines.append(("starting structures", str(len(config["structures"]))))
    return lines


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{key}.", value)
        elif value is not None:
            text = str(value)
            yield f"{prefix}{key}", text if len(text) <= 120 else f"{text[:117]}…"


def cost_labels(executions: Sequence[ExecutionRecord], jobs: Sequence[JobRecord], sizes: Mapping[str, int]) -> Costs:
    """Add up what labels cost.

    Args:
        executions: Every attempt at every task.
        jobs: Labels asked for.
        sizes: Atoms of structures, by id.
    """
    attempts = [row for row in executions if row.kind == "label" and row.ended_at is not None]
    done = [row for row in attempts if row.status == "done"]
    failed = [row for row in attempts if row.status != "done"]
    of_job = {job.id: sizes.get(job.structure_id, 0) for job in jobs}
    paid = {row.subject for row in done}
    memory = [row.peak_memory_mb for row in done if row.peak_memory_mb is not None]
    return Costs(
        wall_s=np.array([_wall(row) for row in done]),
        core_s=np.array([np.nan if row.cpu_s is None else row.cpu_s for row in done]),
        n_atoms=np.array([of_job.get(row.subject, 0) for row in done], dtype=float),
        peak_memory_mb=max(memory, default=None),
        wasted_s=sum(_wall(row) for row in failed),
        n_wasted=len(failed),
        n_found=sum(job.state == "done" and job.id not in paid for job in jobs),
    )


def _wall(row: ExecutionRecord) -> float:
    if row.wall_s is not None:
        return row.wall_s
    return (row.ended_at - row.started_at).total_seconds() if row.ended_at is not None else 0.0


def walks(events: Sequence[EventRecord], timestep_fs: float) -> Walks:
    """Read the walkers' reports off the journal.

    Args:
        events: The journal.
        timestep_fs: Time step, fs.
    """
    rows: list[tuple[float, ...]] = []
    status: list[str] = []
    resets: Counter[str] = Counter()
    for event in events:
        if event.kind != "segment_done":
            continue
        for report in event.payload["reports"]:
            numbers = (report["walker"], report["step"] * timestep_fs / 1000.0, report["temperature"])
            rows.append((*numbers, report["max_disagreement"], event.payload["generation"]))
            status.append(report["status"])
            if report["status"] == "reset":
                resets[re.sub(r"\b\d[\d.]*", "…", report["reason"]).rstrip(".")] += 1
    walker, time, temperature, disagreement, generation = np.array(rows, dtype=float).reshape(-1, 5).T
    return Walks(walker, time, temperature, disagreement, generation, tuple(status), dict(resets.most_common()))
