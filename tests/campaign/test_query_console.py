"""``alflow query``: the same rows in every format, streamed, and one sentence for whatever is wrong."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.io import read
from click.testing import Result
from typer.testing import CliRunner

from alflow.cli import app
from alflow.domain import Evaluation, Label, Level, Structure
from alflow.errors import AlflowError
from alflow.store import FrameRecord, Holder, JobRecord, Store
from alflow.store.asking.columns import COLUMNS, DEFAULT_COLUMNS
from tests.postgresql import address

N = 30
LEVEL = Level("toy", {"depth_ev": 4.5})


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = address(tmp_path_factory.mktemp("query") / "water.db")
    with Store.open(path, create=True) as store:
        campaign = store.create_campaign("water", {}, seed=1)
        lease = store.acquire(campaign.id, Holder.current())
        with store.transaction(lease) as tx:
            tx.add_level(LEVEL)
            for number in range(N):
                structure = Structure.of("OHH", [[0, 0, 0], [0.96 + 0.001 * number, 0, 0], [-0.24, 0.93, 0]])
                seq = tx.append_event("label_done", {"max_error": 0.25})
                name = f"f{number:02d}"
                seen = {"walker": 1, "step": number, "generation": 2, "disagreement": 0.1 * number}
                frame = FrameRecord(
                    name, campaign.id, structure.id, "walker", "flagged", reason="[bold]=x", event_seq=seq, **seen
                )
                tx.add_frame(frame, structure)
                tx.add_label(Label(structure, LEVEL, Evaluation(-76.0 - number / 7, np.full((3, 3), number / 3))))
                ids = (structure.id, LEVEL.id)
                tx.put_job(JobRecord(name, campaign.id, name, *ids, purpose="flagged", state="done", event_seq=seq))
        store.release(lease, "finished")
    return path


def asked(*words: Any) -> Result:
    return CliRunner().invoke(app, ["query", *(str(word) for word in words)])


def test_a_table_shows_twenty_rows_and_says_that_there_are_more(database: str) -> None:
    shown = asked(database, "formula = HOH and generation >= 2")
    assert shown.exit_code == 0, shown.output
    lines = shown.stdout.splitlines()
    assert lines[0].split() == list(DEFAULT_COLUMNS)
    assert lines[2].split() == ["f01", "H2O", "2", "0.1", "flagged", "done", "-76.142857", "0.5774", "0.25"]
    assert lines[-1].startswith("… and more; --limit N")
    assert len(lines) == 22
    assert len(asked(database, "--limit", 3).stdout.splitlines()) == 4
    assert "[bold]=x" in asked(database, "--columns", "reason,positions,labelled_at,split", "--limit", 1).stdout
    assert asked(database, "disagreement > 1e9").stdout == "No frame is like that.\n"
    assert asked(database, "disagreement > 1.05", "--count").stdout == "19\n"


def test_csv_and_json_hold_every_digit(database: str) -> None:
    columns = "id,energy,forces,labelled_at,walker,predicted_energy"
    order = ["--order-by", "energy", "--limit", "2", "--columns", columns]
    rows = list(csv.DictReader(io.StringIO(asked(database, "--format", "csv", *order).stdout)))
    same = json.loads(asked(database, "--format", "json", *order).stdout)
    assert [row["frame_id"] for row in rows] == [row["frame_id"] for row in same] == ["f29", "f28"]
    assert float(rows[0]["energy_ev"]) == same[0]["energy_ev"] == -76.0 - 29 / 7
    assert json.loads(rows[0]["forces_ev_ang"]) == same[0]["forces_ev_ang"] == [[29 / 3] * 3] * 3
    assert (rows[0]["predicted_energy_ev"], same[0]["predicted_energy_ev"]) == ("", None)
    assert rows[0]["labelled_at"] == same[0]["labelled_at"]
    assert json.loads(asked(database, "walker = 7", "--format", "json").stdout) == []
    assert asked(database, "walker = 7", "--format", "csv", "--columns", "id").stdout == "frame_id\n"


def test_extended_xyz_is_read_back_by_ase(database: str, tmp_path: Path) -> None:
    done = subprocess.run(line(database, "disagreement > 1.05", "--format", "xyz"), capture_output=True, check=True)
    (tmp_path / "some.xyz").write_bytes(done.stdout)
    frames = read(tmp_path / "some.xyz", index=":")
    assert len(frames) == 19
    first = frames[0]
    assert first.info["frame_id"] == "f11"
    assert (first.info["split"] in ("train", "validation"), first.info["generation"]) == (True, 2)
    assert first.get_potential_energy() == pytest.approx(-76.0 - 11 / 7, abs=1e-12)
    assert first.get_forces() == pytest.approx(np.full((3, 3), 11 / 3), abs=1e-8)  # eight decimals


def line(*words: Any) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "alflow.cli", "query", *(str(word) for word in words)]


@pytest.mark.parametrize("form", ["table", "csv", "json", "xyz"])
def test_a_reader_that_goes_away_is_no_error(database: str, form: str) -> None:
    with subprocess.Popen(
        line(database, "--format", form, "--limit", N), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) in (0, 1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full disk to try")
@pytest.mark.parametrize("form", ["table", "csv", "json", "xyz"])
def test_a_full_disk_is_said_in_a_sentence(database: str, form: str) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        ended = subprocess.run(
            line(database, "--format", form), stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60
        )
    assert ended.returncode == 2
    assert ended.stderr == (
        "alflow: The answer could not be written to standard output (No space left on device); what is there is "
        "incomplete.\n"
    )


def test_the_list_of_columns_needs_no_database() -> None:
    shown = asked("--columns-list")
    assert shown.exit_code == 0, shown.output
    for about in COLUMNS:
        assert all(name in shown.stdout.split() for name in (about.name, *about.aliases))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["disagrement > 1"], "Did you mean 'disagreement'"),
        (["--columns", "id,enrgy"], "There is no column 'enrgy'. Did you mean 'energy'"),
        (["--columns", ""], "There is no column ''."),
        (["--format", "jsn"], "--format jsn: expected one of table, csv, json, xyz. Did you mean 'json'"),
        (["--format", "xyz", "--columns", "id"], "--columns is for tables, CSV and JSON"),
        (["--limit", "-3"], "0 or more; found -3"),
        (["--name", "watr"], "Did you mean 'water'"),
        (["--level", "0000"], "No level of theory begins with '0000'. Levels here: "),
        (["--descending"], "needs a column to order by"),
    ],
)
def test_whatever_is_wrong_is_said_in_a_sentence(database: str, words: list[str], message: str) -> None:
    result = asked(database, *words)
    assert isinstance(result.exception, AlflowError), result.output
    assert message in str(result.exception)
    assert result.stdout == ""


@pytest.mark.sqlite_only("a file that is not there")
def test_a_missing_database_is_said(tmp_path: Path) -> None:
    result = asked(tmp_path / "none.db", "walker = 1")
    assert "There is no store at" in str(result.exception)


PAGE = (Path(__file__).parents[2] / "docs/query.md").read_text(encoding="utf-8")


def blocks(opening: str) -> list[str]:
    return re.findall(rf"^{opening}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.sqlite_only("commands of the page, which name a file")
def test_the_page_about_queries_shows_what_works(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ethanol.db").symlink_to(database)
    commands = [text for text in blocks("```")[0].splitlines() if text.startswith("alflow query")]
    assert len(commands) == 6
    for command in commands:
        words = shlex.split(command.partition(">" if " > " in command.rpartition('"')[2] else "\0")[0])
        result = CliRunner().invoke(app, words[1:])
        assert result.exit_code == 0, (command, result.exception)
    (script,) = blocks("<!-- runs -->\n```python")
    exec(compile(script, "docs/query.md", "exec"), {})
    assert "frames on which the committee was wrong and sure" in capsys.readouterr().out
    (statements,) = blocks("```sql")
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    answers = [connection.execute(text).fetchall() for text in statements.split(";") if text.strip()]
    connection.close()
    assert [len(rows) for rows in answers] == [1, 1, 0]


@pytest.mark.parametrize("form", ["table", "csv", "json", "xyz"])
@pytest.mark.parametrize("limit", [2**63 - 1, 2**70])
def test_a_limit_that_no_database_can_count_to_is_none(database: str, form: str, limit: int) -> None:
    for order in ([], ["--order-by", "step"]):
        found = asked(database, "step < 3", "--format", form, "--limit", limit, *order)
        assert found.exit_code == 0, found.exception
        assert "f02" in found.stdout
