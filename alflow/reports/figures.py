"""The figures of a report about a potential: its error, and whether it knows it."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from alflow.domain.structure import FloatArray
from alflow.reports.canvas import INK, MUTED, PALETTE, Figure, logarithmic
from alflow.reports.constant_energy import ConstantEnergy
from alflow.reports.findings import Findings, Generation
from alflow.reports.parity import Parity
from alflow.reports.words import milli, plural

__all__ = ["PART_COLORS", "calibration", "constant_energy", "learning_curve", "parity", "test_parity"]

PART_COLORS: Final = {
    "train": PALETTE["gray"],
    "validation": PALETTE["amber"],
    "audit": PALETTE["teal"],
    "not used yet": PALETTE["violet"],
    "label": PALETTE["blue"],
    "given up": PALETTE["red"],
    "test": PALETTE["blue"],
}
MANY: Final = 3000
"""Points beyond which they are stored as an image, so that the file stays small."""


def learning_curve(found: Findings) -> Figure | None:
    """Errors of every accepted committee against the labels it learnt from; None without one."""
    accepted = [g for g in found.generations if g.record.state != "rejected"]
    if not accepted:
        return None
    labels = np.array([g.n_train for g in accepted], dtype=float)
    audit, lower, upper = (_metric(accepted, f"audit_force_mae{end}_ev_ang") for end in ("", "_lower", "_upper"))
    validation = _metric(accepted, "validation_force_mae_ev_ang")
    test = np.array([np.nan if g.test is None else g.test.mean for g in accepted])
    bounds = np.array([(np.nan, np.nan) if g.test is None else (g.test.lower, g.test.upper) for g in accepted])

    def draw(sheet: Any) -> None:
        axes = sheet.subplots()
        _with_ends(axes, labels, audit, lower, upper, PALETTE["teal"], "audit, with 95 % interval", "o")
        axes.plot(
            labels, 1000 * validation, "s--", color=PALETTE["amber"], label="validation (flagged, chosen by hash)"
        )
        if np.isfinite(test).any():
            _with_ends(axes, labels, test, bounds[:, 0], bounds[:, 1], PALETTE["blue"], "test file", "D")
        if found.target is not None:
            axes.axhline(1000 * found.target, color=PALETTE["red"], linewidth=1.0, linestyle=":")
            axes.annotate("target", (1.0, 1000 * found.target), xycoords=("axes fraction", "data"), ha="right",
                          va="bottom", color=PALETTE["red"])  # fmt: skip
        shown = np.concatenate([values[np.isfinite(values) & (values > 0)] for values in (audit, validation, test)])
        if len(shown) and shown.max() > 8 * shown.min():
            logarithmic(axes, "y", 1000 * shown.min(), 1000 * shown.max())
        else:
            axes.set_ylim(bottom=0)
        axes.set(xlabel="labels learnt from", ylabel="force error, meV/Å")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend()

    last = f"{milli(audit[-1])} meV/Å on audit labels" if np.isfinite(audit[-1]) else "not known on audit labels"
    alt = (
        f"Mean absolute force error of {plural(len(accepted), 'accepted committee')}, from {labels[0]:.0f} to "
        f"{labels[-1]:.0f} labels learnt from; the last is {last}."
    )
    columns: dict[str, Any] = {
        "generation": [g.record.generation for g in accepted],
        "labels_learnt_from": [g.n_train for g in accepted],
        "labels_in_all": [g.n_labels for g in accepted],
        "audit_force_mae_ev_ang": audit,
        "audit_lower_ev_ang": lower,
        "audit_upper_ev_ang": upper,
        "n_audit": _metric(accepted, "n_audit"),
        "validation_force_mae_ev_ang": validation,
        "test_force_mae_ev_ang": test,
        "test_lower_ev_ang": bounds[:, 0],
        "test_upper_ev_ang": bounds[:, 1],
    }
    return Figure("learning_curve", "Learning curve", alt, columns, draw)


def _metric(generations: list[Generation], name: str) -> FloatArray:
    return np.array([g.record.metrics.get(name, np.nan) for g in generations], dtype=float)


def _with_ends(
    axes: Any, x: FloatArray, mean: FloatArray, lower: FloatArray, upper: FloatArray, color: str, label: str, mark: str
) -> None:
    known = np.isfinite(mean)
    axes.plot(x[known], 1000 * mean[known], f"{mark}-", color=color, label=label, zorder=3)
    bounded = known & np.isfinite(upper)
    if bounded.any():
        reach = 1000 * np.stack([mean - np.maximum(lower, 0.02 * mean), upper - mean])[:, bounded]
        looks = {"color": color, "fmt": "none", "elinewidth": 1.0, "capsize": 3.0, "alpha": 0.7}
        axes.errorbar(x[bounded], 1000 * mean[bounded], yerr=reach, **looks)


def parity(found: Findings) -> Figure | None:
    """Energies and forces of the active committee against the labels; None without a committee."""
    if found.parity is None or not len(found.parity.energy):
        return None
    return _parity("parity", "Parity", found.parity, ("train", "validation", "not used yet", "audit"))


def test_parity(found: Findings) -> Figure | None:
    """The same for a file of further labels."""
    if found.test is None or found.test.parity is None:
        return None
    return _parity("test_parity", f"Parity on {found.test.file}", found.test.parity, ("test",))


def _parity(name: str, title: str, shown: Parity, order: tuple[str, ...]) -> Figure:
    present = [part for part in order if shown.of(part).any()]

    def draw(sheet: Any) -> None:
        left, right = sheet.subplots(1, 2)
        for part in present:
            chosen = shown.of(part)
            legend = f"{part} ({int(chosen.sum()):,})"
            raster = len(shown.energy) > MANY
            _points(left, 1000 * shown.energy[chosen], 1000 * shown.predicted_energy[chosen], part, legend, raster)
            of_part = chosen[shown.of_label]
            raster = len(shown.forces) > MANY
            _points(right, shown.forces[of_part], shown.predicted_forces[of_part], part, legend, raster)
        for axes in (left, right):
            low, high = (f(*axes.get_xlim(), *axes.get_ylim()) for f in (min, max))
            axes.plot([low, high], [low, high], color=MUTED, linewidth=0.9, zorder=1)
            axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
        left.set(title="Energy per atom, relative", xlabel="label, meV/atom", ylabel="committee, meV/atom")
        right.set(title="Force components", xlabel="label, eV/Å", ylabel="committee, eV/Å")
        left.legend(loc="upper left", handletextpad=0.2)

    told = [f"{part}: {milli(shown.mean_error[shown.of(part)].mean())} meV/Å" for part in present]
    alt = f"Committee against labels, energies and forces; mean absolute force errors are {', '.join(told)}."
    columns: dict[str, Any] = {
        "structure_id": shown.structure_ids,
        "part": shown.parts,
        "atoms": shown.n_atoms,
        "energy_ev_atom": shown.energy,
        "predicted_energy_ev_atom": shown.predicted_energy,
        "force_mae_ev_ang": shown.mean_error,
        "force_max_error_ev_ang": shown.max_error,
        "disagreement_ev_ang": shown.disagreement,
    }
    return Figure(name, title, alt, columns, draw, size=(7.2, 3.6), further={"forces": _force_columns(shown)})


def _force_columns(shown: Parity) -> dict[str, Any]:
    """The force on each atom and the committee's, one atom a row."""
    known, predicted = shown.forces.reshape(-1, 3), shown.predicted_forces.reshape(-1, 3)
    of_atom = shown.of_label[::3]
    columns: dict[str, Any] = {
        "structure_id": [shown.structure_ids[label] for label in of_atom],
        "part": [shown.parts[label] for label in of_atom],
    }
    for name, forces in (("force", known), ("predicted_force", predicted)):
        columns |= {f"{name}_{axis}_ev_ang": forces[:, place] for place, axis in enumerate("xyz")}
    return columns


