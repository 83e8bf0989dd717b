"""Files and checkpoints that are damaged while a campaign runs or sleeps, and trainers that bring nothing good."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alflow.campaign import launch, learning
from alflow.campaign.events import Event, SegmentDone, TrainingDone
from alflow.campaign.executors import Completion, InlineExecutor
from alflow.campaign.launch import resume_campaign, run_campaign
from alflow.campaign.state import State
from alflow.campaign.tasks import ExploreTask, TrainTask
from alflow.training import fit_committee
from alflow.training.committee import Fit
from tests.campaign.test_journal import CutAfter, PowerCut
from tests.campaign.toys import broken_promises, check_promises, journal, labels, literal, rows, toy, write


class Once:
    """An observer that does something at the first committee."""

    def __init__(self, act: Callable[[], None]) -> None:
        self.act: Callable[[], None] | None = act

    def seen(self, state: State, event: Event | None) -> None:
        if self.act is not None and state.generation == 1:
            self.act()
            self.act = None


@pytest.mark.parametrize("damage", ["altered", "truncated"])
def test_weights_damaged_while_a_campaign_runs_are_trained_again_and_it_goes_on(tmp_path: Path, damage: str) -> None:
    """Whoever reads them next notices by their hash; nothing is computed with them."""
    config = toy(tmp_path)
    hit: list[Path] = []

    def spoil() -> None:
        learning._CACHE.clear()  # as for a worker that has not met this committee yet
        (path,) = (tmp_path / "toy.alflow" / "weights").iterdir()
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]) if damage == "altered" else whole[: len(whole) // 2])
        hit.append(path)

    ended = run_campaign(config, observers=[Once(spoil)])
    assert ended.state.phase == "finished"
    lost = rows(config.database, "SELECT payload_json FROM events WHERE kind = 'committee_lost'")
    assert [hit[0].name in str(payload) for (payload,) in lost] == [True], "the loss is in the journal, once"
    assert ended.committee is not None
    assert ended.committee != hit[0]
    stumbled = rows(
        config.database, "SELECT kind, failure_kind FROM executions WHERE message LIKE '%committee are lost%'"
    )
    assert {kind for kind, _ in stumbled} <= {"explore", "train", "score"}
    assert {failure for _, failure in stumbled} == {"WORKER_LOST"}
    named = broken_promises(config.database)
    assert {name: len(lines) for name, lines in named.items()} == {"weights": 1}, "the damaged file and nothing else"
    assert hit[0].name in named["weights"][0]
    hit[0].unlink()
    assert broken_promises(config.database) == {}


class AllAtOnce(InlineExecutor):
    """Answers all that waits in one batch; once, a segment finds its weights damaged while the next are trained."""

    slots = 2
    spoilt: Path | None = None

    def wait(self, timeout_s: float) -> tuple[Completion, ...]:
        waiting = list(self._waiting)
        training = next((task for task in waiting if isinstance(task, TrainTask)), None)
        segment = next((task for task in waiting if isinstance(task, ExploreTask)), None)
        if AllAtOnce.spoilt is None and training is not None and segment is not None:
            self._waiting = deque([training])
            trained = super().wait(timeout_s)
            AllAtOnce.spoilt = segment.committee.path
            AllAtOnce.spoilt.write_bytes(b"nothing")
            learning._CACHE.clear()
            self._waiting = deque([segment])
            stumbled = super().wait(timeout_s)
            self._waiting = deque(task for task in waiting if task not in (training, segment))
            return (*stumbled, *trained)
        return tuple(done for _ in waiting for done in super(AllAtOnce, self).wait(timeout_s))


def test_weights_that_were_just_replaced_are_not_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment that stumbles over them is begun again with the new committee, which is not taken for lost."""
    monkeypatch.setattr(launch, "InlineExecutor", AllAtOnce)
    config = toy(tmp_path)
    ended = run_campaign(config)
    assert AllAtOnce.spoilt is not None, "no training ever ran beside a segment"
    assert ended.state.phase == "finished"
    assert rows(config.database, "SELECT count(*) FROM events WHERE kind = 'committee_lost'") == [(0,)]
    ((payload,),) = rows(config.database, "SELECT payload_json FROM events WHERE kind = 'task_lost'")
    assert AllAtOnce.spoilt.name in str(payload)
    assert "another is active" in str(payload)
    assert rows(config.database, "SELECT count(*) FROM executions WHERE ended_at IS NULL") == [(0,)]


