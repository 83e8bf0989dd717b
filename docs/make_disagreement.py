"""Draw docs/disagreement.svg: ``python docs/make_disagreement.py`` runs its campaign (GFN2-xTB, less than a minute of
processor time) in a temporary folder; ``python docs/make_disagreement.py DATABASE`` draws one that has run.
"""

from __future__ import annotations

import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from alflow import CampaignConfig, run
from alflow.store import Store

PAGE: Final = Path(__file__).with_name("disagreement.svg")

CAMPAIGN: Final[dict[str, Any]] = {
    "name": "ethanol-xtb",
    "structures": str(Path(__file__).parents[1] / "workflows/ethanol.xyz"),
    "reference": {"engine": "xtb", "method": "gfn2-xtb"},
    "temperature_k": 500,
    "walkers": 8,
    "label_budget": 120,
    "initial_labels": 10,
    "labels_per_generation": 20,
    "target_force_error_ev_ang": 0.05,
    "audit_fraction": 0.2,
    "quiet_ps": 20,
    "training": {"min_steps": 1200},
    "executor": "inline",
    "cores": 1,
}

COLORS: Final = {"flagged": "#c2410c", "audit": "#1d4ed8"}


@dataclass(frozen=True)
class Seen:
    """What is drawn of a campaign; eV/Å.

    Attributes:
        points: Purpose, disagreement when it was seen, and largest force error when the label came, of each frame.
        threshold: Disagreement from which a frame is flagged.
        target: Error at which the campaign may stop.
        errors: Audit labels, and the error measured on them with its interval, of each committee that has one.
    """

    points: list[tuple[str, float, float]]
    threshold: float
    target: float
    errors: list[tuple[float, float, float, float]]


def look(database: str) -> Seen:
    """Read what is drawn."""
    with Store.open(database, read_only=True) as store:
        campaign = store.campaign()
        done = [event.payload for event in store.events(campaign.id) if event.kind == "label_done"]
        worst = {event["frame_id"]: event["max_error"] for event in done}
        frames = {
            job.frame_id: (job.purpose, store.frame(job.frame_id)) for job in store.jobs(campaign.id, state="done")
        }
        committees = [made.metrics for made in store.committees(campaign.id) if made.state != "rejected"]
    points = [
        (purpose, frame.disagreement, worst[name])
        for name, (purpose, frame) in frames.items()
        if frame.disagreement is not None and worst[name] is not None
    ]
    keys = ["n_audit", *(f"audit_force_mae{end}_ev_ang" for end in ("", "_lower", "_upper"))]
    errors = [tuple(metrics[key] for key in keys) for metrics in committees if all(key in metrics for key in keys)]
    thresholds = [frame.threshold for _, frame in frames.values() if frame.threshold is not None]
    config = CampaignConfig.model_validate(campaign.config["config"])
    return Seen(points, thresholds[0], config.target_force_error_ev_ang, errors)  # type: ignore[arg-type]


def draw(seen: Seen) -> Figure:
    """Two panels: error beside disagreement, and how the measured error and its interval went."""
    figure = Figure(figsize=(9, 4.1), layout="constrained")
    left, right = figure.subplots(1, 2)
    for purpose, color in COLORS.items():
        at = [(x, y) for kind, x, y in seen.points if kind == purpose]
        label = {"flagged": "flagged", "audit": "audit: drawn at random"}[purpose]
        left.scatter(*zip(*at, strict=True), s=22, color=color, label=f"{label} ({len(at)})", alpha=0.8)
    reach = 1.08 * max(max(x, y) for _, x, y in seen.points)
    left.plot([0, reach], [0, reach], color="gray", lw=1, label="equal")
    left.axvline(seen.threshold, color="black", lw=1, ls="--", label="threshold")
    left.set(
        xlim=(0, reach), ylim=(0, reach), xlabel="disagreement when seen, eV/Å", ylabel="largest force error, eV/Å"
    )
    left.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    n, mean, low, high = (list(values) for values in zip(*seen.errors, strict=True))
    bars = [[m - a for m, a in zip(mean, low, strict=True)], [b - m for m, b in zip(mean, high, strict=True)]]
    right.errorbar(n, mean, yerr=bars, fmt="o", color=COLORS["audit"], capsize=4, label="error, 95 % interval")
    right.axhline(seen.target, color="black", lw=1, ls="--", label="target")
    right.set(ylim=(0, 1.2 * max(seen.target, *high)), xlabel="audit labels", ylabel="mean force error, eV/Å")
    right.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure


def main(arguments: list[str]) -> None:
    """Draw one campaign."""
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "alflow", "font.family": "sans-serif"})
    with tempfile.TemporaryDirectory() as folder:
        database = arguments[0] if arguments else str(Path(folder) / "ethanol-xtb.db")
        if not arguments:
            run(CampaignConfig.model_validate(CAMPAIGN | {"database": database}))
        figure = draw(look(database))
    figure.savefig(PAGE, metadata={"Date": None})
    PAGE.write_text(re.sub(r"[ \t]+$", "", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
