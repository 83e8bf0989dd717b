"""A snapshot says what the summary says, costs only what is new, stays small, and tells no secrets."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alflow.campaign.launch import run_campaign
from alflow.campaign.progress import simulated_ps
from alflow.campaign.state import State
from alflow.domain import Evaluation, FailureKind, Label, Level, Structure
from alflow.reports.answers import MOST_ATOMS, answer, drawable
from alflow.reports.feed import STANDS_STILL_S, Feed
from alflow.reports.snapshot import SHOWN_WALKERS, Live, SnapshotReader
from alflow.reports.summary import summarize
from alflow.reports.tally import Tally
from alflow.store import EventRecord, ExecutionRecord, FrameRecord, Holder, JobRecord, Store
from alflow.store.lease import process_mark
from tests.campaign.toys import toy
from tests.postgresql import emptied

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, State]:
    """A toy campaign at its end."""
    config = toy(tmp_path_factory.mktemp("snapshot"), threshold_ev_ang=0.15, audit_fraction=0.3)
    return config.database, run_campaign(config).state


def test_it_counts_what_the_summary_and_the_loop_count(ended: tuple[str, State]) -> None:
    database, state = ended
    with Store.open(database, read_only=True) as store:
        reader = SnapshotReader(store)
        assert reader.refresh()
        told, summary = reader.snapshot(), summarize(store, store.campaign())
    labels = told["labels"]
    assert (labels["done"], labels["dropped"], labels["failed_attempts"]) == (state.n_done, state.n_dropped, 0)
    assert told["generation"] == {"active": summary.generation, "training": False}
    assert [row["n_labels"] for row in told["generations"]] == [curve[0] for curve in summary.learning_curve]
    last = told["generations"][-1]["audit_force_mae_ev_ang"]
    assert last == pytest.approx(summary.metrics["audit_force_mae_ev_ang"], rel=1e-3)
    assert told["walkers"]["steps"] == sum(walker.step for walker in state.walkers)
    assert told["walkers"]["simulated_ps"] == pytest.approx(simulated_ps(state), abs=1e-3)
    assert [one["resets"] for one in told["walkers"]["shown"]] == [walker.resets for walker in state.walkers]
    assert told["time"]["busy_s"] == pytest.approx(summary.time.busy_s, abs=0.06)
    assert told["time"]["elapsed_s"] == pytest.approx(summary.time.elapsed_s, abs=0.06)
    campaign = told["campaign"]
    assert (campaign["state"], campaign["phase"], campaign["holder"]) == ("finished", "finished", None)
    assert campaign["threshold_ev_ang"] == 0.15
    assert told["pools"] == [], "nobody drives it any more"


def test_read_bit_by_bit_it_is_the_same(ended: tuple[str, State]) -> None:
    with Store.open(ended[0], read_only=True) as store:
        whole, pieces = SnapshotReader(store), SnapshotReader(store)
        assert whole.refresh()
        looks = 1
        while not pieces.refresh(most=7):
            looks += 1
        assert looks > 5
        expected, found = whole.snapshot(), pieces.snapshot()
    assert {**found, "made_unix_s": 0} == {**expected, "made_unix_s": 0}


def test_it_is_json_without_a_word_of_where_things_are(ended: tuple[str, State]) -> None:
    with Store.open(ended[0], read_only=True) as store:
        reader = SnapshotReader(store)
        reader.refresh()
        text = json.dumps(reader.snapshot(), allow_nan=False)
    assert str(Path(ended[0]).parent) not in text
    assert "://" not in text


def test_what_the_loop_knows_comes_before_what_the_database_suggests(ended: tuple[str, State]) -> None:
    with Store.open(ended[0], read_only=True) as store:
        reader = SnapshotReader(store)
        reader.refresh()
        statuses = ["exploring", "ready", "paused", "paused"]
        live = Live("closing", "quiet", statuses, {2: "it waits", 0: "not told of one that moves"})
        after = reader.snapshot(live)
        reader.campaign = replace(reader.campaign, state="running", holder="here:1")
        told = reader.snapshot(live)
    shown = told["walkers"]["shown"]
    assert [one["status"] for one in shown if one["walker"] != 1] == ["moving", "paused", "paused"]
    assert (shown[0]["reason"], shown[2]["reason"]) == ("", "it waits")
    assert (told["campaign"]["phase"], told["campaign"]["holder"]) == ("closing", "here:1")
    assert after["campaign"]["phase"] == "finished", "a loop that has ended has no phase any more"
    assert "moving" not in after["walkers"]["counts"]


def test_every_walker_and_frame_that_is_shown_has_a_story_and_a_structure(ended: tuple[str, State]) -> None:
    with Store.open(ended[0], read_only=True) as store:
        reader = SnapshotReader(store)
        reader.refresh()
        told = reader.snapshot()
        questions = [f"walker:{one['walker']}" for one in told["walkers"]["shown"]]
        questions += [f"frame:{one['frame']}" for one in told["frames"]]
        answers = [answer(store, reader.campaign, question) for question in questions]
        assert "has not finished a segment" in answer(store, reader.campaign, "walker:99")["error"]
        assert "No frame" in answer(store, reader.campaign, "frame:zzz")["error"]
    assert len(answers) > 8
    assert all(found["structure"]["symbols"] == ["O", "H", "H"] for found in answers)
    assert all(found["rows"] and found["question"] == asked for found, asked in zip(answers, questions, strict=True))
    json.dumps(answers, allow_nan=False)


def test_a_thousand_walkers_are_summed_up(ended: tuple[str, State]) -> None:
    with Store.open(ended[0], read_only=True) as store:
        reader = SnapshotReader(store)
        reader.refresh()
        reader._tally.walkers.clear()
        reports = [
            {
                "walker": n,
                "status": "reset" if n == 900 else "paused" if n == 700 else "running",
                "reason": "too hot" if n == 900 else "",
                "step": 10,
                "steps": 10,
                "max_disagreement": n / 1e4,
                "temperature": 300.0,
                "frame": None,
            }
            for n in range(1024)
        ]
        seq = reader._tally.seq + 1
        reader._tally.add(EventRecord(1, seq, "segment_done", {"reports": reports, "audit": None}, START))
        told = reader.snapshot()
    walkers = told["walkers"]
    numbers = [one["walker"] for one in walkers["shown"]]
    assert (walkers["count"], walkers["left_out"], walkers["steps"]) == (1024, 1024 - SHOWN_WALKERS, 10240)
    assert walkers["counts"] == {"waiting": 1022, "paused": 1, "reset": 1}
    assert numbers == sorted({700, 900} | set(range(1024 - 62, 1024))), "those that stand, then the most uncertain"
    assert len(json.dumps(told)) < 40_000


def test_why_a_walker_was_reset_is_kept_when_it_moves_again(tmp_path: Path) -> None:
    reports = [("reset", "atoms 1 and 2 are too close"), ("reset", "too hot"), ("paused", "unsure"), ("running", "")]
    with Store.open(tmp_path / "walks.db", create=True) as store:
        campaign = store.create_campaign("walks", {"config": {"walkers": 2}}, seed=1)
        lease = store.acquire(campaign.id, Holder.current())
        with store.transaction(lease) as tx:
            for number, (status, reason) in enumerate(reports, start=1):
                report = {"walker": 1, "status": status, "reason": reason, "step": 10 * number, "steps": 10}
                report |= {"max_disagreement": 0.1, "temperature": 300.0, "frame": None}
                tx.append_event("segment_done", {"reports": [report], "audit": None})
        reader = SnapshotReader(store)
        assert reader.refresh()
        still, moving = reader.snapshot()["walkers"]["shown"]
    assert (still["resets"], still["last_reset"]) == (0, "")
    assert (moving["status"], moving["reason"], moving["resets"]) == ("waiting", "", 2)
    assert moving["last_reset"] == "too hot"


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_flags_of_labels_are_counted_as_they_come(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    database = str(tmp_path / "flags.db") if kind == "sqlite" else emptied(request.getfixturevalue("postgres"))
    level, flags = Level("toy", {}), [["small-gap"], [], ["broken-symmetry", "small-gap"]]
    with Store.open(database, create=True) as store:
        campaign = store.create_campaign("flags", {"labelling": {}, "level_id": level.id}, seed=1)
        lease, reader = store.acquire(campaign.id, Holder.current()), SnapshotReader(store)
        counts = []
        for number, found in enumerate(flags):
            dimer = Structure.of("ArAr", [[0, 0, 0], [3.5 + 0.1 * number, 0, 0]])
            name = f"f{number}"
            with store.transaction(lease) as tx:
                tx.add_level(level)
                seq = tx.append_event("label_done", {"frame_id": name})
                tx.add_frame(FrameRecord(name, campaign.id, dimer.id, "given", "seed", event_seq=seq), dimer)
                tx.add_label(Label(dimer, level, Evaluation(0.0, np.zeros((2, 3)), diagnostics={"flags": found})))
                ids = (dimer.id, level.id)
                tx.put_job(JobRecord(name, campaign.id, name, *ids, "seed", "done", event_seq=seq))
            assert reader.refresh()
            counts.append(reader.snapshot()["labels"]["flags"])
        story = dict(answer(store, campaign, "frame:f2")["rows"])
    assert counts == [{"small-gap": 1}, {"small-gap": 1}, {"small-gap": 2, "broken-symmetry": 1}]
    assert story["label"].endswith("[toy]; broken-symmetry; small-gap")


def test_an_import_has_no_workers(tmp_path: Path) -> None:
    with Store.open(tmp_path / "import.db", create=True) as store:
        campaign = store.create_campaign("import", {"labelling": {}, "level_id": "0" * 64}, seed=0)
        lease = store.acquire(campaign.id, Holder.current())
        with store.transaction(lease) as tx:
            tx.append_event("import_started", {"file": "some.npz", "sha256": "", "labels": 5})
            tx.set_campaign_state("running", "")
        reader = SnapshotReader(store)
        assert reader.refresh()
        told = reader.snapshot()
    assert (told["campaign"]["kind"], told["campaign"]["phase"], told["pools"]) == ("labelling", "running", [])
    assert told["campaign"]["begun_unix_s"] > 0


def test_secrets_in_messages_are_left_out_and_events_of_tomorrow_do_no_harm() -> None:
    tally = Tally(0)
    tally.add(EventRecord(1, 1, "committee_lost", {"message": "postgresql://ada:secret@db/x is away"}, START))
    tally.add(EventRecord(1, 2, "failure", {"of": "a kind unknown here"}, START + timedelta(seconds=1)))
    assert tally.seq == 2
    assert [row["message"] for row in tally.failures] == ["postgresql://…@db/x is away"]


def test_a_structure_too_large_to_be_drawn_is_not_sent() -> None:
    positions = [[3.0 * n, 0.0, 0.0] for n in range(MOST_ATOMS + 1)]
    assert drawable(Structure.of(["Ar"] * len(positions), positions)) is None


def test_a_committee_that_was_given_is_the_first_generation_and_given_labels_are_no_work() -> None:
    """The page counts generations as the summary does, and the speed of labels from those that were made."""
    tally = Tally(0)
    trained = {"accepted": True, "n_labels": 20, "metrics": {"n_train": 18.0, "validation_force_mae_ev_ang": 0.1}}
    told = [("labels_given", {"frames": [{}] * 20}), ("committee_given", {"sha256": "ab"}), ("training_done", trained)]
    for seq, (kind, payload) in enumerate([*told, ("label_done", {"frame_id": "f"})], start=1):
        tally.add(EventRecord(1, seq, kind, payload, START))
    assert (tally.generation, tally.n_labels, tally.n_given) == (2, 1, 20)
    curve = [(row["generation"], row["n_labels"], row["audit_force_mae_ev_ang"]) for row in tally.generations]
    assert curve == [(1, 0, None), (2, 18, None)]


def test_a_failed_label_of_a_file_leads_to_its_frame() -> None:
    tally = Tally(0)
    row = ExecutionRecord(1, "key", "label", "0a1b-89abcdef", status="failed", failure_kind=FailureKind.CRASH)
    tally.add_failure(row)
    assert tally.failures[0]["frame"] == "0a1b"


def test_labels_of_a_file_have_a_page_too(tmp_path: Path) -> None:
    with Store.open(tmp_path / "labels.db", create=True) as store:
        campaign = store.create_campaign("labels", {"labelling": {"method": "rhf"}, "level_id": "0" * 64}, seed=0)
        lease = store.acquire(campaign.id, Holder.current())
        with store.transaction(lease) as tx:
            tx.append_event("labelling_started", {"slots": 2, "structures": 5})
            tx.append_event("label_done", {"frame_id": "f1"})
        reader = SnapshotReader(store)
        assert reader.refresh()
        told = reader.snapshot()
    assert (told["campaign"]["kind"], told["walkers"]["count"], told["campaign"]["reference"]) == ("labelling", 0, "")
    assert (told["pools"][0]["slots"], [count for _, count in told["labels"]["counts"]]) == (2, [1])
    assert told["campaign"]["threshold_ev_ang"] is None


def test_the_threshold_is_the_loops(tmp_path: Path) -> None:
    with Store.open(tmp_path / "new.db", create=True) as store:
        store.create_campaign("new", {"config": {"walkers": 1, "target_force_error_ev_ang": 0.003}}, seed=0)
        assert SnapshotReader(store).snapshot()["campaign"]["threshold_ev_ang"] == 0.018


def test_a_campaign_that_ends_is_not_stale_while_its_lease_is_still_held(tmp_path: Path) -> None:
    with Store.open(tmp_path / "ends.db", create=True) as store:
        campaign = store.create_campaign("ends", {"config": {"walkers": 1}}, seed=1)
        lease = store.acquire(campaign.id, Holder.current())
        reader = SnapshotReader(store)
        reader.refresh()
        assert reader.under_way
        assert reader.snapshot()["campaign"]["holder"] == str(Holder.current())
        with store.transaction(lease) as tx:
            tx.set_campaign_state("finished", "label budget spent")
        reader.refresh()
        assert not reader.under_way
        assert reader.snapshot()["campaign"]["holder"] is None


class Wall:
    """A place where snapshots are collected; it raises as often as it is told to."""

    def __init__(self, failures: int = 0) -> None:
        self.posts: list[dict[str, Any]] = []
        self.failures = failures
        self.stale: list[float | None] = []
        self.answers: dict[str, bytes] = {}

    def post(
        self,
        campaign: str,
        name: str,
        snapshot: bytes,
        ended: bool,
        stale_since_s: float | None = None,
        answers: Mapping[str, bytes] | None = None,
    ) -> list[str]:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("postgresql://ada:secret@db: no room on the wall")
        self.posts.append(json.loads(snapshot))
        self.stale.append(stale_since_s)
        self.answers |= answers or {}
        return [] if self.answers else ["walker:0"]


def until(reached: Any) -> None:
    deadline = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_feed_goes_on_after_a_failure_answers_questions_and_says_once_what_was_wrong(
    ended: tuple[str, State], caplog: pytest.LogCaptureFixture
) -> None:
    wall, wake = Wall(failures=2), threading.Event()
    with caplog.at_level("INFO", "alflow"):
        feed = Feed(ended[0], None, wall, wake=wake).start()
        for _ in range(2):
            until(lambda: not wake.is_set())
            wake.set()
        until(lambda: wall.answers)
        feed.close()
    assert json.loads(wall.answers["walker:0"])["title"] == "Walker 0"
    assert wall.posts[-1]["labels"]["done"] == ended[1].n_done
    assert [record.message.count("no room on the wall") for record in caplog.records] == [1]
    assert "secret" not in caplog.text


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_from_outside_an_orchestrator_that_was_killed_is_noticed_at_once(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    database = str(tmp_path / "dead.db") if kind == "sqlite" else emptied(request.getfixturevalue("postgres"))
    with Store.open(database, create=True) as store:
        campaign = store.create_campaign("dead", {"config": {"walkers": 1}}, seed=1)
        me = Holder.current()
        lease = store.acquire(campaign.id, Holder(me.host, 2**22 - 1, f"{me.mark.rpartition(':')[0]}:0"))
        with store.transaction(lease) as tx:
            tx.append_event("campaign_started", {"slots": 1, "pools": {"shared": 1}})
            tx.start_executions([ExecutionRecord(campaign.id, "c1-e1-label-t1", "label", "f1")])
        (event,) = store.events(campaign.id)
    wall = Wall()
    wall.answers = {"nothing": b""}
    feed = Feed(database, "dead", wall).start()
    until(lambda: wall.posts)
    feed.close()
    assert [(pool["name"], pool["tasks"]) for pool in wall.posts[0]["pools"]] == [("shared", {"label": 1})]
    assert wall.stale[0] == pytest.approx(event.recorded_at.timestamp(), abs=0.1)


def test_from_outside_an_orchestrator_that_dies_later_is_noticed_long_before_its_beat_is_missed(tmp_path: Path) -> None:
    driver = subprocess.Popen(["sleep", "600"])
    try:
        holder = Holder(Holder.current().host, driver.pid, process_mark(driver.pid) or "")
        with Store.open(tmp_path / "dies.db", create=True) as store:
            campaign = store.create_campaign("dies", {"config": {"walkers": 1}}, seed=1)
            with store.transaction(store.acquire(campaign.id, holder)) as tx:
                tx.append_event("campaign_started", {"slots": 1})
        wall = Wall()
        wall.answers = {"nothing": b""}
        feed = Feed(str(tmp_path / "dies.db"), "dies", wall).start()
        until(lambda: wall.stale)
        assert wall.stale[0] is None
    finally:
        driver.kill()
        driver.wait(timeout=20)
    died = time.monotonic()
    until(lambda: wall.stale[-1] is not None)
    assert time.monotonic() - died < 0.8 * STANDS_STILL_S
    feed.close()
