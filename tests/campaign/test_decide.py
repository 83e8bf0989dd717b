"""The loop as a pure function: whatever happens, it never hangs, never overspends, never labels a frame twice."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from alflow.campaign.commands import (
    Command,
    DropFrame,
    Finish,
    PutJob,
    StartExploring,
    StartLabel,
    StartScoring,
    StartTraining,
)
from alflow.campaign.decide import LOSS_LIMIT, decide, replay
from alflow.campaign.events import (
    CampaignResumed,
    CampaignStarted,
    CheckpointsLost,
    CommitteeLost,
    Event,
    FrameSeen,
    LabelDone,
    LabelFailed,
    QueueRescored,
    SegmentDone,
    StopRequested,
    TaskBroken,
    TaskLost,
    TrainingDone,
    WalkerReport,
    event_from_payload,
    event_to_payload,
)
from alflow.campaign.losses import is_last_try
from alflow.domain import FailureKind
from alflow.errors import CampaignError
from alflow.selection import Request

from .world import World, config

chance = st.floats(0.0, 0.9)
rare = st.floats(0.0, 0.3)
worlds = st.builds(
    World,
    seed=st.integers(0, 2**31),
    flag=chance,
    duplicate=rare,
    reset=rare,
    fail=rare,
    lost=rare,
    kill=st.floats(0.0, 0.1),
    forget=chance,
    reject=rare,
    slots=st.integers(1, 5),
)
relaxed = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a history of hundreds of events shrinks for minutes
)


@relaxed
@given(worlds)
def test_every_history_ends_within_its_budget(world: World) -> None:
    """Any mixture of flags, failures, losses and kills: the campaign ends and never spends more than it may."""
    state = world.play(config())
    assert state.phase in ("finished", "failed")
    assert state.n_done <= state.config.label_budget
    for known in world.states:
        assert len(known.running) <= known.slots
        assert known.n_done + known.running_of("label") <= known.config.label_budget


@relaxed
@given(worlds)
def test_what_is_counted_is_what_there_is(world: World) -> None:
    """Tasks in flight by kind and purpose, and walkers ready to move, are kept beside what they follow from."""
    world.play(config())
    for known in world.states:
        named = [name for r in known.running.values() for name in (r.kind, *([r.request.purpose] if r.request else []))]
        assert {name: n for name, n in known.in_flight.items() if n} == Counter(named)
        assert known.ready == {w.walker for w in known.walkers if w.status == "ready"}
        aboard = [number for r in known.running.values() for number in r.walkers]
        assert sorted(aboard) == [w.walker for w in known.walkers if w.status == "exploring"]


@relaxed
@given(worlds)
def test_no_frame_is_labelled_twice(world: World) -> None:
    """A label may be started again after a loss or a failure, never after it was committed."""
    world.play(config())
    done = Counter(e.frame_id for e in world.events if isinstance(e, LabelDone))
    assert max(done.values(), default=0) <= 1
    finished: set[str] = set()
    started: list[str] = []
    events = iter(world.events)
    state = None
    for event in events:
        state, commands = decide(state, event)
        if isinstance(event, LabelDone):
            finished.add(event.frame_id)
        for command in commands:
            if isinstance(command, StartLabel):
                assert command.frame_id not in finished
                started.append(command.task)
    assert len(started) == len(set(started)), "two attempts shared a name"


@relaxed
@given(worlds)
def test_replaying_the_journal_gives_the_same_state(world: World) -> None:
    """Resuming is replaying: through JSON and back, the events lead to the very same state."""
    last = world.play(config())
    again = [event_from_payload(event_to_payload(event)) for event in world.events]
    assert replay(again) == last


@relaxed
@given(worlds)
def test_every_request_ends_in_a_final_state(world: World) -> None:
    """Done, dropped with a reason, or in quarantine with a reason; nothing is forgotten at the end."""
    state = world.play(config())
    last: dict[str, PutJob] = {c.frame_id: c for c in world.commands if isinstance(c, PutJob)}
    for job in last.values():
        assert job.state in ("done", "dropped", "quarantined") or state.phase == "failed"
        if job.state == "dropped":
            assert job.message
        if job.state == "quarantined":
            assert job.failure


def calm(**changes: float) -> World:
    """A world in which nothing goes wrong."""
    quiet = {"duplicate": 0.0, "reset": 0.0, "fail": 0.0, "lost": 0.0, "kill": 0.0, "reject": 0.0}
    return World(seed=1, **(quiet | changes))  # type: ignore[arg-type]


def test_a_walker_waits_for_the_committee_that_knows_its_frame() -> None:
    """It pauses, is labelled, and goes on only when a training that covers its label has ended."""
    world = calm(flag=0.5)
    world.play(config())
    state = None
    labelled_at: dict[str, int] = {}
    frame_of: dict[int, str] = {}
    seen = 0
    for event in world.events:
        before = state
        state, commands = decide(state, event)
        if isinstance(event, LabelDone):
            labelled_at[event.frame_id] = state.n_done
        for walker in state.walkers:
            if walker.frame_id is not None:
                frame_of[walker.walker] = walker.frame_id
        for command in commands:
            if isinstance(command, StartExploring) and before is not None:
                for order in command.walkers:
                    frame = frame_of.pop(order.walker, None)
                    if frame in labelled_at:
                        assert state.covered_labels >= labelled_at[frame]
                        seen += 1
    assert seen > 5


def test_labels_and_dynamics_and_training_overlap() -> None:
    """There is no barrier: with two slots, training runs beside labels and beside moving walkers."""
    world = calm(flag=0.1)
    world.play(config())
    together = {tuple(sorted({r.kind for r in s.running.values()})) for s in world.states if len(s.running) == 2}
    assert ("explore", "label") in together
    assert ("explore", "train") in together or ("label", "train") in together


def test_the_budget_ends_the_campaign_after_a_last_training() -> None:
    """Every label that was paid for has been learnt from."""
    world = calm(flag=0.6)
    state = world.play(config())
    assert state.phase == "finished"
    assert state.reason == "label budget spent"
    assert state.n_done == state.config.label_budget == state.covered_labels


def metrics_of(n_audit: int) -> dict[str, float]:
    """What a training reports that measured a small error on so many audit frames."""
    return {"audit_force_mae_upper_ev_ang": 0.01, "audit_force_mae_ev_ang": 0.005, "n_audit": float(n_audit)}


def test_the_stop_rule_counts_the_frames_its_interval_is_made_of() -> None:
    """Audits committed while a training ran are not part of the interval it measured."""
    world = calm(flag=0.6)
    settings_ = config(audit_fraction=0.3, audit_minimum=5, label_budget=60)
    world.record(CampaignStarted(settings_.model_dump(mode="json"), ("s0",), 2))
    while not world.states[-1].ended and world.states[-1].n_audit < 8:
        answer = world.answer(world.open.pop(0))
        if isinstance(answer, TrainingDone):
            answer = replace(answer, metrics=metrics_of(2))
        world.record(answer)
    assert world.states[-1].phase == "running"


def test_a_stop_while_closing_is_not_taken_for_a_change_of_mind() -> None:
    """A campaign that had decided to end goes on ending when it is resumed."""
    world = calm(flag=0.6)
    world.record(CampaignStarted(config(label_budget=12).model_dump(mode="json"), ("s0",), 2))
    while world.states[-1].phase != "closing":
        world.record(world.answer(world.open.pop(0)))
    world.record(StopRequested())
    while not world.states[-1].ended:
        world.record(world.answer(world.open.pop(0)))
    assert world.states[-1].phase == "stopped"
    world.record(CampaignResumed(2))
    while not world.states[-1].ended:
        world.record(world.answer(world.open.pop(0)))
    assert (world.states[-1].phase, world.states[-1].reason) == ("finished", "label budget spent")


@pytest.mark.parametrize("steps", [0, 1])
def test_walkers_that_are_always_sent_back_end_the_campaign(steps: int) -> None:
    """Bouncing at one place, or at home, is no exploration: the campaign says so and ends."""
    world = calm(flag=0.0)

    def bounce(walker: int, horizon: int) -> WalkerReport:
        before = world.states[-1].walkers[walker].step
        return WalkerReport(walker, "reset", "too hot", before + steps, steps, 0.5, 500.0)

    world.report = bounce  # type: ignore[method-assign]
    last = world.play(config())
    assert last.phase == "failed"
    assert "too hot" in last.reason
    homeward = [o for c in world.commands if isinstance(c, StartExploring) for o in c.walkers if o.restart]
    assert len(homeward) > len(last.walkers)


def test_a_late_score_of_an_old_committee_is_not_believed() -> None:
    """The queue is scored again when a new committee came while the old one was scoring."""
    world = calm(flag=0.9)
    world.record(CampaignStarted(config().model_dump(mode="json"), ("s0",), 2))
    while not any(isinstance(c, StartScoring) for c in world.open):
        world.record(world.answer(world.open.pop(0)))
    scoring = next(c for c in world.open if isinstance(c, StartScoring))
    dropped = world.states[-1].n_dropped
    world.record(QueueRescored(scoring.task, scoring.generation - 1, dict.fromkeys(scoring.frame_ids, 0.0)))
    assert world.states[-1].n_dropped == dropped


def test_the_stop_rule_ends_the_campaign_before_its_budget() -> None:
    """A committee whose audit error is below the target by its whole interval is good enough."""
    world = calm(flag=0.6)
    settings_ = config(audit_fraction=0.3, audit_minimum=3, label_budget=60)
    world.record(CampaignStarted(settings_.model_dump(mode="json"), ("s0",), 2))
    while not world.states[-1].ended:
        answer = world.answer(world.open.pop(0))
        if isinstance(answer, TrainingDone):
            answer = replace(answer, metrics=metrics_of(world.states[-1].n_audit))
        world.record(answer)
    last = world.states[-1]
    assert last.reason == "the audit error is below the target"
    assert last.n_done < 60


def test_audits_keep_to_their_share() -> None:
    """A tenth of the labels is drawn at random, as was asked."""
    world = calm(flag=0.6)
    state = world.play(config(label_budget=100, audit_fraction=0.1))
    assert 8 <= state.n_audit <= 10


def test_a_deterministic_failure_is_not_repeated() -> None:
    """SCF that does not converge would do so again; a time limit may have been the machine's fault."""
    world = calm(flag=0.5, fail=0.5)
    world.play(config())
    failures = [c for c in world.commands if isinstance(c, PutJob) and c.failure]
    assert {c.failure for c in failures} >= {"SCF_FAIL", "TIMEOUT"}
    for command in failures:
        given_up = command.failure == "SCF_FAIL" or command.attempts == 2
        assert command.state == ("quarantined" if given_up else "pending")


