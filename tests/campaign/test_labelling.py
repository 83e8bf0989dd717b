"""``alflow label``: every structure of a file once, whatever is killed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
import yaml

from alflow.campaign.executors import InlineExecutor
from alflow.campaign.label_console import read_level
from alflow.campaign.labelling import Labelled, label_structures
from alflow.campaign.launch import resume_campaign, run_campaign
from alflow.domain import Evaluation, Failure, FailureKind, Level, Outcome, Structure
from alflow.errors import CampaignError, ConfigError
from alflow.reference import LennardJones, PyscfConfig
from alflow.reference.config import Limits
from alflow.store import Store
from tests.faults.processes import kill_tree, start, wait_until_nothing_is_left

from .toys import rows, toy

TOY = LennardJones()


def structures(number: int) -> list[Structure]:
    """Argon dimers, each a little longer."""
    return [Structure.of("ArAr", [[0, 0, 0], [3.5 + 0.01 * k, 0, 0]]) for k in range(number)]


def label(folder: Path, which: list[Structure], reference: object = TOY, **changes: object) -> list[Labelled]:
    given = {"limits": Limits(max_attempts=2), "database": str(folder / "labels.db"), "name": "labels"} | changes
    return label_structures(which, reference, slots=1, executor=InlineExecutor, **given)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Moody:
    """A reference that refuses long dimers, and breaks on very long ones."""

    @property
    def level(self) -> Level:
        return Level("moody", {})

    def evaluate(self, structure: Structure) -> Outcome:
        length = float(structure.positions[1, 0])
        if length > 4.0:
            raise RuntimeError("a defect")
        if length > 3.515:
            return Failure(FailureKind.SCF_FAIL, "too long")
        return Evaluation(0.0, np.zeros((2, 3)))


def test_each_structure_is_labelled_once_and_never_again(tmp_path: Path) -> None:
    four = structures(4)
    found = label(tmp_path, [*four, four[1]])
    assert [item.state for item in found] == ["done"] * 4 + ["known"]
    assert all(item.wall_s is not None for item in found[:4])
    assert found[4].wall_s is None
    assert [item.state for item in label(tmp_path, [*four, *structures(6)[4:]])] == ["known"] * 4 + ["done"] * 2
    assert rows(tmp_path / "labels.db", "SELECT count(*) FROM labels") == [(6,)]
    assert rows(tmp_path / "labels.db", "SELECT count(*) FROM executions WHERE status = 'done'") == [(6,)]
    assert rows(tmp_path / "labels.db", "SELECT state, holder FROM campaigns") == [("finished", None)]
    with Store.open(tmp_path / "labels.db") as store:
        stored = store.find_label(four[0].id, TOY.level.id)
    expected = TOY.evaluate(four[0])
    assert stored is not None
    assert isinstance(expected, Evaluation)
    assert np.array_equal(stored.evaluation.forces, expected.forces)


def test_what_cannot_be_labelled_is_named_and_tried_again_when_asked_again(tmp_path: Path) -> None:
    found = label(tmp_path, structures(3), Moody())
    assert [item.state for item in found] == ["done", "done", "failed"]
    assert found[2].message == "SCF_FAIL: too long"
    assert rows(tmp_path / "labels.db", "SELECT count(*) FROM executions WHERE failure_kind = 'SCF_FAIL'") == [(2,)]
    label(tmp_path, structures(3), Moody())
    assert rows(tmp_path / "labels.db", "SELECT count(*) FROM executions WHERE failure_kind = 'SCF_FAIL'") == [(4,)]


def test_a_defect_of_the_reference_ends_it_with_the_traceback_and_loses_nothing(tmp_path: Path) -> None:
    broken = Structure.of("ArAr", [[0, 0, 0], [4.5, 0, 0]])
    with pytest.raises(CampaignError, match=r"(?s)frame 1 raised an exception.*a defect"):
        label(tmp_path, [structures(1)[0], broken], Moody())
    assert rows(tmp_path / "labels.db", "SELECT count(*) FROM labels") == [(1,)]
    assert rows(tmp_path / "labels.db", "SELECT state FROM campaigns") == [("stopped",)]
    assert label(tmp_path, structures(2), Moody())[1].state == "done"


def test_two_levels_of_theory_live_side_by_side(tmp_path: Path) -> None:
    for sigma in (3.4, 3.3):
        assert label(tmp_path, structures(2), LennardJones(sigma_ang=sigma))[0].state == "done"
    assert rows(tmp_path / "labels.db", "SELECT count(*), count(DISTINCT level_id) FROM labels") == [(4, 2)]


def test_names_of_campaigns_and_of_labels_are_not_mixed(tmp_path: Path) -> None:
    config = toy(tmp_path)
    with Store.open(config.database, create=True) as store:
        store.create_campaign("toy", {"config": {}}, seed=0)
    with pytest.raises(ConfigError, match="choose another --name"):
        label(tmp_path, structures(1), database=config.database, name="toy")
    label(tmp_path, structures(1), database=config.database)
    with pytest.raises(ConfigError, match="same 'alflow label' command continues them"):
        resume_campaign(config.database, "labels")
    with pytest.raises(ConfigError, match="has labels of a file named 'labels'"):
        run_campaign(toy(tmp_path, name="labels"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("standrad", "expected fast, standard, tight, or a YAML file.* Did you mean 'standard'"),
        ("functional: pbee", "unknown functional 'pbee'"),
        ("- 1", "expected keys and values"),
        ("a: [", "cannot be read as YAML"),
        ("engine: gaussian", "engine"),
    ],
)
def test_a_level_that_cannot_be_used_is_named(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "level.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        read_level(text if text == "standrad" else str(file))


def test_a_level_is_a_preset_or_the_keys_of_a_reference(tmp_path: Path) -> None:
    assert read_level("fast") == PyscfConfig(preset="fast")
    file = tmp_path / "level.yaml"
    for text in ("functional: b3lyp\nbasis: 6-31g*\n", "reference:\n  functional: b3lyp\n  basis: 6-31g*\n"):
        file.write_text(text)
        assert read_level(str(file)) == PyscfConfig(functional="b3lyp", basis="6-31g*")


@pytest.mark.slow
def test_killing_the_command_loses_no_label_and_the_same_command_ends_the_work(tmp_path: Path) -> None:
    frames = [ase.Atoms("Ar2", [[0, 0, 0], [3.5 + 0.01 * k, 0, 0]]) for k in range(12)]
    ase.io.write(tmp_path / "dimers.xyz", frames)
    level = {"engine": "lennard-jones", "delay_s": 0.5}
    (tmp_path / "level.yaml").write_text(yaml.safe_dump(level))
    command = ("label", "dimers.xyz", "--level", "level.yaml", "--db", "labels.db")
    database = tmp_path / "labels.db"
    process = start(tmp_path, *command)
    deadline = time.monotonic() + 60
    while not database.exists() or not (done := labels_in(database)) or done[0][0] < 3:
        assert process.poll() is None, (tmp_path / "output.txt").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    kill_tree(process)
    kept = {row[0] for row in rows(database, "SELECT structure_id FROM labels")}
    assert 3 <= len(kept) < 12
    assert start(tmp_path, *command).wait(timeout=90) == 0, (tmp_path / "output.txt").read_text()
    wait_until_nothing_is_left(tmp_path)
    assert kept <= {row[0] for row in rows(database, "SELECT structure_id FROM labels")}
    assert labels_in(database) == [(12,)]
    twice = "SELECT subject FROM executions WHERE status = 'done' GROUP BY subject HAVING count(*) > 1"
    assert rows(database, twice) == []
    assert rows(database, "SELECT count(*) FROM executions WHERE ended_at IS NULL") == [(0,)]
    assert "12 known before" not in (tmp_path / "output.txt").read_text()


def labels_in(database: Path) -> list[tuple[int]]:
    """Number of labels; nothing before there is a table of them."""
    if not rows(database, "SELECT name FROM sqlite_master WHERE name = 'labels'"):
        return []
    return rows(database, "SELECT count(*) FROM labels")
