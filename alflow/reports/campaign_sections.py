"""The parts of a report about the work: data, walkers, cost, failures, and what it takes to do it again."""

from __future__ import annotations

from collections import Counter
from typing import Final

import numpy as np

from alflow.reports import campaign_figures
from alflow.reports.findings import Findings
from alflow.reports.markup import Html, bullets, details, figure, join, note, section, table, verbatim
from alflow.reports.provenance import geometries, settings, trained_on
from alflow.reports.words import duration, percent

__all__ = ["cost", "data_set", "done", "failures", "walkers"]

FAILURES_SHOWN: Final = 50
FRAMES_NAMED: Final = 6
MACHINE_FIRST: Final = ("processor", "cores", "memory_gib", "python")


def walkers(found: Findings) -> Html:
    """What walkers did."""
    told = found.walks
    lead = (
        "Walkers are the trajectories that look for structures worth a label; each point is one segment of one of them."
    )
    if not len(told.time):
        return section("walkers", "What did the walkers do?", lead, note("No walker has moved in this database."))
    resets = [f"{count} × {reason}" for reason, count in told.resets.items()]
    excursions = found.rows.summary.excursions
    far = sum(value > 1.0 for value in excursions)
    rows: list[list[object]] = [
        ["walkers", len(found.rows.summary.walker_steps)],
        ["steps of all", f"{sum(found.rows.summary.walker_steps):,}"],
        ["segments that ended with a flag", told.status.count("paused")],
        ["segments that ended with a reset", told.status.count("reset")],
    ]
    if excursions:
        rows.append(
            ["flagged frames outside of the training data by more than its range", f"{far} of {len(excursions)}"]
        )
    return section(
        "walkers",
        "What did the walkers do?",
        lead,
        figure(campaign_figures.walkers(found), "Dashed: the bath's temperature, and the threshold."),
        table("Walkers", ["", ""], rows),
        details("Why walkers were put back", bullets(resets)) if resets else None,
    )


def cost(found: Findings) -> Html:
    """What it cost."""
    lead = "A crossed task failed or was lost. Gaps are cores that waited."
    costs = found.costs
    rows: list[list[object]] = []
    if len(costs.wall_s):
        rows += [
            ["wall time of a label, median", duration(float(np.median(costs.wall_s)))],
            ["wall time of a label, 95 % are below", duration(float(np.quantile(costs.wall_s, 0.95)))],
            ["processor time of all labels", duration(float(np.nansum(costs.core_s)))],
            [
                "processor time of a label, mean",
                duration(float(np.nanmean(costs.core_s))) if np.isfinite(costs.core_s).any() else "–",
            ],
        ]
    if costs.peak_memory_mb is not None:
        rows.append(["most memory of a label", f"{costs.peak_memory_mb:.0f} MB"])
    rows.append(["attempts that brought no label", f"{costs.n_wasted}, {duration(costs.wasted_s)} of wall time"])
    rows.append(["labels that existed before and cost nothing", costs.n_found])
    return section(
        "cost",
        "What did it cost?",
        lead,
        figure(campaign_figures.label_cost(found), "Each successful attempt, by its own clock."),
        table("Labels", ["", ""], rows),
        figure(campaign_figures.timeline(found), "Tasks as they were handed out, by machine."),
        _shares(found),
    )


def _shares(found: Findings) -> Html | None:
    split = found.rows.summary.time
    if split.available_s <= 0:
        return None
    kinds: tuple[tuple[str, str], ...] = (
        ("labelling", "label"),
        ("exploring", "explore"),
        ("looking again", "score"),
        ("training", "train"),
    )
    kinds += (("handing over", "handover"), ("idle", "idle"))
    rows = [[name, percent(split.share(kind)), f"{split.share(kind) * split.available_s:,.0f}"] for name, kind in kinds]
    caption = (
        f"Where the cores' time went since the first label: {duration(split.elapsed_s)} on "
        f"{split.available_s / split.elapsed_s:.3g} core(s); processors were busy {percent(split.cpu_share)} of it"
    )
    return table(caption, ["", "Share", "Core-seconds"], rows)


def failures(found: Findings) -> Html:
    """What went wrong."""
    lead = "A potential knows nothing about structures whose labels failed: look whether they have something in common."
    rows = found.rows
    if not rows.summary.failures and not rows.summary.given_up:
        return section("failures", "What failed?", lead, note("Nothing failed."))
    by_kind = [[kind, count] for kind, count in sorted(rows.summary.failures.items(), key=lambda item: -item[1])]
    given_up = [[job.frame_id, job.failure_kind or "–", job.failure_message] for job in rows.summary.given_up]
    attempts = Counter(row.message for row in rows.executions if row.failure_kind is not None and row.message)
    told = [f"{count} × {message}" for message, count in attempts.most_common(FAILURES_SHOWN)]
    n_more = len(given_up) - FAILURES_SHOWN
    more = f", the first {FAILURES_SHOWN} of {len(given_up)}" if n_more > 0 else ""
    return section(
        "failures",
        "What failed?",
        lead,
        table("Failed attempts by class", ["Class", "Attempts"], by_kind) if by_kind else None,
        details("What they said", bullets(told)) if told else None,
        table(f"Labels given up, in quarantine{more}", ["Frame", "Class", "Reason"], given_up[:FAILURES_SHOWN], 3)
        if given_up
        else note("No label was given up: later attempts succeeded, or are still to come."),
    )


