"""``alflow db copy``: a campaign moves between SQLite and PostgreSQL, whole or not at all, and goes on there."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path

import pytest
from typer.testing import CliRunner

from alflow.campaign.checking import check_database
from alflow.campaign.copying import copy_database
from alflow.campaign.executors import InlineExecutor
from alflow.campaign.labelling import label_structures
from alflow.campaign.launch import resume_campaign, run_campaign
from alflow.cli import app
from alflow.domain import Structure
from alflow.errors import CampaignLocked, StoreError
from alflow.reference import LennardJones
from alflow.reference.config import Limits
from alflow.store import Holder, Store
from tests.postgresql import address

from .test_journal import CutAfter, PowerCut
from .toys import broken_promises, labels, rows, toy

TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'alembic_version'"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Database of a campaign that ended well."""
    config = toy(folder := tmp_path_factory.mktemp("whole"))
    with chdir(folder):
        run_campaign(config)
    return config.database


@pytest.fixture
def half(tmp_path: Path) -> str:
    """Database of a campaign that was cut half way."""
    folder = tmp_path / "half"
    folder.mkdir()
    config = toy(folder)
    with chdir(folder), pytest.raises(PowerCut):
        run_campaign(config, observers=[CutAfter(17)])
    return config.database


def test_a_campaign_stopped_half_way_goes_on_in_postgresql(
    whole: str, half: str, tmp_path: Path, postgres_target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = labels(half)
    copied = copy_database(half, postgres_target)
    assert copied.rows["labels"] == (len(before), 0)
    assert copied.rows["events"] == (17, 0)
    assert copied.folders[0].now == tmp_path / "toy.alflow"
    assert broken_promises(postgres_target) == {}
    ended = resume_campaign(postgres_target)
    assert ended.state.phase == "finished"
    assert ended.folder == tmp_path / "toy.alflow"
    assert broken_promises(postgres_target) == {}
    with Store.open(postgres_target, read_only=True) as store:
        found = sorted((label.structure.id, label.level.id) for label in store.labels())
        tried = [row.subject for row in store.executions(1, "label") if row.status == "done"]
    assert found == [row[:2] for row in labels(whole)], "it decides as it would have decided where it was"
    assert len(tried) == len(set(tried)) == len(found), "no label is computed twice"


@pytest.mark.sqlite_only("from a file to a server and back")
def test_what_comes_back_from_postgresql_is_bit_for_bit_what_went_there(
    whole: str, tmp_path: Path, postgres_target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    copy_database(whole, postgres_target)
    copy_database(postgres_target, str(tmp_path / "back.db"))
    for table in rows(whole, TABLES):
        query = f"SELECT * FROM {table[0]} ORDER BY 1, 2"
        assert rows(tmp_path / "back.db", query) == rows(whole, query), table
    assert broken_promises(tmp_path / "back.db") == {}
    weights = sorted((Path(whole).parent / "toy.alflow" / "weights").iterdir())
    back = sorted((tmp_path / "back.toy.alflow" / "weights").iterdir())
    assert [path.read_bytes() for path in back] == [path.read_bytes() for path in weights]
    with Store.open(postgres_target) as store:
        assert store.create_campaign("next", {}, seed=1).id == 2, "numbers go on after those that were copied"


def test_one_campaign_is_copied_without_the_others_and_with_what_it_uses_of_them(whole: str, tmp_path: Path) -> None:
    source = address(tmp_path / "both.db")
    argon = [Structure.of("ArAr", [[0, 0, 0], [3.5 + 0.1 * k, 0, 0]]) for k in range(4)]
    for name, some in (("first", argon[:3]), ("second", argon[1:])):
        label_structures(some, LennardJones(), Limits(), source, name, 1, InlineExecutor)
    copied = copy_database(source, address(tmp_path / "one.db"), "second")
    assert {name: copied.rows[name] for name in ("campaigns", "structures", "labels", "executions")} == {
        "campaigns": (1, 0),
        "structures": (3, 0),
        "labels": (3, 0),
        "executions": (1, 0),
    }
    assert rows(tmp_path / "one.db", "SELECT count(execution_key) FROM labels") == [(1,)]
    assert all(finding.holds for some in check_database(address(tmp_path / "one.db")).values() for finding in some)
    again = copy_database(source, address(tmp_path / "one.db"), "first")
    assert again.rows["labels"] == (1, 2)
    assert all(finding.holds for some in check_database(address(tmp_path / "one.db")).values() for finding in some)


def test_a_target_that_has_the_campaign_is_refused_and_left_as_it_is(whole: str, half: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"has campaign 1, 'toy', already; 'toy' is campaign 1 and keeps its name"):
        copy_database(whole, half)
    assert broken_promises(half) == {}
    with pytest.raises(StoreError, match="give another database to copy to"):
        copy_database(whole, whole)


def test_a_campaign_that_somebody_drives_is_not_copied(half: str, tmp_path: Path) -> None:
    with Store.open(half) as store:
        lease = store.acquire(1, Holder.current())
        with pytest.raises(CampaignLocked, match=r"driven by .*; stop it first, then copy"):
            copy_database(half, address(tmp_path / "copy.db"))
        assert rows(tmp_path / "copy.db", "SELECT count(*) FROM campaigns, structures") == [(0,)]
        store.release(lease, "stopped")
        dead = Holder(lease.holder.host, 2**22 + 1, lease.holder.mark)
        store.acquire(1, dead)
    copy_database(half, address(tmp_path / "copy.db"))
    assert rows(tmp_path / "copy.db", "SELECT state, holder FROM campaigns") == [("stopped", None)]


def test_a_copy_that_breaks_off_leaves_nothing(whole: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(before: Path, now: Path) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("alflow.campaign.copying._copy_files", no_space)
    with pytest.raises(OSError, match="No space left"):
        copy_database(whole, address(tmp_path / "copy.db"))
    assert rows(tmp_path / "copy.db", "SELECT count(*) FROM campaigns, structures, labels") == [(0,)]
    monkeypatch.undo()
    assert copy_database(whole, address(tmp_path / "copy.db")).rows["campaigns"] == (1, 0)


def test_the_command_prints_what_was_copied(whole: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["db", "copy", whole, address(tmp_path / "copy.db"), "--name", "toy"])
    assert done.exit_code == 0, done.output
    number = rows(whole, "SELECT count(*) FROM events")[0][0]
    assert any(line.split() == ["events", str(number), "–"] for line in done.output.splitlines())
    assert "read back from both sides" in done.output