def test_a_stop_lets_tasks_in_flight_finish_and_can_be_resumed() -> None:
    """Nothing new starts after a stop; resuming goes on from there."""
    world = calm(flag=0.5)
    world.record(CampaignStarted(config().model_dump(mode="json"), ("s0",), 2))
    for _ in range(12):
        world.record(world.answer(world.open.pop(0)))
    world.record(StopRequested())
    in_flight = len(world.states[-1].running)
    assert in_flight > 0
    while not world.states[-1].ended:
        world.record(world.answer(world.open.pop(0)))
    assert world.states[-1].phase == "stopped"
    assert isinstance(world.commands[-1], Finish)
    world.record(CampaignResumed(2))
    assert world.states[-1].phase == "running"
    assert world.states[-1].running


def test_a_defect_pauses_the_campaign_and_loses_nothing() -> None:
    """An exception in our own code ends the run; the request it was serving waits for the resume, uncharged."""
    world = calm(flag=0.5)
    world.record(CampaignStarted(config().model_dump(mode="json"), ("s0",), 2))
    label = next(c for c in world.open if isinstance(c, StartLabel))
    world.record(TaskBroken(label.task, "Traceback …"))
    state = world.states[-1]
    assert state.phase == "failed"
    request = next(r for r in state.queue if r.frame_id == label.frame_id)
    assert (request.attempts, request.n_lost) == (0, 1)


