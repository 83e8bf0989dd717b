"""With ``barrier`` moving, labelling and training take turns; the labels and promises are those of any campaign."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from alflow.campaign.decide import replay
from alflow.campaign.launch import run_campaign

from .toys import check_promises, rows, toy
from .world import World, config


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), slots=st.integers(1, 5))
def test_two_kinds_of_work_never_overlap_and_every_campaign_ends(seed: int, slots: int) -> None:
    world = World(seed, slots=slots)
    last = world.play(config(barrier=True))
    for known in world.states:
        kinds = {"explore" if task.kind == "score" else task.kind for task in known.running.values()}
        assert len(kinds) <= 1
    assert replay(world.events) == last


def test_labels_wait_until_every_walker_has_had_its_turn() -> None:
    world = World(3, slots=2, flag=0.5, duplicate=0.0, reset=0.0, fail=0.0, lost=0.0, kill=0.0)
    world.play(config(barrier=True))
    begun = [
        (before, after)
        for before, after in zip(world.states, world.states[1:], strict=False)
        if after.generation > 0 and not before.running_of("label") and after.running_of("label")
    ]
    assert begun
    for _, known in begun:
        steps = known.config.segment_steps
        assert all(w.status == "paused" or w.step - w.cycle_step >= steps for w in known.walkers)


def test_a_campaign_in_turns_keeps_the_same_promises(tmp_path: Path, database: str) -> None:
    ended = run_campaign(toy(tmp_path, barrier=True, label_budget=20, database=database))
    assert ended.state.phase == "finished"
    check_promises(ended.database)
    kinds = [kind for (kind,) in rows(ended.database, "SELECT kind FROM executions ORDER BY id")]
    turns = [kind for kind, before in zip(kinds, ["", *kinds], strict=False) if kind != before]
    assert turns[:6] == ["label", "train", "explore", "label", "train", "explore"]