def _points(axes: Any, x: FloatArray, y: FloatArray, part: str, label: str, raster: bool) -> None:
    size = 14 if len(x) < 300 else 7 if len(x) < MANY else 3
    color = PART_COLORS[part]
    axes.scatter(x, y, s=size, color=color, alpha=0.55, linewidths=0, label=label, rasterized=raster, zorder=2)


def calibration(found: Findings) -> Figure | None:
    """Disagreement when a frame was seen against the error its label showed; None without such frames."""
    shown = found.calibration
    if not len(shown.frame_ids):
        return None

    def draw(sheet: Any) -> None:
        left, right = sheet.subplots(1, 2)
        kinds = ((False, PALETTE["red"], "^", "flagged"), (True, PALETTE["teal"], "o", "audit, drawn at random"))
        raster = len(shown.frame_ids) > MANY
        for audit, color, mark, label in kinds:
            chosen = shown.is_audit == audit
            looks = {"s": 16, "color": color, "marker": mark, "alpha": 0.6, "linewidths": 0, "rasterized": raster}
            name = f"{label} ({int(chosen.sum()):,})"
            left.scatter(shown.disagreement[chosen], shown.max_error[chosen], label=name, **looks)
            right.scatter(shown.disagreement[chosen], 1000 * shown.mean_error[chosen], **looks)
        ends = np.array([shown.disagreement.min(), shown.disagreement.max()])
        left.plot(ends, ends, color=MUTED, linewidth=0.9)
        left.annotate("error = disagreement", ends[[0, 0]], xytext=(12, 2), textcoords="offset points", va="top",
                      color=MUTED, fontsize=8)  # fmt: skip
        for axes, errors in ((left, shown.max_error), (right, 1000 * shown.mean_error)):
            axes.set(xlabel="disagreement when seen, eV/Å")
            logarithmic(axes, "x", ends[0], ends[1])
            logarithmic(axes, "y", errors.min(), errors.max())
            if found.threshold is not None:
                axes.axvline(found.threshold, color=INK, linewidth=0.9, linestyle="--")
        if found.target is not None:
            right.axhline(1000 * found.target, color=PALETTE["red"], linewidth=1.0, linestyle=":")
            right.annotate("target", (0.0, 1000 * found.target), xycoords=("axes fraction", "data"), va="bottom",
                           color=PALETTE["red"])  # fmt: skip
        left.set(title="Worst atom", ylabel="true error, eV/Å")
        right.set(title="Mean over components", ylabel="true error, meV/Å")
        left.legend(loc="upper left", handletextpad=0.2)

    n_audit = int(shown.is_audit.sum())
    alt = (
        f"Disagreement against the error that the label showed, for {plural(n_audit, 'audit frame')} and "
        f"{plural(len(shown.frame_ids) - n_audit, 'flagged frame')}, with the threshold and the target."
    )
    columns: dict[str, Any] = {
        "frame_id": shown.frame_ids,
        "purpose": ["audit" if audit else "flagged" for audit in shown.is_audit],
        "generation": shown.generation,
        "disagreement_ev_ang": shown.disagreement,
        "force_max_error_ev_ang": shown.max_error,
        "force_mae_ev_ang": shown.mean_error,
    }
    return Figure("calibration", "Disagreement against true error", alt, columns, draw, size=(7.2, 3.4))


