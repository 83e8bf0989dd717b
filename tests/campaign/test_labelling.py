"""``alflow label``: every structure of a file once, whatever is killed."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
import yaml

from alflow.campaign.executors import Completion, InlineExecutor
from alflow.campaign.label_console import read_level
from alflow.campaign.labelling import Labelled, label_structures
from alflow.campaign.launch import resume_campaign, run_campaign
from alflow.campaign.tasks import Answer, LabelTask, Task
from alflow.domain import Evaluation, Failure, FailureKind, Structure
from alflow.errors import CampaignError, CampaignPaused, ConfigError
from alflow.reference import LabelRequest, LabelResult, LennardJones, PyscfConfig
from alflow.reference.config import Limits
from alflow.reference.spool import write_spooled
from alflow.store import Store
from tests.faults.processes import kill_tree, start, wait_until_nothing_is_left
from tests.postgresql import address
from tests.store.test_write_again import Cable

from .references import Moody
from .toys import broken_promises, rows, rows_so_far, toy, write

TOY = LennardJones()


def structures(number: int) -> list[Structure]:
    """Argon dimers, each a little longer."""
    return [Structure.of("ArAr", [[0, 0, 0], [3.5 + 0.01 * k, 0, 0]]) for k in range(number)]


def label(folder: Path, which: list[Structure], reference: object = TOY, **changes: object) -> list[Labelled]:
    given = {"limits": Limits(max_attempts=2), "database": address(folder / "labels.db"), "name": "labels"}
    given |= {"executor": InlineExecutor} | changes  # type: ignore[dict-item]
    return label_structures(which, reference, slots=1, **given)  # type: ignore[arg-type]


def test_each_structure_is_labelled_once_and_never_again(tmp_path: Path, database: str) -> None:
    four = structures(4)
    found = label(tmp_path, [*four, four[1]], database=database)
    assert [item.state for item in found] == ["done"] * 4 + ["known"]
    assert all(item.wall_s is not None for item in found[:4])
    assert found[4].wall_s is None
    more = label(tmp_path, [*four, *structures(6)[4:]], database=database)
    assert [item.state for item in more] == ["known"] * 4 + ["done"] * 2
    assert rows(database, "SELECT count(*) FROM labels") == [(6,)]
    assert rows(database, "SELECT count(*) FROM executions WHERE status = 'done'") == [(6,)]
    assert rows(database, "SELECT state, holder FROM campaigns") == [("finished", None)]
    assert broken_promises(database) == {}
    with Store.open(database) as store:
        stored = store.find_label(four[0].id, TOY.level.id)
    expected = TOY.evaluate(four[0])
    assert stored is not None
    assert isinstance(expected, Evaluation)
    assert np.array_equal(stored.evaluation.forces, expected.forces)


def test_what_cannot_be_labelled_is_named_and_tried_again_when_asked_again(tmp_path: Path) -> None:
    found = label(tmp_path, structures(3), Moody())
    assert [item.state for item in found] == ["done", "done", "failed"]
    assert found[2].message == "SCF_FAIL: too long"
    assert rows(tmp_path / "labels.db", "SELECT count(*) FROM executions WHERE failure_kind = 'SCF_FAIL'") == [(1,)]
    label(tmp_path, structures(3), Moody())
    assert rows(tmp_path / "labels.db", "SELECT count(*) FROM executions WHERE failure_kind = 'SCF_FAIL'") == [(2,)]


def test_a_defect_of_the_reference_ends_it_with_the_traceback_and_loses_nothing(tmp_path: Path, database: str) -> None:
    broken = Structure.of("ArAr", [[0, 0, 0], [4.5, 0, 0]])
    with pytest.raises(CampaignError, match=r"(?s)frame 1 raised an exception.*a defect"):
        label(tmp_path, [structures(1)[0], broken], Moody(), database=database)
    assert rows(database, "SELECT count(*) FROM labels") == [(1,)]
    assert rows(database, "SELECT state FROM campaigns") == [("stopped",)]
    ended = "SELECT status, failure_kind FROM executions ORDER BY id"
    assert rows(database, ended) == [("done", None), ("failed", "BUG")]
    assert rows(database, "SELECT state, attempts FROM label_jobs ORDER BY state") == [
        ("done", 1),
        ("pending", 0),
    ], "a defect is nobody's attempt"
    assert broken_promises(database) == {}
    assert label(tmp_path, structures(2), Moody(), database=database)[1].state == "done"


BROKEN_LABELLING = {
    "DELETE FROM executions WHERE id = 2": "1 attempts and 0 losses, and executions of 0",
    "UPDATE label_jobs SET n_lost = 1": "1 losses, and executions of 1 and 0",
    "UPDATE executions SET ended_at = NULL, status = 'running' WHERE id = 2": "1 of its executions are open",
    "UPDATE label_jobs SET id = 'another' WHERE id = (SELECT subject FROM executions WHERE id = 1)": "nobody asked for",
}


REFUSED = pytest.mark.sqlite_only("PostgreSQL refuses to delete what another row refers to")


@pytest.mark.parametrize(
    "damage", [pytest.param(sql, marks=REFUSED if "DELETE" in sql else ()) for sql in BROKEN_LABELLING]
)
def test_the_check_holds_jobs_of_a_file_against_their_executions(tmp_path: Path, damage: str) -> None:
    """There is no journal that could be replayed."""
    broken = Structure.of("ArAr", [[0, 0, 0], [4.5, 0, 0]])
    with pytest.raises(CampaignError):
        label(tmp_path, [*structures(2), broken], Moody())
    database = tmp_path / "labels.db"
    assert broken_promises(database) == {}
    write(database, damage)
    assert any(BROKEN_LABELLING[damage] in line for line in broken_promises(database)["labelling"])


def test_a_label_of_another_file_that_a_killed_process_left_running_waits_again(tmp_path: Path) -> None:
    label(tmp_path, structures(2))
    database = tmp_path / "labels.db"
    for statement in (  # as a kill leaves it
        "DELETE FROM labels",
        "UPDATE label_jobs SET state = 'running', attempts = 0",
        "UPDATE executions SET ended_at = NULL, status = 'running'",
    ):
        write(database, statement)
    seen: list[dict[str, tuple[str, ...]]] = []
    label(tmp_path, structures(4)[2:], watcher=lambda found: seen.append(broken_promises(database)))
    assert len(seen) > 1
    assert all("labelling" not in broken for broken in seen)


def test_two_levels_of_theory_live_side_by_side_under_two_names(tmp_path: Path) -> None:
    label(tmp_path, structures(2))
    other = LennardJones(sigma_ang=3.3)
    with pytest.raises(ConfigError, match=r"has labels at another level of theory.*choose another --name"):
        label(tmp_path, structures(2), other)
    assert label(tmp_path, structures(2), other, name="other")[0].state == "done"
    assert rows(tmp_path / "labels.db", "SELECT count(*), count(DISTINCT level_id) FROM labels") == [(4, 2)]


@pytest.mark.parametrize("name", ["../elsewhere", "a/b", "", ".hidden", "x" * 81])
def test_a_name_that_would_leave_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="--name"):
        label(tmp_path, structures(1), name=name)
    assert list(tmp_path.iterdir()) == []


class Scripted:
    """An executor whose tasks end as a list says; what the list leaves open is computed.

    Args:
        ends: ``lost``, ``TIMEOUT``, ``raise`` or ``compute``, for one task after the other; the last goes on for ever.
    """

    slots = 2
    dashboard = None

    def __init__(self, *ends: str) -> None:
        self._ends = list(ends)
        self._inline = InlineExecutor()
        self._waiting: list[LabelTask] = []
        self.requests: list[LabelRequest] = []

    def submit(self, task: Task) -> None:
        assert isinstance(task, LabelTask)
        self._waiting.append(task)
        self.requests.append(task.request)

    def wait(self, timeout_s: float) -> tuple[Completion, ...]:
        task = self._waiting.pop(0)
        end = self._ends.pop(0) if len(self._ends) > 1 else self._ends[0]
        if end == "lost":
            return (Completion(task.name, lost="its worker is gone", worker="w"),)
        if end == "raise":
            raise KeyboardInterrupt
        if end == "compute":
            self._inline.submit(task)
            return self._inline.wait(timeout_s)
        result = LabelResult(Failure(FailureKind(end), "it failed"))
        return (Completion(task.name, Answer(result, "here", 1, 0.0, 0.1, 0.1)),)

    def close(self) -> None:
        self._inline.close()


def test_a_label_out_of_time_is_tried_once_more_with_twice_the_time(tmp_path: Path) -> None:
    executor = Scripted("TIMEOUT", "compute")
    found = label(tmp_path, structures(2), executor=lambda: executor)
    assert [item.state for item in found] == ["done", "done"]
    assert [request.time_limit_s for request in executor.requests] == [600.0, 600.0, 1200.0]
    done = rows(tmp_path / "labels.db", "SELECT state, failure_kind, failure_message FROM label_jobs")
    assert done == [("done", None, "")] * 2, "a failure that was overcome is no state of the job"


@pytest.mark.parametrize(
    ("end", "limits", "sentence"),
    [
        ("TIMEOUT", Limits(max_attempts=2), "20 labels in a row ran out of .*; the last: it failed"),
        ("lost", Limits(), "Workers were lost 10 times in a row; the last: its worker is gone"),
    ],
)  # fmt: skip
def test_a_machine_that_fails_every_label_is_not_asked_for_ever(
    tmp_path: Path, end: str, limits: Limits, sentence: str
) -> None:
    with pytest.raises(CampaignError, match=sentence):
        label(tmp_path, structures(30), limits=limits, executor=lambda: Scripted(end))
    assert rows(tmp_path / "labels.db", "SELECT count(*) FROM executions WHERE ended_at IS NULL") == [(0,)]
    assert rows(tmp_path / "labels.db", "SELECT count(*) FROM label_jobs WHERE state = 'running'") == [(0,)]
    assert {item.state for item in label(tmp_path, structures(30))} == {"done"}


class Vanishing(InlineExecutor):
    """All its workers go at once, some times; then it computes.

    Args:
        times: How often.
    """

    slots = 16

    def __init__(self, times: int) -> None:
        super().__init__()
        self._times = times

    def wait(self, timeout_s: float) -> tuple[Completion, ...]:
        if self._times == 0:
            return super().wait(timeout_s)
        self._times -= 1
        lost = [Completion(task.name, lost="its machine is gone", worker="w") for task in self._waiting]
        self._waiting.clear()
        return tuple(lost)


def test_a_machine_that_takes_sixteen_labels_along_is_one_loss(tmp_path: Path) -> None:
    found = label(tmp_path, structures(30), executor=lambda: Vanishing(9))
    assert {item.state for item in found} == {"done"}
    assert rows(tmp_path / "labels.db", "SELECT count(*) FROM executions WHERE status = 'lost'") == [(9 * 16,)]
    again = structures(46)[30:]
    with pytest.raises(CampaignError, match="Workers were lost 10 times in a row"):
        label(tmp_path, again, executor=lambda: Vanishing(10))
    assert broken_promises(tmp_path / "labels.db") == {}


def test_twenty_that_are_too_large_do_not_keep_the_small_ones_from_their_labels(tmp_path: Path) -> None:
    large = [Structure.of(["Ar"] * 5, [[4.0 * j + 0.01 * k, 0, 0] for j in range(5)]) for k in range(25)]
    found = label(tmp_path, [*large, *structures(3)], executor=lambda: Sized())
    assert [item.state for item in found] == ["failed"] * 25 + ["done"] * 3


class Sized(Scripted):
    """Has time for pairs only."""

    def __init__(self) -> None:
        super().__init__("compute")

    def wait(self, timeout_s: float) -> tuple[Completion, ...]:
        self._ends = ["compute" if len(self._waiting[0].request.structure) == 2 else "TIMEOUT"]
        return super().wait(timeout_s)


def test_an_end_in_the_middle_leaves_no_execution_open(tmp_path: Path, database: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        label(tmp_path, structures(4), database=database, executor=lambda: Scripted("compute", "raise"))
    assert rows(database, "SELECT status, count(*) FROM executions GROUP BY status ORDER BY status") == [
        ("done", 1),
        ("lost", 2),
    ]
    assert rows(database, "SELECT state, reason FROM campaigns") == [
        ("stopped", "it ended before all structures were labelled")
    ]
    assert broken_promises(database) == {}


def test_a_label_that_outlived_its_process_is_found_with_its_execution_and_its_cost(tmp_path: Path) -> None:
    two = structures(2)
    with pytest.raises(KeyboardInterrupt):
        label(tmp_path, two, executor=lambda: Scripted("raise"))
    database, spool = address(tmp_path / "labels.db"), tmp_path / "labels.alflow" / "spool"
    with Store.open(database) as store:  # as it is after a kill: nobody closed the execution
        opened = store.executions(1, "label")[0]
    write(database, f"UPDATE executions SET ended_at = NULL, status = 'running' WHERE key = '{opened.key}'")
    evaluation = TOY.evaluate(two[0])
    assert isinstance(evaluation, Evaluation)
    write_spooled(spool, two[0].id, TOY.level.id, evaluation, {"wall_s": 7.0, "host": "there"})
    executor = Scripted("compute")
    assert [item.state for item in label(tmp_path, two, executor=lambda: executor)] == ["known", "done"]
    assert [request.structure.id for request in executor.requests] == [two[1].id]
    assert not list(spool.iterdir())
    told = "SELECT e.status, e.wall_s, e.host, e.message FROM labels l JOIN executions e ON e.key = l.execution_key"
    message = "found in the spool: it outlived the process that waited for it"
    assert ("done", 7.0, "there", message) in rows(database, told)


def test_a_label_made_under_another_name_meanwhile_is_not_computed(tmp_path: Path) -> None:
    class Interrupted(Scripted):
        def wait(self, timeout_s: float) -> tuple[Completion, ...]:
            if len(self.requests) == 2:
                label(tmp_path, structures(4)[2:], name="other")
            return super().wait(timeout_s)

    executor = Interrupted("compute")
    found = label(tmp_path, structures(4), executor=lambda: executor)
    assert [item.state for item in found] == ["done", "done", "known", "known"]
    assert len(executor.requests) == 2


def test_a_request_to_stop_lets_labels_in_flight_finish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alflow.campaign.label_run.BEAT_S", 0.0)

    class Asking(Scripted):
        def wait(self, timeout_s: float) -> tuple[Completion, ...]:
            with Store.open(address(tmp_path / "labels.db")) as store:
                store.request_stop(1)
            return super().wait(timeout_s)

    found = label(tmp_path, structures(5), executor=lambda: Asking("compute"))
    assert [item.state for item in found] == ["done", "done", "open", "open", "open"]
    assert rows(tmp_path / "labels.db", "SELECT state, reason FROM campaigns") == [("stopped", "3 structures are left")]
    assert label(tmp_path, structures(5))[4].state == "done"


def test_the_longest_labels_come_first_and_the_time_left_is_learnt(tmp_path: Path) -> None:
    short = [Structure.of(["Ar"] * n, [[4.0 * k, 0, 0] for k in range(n)]) for n in (2, 5, 3)]
    executor, seen = Scripted("compute"), []
    label(tmp_path, [*short, short[0]], executor=lambda: executor, watcher=lambda found: seen.append(list(found)))
    assert [len(request.structure) for request in executor.requests] == [5, 3, 2]
    assert [item.expected_s for item in seen[0]] == [None] * 4
    first = seen[1]
    assert first[1].state == "done"
    assert first[0].expected_s is not None
    assert first[0].expected_s < first[2].expected_s
    assert first[3].expected_s == 0.0, "a structure that stands in the list again takes no time"


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
    database = address(tmp_path / "labels.db")
    command = ("label", "dimers.xyz", "--level", "level.yaml", "--db", database)
    process = start(tmp_path, *command)
    deadline = time.monotonic() + 60
    while labels_in(database) < 3:
        assert process.poll() is None, (tmp_path / "output.txt").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    kill_tree(process)
    kept = {row[0] for row in rows(database, "SELECT structure_id FROM labels")}
    assert 3 <= len(kept) < 12
    assert start(tmp_path, *command).wait(timeout=90) == 0, (tmp_path / "output.txt").read_text()
    wait_until_nothing_is_left(tmp_path)
    assert kept <= {row[0] for row in rows(database, "SELECT structure_id FROM labels")}
    assert labels_in(database) == 12
    twice = "SELECT subject FROM executions WHERE status = 'done' GROUP BY subject HAVING count(*) > 1"
    assert rows(database, twice) == []
    assert rows(database, "SELECT count(*) FROM executions WHERE ended_at IS NULL") == [(0,)]
    assert broken_promises(database) == {}
    assert "12 known before" not in (tmp_path / "output.txt").read_text()


def labels_in(database: str) -> int:
    """Number of labels; none before there is a table of them."""
    return sum(count for (count,) in rows_so_far(database, "SELECT count(*) FROM labels"))


@pytest.mark.sqlite_only("another program locks the file")
def test_a_database_that_goes_away_is_waited_for_and_then_the_same_call_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alflow.store.opening._BUSY_TIMEOUT_S", 0.05)
    monkeypatch.setattr("alflow.campaign.labelling.PATIENCE_S", 0.5)
    foreign = sqlite3.connect(tmp_path / "labels.db", isolation_level=None)

    class Locking(InlineExecutor):
        """Another program locks the database while the third label is computed."""

        left = 3

        def wait(self, timeout_s: float) -> Completion | None:
            self.left -= 1
            if self.left == 0:
                foreign.execute("BEGIN IMMEDIATE")
            return super().wait(timeout_s)

    with pytest.raises(CampaignPaused, match=r"It stayed so for 0.5 s.*the same command goes on"):
        label(tmp_path, structures(4), executor=Locking)
    foreign.execute("ROLLBACK")
    foreign.close()
    assert rows(tmp_path / "labels.db", "SELECT count(*) FROM labels") == [(2,)]
    assert label(tmp_path, structures(4))[2].state == "known", "it was in the spool"
    assert rows(tmp_path / "labels.db", "SELECT count(*) FROM labels") == [(4,)]
    assert broken_promises(tmp_path / "labels.db") == {}


@pytest.mark.parametrize("how", ["before", "after"])
def test_the_list_is_written_down_once_though_the_connection_breaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    cable = Cable(["", how])
    monkeypatch.setattr("alflow.store.store.writing", cable.writing)
    assert [item.state for item in label(tmp_path, structures(2))] == ["done", "done"]
    assert not cable.breaks
    assert rows(tmp_path / "labels.db", "SELECT count(*) FROM events WHERE kind = 'labelling_started'") == [(1,)]
    assert broken_promises(tmp_path / "labels.db") == {}


def test_what_is_under_way_is_settled_though_the_connection_breaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cable = Cable([])
    monkeypatch.setattr("alflow.store.store.writing", cable.writing)

    class Breaking(InlineExecutor):
        def close(self) -> None:
            cable.breaks.append("before")
            super().close()

        def wait(self, timeout_s: float) -> tuple[Completion, ...]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        label(tmp_path, structures(1), executor=Breaking)
    assert not cable.breaks
    assert rows(tmp_path / "labels.db", "SELECT state, holder FROM campaigns") == [("stopped", None)]
    assert rows(tmp_path / "labels.db", "SELECT state FROM label_jobs") == [("pending",)]
    assert broken_promises(tmp_path / "labels.db") == {}
