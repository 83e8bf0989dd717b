"""Who worked when: every execution in a lane of its machine, or, when there are too many, how many slots were busy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np

from alflow.domain.structure import FloatArray
from alflow.store import ExecutionRecord

__all__ = ["KINDS", "Lane", "Span", "Timeline", "draw_up"]

KINDS: Final = ("label", "explore", "train", "score")
BINS: Final = 300


@dataclass(frozen=True)
class Span:
    """One execution.

    Attributes:
        kind: What kind of task.
        begin: Hours after the first execution.
        end: Hours after the first execution.
        status: How it went.
        subject: What it worked on.
    """

    kind: str
    begin: float
    end: float
    status: str
    subject: str


@dataclass(frozen=True)
class Lane:
    """Executions of one machine that followed each other.

    Attributes:
        host: The machine; empty where it is not known.
        number: Number of the lane on that machine, from 1.
        spans: What ran, in order.
    """

    host: str
    number: int
    spans: tuple[Span, ...]


@dataclass(frozen=True, eq=False)
class Timeline:
    """When what ran.

    Attributes:
        began_at: When the first execution was handed out; None if there is none.
        hours: From then to the end of the last, h.
        lanes: Every execution by machine.
        edges: Edges of equal stretches of that time, h, shape (stretch + 1,).
        busy: Mean number of executions of each kind at once, shape (kind, stretch), in the order of :data:`KINDS`.
        n_executions: How many there are.
        n_unfinished: Executions without an end, which are left out.
    """

    began_at: datetime | None
    hours: float
    lanes: tuple[Lane, ...]
    edges: FloatArray
    busy: FloatArray
    n_executions: int
    n_unfinished: int


def draw_up(executions: Sequence[ExecutionRecord]) -> Timeline:
    """Sort executions into lanes: on each machine the first lane that is free takes the next one.

    Args:
        executions: Every attempt; those that still run are counted and left out.
    """
    ended = [row for row in executions if row.ended_at is not None]
    unfinished = len(executions) - len(ended)
    if not ended:
        return Timeline(None, 0.0, (), np.zeros(1), np.zeros((len(KINDS), 0)), len(executions), unfinished)
    start = min(row.started_at for row in ended)
    spans: dict[str, list[Span]] = {}
    for row in sorted(ended, key=lambda row: row.started_at):
        assert row.ended_at is not None
        begin, end = _hours(row.started_at, start), _hours(row.ended_at, start)
        spans.setdefault(row.host or "", []).append(Span(row.kind, begin, max(begin, end), row.status, row.subject))
    hours = max(span.end for of_host in spans.values() for span in of_host)
    lanes = [lane for host in sorted(spans) for lane in _lanes(host, spans[host])]
    edges = np.linspace(0.0, max(hours, 1e-9), BINS + 1)
    busy = np.zeros((len(KINDS), BINS))
    for number, kind in enumerate(KINDS):
        for of_host in spans.values():
            for span in of_host:
                if span.kind == kind:
                    busy[number] += np.clip(
                        np.minimum(span.end, edges[1:]) - np.maximum(span.begin, edges[:-1]), 0, None
                    )
    busy /= edges[1] - edges[0]
    return Timeline(start, hours, tuple(lanes), edges, busy, len(executions), unfinished)


def _lanes(host: str, spans: Sequence[Span]) -> list[Lane]:
    lanes: list[list[Span]] = []
    for span in spans:
        free = next((lane for lane in lanes if lane[-1].end <= span.begin + 1e-9), None)
        if free is None:
            lanes.append(free := [])
        free.append(span)
    return [Lane(host, number, tuple(lane)) for number, lane in enumerate(lanes, start=1)]


def _hours(moment: datetime, start: datetime) -> float:
    return (moment - start).total_seconds() / 3600.0
