"""Labels that fail: each failure is recorded with its class, and the campaign goes on without that label."""

from __future__ import annotations

import logging
import platform
import sys
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest

from alflow import CampaignConfig, Structure
from alflow.campaign import launch
from alflow.campaign.launch import resume_campaign, run_campaign
from alflow.campaign.results import Results
from alflow.cli import main
from alflow.exploration import rattle
from alflow.reference import MorseMolecule
from alflow.store.location import shown
from tests.campaign.toys import WATER_ANG, broken_promises, check_promises, rows, toy, toy_file

from .references import Cramped, Treacherous

WATER = Structure.of("OHH", WATER_ANG)
MOLECULE = MorseMolecule.around(WATER)
FAULTS = {
    "unconverged": ("SCF_FAIL", 1, "did not converge"),
    "endless": ("TIMEOUT", 2, "not done after"),
    "greedy": ("OOM", 2, "of memory; allowed are"),
    "segfault": ("CRASH", 2, "SIGSEGV"),
    "exit": ("CRASH", 2, "exit status 3"),
    "not-finite": ("NON_FINITE", 1, "nan"),
    "rejected": ("REJECTED", 1, "not made for"),
}
"""Class, attempts (what may have been the machine's fault is tried again) and a part of the message of each fault."""
LIMITS = {"time_limit_s": 5, "memory_limit_mb": 300, "max_attempts": 2}


def first_frames(config: CampaignConfig) -> list[Structure]:
    """The frames a campaign begins with: they depend on its seed only."""
    return rattle(WATER, config.initial_labels - 1, seed=config.seed, temperature=config.temperature_k)


@pytest.fixture(scope="module")
def survived(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str]]:
    """Database of a campaign that met every fault, and the fault of each structure."""
    folder = tmp_path_factory.mktemp("failures")
    config = toy(folder, limits=LIMITS, initial_labels=len(FAULTS) + 6, label_budget=14)
    faults = {s.id: fault for s, fault in zip(first_frames(config), FAULTS, strict=False)}
    with chdir(folder):
        ended = run_campaign(config, reference=Treacherous(MOLECULE, faults))
    assert ended.state.phase == "finished"
    assert ended.state.reason == "label budget spent"
    return config.database, faults


def test_a_campaign_ends_normally_whatever_its_labels_do(survived: tuple[str, dict[str, str]]) -> None:
    database, faults = survived
    check_promises(database)
    assert rows(database, "SELECT count(*) FROM labels") == [(14,)]
    labelled = {row[0] for row in rows(database, "SELECT structure_id FROM labels")}
    assert not labelled & set(faults)


@pytest.mark.parametrize("fault", FAULTS)
def test_every_failure_is_recorded_with_its_class(survived: tuple[str, dict[str, str]], fault: str) -> None:
    check_record(*survived, fault)


