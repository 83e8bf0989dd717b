"""The journal decides everything: the same seed writes the same one, and a campaign continues from any line of it."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path

import pytest

from alflow.campaign.events import Event, SegmentDone
from alflow.campaign.executors import Completion, InlineExecutor
from alflow.campaign.launch import resume_campaign, run_campaign
from alflow.campaign.state import State
from alflow.campaign.tasks import Task
from alflow.errors import ConfigError

from .toys import check_promises, committees, journal, labels, rows, toy


class PowerCut(BaseException):
    """Ends a campaign at once, as Ctrl-C would."""


class CutAfter:
    """An observer that pulls the plug after some events of this process."""

    def __init__(self, events: int) -> None:
        self.left = events

    def seen(self, state: State, event: Event | None) -> None:
        if event is None:
            return
        self.left -= 1
        if self.left == 0:
            raise PowerCut


class DyingExecutor(InlineExecutor):
    """Runs some tasks, then dies with the next one in its hands."""

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.left = tasks

    def wait(self, timeout_s: float) -> tuple[Completion, ...]:
        if self.left == 0:
            raise PowerCut
        self.left -= 1
        return super().wait(timeout_s)


class ForgetfulExecutor(InlineExecutor):
    """Computes one label to its end and dies before anybody is told: what a kill leaves behind in the spool."""

    def __init__(self, labels_before: int) -> None:
        super().__init__()
        self.left = labels_before
        self.slots = 2
        self.held: list[Task] = []

    def wait(self, timeout_s: float) -> tuple[Completion, ...]:
        completions = super().wait(timeout_s)
        if completions and completions[0].task.startswith("label-"):
            if self.left == 0:
                raise PowerCut
            self.left -= 1
        return completions


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Database of a campaign that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    config = toy(folder)
    with chdir(folder):
        assert run_campaign(config).state.phase == "finished"
    return config.database


def test_the_same_seed_writes_the_same_journal_bit_for_bit(whole: str, tmp_path: Path, database: str) -> None:
    again = toy(tmp_path, database=database)
    run_campaign(again)
    assert journal(again.database) == journal(whole)
    assert labels(again.database) == labels(whole)
    assert committees(again.database) == committees(whole)
    assert len(committees(whole)) > 2
    assert any(kind == SegmentDone.kind and '"paused"' in payload for _, kind, payload in journal(whole))


def test_another_seed_makes_other_labels(whole: str, tmp_path: Path) -> None:
    other = toy(tmp_path, seed=1, label_budget=8)
    run_campaign(other)
    assert not {row[0] for row in labels(other.database)[1:]} <= {row[0] for row in labels(whole)}
    assert committees(other.database)[0] != committees(whole)[0]


def test_an_undisturbed_campaign_keeps_every_promise(whole: str) -> None:
    check_promises(whole)


@pytest.mark.parametrize("events", [2, 9, 23])
def test_a_campaign_cut_after_any_event_ends_with_the_same_labels(
    whole: str, tmp_path: Path, database: str, events: int
) -> None:
    config = toy(tmp_path, database=database)
    with pytest.raises(PowerCut):
        run_campaign(config, observers=[CutAfter(events)])
    before = labels(config.database)
    assert rows(config.database, "SELECT state, holder FROM campaigns") == [("stopped", None)]
    assert resume_campaign(config.database).state.phase == "finished"
    assert set(before) <= set(labels(config.database))
    assert labels(config.database) == labels(whole)
    assert committees(config.database) == committees(whole)
    check_promises(config.database)


def test_a_campaign_cut_again_and_again_ends_with_the_same_labels(whole: str, tmp_path: Path, database: str) -> None:
    config = toy(tmp_path, database=database)
    cuts = 0
    while True:
        try:
            state = run_campaign(config, executor=DyingExecutor(3)).state
        except PowerCut:
            cuts += 1
            continue
        break
    assert state.phase == "finished"
    assert cuts > 4
    assert labels(config.database) == labels(whole)
    check_promises(config.database)


@pytest.mark.parametrize("labels_before", [0, 6])
def test_a_label_that_reached_the_spool_is_never_computed_again(
    tmp_path: Path, database: str, labels_before: int
) -> None:
    config = toy(tmp_path, database=database)
    with pytest.raises(PowerCut):
        run_campaign(config, executor=ForgetfulExecutor(labels_before))
    spooled = {path.name[:32] for path in (tmp_path / "toy.alflow" / "spool").iterdir()}
    assert len(spooled) == 1
    last = rows(config.database, "SELECT max(id) FROM executions")[0][0]
    assert resume_campaign(config.database, executor=ForgetfulExecutor(10**6)).state.phase == "finished"
    query = "SELECT j.structure_id FROM executions e JOIN label_jobs j ON j.id = e.subject WHERE e.kind = 'label'"
    started_since = {row[0][:32] for row in rows(config.database, f"{query} AND e.id > {last}")}
    assert not started_since & spooled
    check_promises(config.database)


def test_running_a_finished_campaign_again_tells_its_end_and_changes_nothing(whole: str, tmp_path: Path) -> None:
    before = journal(whole)
    same = toy(tmp_path, database=whole)
    for ended in (run_campaign(same), resume_campaign(whole)):
        assert (ended.state.phase, ended.state.reason) == ("finished", "label budget spent")
        assert ended.committee is not None
        assert ended.committee.exists()
    assert journal(whole) == before


def test_running_an_unfinished_campaign_with_other_settings_is_refused(tmp_path: Path, database: str) -> None:
    config = toy(tmp_path, database=database)
    with pytest.raises(PowerCut):
        run_campaign(config, observers=[CutAfter(4)])
    with pytest.raises(ConfigError, match=r"other settings \(temperature_k\)"):
        run_campaign(toy(tmp_path, temperature_k=900, database=database))
