"""What is read back: found by name, in order, page by page."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from alflow.domain import Evaluation, Label, Level
from alflow.errors import StoreError
from alflow.store import CampaignRecord, CommitteeRecord, ExecutionEnd, ExecutionRecord, Lease, Store


def test_the_only_campaign_needs_no_name(store: Store, campaign: CampaignRecord) -> None:
    assert store.campaign() == store.campaign("water") == campaign
    assert (campaign.config, campaign.seed, campaign.state) == ({"walkers": 2, "cutoff_ang": 5.5}, 7, "created")


def test_an_empty_store_says_so(store: Store) -> None:
    with pytest.raises(StoreError, match="holds no campaign yet"):
        store.campaign()


def test_of_several_campaigns_one_must_be_named(store: Store, campaign: CampaignRecord) -> None:
    store.create_campaign("silicon", {}, seed=1)
    with pytest.raises(StoreError, match="holds 2 campaigns; name one of them: silicon, water"):
        store.campaign()


def test_a_misspelt_campaign_is_guessed(store: Store, campaign: CampaignRecord) -> None:
    with pytest.raises(StoreError, match=r"There is no campaign 'watre'. Did you mean 'water'"):
        store.campaign("watre")


def test_two_campaigns_never_share_a_name(store: Store, campaign: CampaignRecord) -> None:
    with pytest.raises(StoreError, match=r"There is a campaign 'water' in .* already"):
        store.create_campaign("water", {}, seed=1)
    with pytest.raises(StoreError, match="needs a name"):
        store.create_campaign(" ", {}, seed=1)


def test_a_configuration_is_plain_json(store: Store) -> None:
    with pytest.raises(StoreError, match="plain JSON values"):
        store.create_campaign("water", {"cutoff_ang": float("nan")}, seed=1)


def test_the_same_configuration_has_the_same_digest(store: Store) -> None:
    one = store.create_campaign("one", {"a": 1, "b": 2}, seed=1)
    two = store.create_campaign("two", {"b": 2, "a": 1}, seed=1)
    assert one.config_digest == two.config_digest
    assert one.uuid != two.uuid


def test_events_are_read_page_by_page_from_anywhere(store: Store, campaign: CampaignRecord, lease: Lease) -> None:
    n = 4500  # more than two pages
    with store.transaction(lease) as tx:
        for number in range(n):
            tx.append_event("tick", {"number": number})
    assert [event.seq for event in store.events(campaign.id)] == list(range(1, n + 1))
    assert [event.payload["number"] for event in store.events(campaign.id, after=n - 2)] == [n - 2, n - 1]


def test_a_reader_may_rest_while_events_are_added(store: Store, campaign: CampaignRecord, lease: Lease) -> None:
    with store.transaction(lease) as tx:
        for number in range(2500):
            tx.append_event("tick", {"number": number})
    events = store.events(campaign.id)
    first = next(events)
    with store.transaction(lease) as tx:
        tx.append_event("late", {})
    assert first.seq == 1
    assert [event.seq for event in events] == list(range(2, 2502))


def _label_all(store: Store, campaign: CampaignRecord, lease: Lease, samples: Any, order: list[int]) -> None:
    with store.transaction(lease) as tx:
        for place, number in enumerate(order):
            purpose = "audit" if number % 2 else "flagged"
            tx.add_label(samples.label(number))
            tx.add_frame(samples.frame(campaign.id, number), samples.structure(number))
            job = samples.job(campaign.id, number, state="done", purpose=purpose, event_seq=place + 1)
            tx.put_job(job)


def test_labels_of_a_campaign_come_in_the_order_of_completion(
    store: Store, campaign: CampaignRecord, lease: Lease, samples: Any
) -> None:
    order = [5, 2, 9, 1, 4]
    _label_all(store, campaign, lease, samples, order)
    assert [label.structure.id for label in store.labels(campaign.id)] == [samples.structure(n).id for n in order]
    audit = store.labels(campaign.id, level_id=samples.level.id, purpose="audit")
    assert [label.structure.id for label in audit] == [samples.structure(n).id for n in (5, 9, 1)]
    assert list(store.labels(campaign.id, level_id="0" * 64)) == []


def test_labels_of_the_whole_store_come_by_id(
    store: Store, campaign: CampaignRecord, lease: Lease, samples: Any
) -> None:
    _label_all(store, campaign, lease, samples, [3, 1, 2])
    asked_by_nobody = samples.label(7)
    with store.transaction(lease) as tx:
        tx.add_label(asked_by_nobody)
    ids = [label.structure.id for label in store.labels()]
    assert ids == sorted(samples.structure(n).id for n in (1, 2, 3, 7))
    assert [label.structure.id for label in store.labels(purpose="flagged")] == [samples.structure(2).id]
    assert len(list(store.labels(campaign.id))) == 3


def test_a_label_of_one_campaign_serves_the_next(
    store: Store, campaign: CampaignRecord, lease: Lease, samples: Any
) -> None:
    _label_all(store, campaign, lease, samples, [1])
    store.create_campaign("second", {}, seed=2)
    assert store.find_label(samples.structure(1).id, samples.level.id) is not None
    assert store.find_label(samples.structure(2).id, samples.level.id) is None
    assert list(store.labels(store.campaign("second").id)) == []


def test_labels_of_many_levels_are_kept_apart(store: Store, lease: Lease, samples: Any) -> None:
    label = samples.label(1)
    finer = Label(label.structure, Level("toy", {"well_ev": 9.0}), Evaluation(-1.0, label.evaluation.forces))
    with store.transaction(lease) as tx:
        tx.add_label(label)
        tx.add_label(finer)
    pairs = [finer.key, label.key, finer.key]
    assert [found.evaluation.energy for found in store.labels_by_id(pairs)] == [-1.0, label.evaluation.energy, -1.0]
    assert [found.level for found in store.labels(level_id=finer.level.id)] == [finer.level]
    assert store.level(finer.level.id) == finer.level


def test_labels_by_id_keep_the_order_of_the_question(store: Store, lease: Lease, samples: Any) -> None:
    n = 1200  # more than two queries
    with store.transaction(lease) as tx:
        for number in range(n):
            tx.add_label(samples.label(number))
    pairs = [(samples.structure(number).id, samples.level.id) for number in reversed(range(n))]
    assert [label.key for label in store.labels_by_id(pairs)] == pairs
    with pytest.raises(StoreError, match="1 labels are not in"):
        store.labels_by_id([*pairs, ("0" * 64, samples.level.id)])


def test_a_frame_is_found_by_the_beginning_of_its_id(
    store: Store, campaign: CampaignRecord, lease: Lease, samples: Any
) -> None:
    with store.transaction(lease) as tx:
        for number in (10, 11, 20):
            tx.add_frame(samples.frame(campaign.id, number), samples.structure(number))
        tx.add_frame(samples.frame(campaign.id, 30, id="w0"), samples.structure(30))
    assert store.frame("w0-s00002").step == 20
    assert store.frame("w0").step == 30  # a whole id is never ambiguous
    assert store.frame(samples.structure(11).id[:16]).step == 11
    with pytest.raises(StoreError, match=r"More than one frame begins with 'w0-s': w0-s000010, w0-s000011, w0-s000020"):
        store.frame("w0-s")
    with pytest.raises(StoreError, match=r"begins with 'x%'. The newest frames here: w0, w0-s000020"):
        store.frame("x%")


def test_frames_are_filtered(store: Store, campaign: CampaignRecord, lease: Lease, samples: Any) -> None:
    with store.transaction(lease) as tx:
        for number in range(6):
            decision = "audit" if number == 3 else "flagged"
            frame = samples.frame(campaign.id, number, walker=number % 2, generation=number // 3, decision=decision)
            tx.add_frame(frame, samples.structure(number))
    steps = {
        "all": [frame.step for frame in store.frames(campaign.id)],
        "audit": [frame.step for frame in store.frames(campaign.id, decision="audit")],
        "walker 1": [frame.step for frame in store.frames(campaign.id, walker=1)],
        "generation 1, walker 0": [frame.step for frame in store.frames(campaign.id, generation=1, walker=0)],
        "structure": [frame.step for frame in store.frames(campaign.id, structure_id=samples.structure(4).id)],
    }
    assert steps == {
        "all": [0, 1, 2, 3, 4, 5],
        "audit": [3],
        "walker 1": [1, 3, 5],
        "generation 1, walker 0": [4],
        "structure": [4],
    }


def test_the_story_of_a_frame_is_complete(store: Store, campaign: CampaignRecord, lease: Lease, samples: Any) -> None:
    frame, label = samples.frame(campaign.id, 1), samples.label(1)
    twin = replace(frame, id="twin", decision="duplicate", reason="equal to w0-s000001")
    job = samples.job(campaign.id, 1, state="done", attempts=2, event_seq=5)
    committee = CommitteeRecord(campaign.id, 1, "a" * 64, "a.safetensors", "d1")
    attempts = [ExecutionRecord(campaign.id, f"job-1.{n}", "label", "job-1", attempt=n) for n in (1, 2)]
    with store.transaction(lease) as tx:
        tx.add_frame(frame, label.structure)
        tx.add_frame(twin, label.structure)
        tx.add_level(samples.level)
        tx.put_job(job)
        for attempt in attempts:
            tx.start_execution(attempt)
            tx.finish_execution(ExecutionEnd(attempt.key, "lost" if attempt.attempt == 1 else "done"))
        tx.add_label(label, "job-1.2")
        tx.add_dataset("d1", [(*label.key, "validation")])
        tx.add_committee(committee)
    for name in ("w0-s", "twin"):
        story = store.frame_story(name)
        assert story.structure == label.structure
        assert story.job == job
        assert [execution.status for execution in story.executions] == ["lost", "done"]
        assert story.label is not None
        assert story.label.key == label.key
        assert story.committees == (committee,)
        assert [(dataset.digest, split) for dataset, split in story.datasets] == [("d1", "validation")]


def test_the_story_of_a_frame_nobody_labelled_is_short(
    store: Store, campaign: CampaignRecord, lease: Lease, samples: Any
) -> None:
    with store.transaction(lease) as tx:
        tx.add_frame(samples.frame(campaign.id, 1, decision="unphysical"), samples.structure(1))
    story = store.frame_story("w0")
    assert (story.job, story.executions, story.label, story.committees, story.datasets) == (None, (), None, (), ())


def test_what_is_not_there_is_named(store: Store) -> None:
    for ask in (store.structure, store.level, store.dataset_members):
        with pytest.raises(StoreError, match=r"There is no .* feed in"):
            ask("feed")


def test_what_is_new_is_read_in_pieces(store: Store, campaign: CampaignRecord, lease: Lease, samples: Any) -> None:
    runs = [ExecutionRecord(campaign.id, f"run-{n}", "label", f"job-{n}") for n in range(4)]
    with store.transaction(lease) as tx:
        for number in range(4):
            tx.append_event("tick", {"number": number})
            tx.add_frame(samples.frame(campaign.id, number, walker=number % 2), samples.structure(number))
        tx.add_level(samples.level)
        tx.put_jobs([samples.job(campaign.id, number) for number in (1, 3)])
        tx.start_executions(runs)
    assert [event.seq for event in store.next_events(campaign.id, 1, most=2)] == [2, 3]
    first = store.executions_after(campaign.id, 0, most=3)
    rest = store.executions_after(campaign.id, first[-1][0], most=3)
    assert [row.key for _, row in (*first, *rest)] == ["run-0", "run-1", "run-2", "run-3"]
    numbers = [number for number, _ in (*first, *rest)]
    assert store.executions_ended(numbers) == []
    with store.transaction(lease) as tx:
        tx.finish_execution(ExecutionEnd("run-2", "done", wall_s=1.5))
    ((number, row),) = store.executions_ended(numbers)
    assert (number, row.key, row.status, row.wall_s) == (numbers[2], "run-2", "done", 1.5)
    frames = [samples.frame(campaign.id, number).id for number in range(4)]
    assert {job.id for job in store.jobs_of(frames[:3])} == {"job-1"}
    assert [frame.id for frame in store.frames_of_walker(campaign.id, 1, most=5)] == [frames[3], frames[1]]
    assert [frame.id for frame in store.frames_of_walker(campaign.id, 0, most=1)] == [frames[2]]
    assert store.walker(campaign.id, 0) is None
