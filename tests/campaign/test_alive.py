"""``alflow status --alive``: whether whoever drives a campaign still beats, told by two looks of two processes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from alflow.campaign import alive
from alflow.cli import main
from alflow.errors import ConfigError
from alflow.store import CampaignState, Holder, Lease, Store

HOLDER = Holder("node7", 4242, "boot:pid:1")
DASK = {"config": {"executor": "dask"}}


class Probe:
    """Looks at a campaign as a health check does, at times of our own."""

    def __init__(self, database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.database, self.now_s = database, 5000.0
        self._monkeypatch, self._capsys = monkeypatch, capsys
        monkeypatch.setattr("alflow.campaign.alive.time.monotonic", lambda: self.now_s)

    def look(self, *words: str) -> tuple[int, str]:
        """Exit code, and what is printed."""
        self._monkeypatch.setattr(sys, "argv", ["alflow", "status", "--alive", self.database, *words])
        with pytest.raises(SystemExit) as ended:
            main()
        told = self._capsys.readouterr()
        return int(ended.value.code or 0), (told.out + told.err).strip()


@pytest.fixture
def driven(database: str) -> Iterator[tuple[Store, Lease]]:
    """A campaign that somebody drives."""
    with Store.open(database, create=True) as store:
        yield store, store.acquire(store.create_campaign("toy", DASK, seed=1).id, HOLDER)


@pytest.fixture
def probe(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Probe:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return Probe(database, monkeypatch, capsys)


def kept() -> Path:
    """The only file of the temporary folder."""
    (file,) = Path(tempfile.gettempdir()).iterdir()
    return file


def test_the_first_look_tells_nothing_and_a_beat_that_moves_is_a_sign_of_life(
    driven: tuple[Store, Lease], probe: Probe
) -> None:
    store, lease = driven
    assert probe.look() == (0, "'toy' is driven by node7:4242, which is looked at for the first time.")
    for _ in range(3):
        probe.now_s += 1000
        store.beat(lease)
        assert probe.look("toy") == (0, "'toy' is driven by node7:4242, which beats.")
    assert json.loads(kept().read_text()) == {"epoch": 1, "beat": 4, "at_s": 8000.0}


def test_a_beat_that_stands_still_for_two_minutes_ends_with_exit_code_1(
    driven: tuple[Store, Lease], probe: Probe
) -> None:
    store, lease = driven
    probe.look()
    for passed_s in (20.0, 119.0):
        probe.now_s = 5000 + passed_s
        code, told = probe.look()
        assert (code, told.partition(";")[2]) == (
            0, f" the beat is what it was {passed_s:.0f} s ago, which tells nothing before 120 s."
        )  # fmt: skip
    for passed_s in (120.0, 600.0):  # however often it is looked at meanwhile
        probe.now_s = 5000 + passed_s
        code, told = probe.look()
        assert code == 1
        assert told.startswith(f"'toy' is driven by node7:4242, whose beat has stood still for {passed_s:.0f} s: it is")
    store.beat(lease)
    assert probe.look()[0] == 0
    probe.now_s += 119
    assert probe.look()[0] == 0
    store.acquire(lease.campaign_id, HOLDER)
    probe.now_s += 119
    assert probe.look() == (0, "'toy' is driven by node7:4242, which beats.")


@pytest.mark.parametrize("state", ["finished", "stopped", "failed"])
def test_a_campaign_that_nobody_drives_needs_no_beat(
    driven: tuple[Store, Lease], probe: Probe, state: CampaignState
) -> None:
    store, lease = driven
    probe.look()
    store.release(lease, state)
    probe.now_s += 1000
    assert probe.look() == (0, f"'toy' is {state}, and nobody drives it.")


DAMAGED: Final = (
    *("", "{", "null", "[]", '"x"', "[" * 5000, "{}", '{"epoch": 1, "beat": 1}', '{"epoch": 1, "beat": 1, "at_s": []}'),
    *(f'{{"epoch": 1, "beat": 1, "at_s": {at}}}' for at in ("NaN", "Infinity", "-Infinity", "-1", "5001", '"soon"')),
    *('{"epoch": 1, "beat": Infinity, "at_s": 1}', '{"epoch": "x", "beat": 1, "at_s": 1}', "\udcff"),
)


def test_a_file_that_cannot_be_what_was_seen_counts_as_no_look(driven: tuple[Store, Lease], tmp_path: Path) -> None:
    """Also one of before the machine was started again: its clock was further on then."""
    campaign, file = driven[0].campaign(), tmp_path / "look.json"
    for content in DAMAGED:
        file.write_bytes(content.encode(errors="surrogateescape"))
        told = alive.is_alive(campaign, file, 5000.0)
        assert told == (True, "'toy' is driven by node7:4242, which is looked at for the first time."), content
        assert not alive.is_alive(campaign, file, 5000.0 + alive.STILL_S)[0], content


def test_what_was_seen_of_another_campaign_tells_nothing(
    driven: tuple[Store, Lease], probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe.look()
    driven[0].acquire(driven[0].create_campaign("other", DASK, seed=1).id, HOLDER)
    probe.now_s += 1000
    assert probe.look("other")[1] == "'other' is driven by node7:4242, which is looked at for the first time."
    assert probe.look("toy")[0] == 1
    code, told = probe.look()
    assert (code, "name one of them: other, toy" in told) == (2, True)
    code, told = probe.look("othr")
    assert (code, "There is no campaign 'othr'. Did you mean 'other'?" in told) == (2, True)


def test_a_campaign_without_workers_beats_between_its_tasks_only(database: str, probe: Probe) -> None:
    with Store.open(database, create=True) as store:
        store.acquire(store.create_campaign("toy", {"config": {"executor": "inline"}}, seed=1).id, HOLDER)
    probe.look()
    probe.now_s += 1000
    code, told = probe.look()
    assert (code, "between two tasks only" in told) == (0, True)


def test_what_cannot_be_remembered_is_said_and_nothing_is_left_behind(
    driven: tuple[Store, Lease], tmp_path: Path
) -> None:
    campaign = driven[0].campaign()
    with pytest.raises(ConfigError, match="name another folder with TMPDIR"):
        alive.is_alive(campaign, tmp_path / "missing" / "look.json", 1.0)
    (tmp_path / "look.json").mkdir()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="cannot be written"):
        alive.is_alive(campaign, tmp_path / "look.json", 1.0)
    assert sorted(tmp_path.iterdir()) == before


def test_the_probe_reads_the_campaign_alone_and_loads_neither_torch_nor_dask(
    driven: tuple[Store, Lease], probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs every minute, beside an orchestrator that has better things to do."""
    asked: list[Any] = []
    for name in ("executions", "events", "frames", "jobs"):
        monkeypatch.setattr(Store, name, lambda *given: asked.append(given))
    probe.look()
    assert asked == []
    script = "import sys, alflow.campaign.alive; print({'torch', 'distributed', 'pyscf'} & set(sys.modules))"
    assert said_by(script) == "set()"


def test_the_clock_is_the_same_for_all_processes_of_this_machine() -> None:
    before = time.monotonic()
    told = float(said_by("import time; print(time.monotonic())"))
    assert before <= told <= time.monotonic()


def said_by(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()
