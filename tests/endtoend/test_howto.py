"""The how-tos: what they say can be run, runs, in an empty folder, and prints what they say it prints."""

from __future__ import annotations

import doctest
import logging
import os
import re
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest
import yaml

from alflow import CampaignConfig, cli
from tests.campaign.toys import SMALL

ROOT: Final = Path(__file__).parents[2]
HOWTO: Final = ROOT / "docs/howto"
BLOCK: Final = re.compile(r"^<!-- (runs|prints|file: (?P<file>\S+)) -->\n```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
URL: Final = "postgresql://ada@db.example.org/carbon"
DATABASE: Final = "formaldehyde.db"
AFTER_THE_FIRST: Final = ("resume", "questions", "export", "potential")


def blocks(page: str) -> Iterator[tuple[str, str, str]]:
    """Each marked block of a page: what to do with it, its language, its text."""
    text = (HOWTO / f"{page}.md").read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        yield found["file"] or found[1], found[3], found[4]


def small(text: str) -> str:
    """The same campaign with small networks, in this process: it ends in seconds instead of minutes."""
    kept = ("executor", "audit_minimum", "quiet_ps", "model", "training", "label_budget", "segment_steps")
    return text + yaml.safe_dump({key: SMALL[key] for key in kept})


def command(line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Run one command of alflow's, in this process: a new one would import torch for each."""
    program, *arguments = shlex.split(line)
    assert program == "alflow", line
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        cli.main()
    told = capsys.readouterr()
    assert ended.value.code in (0, None), f"{line}\n{told.out}{told.err}"
    return told.out + told.err


def script(text: str, folder: Path) -> str:
    """Run a program as a reader would: a file in the folder, in a process of its own."""
    (folder / "program.py").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", "program.py"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,  # tens of times what it takes alone
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def answer(question: str, database: Path) -> str:
    """Ask the database; every column must say something in some row, or its name is misspelt."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        rows = connection.execute(question).fetchall()
    assert rows
    assert [place for place in range(len(rows[0])) if all(row[place] is None for row in rows)] == []
    return "\n".join(str(row) for row in rows)


def follow(
    page: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    url: str = URL,
) -> None:
    """Do what a page says, block by block."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("rich.console.Console.is_terminal", False)
    said, done = "", 0
    for what, language, text in blocks(page):
        if what == "prints":
            assert doctest.OutputChecker().check_output(text, said, doctest.ELLIPSIS), said
        elif what != "runs":
            (folder / what).write_text(small(text) if what.startswith("formaldehyde.y") else text, encoding="utf-8")
        elif language == "python":
            said = script(text, folder)
        elif language == "sql":
            said = answer(text, folder / DATABASE)
        else:
            said = "".join(command(line.replace(URL, url), capsys, monkeypatch) for line in text.splitlines())
        done += what == "runs"
    assert done, f"{page}.md has no block that runs"


@pytest.fixture(autouse=True)
def _messages_of_this_test_only() -> Iterator[None]:
    """The command line sends alflow's messages to the terminal of its process; the next test has another."""
    log = logging.getLogger("alflow")
    before = log.level, log.propagate
    yield
    log.handlers.clear()
    log.level, log.propagate = before


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first page is followed, and the pages that go on from there."""
    return tmp_path_factory.mktemp("howto")


def test_every_page_is_short_and_followed_here() -> None:
    pages = {path.stem: path.read_text(encoding="utf-8") for path in HOWTO.glob("*.md")}
    assert pages.keys() == {"own-molecule", "own-reference", "postgresql", *AFTER_THE_FIRST}
    assert [name for name, text in pages.items() if len(text.split()) > 700] == []


def test_the_campaign_of_the_first_page_is_a_valid_configuration() -> None:
    shown = {what: text for what, _, text in blocks("own-molecule")}
    assert CampaignConfig.model_validate(yaml.safe_load(shown["formaldehyde.yaml"])).label_budget == 60


@pytest.mark.slow
@pytest.mark.parametrize("page", ["own-molecule", *AFTER_THE_FIRST])
def test_a_page_that_goes_on_from_one_campaign_can_be_followed(
    page: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if page != "own-molecule" and not (folder / DATABASE).exists():
        follow("own-molecule", folder, capsys, monkeypatch)
    follow(page, folder, capsys, monkeypatch)


@pytest.mark.slow
def test_the_page_about_postgresql_can_be_followed(
    folder: Path, postgres_target: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (folder / DATABASE).exists():
        follow("own-molecule", folder, capsys, monkeypatch)
    follow("postgresql", folder, capsys, monkeypatch, postgres_target)


@pytest.mark.slow
def test_the_page_about_references_can_be_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    follow("own-reference", tmp_path, capsys, monkeypatch)
