"""Opening a store: it works, or one sentence says why not and what to do."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest
from sqlalchemy import event

from alflow.errors import StoreError
from alflow.store import Holder, Lease, Store
from alflow.store.filesystem import mount_of, refuse_network
from alflow.store.opening import address_of
from tests.campaign.toys import write
from tests.postgresql import address

MOUNTS = """\
sysfs /sys sysfs rw 0 0
/dev/vda / ext4 rw,relatime 0 0
filer:/export/home /home nfs4 rw,vers=4.2 0 0
/dev/sdb /home/ada/local ext4 rw 0 0
server:/big\\040data /mnt/big\\040data nfs rw 0 0
beegfs_nodev /scratch beegfs rw 0 0
"""


def test_a_store_is_found_again_where_it_was_made(target: str) -> None:
    with Store.open(target, create=True) as first:
        first.create_campaign("silicon", {}, seed=1)
    with Store.open(target) as again:
        assert again.campaign().name == "silicon"


def test_creating_twice_keeps_what_is_there(target: str) -> None:
    for name in ("first", "second"):
        with Store.open(target, create=True) as store:
            store.create_campaign(name, {}, seed=1)
    assert [campaign.name for campaign in store.campaigns()] == ["first", "second"]
    store.close()


@pytest.mark.sqlite_only("how a file is named")
def test_a_sqlite_url_is_a_path(tmp_path: Path) -> None:
    with Store.open(f"sqlite:///{tmp_path}/store.db", create=True):
        assert (tmp_path / "store.db").exists()


@pytest.mark.sqlite_only("a file that is not there")
def test_a_missing_file_is_not_made_by_accident(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"There is no store at .*typo\.db"):
        Store.open(tmp_path / "typo.db")
    assert not (tmp_path / "typo.db").exists()


@pytest.mark.sqlite_only("the folder of a file")
def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"The folder .*nowhere does not exist"):
        Store.open(tmp_path / "nowhere" / "store.db", create=True)


@pytest.mark.sqlite_only("a folder in place of a file")
def test_a_folder_is_not_a_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is a folder; a store is a file"):
        Store.open(tmp_path)


@pytest.mark.sqlite_only("the folder of a file")
def test_a_folder_nobody_can_write_to_is_refused() -> None:
    # /proc refuses new files even to root, for whom an ordinary read-only folder would be writable
    with pytest.raises(StoreError, match=r"read-only|cannot be written"):
        Store.open("/proc/store.db", create=True)


@pytest.mark.sqlite_only("a file of another kind")
@pytest.mark.parametrize("create", [True, False])
def test_a_file_that_is_not_a_database_stays_as_it_is(tmp_path: Path, create: bool) -> None:
    path = tmp_path / "thesis.db"
    path.write_text("Chapter 1. " * 1000)
    with pytest.raises(StoreError, match="this file is not an SQLite database"):
        Store.open(path, create=create)
    assert path.read_text() == "Chapter 1. " * 1000


def test_somebody_elses_database_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "other.db", "CREATE TABLE invoices (id INTEGER)")
    with pytest.raises(StoreError, match="already holds tables of something else \\(invoices\\)"):
        Store.open(address(tmp_path / "other.db"), create=True)


@pytest.mark.sqlite_only("an empty file")
def test_an_empty_file_is_a_store_only_when_asked(tmp_path: Path) -> None:
    (tmp_path / "store.db").touch()
    with pytest.raises(StoreError, match="is empty; start a campaign there"):
        Store.open(tmp_path / "store.db")
    Store.open(tmp_path / "store.db", create=True).close()


@pytest.mark.sqlite_only("SQLite in memory")
def test_a_store_needs_a_disk() -> None:
    with pytest.raises(StoreError, match="it needs a file"):
        Store.open("sqlite://", create=True)


def test_other_databases_are_refused_by_name() -> None:
    with pytest.raises(StoreError, match="begins with mysql://"):
        Store.open("mysql://ada:secret@host/db")


def test_an_unreachable_server_is_named_without_its_password() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(StoreError) as caught:
        Store.open(f"postgresql://ada:hunter2@127.0.0.1:{port}/carbon?connect_timeout=2")
    message = str(caught.value)
    assert message.startswith(f"postgresql://127.0.0.1:{port}/carbon cannot be reached")
    assert "hunter2" not in message
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("url", ["postgresql://ada:hunter2@host:p@rt/db", "postgresql://ada:hunter2@host:port/db"])
def test_a_url_that_cannot_be_understood_is_not_repeated(url: str) -> None:
    with pytest.raises(StoreError, match="cannot be understood") as caught:
        address_of(url)
    assert "hunter2" not in str(caught.value)


def test_a_password_in_the_query_is_blanked_out() -> None:
    address = address_of("postgresql://ada@host/db?password=hunter2")
    assert address.shown == "postgresql://host/db"
    assert address.without_secrets("invalid hunter2") == "invalid ***"


def test_a_missing_database_of_a_server_is_named(postgres: str) -> None:
    with pytest.raises(StoreError, match='database "nowhere" does not exist'):
        Store.open(postgres.replace("/postgres?", "/nowhere?"))


@pytest.mark.sqlite_only("its PRAGMAs; those of a connection to a server are in test_network.py")
def test_sqlite_is_set_to_survive_a_power_cut(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store.db", create=True) as store, store._reading() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
        }
    assert found == {"journal_mode": "wal", "synchronous": 2, "busy_timeout": 30_000, "foreign_keys": 1}


@pytest.mark.sqlite_only("its lock on the whole file")
def test_every_write_takes_the_lock_before_it_reads(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store.db", create=True) as store:
        campaign = store.create_campaign("water", {}, seed=1)
        lease = store.acquire(campaign.id, Holder.current())
        seen: list[str] = []
        event.listen(store._engine, "before_cursor_execute", lambda *call: seen.append(call[2]))
        with store.transaction(lease) as tx:
            tx.append_event("started", {})
    assert seen[0] == "BEGIN IMMEDIATE"
    assert seen[1].startswith("UPDATE campaigns SET beat=")


def test_a_read_only_store_reads_and_never_writes(target: str) -> None:
    with Store.open(target, create=True) as store:
        campaign = store.create_campaign("water", {}, seed=1)
    before = None if "://" in target else Path(target).read_bytes()
    with Store.open(target, read_only=True) as store:
        assert store.campaign().name == "water"
        with pytest.raises(StoreError, match="open for reading only; nothing was written"):
            store.create_campaign("other", {}, seed=1)
        with pytest.raises(StoreError, match="open for reading only"):
            store.acquire(campaign.id, Holder.current())
        lease = Lease(campaign.id, 0, Holder.current())
        with pytest.raises(StoreError, match="open for reading only"), store.transaction(lease) as tx:
            tx.append_event("never", {})
    assert before is None or Path(target).read_bytes() == before


def test_read_only_sees_what_a_writer_commits_meanwhile(target: str) -> None:
    with Store.open(target, create=True) as writer, Store.open(target, read_only=True) as reader:
        writer.create_campaign("water", {}, seed=1)
        assert [campaign.name for campaign in reader.campaigns()] == ["water"]


@pytest.mark.sqlite_only("a file in a folder nobody can write to")
def test_an_archived_store_is_read_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(tmp_path / "store.db", create=True) as store:
        store.create_campaign("water", {}, seed=1)
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # for root every folder is writable
    with Store.open(tmp_path / "store.db", read_only=True) as archive:
        assert archive.campaign().name == "water"
    assert [path.name for path in tmp_path.iterdir()] == ["store.db"]


def test_creating_and_reading_only_contradict_each_other(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="choose one"):
        Store.open(address(tmp_path / "store.db"), create=True, read_only=True)


@pytest.mark.parametrize(
    ("folder", "kind"),
    [("/home/ada", "nfs4"), ("/mnt/big data/x", "nfs"), ("/scratch/run", "beegfs")],
)
def test_a_network_file_system_is_refused_with_a_way_out(folder: str, kind: str) -> None:
    with pytest.raises(StoreError, match=rf"network file system \({kind}, .*PostgreSQL"):
        refuse_network(Path(folder), MOUNTS)


@pytest.mark.parametrize("folder", ["/home/ada/local/run", "/var/tmp", "/homestead"])
def test_a_disk_of_this_machine_is_welcome(folder: str) -> None:
    refuse_network(Path(folder), MOUNTS)


def test_the_later_of_two_mounts_on_one_point_counts() -> None:
    mounts = "/dev/vda / ext4 rw 0 0\nautofs /data autofs rw 0 0\nfiler:/x /data nfs rw 0 0\n"
    assert mount_of(Path("/data/run"), mounts) == ("/data", "nfs")


def test_a_machine_without_a_mounts_table_is_trusted() -> None:
    refuse_network(Path("/home"), "")


@pytest.mark.sqlite_only("a file is copied")
def test_a_copied_file_is_a_whole_store(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store.db", create=True) as store:
        store.create_campaign("water", {}, seed=1)
    shutil.copy(tmp_path / "store.db", tmp_path / "copy.db")
    with Store.open(tmp_path / "copy.db", read_only=True) as copy:
        assert copy.campaign().name == "water"


@pytest.mark.sqlite_only("a file is removed")
@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_is_taken_away_is_missed_at_once(tmp_path: Path, replaced: bool) -> None:
    # The system would let a campaign go on writing to it, and forget all of it when the campaign ends.
    home, away = tmp_path / "store.db", tmp_path / "moved.db"
    with Store.open(home, create=True) as store:
        campaign = store.create_campaign("silicon", {}, seed=1)
        lease = store.acquire(campaign.id, Holder.current())
        home.rename(away)
        if replaced:
            home.touch()
        what = "was replaced by another file" if replaced else "was removed or moved away"
        with pytest.raises(StoreError, match=rf"store\.db {what} while it was open; nothing of this"):
            store.write(lease, lambda tx: tx.append_event("started", {}))
        with pytest.raises(StoreError, match=what):
            store.campaigns()
        away.rename(home)
        store.write(lease, lambda tx: tx.append_event("started", {}))
    with Store.open(home, read_only=True) as again:
        assert [event.kind for event in again.events(campaign.id)] == ["started"]
