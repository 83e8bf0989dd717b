"""Who worked when, what it cost, who did it: from rows with known answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from alflow.domain import Evaluation, Label, Level, Structure
from alflow.reports.provenance import cost_labels, machines, settings, versions, walks
from alflow.reports.timeline import KINDS, draw_up
from alflow.store import EventRecord, ExecutionRecord, JobRecord

START = datetime(2026, 1, 1, tzinfo=UTC)


def ran(key: str, begin_h: float, end_h: float | None, kind: str = "label", **more: Any) -> ExecutionRecord:
    ended = None if end_h is None else START + timedelta(hours=end_h)
    told = {"status": "done" if ended else "running", "host": "n1", "subject": key} | more
    return ExecutionRecord(1, key, kind, started_at=START + timedelta(hours=begin_h), ended_at=ended, **told)  # type: ignore[arg-type]


def test_tasks_that_overlap_get_lanes_of_their_own() -> None:
    rows = [ran("a", 0, 2), ran("b", 1, 3), ran("c", 2, 4, "train"), ran("d", 0, 1, host="n2"), ran("e", 3, None)]
    found = draw_up(rows)
    lanes = [(lane.host, lane.number, [span.subject for span in lane.spans]) for lane in found.lanes]
    assert lanes == [("n1", 1, ["a", "c"]), ("n1", 2, ["b"]), ("n2", 1, ["d"])]
    assert (found.began_at, found.hours, found.n_executions, found.n_unfinished) == (START, 4.0, 5, 1)


def test_busy_slots_add_up_to_the_time_of_the_tasks() -> None:
    found = draw_up([ran("a", 0, 2), ran("b", 1, 3), ran("c", 2, 4, "train")])
    hours = found.busy.sum(axis=1) * (found.edges[1] - found.edges[0])
    assert dict(zip(KINDS, hours, strict=True)) == pytest.approx({"label": 4, "explore": 0, "train": 2, "score": 0})
    assert found.busy[0].max() == pytest.approx(2.0)


def test_nothing_has_ended_yet() -> None:
    found = draw_up([ran("a", 0, None)])
    assert (found.began_at, found.lanes, found.n_unfinished) == (None, (), 1)


def test_costs_tell_paid_wasted_and_found_labels_apart() -> None:
    rows = [
        ran("j1", 0, 1, wall_s=10.0, cpu_s=20.0, peak_memory_mb=300.0),
        ran("j2", 0, 1, wall_s=30.0, peak_memory_mb=500.0),
        ran("j3", 0, 1, status="failed", wall_s=7.0),
        ran("t", 0, 1, "train", wall_s=99.0),
    ]
    jobs = [JobRecord(name, 1, name, f"s-{name}", "l", "flagged", "done") for name in ("j1", "j2", "j4")]
    found = cost_labels(rows, jobs, {"s-j1": 9})
    assert found.wall_s.tolist() == [10.0, 30.0]
    assert np.nansum(found.core_s) == 20.0
    assert found.n_atoms.tolist() == [9.0, 0.0]
    assert (found.peak_memory_mb, found.n_wasted, found.wasted_s, found.n_found) == (500.0, 1, 7.0, 1)


def test_machines_and_what_they_did() -> None:
    rows = [ran("a", 0, 1, cpu_s=5.0), ran("b", 0, 1, "train", cpu_s=2.0), ran("c", 0, 1, host="n0", status="lost")]
    found = machines(rows)
    assert [(m.host, m.tasks, m.core_s, m.failed) for m in found] == [
        ("n0", {"label": 1}, 0.0, 1),
        ("n1", {"label": 1, "train": 1}, 7.0, 0),
    ]


def test_walkers_reports_are_read_off_the_journal_and_resets_are_grouped() -> None:
    def report(walker: int, status: str, reason: str = "") -> dict[str, Any]:
        numbers = {"step": 400, "temperature": 310.0, "max_disagreement": 0.2}
        return {"walker": walker, "status": status, "reason": reason} | numbers

    reports = [report(0, "running"), report(1, "reset", "Disagreement of 0.154 eV/Å, at or above 0.150 eV/Å.")]
    again = [report(1, "reset", "Disagreement of 0.2 eV/Å, at or above 0.150 eV/Å.")]
    events = [
        EventRecord(1, 1, "segment_done", {"generation": 3, "reports": reports}, START),
        EventRecord(1, 2, "label_done", {}, START),
        EventRecord(1, 3, "segment_done", {"generation": 4, "reports": again}, START),
    ]
    found = walks(events, timestep_fs=0.5)
    assert found.time.tolist() == [0.2, 0.2, 0.2]
    assert found.generation.tolist() == [3, 3, 4]
    assert found.status == ("running", "reset", "reset")
    assert found.resets == {"Disagreement of … eV/Å, at or above … eV/Å": 2}


def test_versions_are_told_by_the_label_process_and_by_the_reference() -> None:
    dimer = Structure.of("HH", [[0.0, 0.0, 0.0], [0.0, 0.0, 0.74]])
    evaluation = Evaluation(-1.0, np.zeros((2, 3)), diagnostics={"versions": {"tblite": "0.8.0"}})
    made = [
        Label(dimer, Level("xtb", {}), evaluation, {"versions": {"numpy": which}}) for which in ("2.4", "2.4", "2.5")
    ]
    assert versions(made) == {"numpy": {"2.4": 2, "2.5": 1}, "tblite": {"0.8.0": 3}}


def test_an_imported_label_was_not_made_by_what_imported_it() -> None:
    dimer = Structure.of("HH", [[0.0, 0.0, 0.0], [0.0, 0.0, 0.74]])
    here = {"imported_from": "/data/orca.xyz", "versions": {"alflow": "0.1.0"}}
    made_elsewhere = {**here, "before": {"provenance": {"versions": {"pyscf": "2.8"}}}}
    again = {**here, "before": {"provenance": made_elsewhere}}
    made = [
        Label(dimer, Level("imported", {}), Evaluation(-1.0, np.zeros((2, 3))), told)
        for told in (here, made_elsewhere, again)
    ]
    assert versions(made) == {"not told by the file": {"orca.xyz": 1}, "pyscf": {"2.8": 2}}


def test_a_configuration_is_flattened_and_geometries_are_counted() -> None:
    config = {"config": {"model": {"members": 4}, "cores": None, "seed": 3}, "structures": [{}, {}]}
    assert settings(config) == [("model.members", "4"), ("seed", "3"), ("starting structures", "2")]
