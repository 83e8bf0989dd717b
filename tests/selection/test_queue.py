from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alflow.selection import Request, admit, next_request, rescore

Queue = tuple[Request, ...]


def request(name: str, purpose: str = "flagged", disagreement: float = 0.3) -> Request:
    return Request(name, f"structure of {name}", purpose, disagreement, walker=1, generation=2)  # type: ignore[arg-type]


requests = st.builds(
    request,
    st.integers(0, 40).map(str),
    st.sampled_from(["seed", "flagged", "flagged", "flagged", "audit"]),
    # Few values, so that ties are common.
    st.sampled_from([0.1, 0.2, 0.3, 0.4]),
)


def filled(wanted: list[Request], capacity: int) -> tuple[Queue, list[Request], list[Request]]:
    """The queue after all were admitted, those admitted for the first time, and those dropped."""
    queue: Queue = ()
    new: list[Request] = []
    out: list[Request] = []
    for item in wanted:
        if item.frame_id in {r.frame_id for r in queue}:
            assert admit(queue, [item], capacity) == (queue, ())
            continue
        new.append(item)
        queue, dropped = admit(queue, [item], capacity)
        assert all(reason for _, reason in dropped)
        out.extend(r for r, _ in dropped)
    return queue, new, out


def urgency(item: Request) -> tuple[int, float]:
    rank = ["seed", "audit", "flagged"].index(item.purpose)
    return rank, -item.disagreement if item.purpose == "flagged" else 0.0


@given(st.lists(requests, max_size=30), st.integers(1, 8))
def test_nothing_appears_or_vanishes_without_being_said(wanted: list[Request], capacity: int) -> None:
    queue, new, out = filled(wanted, capacity)
    assert sorted(map(repr, (*queue, *out))) == sorted(map(repr, new))


@given(st.lists(requests, max_size=30, unique_by=lambda item: item.frame_id), st.integers(0, 30), st.integers(1, 8))
def test_many_new_frames_are_admitted_at_once_as_one_after_the_other(
    wanted: list[Request], before: int, capacity: int
) -> None:
    queue, _, out = filled(wanted, capacity)
    waiting, _, gone = filled(wanted[:before], capacity)
    at_once, dropped = admit(waiting, wanted[before:], capacity)
    assert at_once == queue
    assert sorted([*gone, *(r for r, _ in dropped)], key=repr) == sorted(out, key=repr)


def test_a_frame_that_comes_twice_at_once_waits_once() -> None:
    queue, dropped = admit((), [request("a"), request("b"), request("a")], 8)
    assert ([r.frame_id for r in queue], dropped) == (["a", "b"], ())


@given(st.lists(requests, max_size=30), st.integers(1, 8))
def test_the_queue_is_bounded_and_seeds_and_audits_are_never_dropped(wanted: list[Request], capacity: int) -> None:
    queue, _, out = filled(wanted, capacity)
    protected = [r for r in queue if r.purpose != "flagged"]
    assert len(queue) <= max(capacity, len(protected))
    assert all(r.purpose == "flagged" for r in out)


@given(st.lists(requests, max_size=30), st.integers(1, 8))
def test_requests_leave_in_order_of_urgency_and_equals_in_the_order_they_came(
    wanted: list[Request], capacity: int
) -> None:
    queue, new, _ = filled(wanted, capacity)
    left: list[Request] = []
    rest = queue
    while rest:
        taken, rest = next_request(rest)
        left.append(taken)
    last = {id(r): place for place, r in enumerate(new)}
    assert left == sorted(left, key=lambda r: (urgency(r), last[id(r)]))


@given(st.lists(requests, max_size=30), st.integers(1, 8))
def test_what_is_dropped_is_never_more_urgent_than_what_stays(wanted: list[Request], capacity: int) -> None:
    queue: Queue = ()
    for item in wanted:
        queue, dropped = admit(queue, [item], capacity)
        for lost, _ in dropped:
            assert all(urgency(lost) >= urgency(kept) for kept in queue)


@given(
    st.lists(requests, max_size=20),
    st.dictionaries(st.integers(0, 40).map(str), st.sampled_from([0.05, 0.15, 0.25, 0.5, math.nan, math.inf])),
)
def test_rescoring_drops_only_flagged_frames_that_are_sure_now(wanted: list[Request], scores: dict[str, float]) -> None:
    queue, _, _ = filled(wanted, 100)
    kept, dropped = rescore(queue, scores, threshold=0.2, generation=7)
    assert {r.frame_id for r in kept} | {r.frame_id for r, _ in dropped} == {r.frame_id for r in queue}
    assert len(kept) + len(dropped) == len(queue)
    assert list(kept) == sorted(kept, key=urgency)
    for item, reason in dropped:
        assert item.purpose == "flagged"
        assert scores[item.frame_id] < 0.2
        assert "committee 7" in reason
    before = {r.frame_id: r for r in queue}
    for item in kept:
        score = scores.get(item.frame_id, math.nan)
        if math.isfinite(score):
            assert item == replace(before[item.frame_id], disagreement=score, generation=7)
            assert item.purpose != "flagged" or score >= 0.2
        else:
            assert item == before[item.frame_id]


@given(requests)
def test_a_request_survives_json(item: Request) -> None:
    assert Request.from_json(json.loads(json.dumps(item.to_json(), allow_nan=False))) == item


def test_a_flagged_frame_does_not_enter_a_queue_full_of_seeds() -> None:
    seeds = (request("a", "seed"), request("b", "seed"))
    queue, dropped = admit(seeds, [request("c")], capacity=2)
    assert queue == seeds
    assert [r.frame_id for r, _ in dropped] == ["c"]
    assert len(admit(seeds, [request("d", "audit")], capacity=2)[0]) == 3


def test_what_cannot_be_queued_is_refused() -> None:
    with pytest.raises(ValueError, match="purpose"):
        request("a", "important")
    with pytest.raises(ValueError, match="nan"):
        request("a", disagreement=math.nan)
    with pytest.raises(ValueError, match="capacity"):
        admit((), [request("a")], 0)
    with pytest.raises(ValueError, match="Nothing waits"):
        next_request(())