def test_a_rejected_committee_does_not_hold_the_walkers() -> None:
    """They go on with the old one; waiting for ever for a better one would hang the campaign."""
    world = calm(flag=0.5, reject=1.0)
    state = world.play(config())
    assert state.phase == "finished"
    assert state.generation == 1


def test_unphysical_frames_are_recorded_and_never_labelled() -> None:
    """A guard's frame becomes a dropped frame with its reason, never a label request."""
    world = calm(flag=0.2, reset=0.4)
    world.play(config())
    labelled = {c.frame_id for c in world.commands if isinstance(c, StartLabel)}
    assert not labelled & {c.frame_id for c in world.commands if isinstance(c, DropFrame)}


def test_an_answer_nobody_waits_for_is_a_defect() -> None:
    """A journal that does not belong to this program is refused, not interpreted."""
    world = calm()
    world.record(CampaignStarted(config().model_dump(mode="json"), ("s0",), 2))
    with pytest.raises(CampaignError, match="not in flight"):
        world.record(LabelDone("label-of-another-world", "f1"))


def test_training_starts_as_soon_as_enough_labels_are_in() -> None:
    """Nothing waits for the whole queue."""
    world = calm(flag=0.8)
    world.play(config(walkers=12, labels_per_generation=4))
    state = None
    for event in world.events:
        state, commands = decide(state, event)
        if any(isinstance(c, StartTraining) for c in commands) and state.generation > 0 and state.queue:
            return
    raise AssertionError("training always waited for the queue to drain")


