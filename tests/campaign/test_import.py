"""Labels of a file: each once, never half, at the level that was stated, and with where they come from."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from alflow.campaign import import_console
from alflow.campaign.executors import InlineExecutor
from alflow.campaign.import_console import import_file
from alflow.campaign.labelling import label_structures
from alflow.cli import app
from alflow.domain import Structure
from alflow.errors import ConfigError, FormatError
from alflow.formats import open_source
from alflow.reference import LennardJones
from alflow.reference.config import Limits
from tests.postgresql import address

from .toys import broken_promises, rows, rows_so_far

LEVEL = "HF/STO-3G, by hand"
ARGON = "engine: lennard-jones\n"


def molecules(n: int, seed: int = 0) -> dict[str, Any]:
    """Water in so many geometries, with numbers that a Hartree–Fock calculation could give, in eV."""
    dice = np.random.default_rng(seed)
    water = np.array([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]])
    return {
        "nuclear_charges": np.array([8, 1, 1]),
        "coords": water + dice.normal(0, 0.02, (n, 3, 3)),
        "energies": dice.normal(-2040.0, 0.1, n),
        "forces": dice.normal(0, 1, (n, 3, 3)),
    }


def joined(first: dict[str, Any], then: dict[str, Any]) -> dict[str, Any]:
    both = {name: np.concatenate([array, then[name]]) for name, array in first.items()}
    return {**both, "nuclear_charges": first["nuclear_charges"]}


def take(folder: Path, arrays: dict[str, Any], file: str = "some.npz", **options: Any) -> Any:
    np.savez(folder / file, e_unit="eV", **arrays)
    database = options.pop("database", address(folder / "labels.db"))
    return import_file(folder / file, LEVEL, database, "imported", **options)


def test_a_label_is_imported_once_and_another_value_is_a_conflict_that_loses(tmp_path: Path, database: str) -> None:
    arrays = molecules(30)
    first = take(tmp_path, arrays, database=database)
    assert (first.new, first.known, first.repeated, len(first.conflicts)) == (30, 0, 0, 0)
    twice = joined(arrays, {name: array[:4] for name, array in arrays.items()})
    twice["energies"][31] += 0.5
    twice["energies"][2] += 1e-8  # as much as is lost where a file has few digits
    more = molecules(5, seed=1)
    second = take(tmp_path, joined(twice, more), "more.npz", database=database)
    assert (second.new, second.known, second.repeated) == (5, 30, 3)
    (conflict,) = second.conflicts
    assert conflict.place == "frame 31"
    assert conflict.energy_ev == pytest.approx(0.5)
    assert rows(database, "SELECT count(*) FROM labels") == [(35,)]
    stored = rows(database, "SELECT energy_ev FROM labels ORDER BY energy_ev")
    assert [energy for (energy,) in stored] == sorted([*arrays["energies"], *more["energies"]]), "the first stay"
    assert broken_promises(database) == {}


def test_where_a_label_comes_from_is_stored_with_it(tmp_path: Path) -> None:
    take(tmp_path, molecules(3))
    ((text,),) = rows(tmp_path / "labels.db", "SELECT provenance_json FROM labels ORDER BY energy_ev LIMIT 1")
    told = json.loads(text)
    assert told["imported_from"].endswith("some.npz")
    assert told["place"].startswith("frame ")
    assert told["level_stated_as"] == LEVEL
    assert "energies in eV" in told["units"]
    assert len(told["file_sha256"]) == 64
    ((engine, settings),) = rows(tmp_path / "labels.db", "SELECT engine, settings_json FROM levels")
    assert (engine, json.loads(settings)) == ("imported", {"description": LEVEL})
    ((state,),) = rows(tmp_path / "labels.db", "SELECT state FROM campaigns")
    assert state == "finished"


def test_an_imported_label_of_a_reference_is_not_computed_again(tmp_path: Path) -> None:
    """The level of a reference's file is that of a label which this reference computes."""
    pairs = [Structure.of(["Ar", "Ar"], [[0, 0, 0], [0, 0, distance]]) for distance in (3.7, 3.9)]
    reference, here, there = LennardJones(), address(tmp_path / "here.db"), address(tmp_path / "there.db")
    label_structures(pairs, reference, Limits(), there, "labels", 1, InlineExecutor)
    (tmp_path / "level.yaml").write_text(ARGON)
    export = CliRunner().invoke(app, ["export", there, str(tmp_path / "out.db")])
    assert export.exit_code == 0, export.output
    done = import_file(tmp_path / "out.db", str(tmp_path / "level.yaml"), here, "imported")
    assert (done.new, done.level.id) == (2, reference.level.id)
    found = label_structures(pairs, reference, Limits(), here, "labels", 1, lambda: pytest.fail("nothing to compute"))
    assert [item.state for item in found] == ["known", "known"]
    as_written = import_file(tmp_path / "out.db", "as-written", here, "again")
    assert (as_written.known, as_written.level.id) == (2, reference.level.id)
    assert broken_promises(here) == {}


