"""``alflow retry``: what was given up is tried again, as an event, once for each time it was asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from alflow import Structure
from alflow.campaign.config import comparable
from alflow.campaign.decide import decide
from alflow.campaign.events import (
    CampaignStarted,
    Event,
    RetriedFrame,
    RetryRequested,
    event_from_payload,
    event_to_payload,
)
from alflow.campaign.executors import InlineExecutor
from alflow.campaign.labelling import label_structures
from alflow.campaign.launch import resume_campaign, run_campaign
from alflow.campaign.state import State
from alflow.cli import app
from alflow.errors import CampaignError
from alflow.exploration import rattle
from alflow.reference import MorseMolecule
from alflow.reference.config import Limits
from alflow.store.location import shown
from tests.faults.references import Treacherous
from tests.postgresql import address

from .references import Moody
from .test_journal import CutAfter, PowerCut
from .toys import WATER_ANG, broken_promises, check_promises, rows, toy

WATER = Structure.of("OHH", WATER_ANG)
MOLECULE = MorseMolecule.around(WATER)
GIVEN_UP = "SELECT frame_id, structure_id FROM label_jobs WHERE state = 'quarantined' ORDER BY structure_id"


def frames(number: int) -> list[str]:
    """Structures of the first frames of a toy campaign, after its starting structure."""
    return [s.id for s in rattle(WATER, number, seed=0, temperature=800)]


def alflow(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    return done.exit_code, done.output if done.exception is None else f"{done.output}{done.exception}"


@pytest.fixture
def stopped(tmp_path: Path) -> str:
    """Database of a campaign that was cut after two of its first labels had been given up."""
    faults = dict(zip(frames(2), ("not-finite", "rejected"), strict=True))
    config = toy(tmp_path, initial_labels=6)
    with pytest.raises(PowerCut):
        run_campaign(config, reference=Treacherous(MOLECULE, faults), observers=[CutAfter(12)])
    assert {row[1] for row in rows(config.database, GIVEN_UP)} == set(faults)
    return config.database


def test_what_was_given_up_is_labelled_when_it_is_asked_for_again(stopped: str) -> None:
    before = {row[1] for row in rows(stopped, GIVEN_UP)}
    code, told = alflow("status", stopped)
    assert code == 0
    assert all(frame in told for frame, _ in rows(stopped, GIVEN_UP))
    assert f"alflow retry {shown(stopped)} toy" in told.replace("\n", "")
    assert alflow("retry", stopped) == (
        0,
        "2 label(s) of 'toy' will be tried again (NON_FINITE, REJECTED).\n"
        f"Nobody drives it: alflow resume {shown(stopped)} toy\n",
    )
    assert "(asked for again)" in alflow("status", stopped)[1]
    assert resume_campaign(stopped, reference=Treacherous(MOLECULE, {})).state.phase == "finished"
    check_promises(stopped)
    assert before <= {row[0] for row in rows(stopped, "SELECT structure_id FROM labels")}
    assert rows(stopped, "SELECT count(*) FROM label_jobs WHERE retry_requested") == [(0,)]
    events = rows(stopped, "SELECT payload_json FROM events WHERE kind = 'retry_requested'")
    assert [{f["structure_id"] for f in json.loads(row[0])["frames"]} for row in events] == [before]


@pytest.mark.parametrize("how", ["frame", "failure"])
def test_some_of_them_can_be_chosen(stopped: str, how: str) -> None:
    query = "SELECT frame_id FROM label_jobs WHERE failure_kind = 'REJECTED'"
    frame = rows(stopped, query)[0][0]
    words = ("toy", frame[:9]) if how == "frame" else ("--failure", "REJECTED")
    assert alflow("retry", stopped, *words)[0] == 0
    assert rows(stopped, "SELECT frame_id FROM label_jobs WHERE retry_requested") == [(frame,)]


def test_what_fails_again_is_given_up_again(stopped: str) -> None:
    faults = dict(zip(frames(2), ("not-finite", "rejected"), strict=True))
    alflow("retry", stopped)
    assert resume_campaign(stopped, reference=Treacherous(MOLECULE, faults)).state.phase == "finished"
    check_promises(stopped)
    assert {row[1] for row in rows(stopped, GIVEN_UP)} == set(faults)
    assert rows(stopped, "SELECT count(*) FROM executions WHERE status = 'failed'") == [(4,)]
    code, told = alflow("retry", stopped)
    assert code == 1
    assert "has finished (label budget spent), so nothing of it is labelled any more" in told
    assert "they stay without a label" in alflow("status", stopped)[1]


def test_a_campaign_that_runs_takes_the_request_up(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alflow.campaign.runner.BEAT_S", 0.0)
    config = toy(tmp_path, initial_labels=6, database=database)
    seen: list[str] = []

    class Asker:
        def seen(self, state: State, event: Event | None) -> None:
            if event is not None:
                seen.append(event.kind)
            if seen.count("label_failed") == 1 and "segment_done" in seen and "retry_requested" not in seen:
                alflow("retry", config.database)

    faults = {frames(1)[0]: "not-finite"}
    ended = run_campaign(config, reference=Treacherous(MOLECULE, faults), observers=[Asker()])
    assert ended.state.phase == "finished"
    assert seen.count("label_failed") == 2, "it was tried once more, and failed once more"
    assert seen.count("retry_requested") == 1
    check_promises(config.database)


def test_a_campaign_that_failed_for_want_of_labels_goes_on_with_them(tmp_path: Path, database: str) -> None:
    config = toy(tmp_path, initial_labels=4, database=database)
    faults = dict.fromkeys(frames(3), "rejected")
    assert run_campaign(config, reference=Treacherous(MOLECULE, faults)).state.phase == "failed"
    assert alflow("retry", config.database, "--failure", "REJECTED")[0] == 0
    assert resume_campaign(config.database, reference=Treacherous(MOLECULE, {})).state.phase == "finished"
    check_promises(config.database)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["ffffffffffff"], "has given up no frame that begins with 'ffffffffffff'. Given up: "),
        (["--failure", "SCF_FIAL"], "expected one of .* Did you mean 'SCF_FAIL'?"),
        (["--failure", "OOM"], "Nothing to try again in 'toy': 2 labels are given up (NON_FINITE, REJECTED)."),
    ],
)
def test_a_request_for_nothing_says_what_there_is(stopped: str, words: list[str], sentence: str) -> None:
    code, told = alflow("retry", stopped, *words)
    assert code == 1
    assert all(part in told for part in sentence.split(" .* "))
    assert broken_promises(stopped) == {}


def test_labels_of_a_file_are_tried_again_by_their_own_command(tmp_path: Path) -> None:
    long = Structure.of("ArAr", [[0, 0, 0], [3.6, 0, 0]])
    label_structures([long], Moody(), Limits(), address(tmp_path / "labels.db"), "labels", 1, InlineExecutor)
    code, told = alflow("retry", address(tmp_path / "labels.db"))
    assert code == 1
    assert "the same 'alflow label' command tries those again" in told


def test_the_event_survives_the_journal_and_more_than_was_given_up_is_refused(tmp_path: Path) -> None:
    event = RetryRequested((RetriedFrame("f1", "s1", "flagged", 0.1 + 0.2, 3, 2),))
    assert event_from_payload(event_to_payload(event)) == event
    state, _ = decide(None, CampaignStarted(comparable(toy(tmp_path)), ("s1",), 1))
    with pytest.raises(CampaignError, match="1 labels are to be tried again; 0 are given up"):
        decide(state, event)