class Failing(World):
    """A world in which every label fails once the first committee is trained."""

    def answer(self, command: Command) -> Event:
        if isinstance(command, StartLabel) and self.states[-1].generation > 0:
            return LabelFailed(command.task, command.frame_id, "SCF_FAIL", "no scratch disk")
        return super().answer(command)


def test_labels_that_all_fail_end_the_campaign() -> None:
    """A lost licence or disk must not burn an allocation: failures in a row are bounded, and the reason is told."""
    world = Failing(seed=1, flag=0.9, duplicate=0.0, reset=0.0, fail=0.0, lost=0.0, kill=0.0, reject=0.0)
    last = world.play(config())
    assert last.phase == "failed"
    assert "no scratch disk" in last.reason
    assert last.n_failed <= 20


def test_a_quiet_campaign_ends_even_if_no_audit_frame_can_be_found() -> None:
    """Near its minimum a small molecule may offer nothing but repetitions."""
    world = calm(flag=0.0)

    def no_audit(walker: int, disagreement: float, duplicate_of: str | None = None) -> FrameSeen:
        world.frames += 1
        return FrameSeen(f"f{world.frames}", f"s{world.frames}", walker, world.frames, disagreement, duplicate_of)

    world.frame = no_audit  # type: ignore[method-assign]
    report = world.answer

    def without_audit(command: Command) -> Event:
        event = report(command)
        return replace(event, audit=None) if isinstance(event, SegmentDone) else event

    world.answer = without_audit  # type: ignore[method-assign]
    last = world.play(config())
    assert (last.phase, last.n_audit) == ("finished", 0)
    assert "no frame was flagged" in last.reason


def test_time_that_is_up_fails_no_campaign_but_a_label_that_never_ends_in_time_is_given_up() -> None:
    """Lost workers say that something is wrong with the machines; the end of a job says nothing."""
    world = calm(flag=0.5)
    world.record(CampaignStarted(config().model_dump(mode="json"), ("s0",), 2))
    while not any(isinstance(c, StartLabel) for c in world.open):
        world.record(world.answer(world.open.pop(0)))
    state = world.states[-1]
    (task, running) = next((name, r) for name, r in state.running.items() if r.kind == "label")
    assert running.request is not None
    state = replace(state, losses=LOSS_LIMIT - 1)
    after, _ = decide(state, TaskLost(task, "its time was up", "WALLTIME"))
    assert (after.phase, after.losses) == (state.phase, LOSS_LIMIT - 1)
    failed, _ = decide(state, TaskLost(task, "its worker died", "WORKER_LOST"))
    assert failed.phase == "failed"
    tried = replace(running, request=replace(running.request, n_lost=LOSS_LIMIT - 1, n_suspect=LOSS_LIMIT - 1))
    given_up, _ = decide(
        replace(state, running={**state.running, task: tried}), TaskLost(task, "its time was up", "WALLTIME")
    )
    assert given_up.n_quarantined == state.n_quarantined + 1


