"""The same frame twice, and labels of another level of theory beside: content decides what is computed and learnt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from alflow import Structure
from alflow.campaign.executors import Completion, InlineExecutor
from alflow.campaign.launch import run_campaign
from alflow.exploration import SegmentOutcome
from alflow.reference import MorseMolecule
from tests.campaign.toys import WATER_ANG, broken_promises, check_promises, rows, toy


class Twins(InlineExecutor):
    """Lets the second walker that is flagged in a segment stand on the very frame of the first."""

    def wait(self, timeout_s: float) -> tuple[Completion, ...]:
        completions = super().wait(timeout_s)
        return tuple(map(self._twinned, completions))

    def _twinned(self, completion: Completion) -> Completion:
        outcome = completion.answer.value if completion.answer is not None else None
        if completion.answer is None or not isinstance(outcome, SegmentOutcome):
            return completion
        first = next((w.frame for w in outcome.walkers if w.frame is not None), None)
        walkers = tuple(
            w if w.frame is None or first is None else replace(w, frame=replace(w.frame, structure=first.structure))
            for w in outcome.walkers
        )
        return replace(completion, answer=replace(completion.answer, value=replace(outcome, walkers=walkers)))


def test_the_same_frame_from_two_walkers_is_labelled_once_and_both_are_told(tmp_path: Path, database: str) -> None:
    config = toy(tmp_path, database=database)
    assert run_campaign(config, executor=Twins()).state.phase == "finished"
    check_promises(config.database)
    twins = rows(
        config.database,
        "SELECT structure_id, count(DISTINCT walker), count(*) FROM frames WHERE decision IN ('flagged', 'duplicate')"
        " GROUP BY structure_id HAVING count(*) > 1",
    )
    assert twins, "no two walkers met"
    for structure, walkers, frames in twins:
        assert walkers == frames > 1
        told = rows(
            config.database,
            f"SELECT decision, reason, id FROM frames WHERE structure_id = '{structure}' ORDER BY decision",
        )
        assert [decision for decision, *_ in told] == ["duplicate"] * (frames - 1) + ["flagged"]
        assert all(told[-1][2] in reason for _, reason, _ in told[:-1]), "each says of which frame it is a duplicate"
        jobs = f"SELECT count(*) FROM label_jobs WHERE structure_id = '{structure}'"
        assert rows(config.database, jobs) == [(1,)]
        one = f"SELECT count(*) FROM labels WHERE structure_id = '{structure}'"
        assert rows(config.database, one)[0][0] <= 1


def test_labels_of_an_older_level_are_kept_and_not_trained_on(tmp_path: Path) -> None:
    """The same seeds at another level of theory are other labels, for other money; at the same level they are free."""
    old = MorseMolecule.around(Structure.of("OHH", WATER_ANG), depth_ev=5.0)
    config = toy(tmp_path, name="old")
    run_campaign(config, old)
    before = rows(config.database, f"SELECT * FROM labels WHERE level_id = '{old.level.id}' ORDER BY structure_id")
    assert len(before) == config.label_budget
    assert run_campaign(toy(tmp_path)).state.phase == "finished"
    assert broken_promises(config.database) == {}
    kept = rows(config.database, f"SELECT * FROM labels WHERE level_id = '{old.level.id}' ORDER BY structure_id")
    assert kept == before
    both = "SELECT structure_id FROM labels GROUP BY structure_id HAVING count(DISTINCT level_id) = 2"
    assert len(rows(config.database, both)) >= config.initial_labels, "nothing was at both levels: nothing was tried"
    learnt = rows(
        config.database,
        "SELECT DISTINCT p.name, m.level_id FROM campaigns p JOIN committees c ON c.campaign_id = p.id"
        " JOIN dataset_members m ON m.dataset_digest = c.dataset_digest ORDER BY p.name",
    )
    assert [name for name, _ in learnt] == ["old", "toy"], "each campaign learns from one level"
    assert learnt[0][1] == old.level.id != learnt[1][1]

    run_campaign(toy(tmp_path, name="third"), old)
    assert broken_promises(config.database) == {}
    free = rows(
        config.database,
        "SELECT count(*) FROM executions e JOIN campaigns p ON p.id = e.campaign_id"
        " WHERE p.name = 'third' AND e.message LIKE 'found: %'",
    )
    assert free[0][0] >= config.initial_labels
