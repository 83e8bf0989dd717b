"""The figures of a report about the work: walkers, cost of labels, who worked when, and the map as a picture."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from alflow.reports.canvas import INK, PALETTE, Figure, logarithmic
from alflow.reports.figures import MANY, PART_COLORS
from alflow.reports.findings import Findings
from alflow.reports.timeline import KINDS, Timeline
from alflow.reports.words import duration, plural

__all__ = ["KIND_COLORS", "MOST_SPANS", "atlas", "label_cost", "timeline", "walkers"]

KIND_COLORS: Final = {
    "label": PALETTE["blue"],
    "explore": PALETTE["teal"],
    "train": PALETTE["amber"],
    "score": PALETTE["violet"],
}
MOST_SPANS: Final = 2000
"""Executions beyond which none is drawn alone."""


def walkers(found: Findings) -> Figure | None:
    """Temperature and disagreement of the walkers; None before the first segment."""
    told = found.walks
    if not len(told.time):
        return None

    def draw(sheet: Any) -> None:
        top, bottom = sheet.subplots(2, 1, sharex=True)
        raster = len(told.time) > MANY
        looks = {"s": 9 if len(told.time) < MANY else 4, "linewidths": 0, "rasterized": raster}
        status = np.array(told.status)
        kinds = (
            ("running", PALETTE["gray"], "went its segment"),
            ("paused", PALETTE["red"], "flagged a frame"),
            ("reset", PALETTE["violet"], "was put back"),
        )
        for name, color, label in kinds:
            chosen = status == name
            if chosen.any():
                top.scatter(told.time[chosen], told.temperature[chosen], color=color, alpha=0.6, label=label, **looks)
                bottom.scatter(told.time[chosen], told.disagreement[chosen], color=color, alpha=0.6, **looks)
        if found.temperature is not None:
            top.axhline(found.temperature, color=INK, linewidth=0.9, linestyle="--")
        if found.threshold is not None:
            bottom.axhline(found.threshold, color=INK, linewidth=0.9, linestyle="--")
        if (told.disagreement > 0).any():
            known = told.disagreement[told.disagreement > 0]
            logarithmic(bottom, "y", known.min(), known.max())
        top.set(ylabel="K", title="Mean temperature of each segment")
        bottom.set(ylabel="eV/Å", xlabel="time of the walker, ps", title="Largest disagreement in each segment")
        top.legend(ncols=3, loc="lower right", handletextpad=0.2)

    n = len(set(told.walker))
    alt = (
        f"Mean temperature and largest disagreement of {plural(len(told.time), 'segment')} of {plural(n, 'walker')}; "
        f"{told.status.count('paused')} ended with a flag, {told.status.count('reset')} with a reset."
    )
    columns: dict[str, Any] = {
        "walker": told.walker.astype(int),
        "time_ps": told.time,
        "generation": told.generation.astype(int),
        "temperature_k": told.temperature,
        "max_disagreement_ev_ang": told.disagreement,
        "status": told.status,
    }
    return Figure("walkers", "Walkers", alt, columns, draw, size=(7.2, 3.8))


def label_cost(found: Findings) -> Figure | None:
    """How long labels took; None if none was paid for."""
    costs = found.costs
    if not len(costs.wall_s):
        return None

    def draw(sheet: Any) -> None:
        axes = sheet.subplots()
        low, high = max(costs.wall_s.min(), 1e-3), max(costs.wall_s.max(), 2e-3)
        if high > 20 * low:
            edges = np.geomspace(low, high * 1.0001, 41)
            logarithmic(axes, "x", low, high)
        else:
            edges = np.linspace(0.9 * low, 1.05 * high, 41)
        axes.hist(np.maximum(costs.wall_s, low), bins=edges, color=PALETTE["blue"], alpha=0.85)
        median = float(np.median(costs.wall_s))
        axes.axvline(median, color=INK, linewidth=0.9, linestyle="--")
        axes.annotate(f"median {duration(median)}", (median, 1.0), xycoords=("data", "axes fraction"), va="top",
                      xytext=(4, 0), textcoords="offset points")  # fmt: skip
        axes.set(xlabel="wall time of a label, s", ylabel="labels")
        axes.grid(axis="x", visible=False)
        axes.yaxis.get_major_locator().set_params(integer=True)

    alt = (
        f"Wall time of {plural(len(costs.wall_s), 'label')}: median {duration(float(np.median(costs.wall_s)))}, "
        f"longest {duration(float(costs.wall_s.max()))}."
    )
    columns: dict[str, Any] = {
        "label": np.arange(1, len(costs.wall_s) + 1),
        "wall_s": costs.wall_s,
        "core_s": costs.core_s,
        "atoms": costs.n_atoms.astype(int),
    }
    return Figure("label_cost", "Cost of labels", alt, columns, draw, size=(7.2, 2.4))


def timeline(found: Findings) -> Figure | None:
    """Who worked when; None if nothing has ended yet."""
    told = found.timeline
    if told.began_at is None:
        return None
    scale, unit = (60.0, "min") if told.hours < 3 else (1.0, "h")
    apart = told.n_executions <= MOST_SPANS and len(told.lanes) <= 64

    def draw(sheet: Any) -> None:
        axes = sheet.subplots()
        if apart:
            _draw_lanes(axes, told, scale)
        else:
            colors = [KIND_COLORS[kind] for kind in KINDS]
            middles = scale * 0.5 * (told.edges[1:] + told.edges[:-1])
            axes.stackplot(middles, told.busy, colors=colors, alpha=0.85, linewidth=0, labels=KINDS)
            axes.set_ylabel("tasks at once")
        axes.set(xlabel=f"time since {told.began_at:%Y-%m-%d %H:%M} UTC, {unit}", xlim=(0, scale * told.hours))
        axes.legend(ncols=4, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)

    hosts = len({lane.host for lane in told.lanes})
    alt = (
        f"{plural(told.n_executions, 'task')} over {duration(3600 * told.hours)} on {plural(hosts, 'machine')}, "
        f"{'each drawn alone' if apart else 'added up in equal stretches of time'}."
    )
    spans = [(lane, span) for lane in told.lanes for span in lane.spans]
    columns: dict[str, Any] = {
        "host": [lane.host for lane, _ in spans],
        "lane": [lane.number for lane, _ in spans],
        "kind": [span.kind for _, span in spans],
        "subject": [span.subject for _, span in spans],
        "begin_h": [span.begin for _, span in spans],
        "end_h": [span.end for _, span in spans],
        "status": [span.status for _, span in spans],
    }
    height = 1.3 + 0.26 * min(len(told.lanes), 64) if apart else 3.0
    return Figure("timeline", "Who worked when", alt, columns, draw, size=(7.2, height))


def _draw_lanes(axes: Any, told: Timeline, scale: float) -> None:
    for kind in KINDS:
        first = True
        for row, lane in enumerate(told.lanes):
            spans = [(scale * s.begin, scale * (s.end - s.begin)) for s in lane.spans if s.kind == kind]
            if spans:
                label = kind if first else None
                axes.broken_barh(spans, (row - 0.38, 0.76), color=KIND_COLORS[kind], linewidth=0, label=label)
                first = False
    for row, lane in enumerate(told.lanes):
        for span in lane.spans:
            if span.status in ("failed", "lost"):
                middle = scale * 0.5 * (span.begin + span.end)
                axes.plot(middle, row, marker="x", color=PALETTE["red"], markersize=6, markeredgewidth=1.6)
    axes.set_yticks(range(len(told.lanes)), [f"{lane.host or '?'} · {lane.number}" for lane in told.lanes])
    axes.set_ylim(len(told.lanes) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)


def atlas(found: Findings) -> Figure | None:
    """The map of the data set as a picture; None for fewer than two structures."""
    told = found.atlas
    if told is None:
        return None
    parts = np.array(told.parts)

    def draw(sheet: Any) -> None:
        axes = sheet.subplots()
        for part, color in PART_COLORS.items():
            chosen = parts == part
            if chosen.any():
                label = f"{part} ({int(chosen.sum()):,})"
                axes.scatter(*told.places[chosen].T, s=12, color=color, alpha=0.7, linewidths=0, label=label)
        first, second = told.explained
        axes.set(xlabel=f"first component ({100 * first:.0f} %)", ylabel=f"second component ({100 * second:.0f} %)")
        axes.legend(handletextpad=0.2)

    alt = f"Map of {plural(len(told.structures), 'structure')} by {told.seen_by}."
    columns: dict[str, Any] = {
        "structure_id": [structure.id for structure in told.structures],
        "frame_id": told.frame_ids,
        "part": told.parts,
        "component_1": told.places[:, 0],
        "component_2": told.places[:, 1],
        "energy_ev_atom": told.energy,
        "force_mae_ev_ang": told.error,
        "disagreement_ev_ang": told.disagreement,
        "generation": told.generation,
    }
    return Figure("atlas", "Map of the data set", alt, columns, draw, size=(7.2, 4.6))
