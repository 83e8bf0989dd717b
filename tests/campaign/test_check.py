"""``alflow db check``: it finds nothing in a sound database, and each kind of damage by its name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import numpy as np
import psycopg
import pytest
from typer.testing import CliRunner

from alflow.campaign.checking import check_database
from alflow.campaign.copying import copy_database
from alflow.campaign.launch import run_campaign
from alflow.cli import app
from alflow.domain import Evaluation
from alflow.reference.spool import write_spooled
from alflow.store.arrays import encode
from alflow.store.location import is_server
from tests.postgresql import address

from .toys import broken_promises, check_promises, literal, rows, toy, write

LIKE_BEFORE_VIEWS = "PRAGMA legacy_alter_table = ON; "  # else SQLite refuses: views show the table that is renamed
COPY_WITHOUT_KEYS = LIKE_BEFORE_VIEWS + (
    "CREATE TABLE plain AS SELECT * FROM {0}; DROP TABLE {0}; ALTER TABLE plain RENAME TO {0};"
)
ONE_LABEL = "(SELECT execution_key FROM labels ORDER BY structure_id LIMIT 1)"
COLUMNS = "campaign_id, kind, subject, attempt, epoch, started_at, ended_at, status, message"
DONE = "WHERE state = 'done'"
LAST_EVENT = "(SELECT max(seq) FROM events)"
SQL = {
    "references": "DELETE FROM levels",
    "one label": COPY_WITHOUT_KEYS.format("labels") + "INSERT INTO labels SELECT * FROM labels LIMIT 1",
    "makers": f"UPDATE executions SET status = 'failed' WHERE key = {ONE_LABEL}",
    "paid once": (
        f"INSERT INTO executions ({COLUMNS}, key)"
        f" SELECT {COLUMNS}, 'c1-e9-' || key FROM executions WHERE key = {ONE_LABEL}"
    ),
    "done jobs": "DELETE FROM labels WHERE structure_id = (SELECT min(structure_id) FROM labels)",
    "ends": f"UPDATE executions SET status = 'running', ended_at = NULL WHERE key = {ONE_LABEL}",
    "journal": "DELETE FROM events WHERE seq = 3",
    "datasets": "UPDATE datasets SET n_train = n_train + 1",
    "contents": "UPDATE structures SET charge = 2 WHERE id = (SELECT min(id) FROM structures)",
    "levels": "UPDATE levels SET settings_json = '{}'",
    "numbers": COPY_WITHOUT_KEYS.format("labels") + "UPDATE labels SET energy_ev = 9e999",
    "arrays": "UPDATE labels SET forces_ev_ang = substr(forces_ev_ang, 1, 40)",
    "replay": "UPDATE events SET kind = 'nonsense', payload_json = '{\"kind\":\"nonsense\"}' WHERE seq = 4",
    "executions": "DELETE FROM executions WHERE kind = 'train' AND id = (SELECT max(id) FROM executions)",
    "in flight": f"UPDATE executions SET status = 'running', ended_at = NULL WHERE key = {ONE_LABEL}",
    "state": f"DELETE FROM events WHERE seq > {LAST_EVENT} / 2",
    "jobs": "UPDATE label_jobs SET attempts = 2 WHERE id = (SELECT min(id) FROM label_jobs)",
    "attempts": "UPDATE label_jobs SET attempts = 99 WHERE id = (SELECT min(id) FROM label_jobs)",
    "labels": f"UPDATE label_jobs SET state = 'dropped' WHERE id = (SELECT min(id) FROM label_jobs {DONE})",
    "checkpoints": "UPDATE walkers SET step = step + 1 WHERE walker = 0",
    "digests": "DELETE FROM dataset_members WHERE rowid = 1",
}
"""How each invariant is broken in SQL."""


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Database of a campaign that ended well."""
    folder = tmp_path_factory.mktemp("sound")
    config = toy(folder)
    with chdir(folder):
        run_campaign(config)
    return config.database