def test_failures_are_recorded_on_a_server_as_well(
    tmp_path: Path, postgres_target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that come at once; time and memory that run out take seconds, and end in the same rows."""
    monkeypatch.chdir(tmp_path)
    quick = ("unconverged", "segfault", "exit", "not-finite", "rejected")
    first = len(quick) + 4
    config = toy(tmp_path, limits=LIMITS, initial_labels=first, label_budget=first + 1, database=postgres_target)
    faults = {s.id: fault for s, fault in zip(first_frames(config), quick, strict=False)}
    assert run_campaign(config, reference=Treacherous(MOLECULE, faults)).state.phase == "finished"
    check_promises(postgres_target)
    for fault in quick:
        check_record(postgres_target, faults, fault)


def check_record(database: str | Path, faults: dict[str, str], fault: str) -> None:
    """The job and the executions of the structure that had a fault tell of it."""
    kind, attempts, words = FAULTS[fault]
    structure = next(name for name, found in faults.items() if found == fault)
    job = rows(
        database,
        "SELECT id, state, attempts, n_lost, failure_kind, failure_message FROM label_jobs"
        f" WHERE structure_id = '{structure}'",
    )
    assert len(job) == 1
    assert job[0][1:5] == ("quarantined", attempts, 0, kind)
    assert words in job[0][5]
    runs = rows(
        database,
        f"SELECT attempt, status, failure_kind, message, wall_s FROM executions WHERE subject = '{job[0][0]}'",
    )
    assert [run[:3] for run in runs] == [(number, "failed", kind) for number in range(1, attempts + 1)]
    assert all(words in run[3] and run[4] > 0 for run in runs)


def test_what_a_failed_label_cost_is_recorded(survived: tuple[str, dict[str, str]]) -> None:
    database, _ = survived
    # The second attempt may have twice as much as the first.
    greedy = rows(database, "SELECT attempt, peak_memory_mb FROM executions WHERE failure_kind = 'OOM'")
    assert {attempt for attempt, _ in greedy} == {1, 2}
    assert all(300 * n < peak < 300 * n + 300 for n, peak in greedy)  # looked at every 0.1 s: it takes 100 MB then
    endless = rows(database, "SELECT attempt, wall_s FROM executions WHERE failure_kind = 'TIMEOUT'")
    assert {attempt for attempt, _ in endless} == {1, 2}
    assert all(5.0 * n <= wall < 5.0 * n + 6.0 for n, wall in endless)  # the end of the tree may take five seconds


def test_a_campaign_without_any_usable_label_fails_with_the_reason(tmp_path: Path) -> None:
    settings = {"engine": "pyscf", "functional": "hf", "basis": "sto-3g", "max_cycles": 1}
    settings["gradient_tolerance_ha"] = 1e-13
    config = toy(tmp_path, initial_labels=3, reference=settings)
    ended = run_campaign(config)
    assert ended.state.phase == "failed"
    assert "too few of the starting frames could be labelled" in ended.state.reason
    assert rows(config.database, "SELECT state FROM campaigns") == [("failed",)]
    assert rows(config.database, "SELECT status, failure_kind FROM executions") == [("failed", "SCF_FAIL")] * 3
    assert rows(config.database, "SELECT state, attempts FROM label_jobs") == [("quarantined", 1)] * 3


def test_an_exception_pauses_the_campaign_until_it_is_mended(tmp_path: Path, database: str) -> None:
    config = toy(tmp_path, database=database)
    broken = first_frames(config)[1].id
    ended = run_campaign(config, reference=Treacherous(MOLECULE, {broken: "exception"}))
    assert ended.state.phase == "failed"
    assert "Traceback (most recent call last)" in ended.state.reason
    assert "references.py" in ended.state.reason
    assert ended.state.reason.strip().endswith("RuntimeError: the basis set file of this reference is damaged")
    state, reason, holder = rows(config.database, "SELECT state, reason, holder FROM campaigns")[0]
    assert (state, holder) == ("failed", None)
    assert "Traceback" in reason
    before = rows(config.database, "SELECT structure_id FROM labels ORDER BY structure_id")
    query = f"SELECT state, attempts, failure_kind FROM label_jobs WHERE structure_id = '{broken}'"
    assert rows(config.database, query)[0][:2] == ("pending", 0), "a defect is nobody's attempt"
    failed = rows(config.database, "SELECT status, message FROM executions WHERE failure_kind = 'BUG'")
    assert [(status, "is damaged" in message) for status, message in failed] == [("failed", True)]

    again = resume_campaign(config.database, reference=Treacherous(MOLECULE, {}))
    assert again.state.phase == "finished"
    check_promises(config.database)
    assert set(before) < set(rows(config.database, "SELECT structure_id FROM labels"))
    assert rows(config.database, query)[0][:2] == ("done", 1)


def test_a_defect_that_was_not_mended_fails_again(tmp_path: Path, database: str) -> None:
    config = toy(tmp_path, database=database)
    reference = Treacherous(MOLECULE, {first_frames(config)[0].id: "exception"})
    assert run_campaign(config, reference=reference).state.phase == "failed"
    assert resume_campaign(config.database, reference=reference).state.phase == "failed"
    assert rows(config.database, "SELECT count(*) FROM executions WHERE failure_kind = 'BUG'") == [(2,)]


def test_a_label_that_finds_no_room_for_its_result_pauses_the_campaign(tmp_path: Path) -> None:
    """Nobody's attempt, no torn file, and no label without its numbers."""
    config, full = toy(tmp_path), tmp_path / "full"
    full.touch()
    reference = Cramped(MOLECULE, full)
    ended = run_campaign(config, reference=reference)
    assert ended.state.phase == "failed"
    assert ended.state.reason.startswith(f"There is no room on a disk of {platform.node()} for the result of a label")
    told = rows(config.database, "SELECT DISTINCT failure_kind, status FROM executions WHERE status <> 'lost'")
    assert told == [("BUG", "failed")]
    assert rows(config.database, "SELECT count(*) FROM labels") == [(0,)]
    assert list((tmp_path / "toy.alflow" / "spool").glob("*.json")) == []
    assert broken_promises(config.database) == {}
    full.unlink()
    assert resume_campaign(config.database, reference=reference).state.phase == "finished"
    check_promises(config.database)


def said_by(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    monkeypatch.setattr(sys, "argv", ["alflow", *words])
    monkeypatch.setattr(logging.getLogger("alflow"), "handlers", [])  # those of a test before write to its own terminal
    capsys.readouterr()
    try:
        main()
        code: object = 0
    except SystemExit as ended:
        code = ended.code or 0
    assert isinstance(code, int)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_defect_of_a_task_shows_its_traceback_and_the_command_to_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, config = toy_file(tmp_path), toy(tmp_path)
    damaged = Treacherous(MOLECULE, {first_frames(config)[1].id: "exception"})
    monkeypatch.setattr(launch, "make_reference", lambda config: damaged)
    code, out, err = said_by(capsys, monkeypatch, "run", str(file))
    assert code == 1
    assert f"alflow resume {shown(config.database)} toy" in out
    assert "alflow: Campaign 'toy' failed: Traceback (most recent call last)" in err
    assert err.strip().endswith("RuntimeError: the basis set file of this reference is damaged")
    assert broken_promises(config.database) == {}


def test_a_defect_of_the_orchestrator_is_stored_with_its_traceback_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], database: str
) -> None:
    file = toy_file(tmp_path, label_budget=8, database=database)
    interpret, calls = Results.interpret, 0

    def sometimes(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        return interpret(*given) if calls < 7 else 1 / 0

    monkeypatch.setattr(Results, "interpret", sometimes)
    code, out, err = said_by(capsys, monkeypatch, "run", str(file))
    assert (code, "Traceback" in out + err) == (1, False)
    told = [line for line in err.splitlines() if line.startswith("alflow: ")]
    assert len(told) == 1
    assert "ended 'toy' (ZeroDivisionError: division by zero). What was committed is safe" in told[0]
    assert told[0].endswith(f"When it is mended: alflow resume {shown(database)} toy")
    ((state, reason, holder),) = rows(database, "SELECT state, reason, holder FROM campaigns")
    assert (state, holder) == ("failed", None)
    assert reason.startswith("Traceback (most recent call last)")
    assert reason.strip().endswith("ZeroDivisionError: division by zero")
    assert broken_promises(database) == {}
    committed = rows(database, "SELECT structure_id FROM labels")

    code, out, _ = said_by(capsys, monkeypatch, "status", database)
    assert (code, "ZeroDivisionError" in out) == (0, True)
    monkeypatch.setattr(Results, "interpret", interpret)
    assert said_by(capsys, monkeypatch, "resume", database)[0] == 0
    assert set(committed) <= set(rows(database, "SELECT structure_id FROM labels"))
    check_promises(database)