def test_labels_and_imports_may_share_a_name_of_one_level(tmp_path: Path) -> None:
    pairs = [Structure.of(["Ar", "Ar"], [[0, 0, 0], [0, 0, distance]]) for distance in (3.7, 3.9, 4.1)]
    database = address(tmp_path / "one.db")
    label_structures(pairs[:2], LennardJones(), Limits(), database, "all", 1, InlineExecutor)
    assert CliRunner().invoke(app, ["export", database, str(tmp_path / "out.h5")]).exit_code == 0
    assert import_file(tmp_path / "out.h5", "as-written", database, "all").known == 2
    found = label_structures(pairs, LennardJones(), Limits(), database, "all", 1, InlineExecutor)
    assert [item.state for item in found] == ["known", "known", "done"]
    assert broken_promises(database) == {}
    assert CliRunner().invoke(app, ["status", database, "all"]).exit_code == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda a: a["energies"].__imul__(23.06),
            r"some\.npz, frame 0: an energy of .* below that of all electrons of H2O",
        ),
        (lambda a: a["forces"][4].__iadd__(2000.0), r"frame 4: a force of .* is more than 1000 eV/Å"),
        (lambda a: a["coords"].__imul__(1.89), "frame 0: .* are lengths in Bohr"),
        (lambda a: a["coords"].__imul__(0.1), "frame 0: .* are lengths in nm"),
        (lambda a: a["forces"][7].__imul__(np.nan), "frame 7: the force on atom 0 is not finite"),
    ],
)
def test_a_file_with_one_bad_frame_or_other_units_leaves_nothing(tmp_path: Path, change: Any, said: str) -> None:
    arrays = molecules(10)
    change(arrays)
    with pytest.raises(FormatError, match=said):
        take(tmp_path, arrays)
    assert not (tmp_path / "labels.db").exists()
    assert rows_so_far(tmp_path / "labels.db", "SELECT count(*) FROM labels") == []


def test_what_looks_wrong_can_be_taken_all_the_same(tmp_path: Path) -> None:
    arrays = molecules(4)
    arrays["forces"] *= 1e4
    assert take(tmp_path, arrays, implausible=True).new == 4


@pytest.mark.parametrize(
    ("level", "said"),
    [
        ("", "--level is empty"),
        ("standrad", "Did you mean 'standard'"),
        ("missing.yaml", "there is no such file"),
        ("as-written", "says nothing of a level of theory"),
    ],
)
def test_a_level_that_is_not_stated_is_not_guessed(tmp_path: Path, level: str, said: str) -> None:
    np.savez(tmp_path / "some.npz", e_unit="eV", **molecules(3))
    with pytest.raises(ConfigError, match=said):
        import_file(tmp_path / "some.npz", level, address(tmp_path / "labels.db"), "imported")
    assert not (tmp_path / "labels.db").exists()
    assert rows_so_far(tmp_path / "labels.db", "SELECT count(*) FROM labels") == []


def test_one_name_holds_one_level(tmp_path: Path) -> None:
    take(tmp_path, molecules(3))
    with pytest.raises(ConfigError, match="another level of theory"):
        import_file(tmp_path / "some.npz", "something else", address(tmp_path / "labels.db"), "imported")