@pytest.fixture
def copied(sound: str, tmp_path: Path) -> Path:
    """The same with its files, to be damaged."""
    if is_server(sound):
        copy_database(sound, address(tmp_path / "toy.db"))
    else:
        shutil.copytree(Path(sound).parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / "toy.db"


def test_a_sound_database_breaks_nothing(sound: str) -> None:
    found = check_database(sound, deep=True)
    assert {name for findings in found.values() for name in [f.name for f in findings]} == {"file", *SQL, *FILES}
    assert all(finding.holds and finding.sentence.endswith(".") for findings in found.values() for finding in findings)
    unlooked = {finding.name for findings in found.values() for finding in findings if not finding.checked}
    assert unlooked == {"spool"} | ({"file"} if is_server(sound) else set()), (
        "an invariant that looks at nothing finds nothing"
    )
    check_promises(sound)


@pytest.mark.sqlite_only("PostgreSQL refuses some of it; what it takes has a test of its own")
@pytest.mark.parametrize("name", SQL)
def test_damage_of_the_rows_is_named(copied: Path, name: str) -> None:
    write(copied, SQL[name])
    broken = broken_promises(copied)
    assert name in broken
    assert all(broken[name])


UNCONSTRAINED = [
    name for name, script in SQL.items() if name != "references" and not {"plain", "rowid"} & set(script.split())
]
"""Damage that PostgreSQL does not refuse."""


@pytest.mark.parametrize("name", [name for name in UNCONSTRAINED if name not in ("done jobs", "arrays")])
def test_damage_of_the_rows_is_named_on_postgresql(
    sound: str, tmp_path: Path, postgres_target: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    copy_database(sound, postgres_target)
    assert broken_promises(postgres_target) == {}
    with psycopg.connect(postgres_target) as connection:
        connection.execute(SQL[name].encode())
    assert name in broken_promises(postgres_target)


def no_weights(folder: Path) -> str:
    for path in (folder / "weights").iterdir():
        path.unlink()
    return "of the active committee is missing"


def other_weights(folder: Path) -> str:
    for path in (folder / "weights").iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    return "is not what was written"


def unasked_label(folder: Path) -> str:
    write_spooled(folder / "spool", "a" * 64, "b" * 64, Evaluation(0.0, np.zeros((1, 3))), {})
    return "nobody asked for it"


def torn_label(folder: Path) -> str:
    path = write_spooled(folder / "spool", "a" * 64, "b" * 64, Evaluation(0.0, np.zeros((1, 3))), {})
    path.write_bytes(path.read_bytes()[:50])
    return "is not a whole spool file"


FILES: dict[str, list[Callable[[Path], str]]] = {
    "weights": [no_weights, other_weights],
    "spool": [unasked_label, torn_label],
}


@pytest.mark.parametrize(("name", "damage"), [(name, damage) for name, some in FILES.items() for damage in some])
def test_damage_of_the_files_is_named_and_left_as_it_is(copied: Path, name: str, damage: Callable[[Path], str]) -> None:
    words = damage(copied.parent / "toy.alflow")
    before = sorted((copied.parent / "toy.alflow").rglob("*"))
    broken = broken_promises(copied)
    assert set(broken) == {name}
    assert words in broken[name][0]
    assert sorted((copied.parent / "toy.alflow").rglob("*")) == before


@pytest.mark.sqlite_only("a page of the file is damaged")
def test_a_damaged_file_is_told_before_anything_else(copied: Path) -> None:
    page = rows(copied, "SELECT rootpage FROM sqlite_master WHERE name LIKE 'ix_frames_structure_id%'")[0][0]
    with copied.open("r+b") as file:
        file.seek(4096 * (page - 1) + 4000)
        file.write(b"\xff" * 90)
    assert set(broken_promises(copied)) == {"file"}


def test_an_array_that_is_not_finite_is_found(copied: Path) -> None:
    forces = bytearray(encode(np.zeros((3, 3)), "forces"))
    forces[16:24] = np.array([np.nan]).tobytes()
    write(copied, f"UPDATE labels SET forces_ev_ang = {literal(copied, bytes(forces))}")
    assert "is not finite" in broken_promises(copied)["arrays"][0]


def test_the_command_prints_every_invariant_and_ends_with_1_if_one_is_broken(copied: Path) -> None:
    good = CliRunner().invoke(app, ["db", "check", address(copied)])
    assert good.exit_code == 0
    assert f"All {len(SQL) + len(FILES) + 1} invariants hold." in good.output
    name = rows(copied, "SELECT min(id) FROM label_jobs")[0][0]
    write(copied, SQL["jobs"])
    bad = CliRunner().invoke(app, ["db", "check", address(copied), "toy"])
    assert bad.exit_code == 1
    assert "1 of " in bad.output
    assert f"job of frame {name}: " in bad.output


def test_a_campaign_that_runs_is_checked_as_it_was_at_one_moment(tmp_path: Path) -> None:
    """Between any two events of a campaign every invariant holds."""
    config = toy(tmp_path, label_budget=8)
    seen: list[dict[str, tuple[str, ...]]] = []

    class Checker:
        def seen(self, state: object, event: object) -> None:
            if event is not None:
                seen.append(broken_promises(config.database))

    run_campaign(config, observers=[Checker()])
    assert len(seen) > 12
    assert all(broken == {} for broken in seen), [broken for broken in seen if broken]
