"""The parts of a report about the potential: each answers one question, and says how to read the answer."""

from __future__ import annotations

from typing import Final

import numpy as np

from alflow.reports import figures
from alflow.reports.calibration import Share, Verdicts
from alflow.reports.constant_energy import ConstantEnergy
from alflow.reports.findings import Findings
from alflow.reports.markup import Html, details, figure, join, note, section, table
from alflow.reports.parity import Parity
from alflow.reports.verdict import DRIFT_EV_ATOM_PS
from alflow.reports.words import interval, milli, percent, pretty

__all__ = ["energy", "error", "warning"]

MOST_ROWS: Final = 10
"""Generations that are listed without being asked for."""


def error(found: Findings) -> Html:
    """How large the error is."""
    lead = (
        "Audit labels are frames drawn at random among those that were not flagged, and are never learnt from: their "
        "error is the honest one. Validation labels were flagged, so they are harder than a typical frame, or given."
    )
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
        learnt = "given" if m.get("given") else g.n_train
        rows.append([g.record.generation, g.record.state, learnt, *cells, *([test] if found.test else [])])
    head = ["Generation", "State", "Labels learnt from", "Validation", "Audit (95 % interval)", "Audit frames"]
    caption = "Mean absolute error of a force component when each committee was trained, meV/Å"
    head += ["Test file"] if found.test else []
    if len(rows) <= MOST_ROWS:
        return table(caption, head, rows, numeric=2)
    newest = table(f"{caption}; the newest {MOST_ROWS} of {len(rows)}", head, rows[-MOST_ROWS:], numeric=2)
    return join(newest, details(f"All {len(rows)} generations", table(caption, head, rows, numeric=2)))


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
        _quantiles(found, f"Mean error above {target}"),
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
    shares = [_counted(share) for share in (told.underestimated, told.above_target)]
    return [name, told.n, ranked, "–" if told.ratio is None else f"{told.ratio:.2f}", *shares]


def _counted(share: Share | None) -> str:
    if share is None or not share.n:
        return "–"
    return f"{share.count} of {share.n} ({100 * share.lower:.0f}–{percent(share.upper)})"


def _quantiles(found: Findings, above: str) -> Html | None:
    """How wrong the committee was where its members disagreed little, and where they disagreed much."""
    rows = [
        [f"{part.lowest:.3g} to {part.highest:.3g} eV/Å", part.n, f"{part.error:.3g} eV/Å", _counted(part.above_target)]
        for part in found.calibration.quantiles(found.target)
    ]
    caption = "True error by disagreement when seen, audit and flagged frames together in equal parts"
    return table(caption, ["Disagreement", "Frames", "Worst atom, median", above], rows) if rows else None


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