def busy(slots: int, world: World) -> list[str]:
    """Begin with a label at every worker; returns the names of the tasks."""
    settings_ = config(initial_labels=max(3, slots), label_budget=200)
    world.record(CampaignStarted(settings_.model_dump(mode="json"), ("s0",), slots))
    return list(world.states[-1].running)


@pytest.mark.parametrize("slots", [16, 64])
def test_a_machine_that_takes_all_its_tasks_along_is_one_loss(slots: int) -> None:
    """Ten machines with as many workers may go before the campaign does, and one label that is made forgets them."""
    world = calm(flag=0.5, slots=slots)
    for round_ in range(1, LOSS_LIMIT):
        tasks = busy(slots, world) if round_ == 1 else list(world.states[-1].running)
        assert len(tasks) == slots
        for task in tasks:
            world.record(TaskLost(task, "worker-left: its machine is gone", worker="tcp://10.0.0.7:1"))
        assert (world.states[-1].phase, world.states[-1].losses) == ("running", round_)
    (last, running), *_ = world.states[-1].running.items()
    assert running.request is not None
    world.record(LabelDone(last, running.request.frame_id))
    assert world.states[-1].losses == 0
    assert replay(event_from_payload(event_to_payload(event)) for event in world.events) == world.states[-1]


@pytest.mark.parametrize("slots", [1, 2, 16, 64])
def test_losses_without_an_end_end_the_campaign(slots: int) -> None:
    """Whatever is lost first, last or twice while another runs on."""
    world = calm(flag=0.5, slots=slots)
    busy(slots, world)
    for number in range(slots * LOSS_LIMIT):
        running = list(world.states[-1].running)
        task = running[int(world.dice.integers(len(running)))]
        world.record(TaskLost(task, f"the worker died, {number}", worker="w"))
        if world.states[-1].ended:
            break
    assert (world.states[-1].phase, world.states[-1].losses) == ("failed", LOSS_LIMIT)
    assert world.states[-1].reason.startswith("workers were lost 10 times in a row; the last: the worker died")


def test_one_task_that_takes_its_worker_along_each_time_is_not_hidden_by_those_that_go_on() -> None:
    """Labels of an hour beside a training that crashes at once: ten crashes are enough, however many labels run."""
    world = calm(flag=0.5, slots=16)
    busy(16, world)
    crashes = 0
    while not world.states[-1].ended:
        last = max(world.states[-1].running.items(), key=lambda item: item[1].since)[0]
        world.record(TaskLost(last, "the worker died", worker="w"))
        crashes += 1
    assert crashes <= LOSS_LIMIT + 1


@pytest.mark.parametrize("cause", ["WORKER_LOST", "WALLTIME"])
def test_a_training_that_fits_into_no_worker_is_not_tried_for_ever_though_labels_are_made_meanwhile(cause: str) -> None:
    world = calm(flag=0.5)
    world.record(CampaignStarted(config(label_budget=200).model_dump(mode="json"), ("s0",), 2))
    for number in range(1, LOSS_LIMIT + 1):
        while True:
            command = world.open.pop(0)
            if isinstance(command, StartTraining) and world.states[-1].generation > 0:
                break
            world.record(world.answer(command))
        state = world.states[-1]
        assert (state.lost_trainings, state.phase) == (number - 1, "running")
        last = is_last_try(state, command.task, FailureKind(cause))
        assert last is (number == LOSS_LIMIT)
        assert not is_last_try(state, command.task, FailureKind.SCHEDULER_LOST)
        world.record(TaskLost(command.task, "killed for its memory", cause, "w", last=last))
    assert world.states[-1].phase == "failed"
    assert "lost 10 times in a row, the last time: killed for its memory; give" in world.states[-1].reason
    assert world.states[-1].n_done >= LOSS_LIMIT, "labels were made all the time"
    world.record(CampaignResumed(2))
    assert (world.states[-1].phase, world.states[-1].lost_trainings) == ("running", 0)