def data_set(found: Findings, explorer: Html | None) -> Html:
    """What the labels cover, with the map."""
    lead = (
        "Structures that look alike to the potential lie side by side. Point at one to see it, click to keep it, turn "
        "it with the mouse or the arrow keys; N and P go to the next and the one before."
    )
    known, told = found.validity, found.atlas
    if known is None:
        return section("data", "What has it seen?", lead, note("There is no label yet."))
    pairs = [
        [pair.pair, f"{pair.shortest:.3f}", f"{pair.typical:.3f}", f"{pair.nearest_longest:.3f}"]
        for pair in known.pairs
    ]
    counts = Counter(found.parts)
    caption = ""
    if told is not None:
        all_shown = len(told.structures) == told.n_all
        some = (
            f"all {told.n_all:,} structures"
            if all_shown
            else f"{len(told.structures):,} of {told.n_all:,} structures, drawn at random"
        )
        caption = (
            f"The map shows {some} by {told.seen_by}, averaged over atoms: the first two principal "
            f"components, {percent(told.explained[0])} and {percent(told.explained[1])} of the variance."
        )
    return section(
        "data",
        "What has it seen?",
        lead,
        explorer,
        note(caption or found.omitted.get("atlas", "A map needs two structures.")),
        table(
            "Labels by part of the data set", ["Part", "Labels"], [[part, f"{n:,}"] for part, n in counts.most_common()]
        ),
        _flags(found),
        table(
            "Distance of an atom to its nearest neighbor of each kind in the labels learnt from, Å; outside of this "
            "range the potential extrapolates",
            ["Pair", "Shortest", "Median", "Longest"],
            pairs,
        )
        if pairs
        else None,
    )


def _flags(found: Findings) -> Html | None:
    """What references warned of when they made labels; None if of nothing."""
    frames: dict[str, list[str]] = {}
    for job, label in zip(found.rows.done, found.rows.labels, strict=True):
        for flag in label.evaluation.diagnostics.get("flags", ()):
            frames.setdefault(flag, []).append(job.frame_id)
    rows = []
    for flag, named in sorted(frames.items(), key=lambda item: -len(item[1])):
        more = f" and {len(named) - FRAMES_NAMED:,} more" if len(named) > FRAMES_NAMED else ""
        rows.append([flag, f"{len(named):,}", ", ".join(named[:FRAMES_NAMED]) + more])
    caption = "Labels with a flag: the reference made them and warns of them. alflow why DB FRAME tells their story"
    return table(caption, ["Flag", "Labels", "Frames"], rows) if rows else None


def done(found: Findings) -> Html:
    """What was done: configuration, versions, seeds, machines."""
    rows, campaign = found.rows, found.rows.campaign
    about: list[list[object]] = [
        ["campaign", campaign.name],
        ["database", found.database],
        ["state", campaign.state + (f" ({campaign.reason})" if campaign.reason else "")],
        ["created", f"{campaign.created_at:%Y-%m-%d %H:%M} UTC, by alflow {campaign.alflow_version}"],
        ["read", f"{rows.read_at:%Y-%m-%d %H:%M:%S} UTC"],
        ["seed of everything random", campaign.seed],
        ["digest of the configuration", campaign.config_digest],
        ["universal name", campaign.uuid],
    ]
    if rows.active is not None:
        about += [
            ["active committee", f"generation {rows.active.generation}"],
            ["its weight file", f"{rows.active.sha256}.safetensors"],
        ]
    machines = [
        [
            m.host,
            *(m.tasks.get(kind, 0) for kind in ("label", "explore", "train", "score")),
            m.failed,
            duration(m.core_s),
        ]
        for m in found.machines
    ]
    made_by = [[name, ", ".join(f"{v} ({n:,})" for v, n in told.items())] for name, told in found.versions.items()]
    levels = [
        table(f"Level of theory: {level.engine}, {level.id}", ["Key", "Value"],
              settings({"config": dict(level.settings)}), numeric=2)
        for level in (found.validity.levels if found.validity is not None else ())
    ]  # fmt: skip
    written = geometries(campaign.config)
    head = ["Machine", "Labels", "Segments", "Trainings", "Looks at the queue", "Failed or lost", "Processor time"]
    return section(
        "done",
        "What was done?",
        "What it takes to do it again. Labels and committees that were given to it are in the database only.",
        table("The campaign", ["", ""], about, numeric=2),
        details("Configuration", table("Every setting, as stored", ["Key", "Value"], found.settings, numeric=2)),
        details("Starting structures, extended XYZ in Å", verbatim(written)) if written else None,
        details("Level of theory", join(*levels)) if levels else None,
        table("Machines", head, machines) if machines else None,
        table("Programs that made the labels, with the number of labels", ["Program", "Versions"], made_by, numeric=2)
        if made_by
        else None,
        _trainings(found),
    )


def _trainings(found: Findings) -> Html | None:
    """What trained the committees; None in journals that do not tell."""
    known = trained_on(found.rows.events)
    names = list(dict.fromkeys([*MACHINE_FIRST, *(name for machine, _ in known for name in machine)]))
    rows = [[*(machine.get(name, "–") for name in names), n] for machine, n in known]
    heads = [name.capitalize().replace("_gib", ", GiB") for name in names]
    caption = "Machines and programs that trained committees"
    return table(caption, [*heads, "Trainings"], rows, numeric=len(names)) if rows else None
