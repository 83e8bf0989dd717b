"""The README's example runs, and the tutorial's questions have answers in the database that it makes."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from ase.build import molecule

from alflow.domain import Evaluation
from alflow.domain.ase import from_atoms
from alflow.reference import MorseMolecule

ROOT: Final = Path(__file__).parents[2]
MARK: Final = "<!-- runs -->\n```python\n"


@dataclass(frozen=True)
class Ran:
    folder: Path
    output: str


def example() -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count(MARK) == 1
    return text.split(MARK)[1].split("```")[0]


def questions() -> list[str]:
    text = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
    return re.findall(r"^```sql\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The example as a reader would run it: a script in an empty folder, in a process of its own."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "example.py").write_text(example(), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", "example.py"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,  # ten times what it takes alone: the machine may be busy
    )
    assert done.returncode == 0, done.stderr
    return Ran(folder, done.stdout)


def answers(folder: Path, question: str) -> tuple[list[str], list[tuple[object, ...]]]:
    connection = sqlite3.connect(f"file:{folder / 'alflow.db'}?mode=ro", uri=True)
    try:
        cursor = connection.execute(question)
        return [column[0] for column in cursor.description], cursor.fetchall()
    finally:
        connection.close()


def test_the_example_is_short() -> None:
    assert len([line for line in example().splitlines() if line.strip()]) <= 20


@pytest.mark.slow
def test_the_example_of_the_readme_runs_to_its_end(ran: Ran) -> None:
    last = ran.output.strip().splitlines()[-1]
    assert re.fullmatch(r"-?\d+\.\d{3} eV, members differ by \d+\.\d{3} eV/Å", last)
    water = molecule("H2O")
    model = MorseMolecule.around(from_atoms(water))
    water.set_distance(0, 1, 1.05)
    exact = model.evaluate(from_atoms(water))
    assert isinstance(exact, Evaluation)
    # It is 0.097 eV; a tenth of it tells a fit from nonsense.
    assert float(last.split()[0]) == pytest.approx(exact.energy, abs=0.01)


def test_the_tutorial_asks_three_questions() -> None:
    assert len(questions()) == 3


@pytest.mark.slow
@pytest.mark.parametrize("question", questions(), ids=["time", "surprise", "error"])
def test_every_question_of_the_tutorial_has_an_answer(ran: Ran, question: str) -> None:
    columns, rows = answers(ran.folder, question)
    assert rows
    # Each column says something in some row: a misspelt JSON path would be NULL everywhere.
    assert [name for place, name in enumerate(columns) if all(row[place] is None for row in rows)] == []
