"""Seen in the journal and the executions of a real campaign on Dask: no barrier, and walkers that wait and go on."""

from __future__ import annotations

import json
from contextlib import chdir
from datetime import datetime
from itertools import product

import pytest

from alflow.campaign.launch import run_campaign

from .toys import journal, rows, toy

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A toy campaign on two Dask workers whose labels take as long as a segment does."""
    folder = tmp_path_factory.mktemp("overlap")
    config = toy(folder, delay_s=0.4, executor="dask", cores=2, label_budget=24, walkers=6, segment_steps=200)
    with chdir(folder):
        assert run_campaign(config).state.phase == "finished"
    return config.database


def test_labels_dynamics_and_training_run_side_by_side(database: str) -> None:
    """Two tasks of different kinds were under way at the same time, trainings among them."""
    runs = rows(database, "SELECT kind, started_at, ended_at FROM executions WHERE status = 'done'")
    spans = [(kind, *(datetime.fromisoformat(str(moment)) for moment in moments)) for kind, *moments in runs]
    together = {
        frozenset((a, b))
        for (a, begin, end), (b, start, stop) in product(spans, spans)
        if a != b and max(begin, start) < min(end, stop)
    }
    assert frozenset(("label", "explore")) in together
    assert frozenset(("label", "train")) in together or frozenset(("explore", "train")) in together


def test_a_paused_walker_goes_on_from_its_frame_with_a_committee_that_knows_it(database: str) -> None:
    """Paused at a step, labelled, covered by a training, continued from that very step by a later generation."""
    events = [(kind, json.loads(text)) for _, kind, text in journal(database)]
    paused: dict[int, dict[str, object]] = {}
    labelled: dict[str, int] = {}
    covered = accepted = continued = 0
    for kind, event in events:
        if kind == "label_done":
            labelled[event["frame_id"]] = len(labelled) + 1
        if kind == "training_done":
            covered = event["n_labels"]
            accepted = covered if event["accepted"] else accepted
        if kind != "segment_done":
            continue
        for report in event["reports"]:
            frame = paused.pop(report["walker"], None)
            if frame is not None and frame["frame_id"] in labelled:
                assert report["step"] - report["steps"] == frame["step"]
                assert labelled[str(frame["frame_id"])] <= covered
                # Where the committee that knows the frame was worse elsewhere, the old one goes on.
                better = labelled[str(frame["frame_id"])] <= accepted
                assert event["generation"] >= int(str(frame["generation"])) + better
                continued += better
            if report["status"] == "paused" and report["frame"]["duplicate_of"] is None:
                paused[report["walker"]] = {**report["frame"], "generation": event["generation"]}
    assert continued >= 2
