"""The parts of a report: each answers one question, with a figure, a table and a sentence on how to read them."""

from __future__ import annotations

from collections import Counter

import numpy as np

from alflow.reports import campaign_figures, figures
from alflow.reports.calibration import Verdicts
from alflow.reports.constant_energy import ConstantEnergy
from alflow.reports.findings import Findings
from alflow.reports.markup import Html, bullets, details, figure, join, note, section, table
from alflow.reports.parity import Parity
from alflow.reports.provenance import settings
from alflow.reports.verdict import DRIFT_EV_ATOM_PS
from alflow.reports.words import duration, interval, milli, percent, pretty

__all__ = ["cost", "data_set", "done", "energy", "error", "failures", "walkers", "warning"]

FAILURES_SHOWN = 50


def error(found: Findings) -> Html:
    """How large the error is."""
    lead = (
        "Audit labels are frames drawn at random among those that were not flagged, and are never learnt from: their "
        "error is the honest one. Validation labels were flagged, so they are harder than a typical frame."
    )
    if not found.is_campaign:
        return section("error", "How large is the error?", lead, note("Labels of a file: no committee was trained."))
    n_shown, n_all = len(found.parity.energy) if found.parity is not None else 0, len(found.rows.labels)
    drawn = (
        f" {n_shown:,} of {n_all:,} labels: all held out, and of the others a random sample." if n_shown < n_all else ""
    )
    return section(
        "error",
        "How large is the error?",
        lead,
        _missing(found, "committee"),
        figure(figures.learning_curve(found), "Each committee when it was trained; lower right is better."),
        _generations(found),
        figure(figures.parity(found), f"The active committee against the labels; on the line is right.{drawn}"),
        _parts(found.parity, "Errors of the active committee, by part of the data set"),
        _missing(found, "parity"),
        _test(found),
    )


def _missing(found: Findings, part: str) -> Html | None:
    return note(found.omitted[part]) if part in found.omitted else None


def _generations(found: Findings) -> Html | None:
    if not found.generations:
        return None
    rows = []
    for g in found.generations:
        m = g.record.metrics
        bounds = [m.get(f"audit_force_mae_{end}_ev_ang") for end in ("lower", "upper")]
        audit = _milli(m.get("audit_force_mae_ev_ang"))
        if None not in bounds:
            audit += f" ({_milli(bounds[0])} to {_milli(bounds[1])})"
        test = "–" if g.test is None else interval(g.test.mean, g.test.lower, g.test.upper, milli, "")
        cells = [_milli(m.get("validation_force_mae_ev_ang")), audit, f"{m.get('n_audit', 0):.0f}"]
        rows.append([g.record.generation, g.record.state, g.n_train, *cells, *([test] if found.test else [])])
    head = ["Generation", "State", "Labels learnt from", "Validation", "Audit (95 % interval)", "Audit frames"]
    caption = "Mean absolute error of a force component when each committee was trained, meV/Å"
    return table(caption, [*head, *(["Test file"] if found.test else [])], rows, numeric=2)


def _milli(value: float | None) -> str:
    return "–" if value is None else milli(value)


def _parts(parity: Parity | None, caption: str) -> Html | None:
    if parity is None:
        return None
    rows = []
    for part in dict.fromkeys(parity.parts):
        told, estimate = parity.summary(part), parity.force_error(part)
        assert estimate is not None
        spread = f" ({milli(estimate.lower)} to {milli(estimate.upper)})" if np.isfinite(estimate.upper) else ""
        rows.append(
            [
                part,
                f"{told['labels']:,.0f}",
                milli(told["force_mae_ev_ang"]) + spread,
                milli(told["force_rmse_ev_ang"]),
                milli(told["force_max_ev_ang"]),
                milli(told["energy_mae_ev_atom"]),
                milli(told["energy_rmse_ev_atom"]),
            ]
        )
    head = ["Part", "Labels", "Force MAE (95 % interval)", "Force RMSE", "Worst atom", "Energy MAE", "Energy RMSE"]
    return table(f"{caption}; forces in meV/Å, energies in meV/atom", head, sorted(rows, key=lambda row: str(row[0])))


def _test(found: Findings) -> Html | None:
    if found.test is None:
        if "test" in found.omitted:
            return note(f"The test file could not be used: {found.omitted['test']}")
        return note(
            "There is no separate test set in this database, and none was given. If you have one, at the same level of "
            "theory: alflow report DB --test FILE.xyz measures every committee on it."
        )
    return join(
        figure(
            figures.test_parity(found), "Its level of theory is taken to be that of the labels; alflow cannot see it."
        ),
        _parts(found.test.parity, f"Errors of the active committee on {found.test.file}"),
        _missing(found, "test curve"),
    )