def test_a_journal_of_an_older_version_in_which_ten_losses_ended_a_campaign_ends_it_again() -> None:
    """Its losses name no worker; were they counted anew, tasks of other names would be in flight when it goes on."""
    world = calm(flag=0.5, slots=16)
    for task in busy(16, world):
        if not world.states[-1].ended:
            world.record(TaskLost(task, "its machine is gone"))
    assert (world.states[-1].phase, world.states[-1].losses) == ("failed", LOSS_LIMIT)
    payloads = [event_to_payload(event) for event in world.events]
    assert payloads[-1].pop("worker") == ""
    assert event_from_payload(payloads[-1]) == world.events[-1]


@pytest.mark.parametrize("fate", ["SCHEDULER_LOST", "defect"])
def test_what_a_label_cannot_have_brought_about_never_counts_against_it(fate: str) -> None:
    """However often the scheduler dies, or a defect of ours pauses the campaign: no label is a suspect."""
    world = calm(flag=0.5)
    world.record(CampaignStarted(config().model_dump(mode="json"), ("s0",), 2))

    def next_label() -> str:
        while not any(isinstance(c, StartLabel) for c in world.open):
            world.record(world.answer(world.open.pop(0)))
        number = next(n for n, c in enumerate(world.open) if isinstance(c, StartLabel))
        return world.open.pop(number).task

    def waiting() -> list[Request]:
        state = world.states[-1]
        return [*state.queue, *(r.request for r in state.running.values() if r.request is not None)]

    while max((request.n_lost for request in waiting()), default=0) <= LOSS_LIMIT:
        if fate == "defect":
            world.record(TaskBroken(next_label(), "Traceback …"))
            world.open.clear()  # nobody waits for what ran beside it
            world.record(CampaignResumed(2))
        else:
            world.record(TaskLost(next_label(), "Dask's scheduler died", fate))
    assert max(request.n_suspect for request in waiting()) == 0
    world.record(TaskLost(next_label(), "its worker died", "WORKER_LOST"))
    assert world.states[-1].n_quarantined == 0


def test_a_lost_weight_file_costs_a_training_and_no_label() -> None:
    """The labels are all there: nothing moves until a committee has been trained on them again."""
    world = calm(flag=0.5)
    world.record(CampaignStarted(config().model_dump(mode="json"), ("s0",), 2))
    while world.states[-1].generation < 2:
        world.record(world.answer(world.open.pop(0)))
    done = world.states[-1].n_done
    world.record(CommitteeLost("gone"))
    world.record(CampaignResumed(2))
    assert any(isinstance(c, StartTraining) for c in world.open)
    assert not any(isinstance(c, StartExploring | StartScoring) for c in world.open)
    while not world.states[-1].ended:
        world.record(world.answer(world.open.pop(0)))
    assert world.states[-1].phase == "finished"
    assert world.states[-1].n_done >= done


def test_walkers_without_a_checkpoint_go_home_and_their_frames_go_on_waiting() -> None:
    world = calm(flag=0.5)
    world.record(CampaignStarted(config().model_dump(mode="json"), ("s0",), 2))
    while not (any(w.frame_id for w in world.states[-1].walkers) and world.states[-1].running_of("explore")):
        world.record(world.answer(world.open.pop(0)))
    before = world.states[-1]
    everybody = tuple(walker.walker for walker in before.walkers)
    world.record(CheckpointsLost(everybody, "altered"))
    lost = world.states[-1]
    assert [(w.status, w.frame_id) for w in lost.walkers] == [(w.status, w.frame_id) for w in before.walkers]
    assert lost.queue == before.queue
    assert all(walker.restart or walker.status == "exploring" for walker in lost.walkers)
    world.record(CampaignResumed(2))
    again = [command for command in world.open if isinstance(command, StartExploring)]
    assert again
    assert all(order.restart for command in again for order in command.walkers)
    while not world.states[-1].ended:
        world.record(world.answer(world.open.pop(0)))
    assert world.states[-1].phase == "finished"