@pytest.mark.slow
def test_weights_damaged_while_several_workers_use_them_cost_no_label(tmp_path: Path) -> None:
    """What the other workers bring with the committee that is lost counts no more; their labels do."""
    hit: list[Path] = []

    def spoil() -> None:
        for path in (tmp_path / "toy.alflow" / "weights").iterdir():
            path.write_bytes(path.read_bytes()[:100])
            hit.append(path)

    config = toy(tmp_path, delay_s=0.2, executor="dask", cores=2)
    ended = run_campaign(config, observers=[Once(spoil)])
    assert ended.state.phase == "finished"
    assert rows(config.database, "SELECT count(*) FROM events WHERE kind = 'committee_lost'") == [(1,)]
    assert rows(config.database, "SELECT count(*) FROM executions WHERE ended_at IS NULL") == [(0,)]
    for path in hit:
        path.unlink()
    assert broken_promises(config.database) == {}


BROKEN_CHECKPOINTS = {
    1: "cannot be read: A stored array of 40 bytes is damaged",
    2: "is not what was written",
    3: "is gone",
}
"""What is found of the walkers whose checkpoints were cut, altered and removed."""


def test_walkers_whose_checkpoints_are_damaged_begin_anew_and_the_campaign_goes_on(
    tmp_path: Path, database: str
) -> None:
    """Altered numbers are whole numbers, but not those that were written: nothing else could tell."""
    config = toy(tmp_path, database=database)
    with pytest.raises(PowerCut):
        run_campaign(config, observers=[CutAfter(16)])
    steps = dict(rows(database, "SELECT walker, step FROM walkers"))
    before, committed = journal(database), labels(database)
    open_jobs = rows(database, "SELECT id FROM label_jobs WHERE state IN ('pending', 'running')")
    velocities = {n: bytes(blob) for n, blob in rows(database, "SELECT walker, velocities_ang_fs FROM walkers")}
    _set_velocities(database, 1, velocities[1][:40])
    _set_velocities(database, 2, velocities[2][:-8] + bytes([velocities[2][-8] ^ 1]) + velocities[2][-7:])
    write(database, "DELETE FROM walkers WHERE walker = 3")
    named = broken_promises(database)
    assert set(named) == {"arrays", "checkpoints"}
    for (number, words), line in zip(BROKEN_CHECKPOINTS.items(), named["checkpoints"], strict=True):
        assert line.startswith(f"walker {number}: its checkpoint {words}")

    ended = resume_campaign(database)
    assert ended.state.phase == "finished"
    assert journal(database)[: len(before)] == before
    told = [json.loads(payload) for _, kind, payload in journal(database) if kind == "checkpoints_lost"]
    assert [event["walkers"] for event in told] == [[1, 2, 3]], "once, and of those walkers only"
    assert all(f"walker {n}: its checkpoint {words}" in told[0]["message"] for n, words in BROKEN_CHECKPOINTS.items())
    assert {row[0] for row in committed} <= {row[0] for row in labels(database)}
    settled = rows(database, "SELECT id FROM label_jobs WHERE state IN ('done', 'dropped')")
    assert set(open_jobs) <= set(settled), "frames that waited for a label went on waiting"
    for number, resets, step in rows(database, "SELECT walker, resets, step FROM walkers WHERE walker > 0"):
        assert resets > 0, "it was given fresh velocities"
        assert step > steps[number], "and counts its steps on, so that walker and step name one frame"
    check_promises(database)


