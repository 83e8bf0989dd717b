"""Warnings that labels carry are shown, and a label that a finer grid contradicts is never learnt from."""

from __future__ import annotations

import io
from contextlib import chdir
from pathlib import Path

import pytest
from rich.console import Console

from alflow.campaign.executors import InlineExecutor
from alflow.campaign.label_console import show_cost
from alflow.campaign.labelled import Labelled
from alflow.campaign.labelling import label_structures
from alflow.campaign.launch import run_campaign
from alflow.campaign.status import show_status
from alflow.domain import Structure
from alflow.reference import PyscfReference
from alflow.reference.config import Limits
from alflow.reference.spotcheck import grid_doubt
from alflow.store import Store
from tests.postgresql import address

from .references import Grainy, is_long
from .toys import Enough, UntilLearntAfter, rows, toy


def printed(found: list[Labelled]) -> str:
    text = io.StringIO()
    show_cost(Console(file=text, width=80), found, 1.0, 1)
    return text.getvalue()


def test_each_flagged_structure_of_a_file_is_named(tmp_path: Path) -> None:
    """Hydrogen pulled apart would break its spin symmetry; a triplet of it is what it is."""
    lengths = (0.74, 2.5, 3.0)
    structures = [Structure.of("HH", [[0, 0, 0], [0, 0, length]]) for length in lengths]
    structures.append(Structure.of("HH", [[0, 0, 0], [0, 0, 2.5]], multiplicity=3))
    reference, database = PyscfReference("hf", "sto-3g", properties=()), address(tmp_path / "labels.db")
    told = []
    for _ in range(2):
        found = label_structures(structures, reference, Limits(), database, "labels", 1, InlineExecutor)
        told.append(printed(found))
        assert [item.flags for item in found] == [(), ("externally-unstable",), ("externally-unstable",), ()]
    for text in told:  # computed now, and known before
        assert "flags: 2 externally-unstable\nframe 1 (H2): externally-unstable\nframe 2 (H2): ext" in text
    with Store.open(database, read_only=True) as store:
        assert store.flags(store.campaign().id) == {"externally-unstable": 2}


def test_without_flags_nothing_is_said_of_them() -> None:
    assert "flags" not in printed([Labelled(0, "H2", "done")])


def test_only_so_many_are_named() -> None:
    text = printed([Labelled(k, "H2", "done", flags=("small-gap",)) for k in range(25)])
    assert "flags: 25 small-gap" in text
    assert "frame 19 (H2): small-gap\n… and 5 more" in text


@pytest.fixture(scope="module")
def grainy(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Database of a campaign on a surface that is too coarse where a bond is long."""
    folder = tmp_path_factory.mktemp("grainy")
    config = toy(folder, limits={"spot_check_fraction": 1.0}, label_budget=20)
    with chdir(folder), pytest.raises(Enough):
        run_campaign(config, Grainy(), [UntilLearntAfter(1)])
    return config.database


def doubted(database: str) -> set[str]:
    """Structures with a label that a finer grid contradicts."""
    with Store.open(database, read_only=True) as store:
        labels = list(store.labels(level_id=Grainy().level.id))
    found = {label.structure.id for label in labels if grid_doubt(label.evaluation.diagnostics)}
    assert found == {label.structure.id for label in labels if is_long(label.structure)}
    assert 0 < len(found) < len(labels)
    return found


def test_a_label_that_a_finer_grid_contradicts_is_stored_and_not_learnt_from(grainy: str) -> None:
    told = "SELECT structure_id, failure_message FROM label_jobs WHERE failure_kind = 'REJECTED'"
    refused = dict(rows(grainy, told))
    assert set(refused) == doubted(grainy)
    beginning = "The label is stored and not learnt from: a finer grid changes its forces by 0.0500 eV/Å"
    assert all(message.startswith(beginning) for message in refused.values())
    learnt = {identity for (identity,) in rows(grainy, "SELECT structure_id FROM dataset_members")}
    assert learnt
    assert not learnt & set(refused)


def test_the_status_counts_flags_and_tells_what_was_refused(grainy: str) -> None:
    text = io.StringIO()
    show_status(Console(file=text, width=200), grainy)
    assert f"flags of labels: {len(doubted(grainy))} coarse-grid\n" in text.getvalue()
    assert "not learnt from: a finer grid changes its forces" in text.getvalue()


def test_a_campaign_that_begins_with_labels_leaves_such_labels_out(grainy: str, tmp_path: Path) -> None:
    again = toy(tmp_path, database=grainy, name="again", initial={"labels": True})
    with pytest.raises(Enough):
        run_campaign(again, Grainy(), [UntilLearntAfter(0)])
    given = "SELECT structure_id FROM frames WHERE origin = 'given' AND campaign_id = 2"
    taken = {identity for (identity,) in rows(grainy, given)}
    assert len(taken) > 8
    assert not taken & doubted(grainy)
