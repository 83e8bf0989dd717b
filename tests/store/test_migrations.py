"""The schema: made, brought up to date, taken back, and the same whichever way it was made."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import inspect

import alflow.store
from alflow.errors import StoreError
from alflow.store import Holder, Store
from alflow.store.opening import address_of, engine_of, writing
from alflow.store.schema import migration_config, migrations_folder
from alflow.store.tables import TableRow
from tests.postgresql import address

PACKAGE = Path(alflow.store.__file__).parent
ROOT = PACKAGE.parents[1]
MAKE_A_STORE = """
import sys
from alflow.store import Store
import alflow.store.schema
print(alflow.store.schema.migrations_folder())
with Store.open(sys.argv[1], create=True) as store:
    store.create_campaign("water", {}, seed=1)
"""


def run_alembic(target: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    url = f"sqlite:///{target}" if "://" not in target else target
    line = [sys.executable, "-m", "alembic", "-x", f"url={url}", *arguments]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="needs the source tree, for its pyproject.toml")
def test_the_migrations_make_exactly_the_tables_of_the_code(target: str) -> None:
    for step in (["upgrade", "head"], ["check"]):
        done = run_alembic(target, *step)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "No new upgrade operations detected" in done.stdout + done.stderr


def test_checks_that_alembic_does_not_compare_are_the_same_too(target: str, tmp_path: Path) -> None:
    migrated, direct = engine_of(address_of(target)), None
    Store.open(target, create=True).close()
    (tmp_path / "direct.db").touch()
    direct = engine_of(address_of(tmp_path / "direct.db"))
    TableRow.metadata.create_all(direct)
    for table in TableRow.metadata.tables:
        made, meant = (
            {check["name"]: _words(check["sqltext"]) for check in inspect(engine).get_check_constraints(table)}
            for engine in (migrated, direct)
        )
        assert made.keys() == meant.keys()
        if "://" not in target:  # PostgreSQL writes the same conditions in words of its own
            assert made == meant
    migrated.dispose()
    direct.dispose()


def _words(condition: str) -> list[str]:
    return condition.split()


def test_migrations_go_down_and_up_again(target: str) -> None:
    Store.open(target, create=True).close()
    engine = engine_of(address_of(target))
    with writing(engine) as connection:
        command.downgrade(migration_config(connection), "base")
    assert inspect(engine).get_table_names() == ["alembic_version"]
    engine.dispose()
    with Store.open(target, create=True) as store:
        store.create_campaign("water", {}, seed=1)


def test_an_older_schema_is_brought_up_to_date_when_a_campaign_goes_on_and_none_is_made(target: str) -> None:
    Store.open(target, create=True).close()
    engine = engine_of(address_of(target))
    with writing(engine) as connection:
        command.downgrade(migration_config(connection), "0001")
    with pytest.raises(StoreError, match="older schema 0001"):
        Store.open(target)
    Store.open(target, upgrade=True).close()
    Store.open(target).close()
    with writing(engine) as connection:
        command.downgrade(migration_config(connection), "base")
    with pytest.raises(StoreError, match="is empty; start a campaign there"):
        Store.open(target, upgrade=True)
    assert inspect(engine).get_table_names() == ["alembic_version"]
    engine.dispose()


def test_a_newer_schema_is_not_touched(target: str) -> None:
    _set_revision(target, "9999")
    for create in (True, False):
        with pytest.raises(StoreError, match=r"written by a newer alflow .schema 9999; this one knows up to 0006"):
            Store.open(target, create=create)


def test_a_half_made_schema_is_never_left_behind(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    upgrade = command.upgrade

    def fail_at_the_end(*arguments: object) -> None:
        upgrade(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(command, "upgrade", fail_at_the_end)
        with pytest.raises(KeyboardInterrupt):
            Store.open(target, create=True)
    engine = engine_of(address_of(target))
    assert inspect(engine).get_table_names() == []
    engine.dispose()


def test_many_processes_may_make_the_same_store_at_once(target: str) -> None:
    failures: list[BaseException] = []
    together = threading.Barrier(4)

    def make() -> None:
        together.wait()
        try:
            Store.open(target, create=True).close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    Store.open(target).close()


def test_migrations_inside_the_package_come_first(tmp_path: Path) -> None:
    package = tmp_path / "alflow" / "store"
    for folder in (package / "migrations", tmp_path / "db"):
        folder.mkdir(parents=True)
        (folder / "env.py").touch()
    assert migrations_folder(package) == package / "migrations"
    shutil.rmtree(package / "migrations")
    assert migrations_folder(package) == tmp_path / "db"
    shutil.rmtree(tmp_path / "db")
    with pytest.raises(StoreError, match="not installed completely"):
        migrations_folder(package)


def test_an_installed_package_makes_stores_without_the_source_tree(tmp_path: Path) -> None:
    site = tmp_path / "site%20packages"  # a percent sign means something in Alembic's configuration
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "alflow", site / "alflow", ignore=ignore)
    shutil.copytree(migrations_folder(), site / "alflow" / "store" / "migrations", ignore=ignore)
    _make_a_store_with(site, tmp_path)


@pytest.mark.skipif(importlib.util.find_spec("hatchling") is None, reason="hatchling, which builds wheels, is missing")
def test_the_wheel_makes_stores(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "pip", "wheel", str(ROOT), "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run(line, check=True, capture_output=True, timeout=200)
    zipfile.ZipFile(next(tmp_path.glob("*.whl"))).extractall(tmp_path / "site")
    _make_a_store_with(tmp_path / "site", tmp_path)


def _make_a_store_with(site: Path, folder: Path) -> None:
    # PYTHONPATH comes before the environment, so this copy of alflow is the one that runs
    environment = {**os.environ, "PYTHONPATH": str(site)}
    line = [sys.executable, "-c", MAKE_A_STORE, address(folder / "store.db")]
    done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(site / "alflow" / "store" / "migrations")
    with Store.open(address(folder / "store.db")) as store:
        assert store.campaign().name == "water"


def _set_revision(target: str, revision: str) -> None:
    Store.open(target, create=True).close()
    engine = engine_of(address_of(target))
    with writing(engine) as connection:
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")
    engine.dispose()


def test_an_older_store_keeps_its_frames_and_learns_the_new_column(target: str, samples: Any) -> None:
    with Store.open(target, create=True) as store:
        campaign = store.create_campaign("water", {}, seed=1)
        with store.transaction(store.acquire(campaign.id, Holder.current())) as tx:
            tx.add_frame(samples.frame(campaign.id, 1, extrapolation=0.25), samples.structure(1))
    engine = engine_of(address_of(target))
    with writing(engine) as connection:
        command.downgrade(migration_config(connection), "0001")
    engine.dispose()
    with Store.open(target, create=True) as store:
        (frame,) = store.frames(campaign.id)
        assert vars(frame) == vars(samples.frame(campaign.id, 1, extrapolation=None))
        with (
            pytest.raises(StoreError, match="extrapolation must be a finite number"),
            store.transaction(store.acquire(campaign.id, Holder.current(), take_over=True)) as tx,
        ):
            tx.add_frame(samples.frame(campaign.id, 2, extrapolation=float("nan")), samples.structure(2))