def test_a_walker_that_lost_its_checkpoint_while_in_flight_begins_anew_in_that_very_segment(tmp_path: Path) -> None:
    config = toy(tmp_path)
    with pytest.raises(PowerCut):
        run_campaign(config, observers=[CutInSegment(3)])
    ((kind, subject),) = rows(config.database, "SELECT kind, subject FROM executions WHERE ended_at IS NULL")
    assert kind == "explore"
    aboard = subject.partition(" walkers ")[2].split()[0]
    its = f"FROM walkers WHERE walker = {aboard}"
    ((before, step),) = rows(config.database, f"SELECT resets, step {its}")
    write(config.database, f"DELETE {its}")
    seen: list[tuple[int, int]] = []

    class Watching:
        def seen(self, state: State, event: Event | None) -> None:
            if isinstance(event, SegmentDone) and not seen:
                seen.extend(rows(config.database, f"SELECT resets, step {its}"))
                assert seen, "the segment in flight came back without the walker"

    assert resume_campaign(config.database, observers=[Watching()]).state.phase == "finished"
    assert seen[0][0] > before
    assert seen[0][1] > step
    check_promises(config.database)


class CutInSegment:
    """An observer that pulls the plug when some segments are done and another is in flight."""

    def __init__(self, segments: int) -> None:
        self.left = segments

    def seen(self, state: State, event: Event | None) -> None:
        self.left -= isinstance(event, SegmentDone)
        if self.left <= 0 and state.running_of("explore"):
            raise PowerCut


def _set_velocities(database: str, walker: int, blob: bytes) -> None:
    write(database, f"UPDATE walkers SET velocities_ang_fs = {literal(database, blob)} WHERE walker = {walker}")


def not_a_number(fit: Fit) -> Fit:
    """What training gives when it runs away and does not notice."""
    weights = fit.committee.weights.to(fit.committee.dtype)
    weights.output.fill_(np.nan)
    return replace(fit, committee=replace(fit.committee, weights=weights))


def worse(fit: Fit) -> Fit:
    """What training gives when it runs away and stops in time."""
    weights = fit.committee.weights.to(fit.committee.dtype)
    weights.output.mul_(50.0)
    return replace(fit, committee=replace(fit.committee, weights=weights))


@pytest.mark.parametrize(
    ("trainer", "number"),
    [(not_a_number, 2), (not_a_number, 4), (worse, 4)],
    ids=["NaN before there is a held-out label", "NaN", "worse"],
)
def test_a_committee_that_is_worse_or_no_number_is_rejected_and_the_old_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainer: Callable[[Fit], Fit], number: int
) -> None:
    """One training goes wrong; those before and after it are the real ones."""
    trained = 0

    def train(*given: Any, **more: Any) -> Fit:
        nonlocal trained
        trained += 1
        fit = fit_committee(*given, **more)
        return trainer(fit) if trained == number else fit

    monkeypatch.setattr(learning, "fit_committee", train)
    seen: list[tuple[bool, int, str]] = []

    class Watching:
        def seen(self, state: State, event: Event | None) -> None:
            if isinstance(event, TrainingDone):
                active = rows(config.database, "SELECT sha256 FROM committees WHERE state = 'active'")
                seen.append((event.accepted, state.generation, active[0][0]))

    config = toy(tmp_path, label_budget=20)
    ended = run_campaign(config, observers=[Watching()])
    assert ended.state.phase == "finished"
    assert [accepted for accepted, *_ in seen[:number]] == [True] * (number - 1) + [False]
    assert seen[number - 1][1:] == seen[number - 2][1:], "the old committee stays"
    assert len(seen) > number, "training goes on"
    told = rows(config.database, "SELECT payload_json FROM events WHERE kind = 'training_done' ORDER BY seq")
    payload = json.loads(told[number - 1][0])
    assert (payload["accepted"], bool(payload["reason"])) == (False, True)
    state = f"SELECT generation, state FROM committees WHERE sha256 = '{payload['sha256']}'"
    assert rows(config.database, state) == [(number, "rejected")]
    check_promises(config.database)