def constant_energy(found: Findings) -> Figure | None:
    """Total energy along dynamics without a bath; None if it was not run or ended at once."""
    run = found.constant_energy
    if run is None or len(run.time) < 2:
        return None
    return _energy(run)


def _energy(run: ConstantEnergy) -> Figure:
    n = run.energy.shape[1]
    colors = list(PALETTE.values())

    def draw(sheet: Any) -> None:
        top, bottom = sheet.subplots(2, 1, sharex=True)
        for number in range(n):
            top.plot(run.time, 1000 * run.energy[:, number], color=colors[number % len(colors)], linewidth=1.0)
            bottom.plot(run.time, run.disagreement[:, number], color=colors[number % len(colors)], linewidth=1.0)
        top.set(ylabel="meV/atom", title="Total energy less its first value")
        bottom.set(xlabel="time, ps", ylabel="eV/Å", title="Disagreement")
        if run.threshold is not None:
            bottom.axhline(run.threshold, color=INK, linewidth=0.9, linestyle="--")

    drift = run.drift
    told = f"; mean drift {1000 * drift[0]:.2g} meV/atom/ps" if drift is not None else ""
    alt = f"Total energy and disagreement of {n} trajectories of {run.formula} over {run.time[-1]:.3g} ps{told}."
    columns: dict[str, Any] = {"time_ps": run.time}
    for name, values in (("energy_ev_atom", run.energy), ("temperature_k", run.temperature)):
        columns |= {f"{name}_{number + 1}": values[:, number] for number in range(n)}
    columns |= {f"disagreement_ev_ang_{number + 1}": run.disagreement[:, number] for number in range(n)}
    return Figure("constant_energy", "Energy without a bath", alt, columns, draw, size=(7.2, 3.6))