def warning(found: Findings) -> Html:
    """Whether the potential knows when it is wrong."""
    lead = (
        "Each point is a frame that a committee saw before it had a label. Up and to the right together: disagreement "
        "warns of errors. Audit frames above the dotted line are errors nobody was warned of."
    )
    shown = found.calibration
    if not len(shown.frame_ids):
        why = "No frame was predicted first and labelled later, so nothing can be said."
        return section("warning", "Does it know when it is wrong?", lead, note(why))
    now = _verdicts_now(found)
    rows = [
        _warning_row("audit, when drawn", shown.verdicts(True, found.target)),
        _warning_row("flagged, when seen", shown.verdicts(False, found.target)),
        _warning_row("both", shown.verdicts(None, found.target)),
        *([_warning_row("audit, active committee", now)] if now is not None else []),
    ]
    target = f"{milli(found.target)} meV/Å" if found.target is not None else "target"
    head = [
        "Frames",
        "Number",
        "Rank correlation",
        "Error / disagreement",
        "Error above disagreement",
        f"Mean error above {target}",
    ]
    threshold = f" The dashed line is the threshold, {found.threshold:.3g} eV/Å." if found.threshold else ""
    return section(
        "warning",
        "Does it know when it is wrong?",
        lead,
        figure(
            figures.calibration(found),
            f"Left: the atom with the largest error; right: the mean over components, as in the target.{threshold}",
        ),
        table("Disagreement against true error, with 95 % intervals; the ratio is a median", head, rows),
        note(
            "Flagged frames were picked because disagreement was large, so their share says whether flags were worth "
            "their labels; only audit frames say what slips through below the threshold."
        ),
    )


def _verdicts_now(found: Findings) -> Verdicts | None:
    if found.parity is None:
        return None
    chosen = found.parity.of("audit")
    return found.parity.verdicts("audit", found.target) if chosen.any() else None


def _warning_row(name: str, told: Verdicts) -> list[object]:
    ranked = "–"
    if told.correlation is not None:
        r, lower, upper = told.correlation
        ranked = f"{r:.2f} ({lower:.2f} to {upper:.2f})".replace("-", "−")
    shares = [
        "–"
        if share is None or not share.n
        else f"{share.count} of {share.n} ({100 * share.lower:.0f}–{percent(share.upper)})"
        for share in (told.underestimated, told.above_target)
    ]
    return [name, told.n, ranked, "–" if told.ratio is None else f"{told.ratio:.2f}", *shares]


def energy(found: Findings) -> Html:
    """Whether energy is conserved."""
    lead = (
        "Without a bath, a smooth potential keeps its total energy but for the ripple of the time step. A slope means "
        "that long runs heat up or cool down."
    )
    run = found.constant_energy
    missing = found.omitted.get("dynamics") or found.omitted.get("committee") or "There is no committee."
    body = note(f"Not run: {missing}") if run is None else _energy_table(found, run)
    shown = figure(figures.constant_energy(found), "Colors are trajectories; the dashed line is the threshold.")
    return section("energy", "Is energy conserved?", lead, shown, body)


def _energy_table(found: Findings, run: ConstantEnergy) -> Html:
    def write(value: float) -> str:
        return f"{1000 * value:.2g}"

    rows: list[list[object]] = [["system", f"{pretty(run.formula)}, {run.energy.shape[1]} trajectories"]]
    length = f"{run.time[-1]:.3g} ps" if len(run.time) else "none"
    rows.append(["length", f"{length}, in steps of {run.timestep:g} fs"])
    if run.drift is not None and run.fluctuation is not None:
        rows.append(["drift", interval(*run.drift, write, "meV/atom/ps")])
        rows.append(["fluctuation about it, r.m.s.", f"{write(run.fluctuation)} meV/atom"])
        rows.append(["mean temperature", f"{run.temperature.mean():.0f} K"])
        rows.append(["largest disagreement", f"{run.disagreement.max():.3g} eV/Å"])
    if run.beyond is not None:
        rows.append(["records above the threshold", percent(run.beyond)])
    if run.problem:
        rows.append(["ended early", run.problem])
    caption = f"Dynamics at constant energy; a drift within ± {1000 * DRIFT_EV_ATOM_PS:g} meV/atom/ps counts as none"
    return table(caption, ["", ""], rows, numeric=2)


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
        f"{split.available_s / split.elapsed_s:.3g} slot(s); processors were busy {percent(split.cpu_share)} of it"
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
            f"The map shows {some} by what {told.seen_by} sees of them, averaged over atoms: the first two principal "
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
        table(
            "Distance of an atom to its nearest neighbor of each kind in the labels learnt from, Å; outside of this "
            "range the potential extrapolates",
            ["Pair", "Shortest", "Median", "Longest"],
            pairs,
        )
        if pairs
        else None,
    )


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
    head = ["Machine", "Labels", "Segments", "Trainings", "Looks at the queue", "Failed or lost", "Processor time"]
    return section(
        "done",
        "What was done?",
        "Everything it takes to do it again.",
        table("The campaign", ["", ""], about, numeric=2),
        details("Configuration", table("Every setting, as stored", ["Key", "Value"], found.settings, numeric=2)),
        details("Level of theory", join(*levels)) if levels else None,
        table("Machines", head, machines) if machines else None,
        table("Programs that made the labels, with the number of labels", ["Program", "Versions"], made_by, numeric=2)
        if made_by
        else None,
    )
