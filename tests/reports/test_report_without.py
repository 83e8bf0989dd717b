"""Reports of databases where something is not there: no loop, no committee, no SQLite file."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from alflow.campaign.copying import copy_database
from alflow.campaign.executors import InlineExecutor
from alflow.campaign.labelling import label_structures
from alflow.campaign.launch import run_campaign
from alflow.campaign.report_console import report
from alflow.domain import Structure
from alflow.reference.config import Limits
from alflow.reports.atlas import Atlas
from alflow.reports.explorer import explorer, packed
from tests.campaign.references import Moody
from tests.campaign.toys import toy
from tests.reports.test_report import Reader

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("without")
    run_campaign(toy(folder, label_budget=8), None, [])
    return folder


def test_labels_of_a_file_are_told_without_a_potential(tmp_path: Path) -> None:
    dimers = [Structure.of("ArAr", [[0, 0, 0], [3.505 + 0.005 * k, 0, 0]]) for k in range(4)]
    database = str(tmp_path / "labels.db")
    label_structures(dimers, Moody(), Limits(max_attempts=1), database, "labels", 1, InlineExecutor)
    verdict = report(QUIET, database, output=tmp_path / "labels.html")
    assert verdict.headline.startswith("There is no potential to judge: these are 3 labels made of a file")
    text = (tmp_path / "labels.html").read_text()
    Reader(text)
    assert "SCF_FAIL" in text
    assert "too long" in text
    assert re.search(r"<th scope=\"row\">stretched</th><td class=\"n\">2</td>", text), (
        "labels with a warning are counted"
    )
    assert '"given up"' in text, "what could not be labelled is on the map"
    assert "Is energy conserved?" not in text, "what there was no committee for is not asked"


def test_a_campaign_without_a_committee_is_told_so(home: Path, tmp_path: Path) -> None:
    database = tmp_path / "toy.db"
    database.write_bytes((home / "toy.db").read_bytes())
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("DELETE FROM committees")
        connection.commit()
    verdict = report(QUIET, str(database), output=tmp_path / "toy.html")
    assert "no committee was trained" in verdict.headline
    text = (tmp_path / "toy.html").read_text()
    Reader(text)
    assert "No committee has been trained yet." in text
    assert 'id="figure-timeline"' in text


def test_a_report_of_postgresql_says_the_same(
    home: Path, tmp_path: Path, postgres_target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    copy_database(str(home / "toy.db"), postgres_target)
    there = report(QUIET, postgres_target, dynamics=False)
    here = report(QUIET, str(home / "toy.db"), output=tmp_path / "here.html", dynamics=False)
    assert there == here
    text = (tmp_path / "toy.html").read_text()
    assert "postgresql://" in text
    assert "password" not in text


def test_crystals_are_drawn_with_their_cell() -> None:
    crystals = tuple(
        Structure.of("SiSi", [[0.0, 0.0, 0.0], [shift, 1.36, 1.36]], cell=[5.43, 5.43, 5.43]) for shift in (1.3, 1.4)
    )
    nothing = np.full(2, np.nan)
    atlas = Atlas(crystals, np.zeros((2, 2)), (1.0, 0.0), 2, "nobody", ("train", "audit"), ("", "<b>"), nothing,
                  nothing, nothing, np.zeros(2, dtype=np.int64))  # fmt: skip
    data = packed(atlas)
    assert data["cells"][0] == [5.43, 0.0, 0.0, 0.0, 5.43, 0.0, 0.0, 0.0, 5.43]
    assert data["energy"] == [None, None]
    text = explorer(atlas)
    assert text is not None
    assert "<b>" not in text
    assert 'value="energy"' not in text, "what is not known is not offered as a color"
