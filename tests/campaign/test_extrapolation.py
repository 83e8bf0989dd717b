"""A campaign says of every frame it might label how far outside of the training data it lies."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import ase.io
from rich.console import Console

from alflow.campaign.export import export_labels
from alflow.campaign.launch import run_campaign
from alflow.campaign.status import show_status, show_story
from alflow.reports.story import told_extrapolation

from .toys import rows, toy


def printed(show: Callable[..., None], *arguments: str) -> str:
    """What a command prints, in one line."""
    console = Console(width=200, record=True, file=io.StringIO())
    show(console, *arguments)
    return " ".join(console.export_text().split())


def test_every_frame_that_may_be_labelled_has_its_excursion(tmp_path: Path) -> None:
    config = toy(tmp_path)
    run_campaign(config)
    seen = rows(config.database, "SELECT id, decision, extrapolation FROM frames WHERE generation IS NOT NULL")
    watched = [(name, decision, excursion) for name, decision, excursion in seen if decision != "unphysical"]
    assert watched
    assert all(excursion is not None and excursion >= 0.0 for *_, excursion in watched)
    # Hot water and few labels: flagged frames are often where nothing was known.
    outside = [(name, excursion) for name, decision, excursion in watched if decision == "flagged" and excursion > 0]
    assert outside

    name, excursion = max(outside, key=lambda pair: pair[1])
    assert told_extrapolation(excursion) in printed(show_story, config.database, name)
    flagged = [excursion for _, decision, excursion in watched if decision == "flagged"]
    status = printed(show_status, config.database)
    far = sum(value > 1.0 for value in flagged)
    assert f"{far} of {len(flagged)} flagged frames lay outside of the training data by more than its range" in status
    assert f"the farthest by {excursion:.2g} times" in status

    target = tmp_path / "labels.xyz"
    export_labels(config.database, None, target)
    exported = {atoms.info["frame_id"]: atoms.info for atoms in ase.io.read(target, ":")}
    known = dict(rows(config.database, "SELECT id, extrapolation FROM frames WHERE extrapolation IS NOT NULL"))
    shared = exported.keys() & known.keys()
    assert shared
    assert all(abs(exported[frame]["extrapolation"] - known[frame]) < 1e-6 for frame in shared)


def test_a_frame_inside_is_told_so() -> None:
    assert told_extrapolation(0.0) == "inside the range of what the committee was trained on"
    assert told_extrapolation(0.2517) == "outside of what the committee was trained on, by 0.25 times its range"


def test_the_journal_does_not_depend_on_it(tmp_path: Path) -> None:
    """It is a record of the frame; no decision is made with it, so old journals replay."""
    config = toy(tmp_path, label_budget=8)
    run_campaign(config)
    payloads = [json.loads(text) for (text,) in rows(config.database, "SELECT payload_json FROM events")]
    assert "extrapolation" not in json.dumps(payloads)