def test_the_command_line_says_what_became_of_the_labels(tmp_path: Path) -> None:
    arrays = molecules(5)
    take(tmp_path, arrays)
    arrays["energies"][3] += 1.0
    np.savez(tmp_path / "other.npz", e_unit="eV", **arrays)
    line = ["import", str(tmp_path / "other.npz"), "--level", LEVEL, "--db", address(tmp_path / "labels.db")]
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 3
    assert "0 labels imported, 4 were known, 0 stand in the file again, 1 conflicts" in result.output
    assert "frame 3: structure" in result.output
    assert "differ by +1 eV" in result.output


@pytest.mark.parametrize("name", ["out.xyz", "out.db", "out.h5", "out"])
def test_labels_go_from_one_database_to_another_unchanged(tmp_path: Path, name: str) -> None:
    take(tmp_path, molecules(7))
    runner = CliRunner()
    assert runner.invoke(app, ["export", address(tmp_path / "labels.db"), str(tmp_path / name)]).exit_code == 0
    refused = runner.invoke(app, ["export", address(tmp_path / "labels.db"), str(tmp_path / name)])
    assert "exists" in str(refused.exception)
    done = import_file(tmp_path / name, "as-written", address(tmp_path / "copy.db"), "imported")
    assert done.new == 7
    query = "SELECT structure_id, level_id, energy_ev, forces_ev_ang, diagnostics_json FROM labels ORDER BY 1"
    assert rows(tmp_path / "copy.db", query) == rows(tmp_path / "labels.db", query)
    (entry, *_) = open_source(tmp_path / name)
    assert entry.told["campaign"] == "imported"
    assert entry.told["provenance"]["level_stated_as"] == LEVEL


def test_a_terminal_shows_a_bar_for_each_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    terminal = Console(file=shown, force_terminal=True, width=100)
    monkeypatch.setattr(import_console, "Console", lambda: terminal)
    assert take(tmp_path, molecules(60)).new == 60
    for what in ("checking", "importing"):
        assert re.search(rf"{what}.*60/60", shown.getvalue()), shown.getvalue()


def test_the_status_of_an_import_speaks_of_no_workers(tmp_path: Path) -> None:
    take(tmp_path, molecules(3))
    told = CliRunner().invoke(app, ["status", address(tmp_path / "labels.db")])
    assert told.exit_code == 0
    assert re.search(r"labels +3 done", told.stdout)
    assert "Time since the first label" not in told.stdout


def test_one_split_can_be_exported(tmp_path: Path) -> None:
    take(tmp_path, molecules(3))
    line = ["export", address(tmp_path / "labels.db"), str(tmp_path / "out.xyz"), "--split"]
    assert CliRunner().invoke(app, [*line, "train"]).exit_code == 0
    assert "no label of the split audit" in str(CliRunner().invoke(app, [*line, "audit", "--overwrite"]).exception)
    wrong = CliRunner().invoke(app, [*line, "trian", "--overwrite"])
    assert "Did you mean 'train'" in str(wrong.exception)


def test_an_import_that_is_killed_is_run_again(tmp_path: Path) -> None:
    """Batches are stored whole or not at all, and the second run finds what the first has stored."""
    n, database = 10_000, address(tmp_path / "labels.db")
    np.savez(tmp_path / "some.npz", e_unit="eV", **molecules(n))
    line = [sys.executable, "-m", "alflow.cli", "import", str(tmp_path / "some.npz"), "--level", LEVEL]
    line += ["--db", database]
    running = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 120
        while _stored(database) == 0 and time.monotonic() < until and running.poll() is None:
            time.sleep(0.02)
    finally:
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
    before = _stored(database)
    assert 0 < before < n
    assert before % 1000 == 0, "a batch is whole"
    assert broken_promises(database) == {}
    again = subprocess.run(line, capture_output=True, text=True, check=True, timeout=240)
    assert f"{n - before} labels imported, {before} were known" in again.stdout
    assert _stored(database) == n
    assert rows(database, "SELECT count(*) FROM label_jobs WHERE state = 'done'") == [(n,)]
    assert broken_promises(database) == {}


def _stored(database: str) -> int:
    return sum(count for (count,) in rows_so_far(database, "SELECT count(*) FROM labels"))
