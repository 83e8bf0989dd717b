"""Pools: how cores are shared out, who may start beside whom, and what the loop makes of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alflow import CampaignConfig
from alflow.campaign import pools as room
from alflow.campaign.config import comparable, parse_config
from alflow.campaign.decide import replay
from alflow.campaign.events import Event, TaskLost, WorkersChanged, event_from_json, event_from_payload
from alflow.campaign.launch import run_campaign
from alflow.campaign.pools import KINDS, Pool, check_resources, fitted, has_room, kinds_of, pools_of
from alflow.errors import ConfigError

from .test_journal import CutAfter, PowerCut
from .toys import check_promises, toy
from .world import World, config

FOSSIL = Path(__file__).parents[1] / "fossils" / "journal-1.json"


def wanting(**changes: Any) -> CampaignConfig:
    return config(cores=8) if not changes else config(**{"cores": 8} | changes)


@pytest.fixture
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "available_cores", lambda: 8)


def shares(settings: CampaignConfig) -> dict[str, tuple[int, int]]:
    return {pool.name: (pool.workers, pool.threads) for pool in pools_of(settings)}


def test_without_pools_every_worker_takes_every_task() -> None:
    assert pools_of(wanting()) == (Pool("shared", 8, 1),)
    assert shares(wanting(reference={"engine": "morse", "threads": 3})) == {"shared": (2, 3)}


@pytest.mark.parametrize(
    ("pools", "expected"),
    [
        ({}, {"label": (5, 1), "explore": (2, 1), "train": (1, 1)}),
        ({"label": {"workers": 2, "threads": 2}}, {"label": (2, 2), "explore": (3, 1), "train": (1, 1)}),
        ({"explore": {"workers": 1}}, {"label": (6, 1), "explore": (1, 1), "train": (1, 1)}),
        ({"train": {"threads": 4}}, {"label": (3, 1), "explore": (1, 1), "train": (1, 4)}),
        ({"label": {"threads": 4}}, {"label": (1, 4), "explore": (3, 1), "train": (1, 1)}),
    ],
)
@pytest.mark.usefixtures("many_cores")
def test_a_pool_that_says_nothing_gets_a_share_of_what_is_left(
    pools: dict[str, Any], expected: dict[str, tuple[int, int]]
) -> None:
    settings = wanting(pools=pools)
    assert shares(settings) == expected
    check_resources(settings)


@pytest.mark.usefixtures("many_cores")
def test_pools_that_do_not_fit_are_refused_with_the_table() -> None:
    too_many = {"label": {"workers": 7}, "explore": {"workers": 2}}
    with pytest.raises(ConfigError, match="10 threads do not fit on 8 cores") as refusal:
        check_resources(wanting(pools=too_many))
    assert [line.split()[0] for line in str(refusal.value).splitlines()[1:]] == [
        "pool",
        "label",
        "explore",
        "train",
        "all",
    ]
    check_resources(wanting(pools=too_many | {"oversubscribe": True}))


@pytest.mark.usefixtures("many_cores")
def test_memory_that_the_machine_does_not_have_is_refused_for_workers_and_told_of_for_labels(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(room, "machine_gib", lambda: 16.0)
    large = {"label": {"workers": 4, "memory_gib": 3.0}, "train": {"memory_gib": 5.0}}
    with pytest.raises(ConfigError, match=r"17 GiB for all workers are more than the 16\.0 of this machine"):
        check_resources(wanting(pools=large))
    check_resources(wanting(pools=large | {"oversubscribe": True}))
    check_resources(wanting(reference={"engine": "morse", "memory_limit_mb": 2000}))
    assert caplog.text == ""
    check_resources(wanting(reference={"engine": "morse", "memory_limit_mb": 4000}))
    assert "8 labels at a time may use 4000 MB each" in caplog.text


@pytest.mark.usefixtures("many_cores")
def test_a_campaign_that_goes_on_takes_what_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = wanting(pools={"label": {"workers": 4}})
    assert fitted(begun) == begun
    large = wanting(pools={"label": {"workers": 4, "memory_gib": 3.0}})
    with monkeypatch.context() as smaller:
        smaller.setattr(room, "machine_gib", lambda: 8.0)
        assert fitted(begun) == begun
        assert fitted(large).pools is None, "as with cores"
        check_resources(fitted(large))
    monkeypatch.setattr(room, "available_cores", lambda: 2)
    assert pools_of(fitted(begun)) == (Pool("shared", 2, 1),)
    insists = wanting(pools={"label": {"workers": 4}, "oversubscribe": True})
    assert [pool.workers for pool in pools_of(fitted(insists))] == [4, 1, 1]


def test_labels_have_the_threads_of_their_pool_and_a_contradiction_is_refused() -> None:
    settings = wanting(pools={"label": {"threads": 2}})
    assert settings.reference.threads == 2
    assert parse_config(comparable(settings) | {"structures": "none.xyz"}) == settings.model_copy(
        update={"database": "alflow.db"}
    )
    with pytest.raises(ValueError, match=r"pools\.label\.threads \(2\) and reference\.threads \(3\)"):
        wanting(pools={"label": {"threads": 2}}, reference={"engine": "morse", "threads": 3})
    with pytest.raises(ValueError, match="one committee is trained at a time"):
        wanting(pools={"train": {"workers": 2}})


def seated(pools: dict[str, int], tasks: list[str]) -> bool:
    """Whether every task finds a worker of its own, by trying all ways to place them."""
    names = list(pools)
    for places in product(names, repeat=len(tasks)):
        fits = all(kind in kinds_of(name) for kind, name in zip(tasks, places, strict=True))
        if fits and all(count <= pools[name] for name, count in Counter(places).items()):
            return True
    return False


POOLS = ("label", "explore", "train", "label+explore", "explore+train", "shared")


@settings(max_examples=300, deadline=None)
@given(
    pools=st.dictionaries(st.sampled_from(POOLS), st.integers(0, 2), max_size=3),
    running=st.lists(st.sampled_from(KINDS), max_size=4),
    wanted=st.sampled_from(KINDS),
)
def test_there_is_room_exactly_when_all_tasks_can_be_seated(
    pools: dict[str, int], running: list[str], wanted: str
) -> None:
    if seated(pools, running):
        assert has_room(pools, running, wanted) == seated(pools, [*running, wanted])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), counts=st.tuples(st.integers(1, 4), st.integers(1, 3)))
def test_a_loop_with_pools_ends_and_never_fills_a_pool_beyond_its_workers(seed: int, counts: tuple[int, int]) -> None:
    pools = {"label": counts[0], "explore": counts[1], "train": 1}
    world = World(seed, slots=sum(pools.values()), pools=pools)
    world.play(config())
    for known in world.states:
        running = Counter(room.kind_of(task.kind) for task in known.running.values())
        assert all(running[kind] <= pools[kind] for kind in KINDS)
    assert replay(world.events) == world.states[-1]
    overlap = [{t.kind for t in known.running.values()} for known in world.states]
    if world.states[-1].generation > 1:  # a campaign whose seeds all fail ends before anything could run beside them
        assert any({"label", "explore"} <= kinds for kinds in overlap)


@pytest.mark.parametrize("read", [event_from_payload, lambda payload: event_from_json(json.dumps(payload))])
def test_a_journal_from_before_there_were_pools_leads_to_the_same_state(read: Callable[[Any], Event]) -> None:
    """The fossil was written by the version before pools; its workers took every task."""
    fossil = json.loads(FOSSIL.read_text())
    assert "pools" not in fossil["events"][0]
    known = replay(map(read, fossil["events"]))
    assert known is not None
    assert known.workers == {"shared": 2}
    found = {name: getattr(known, name) for name in fossil["state"]}
    assert found == fossil["state"]


@pytest.mark.parametrize("barrier", [False, True])
def test_a_campaign_whose_last_worker_that_explores_has_left_waits(barrier: bool) -> None:
    world = World(3, flag=0.0, reset=0.0, slots=1)
    with pytest.raises(AssertionError, match="did not end"):
        world.play(config(barrier=barrier, quiet_ps=1e6, label_budget=1000), most=40)
    assert world.states[-1].generation > 0
    world.record(WorkersChanged(1, {"label": 1}))
    for task in sorted(world.states[-1].running):
        world.record(TaskLost(task, "the worker left"))
    assert world.states[-1].ready
    assert not world.states[-1].running_of("explore")
    assert world.states[-1].phase == "running"


def test_a_campaign_goes_on_with_other_pools_and_keeps_its_promises(tmp_path: Path) -> None:
    with pytest.raises(PowerCut):
        run_campaign(toy(tmp_path), observers=[CutAfter(9)])
    separate = {"label": {"workers": 1, "threads": 1}, "oversubscribe": True}
    assert run_campaign(toy(tmp_path, pools=separate)).state.phase == "finished"
    check_promises(tmp_path / "toy.db")
