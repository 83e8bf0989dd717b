"""Wrong input through the command line: one sentence that says what was found and what to do, and exit code 2."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from alflow.campaign.config import available_cores
from alflow.campaign.launch import run_campaign
from alflow.cli import main
from tests.campaign.toys import XYZ, journal, settings, toy
from tests.faults.processes import ALFLOW

WATER = XYZ
HYDROXYL = "2\n\nO 0 0 0\nH 0 0 0.97\n"
REAL = {"engine": "pyscf", "functional": "hf", "basis": "sto-3g"}


@dataclass
class Answer:
    """What the command line said."""

    code: int
    out: str
    err: str


Alflow = Callable[..., Answer]


@pytest.fixture
def alflow(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Alflow:
    """The command line, run in this process in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Answer:
        capsys.readouterr()
        monkeypatch.setattr("sys.argv", ["alflow", *map(str, arguments)])
        try:
            main()
            code: Any = 0
        except SystemExit as end:
            code = end.code or 0
        said = capsys.readouterr()
        return Answer(int(code), said.out, said.err)

    return run


def check_refusal(answer: Answer, *words: str) -> None:
    """One line, at most three sentences, exit code 2, and the words that help."""
    assert answer.code == 2, answer
    assert answer.err.startswith("alflow: ")
    assert answer.err.count("\n") == 1, answer.err
    assert "Traceback" not in answer.err + answer.out
    assert len(re.findall(r"[.?!](?= [A-Z]|\n)", answer.err)) <= 3, answer.err
    for word in words:
        assert word in answer.err, answer.err


def write(folder: Path, xyz: str = WATER, reference: dict[str, Any] | None = None, **changes: Any) -> Path:
    """A campaign file with something wrong in it; a value of None leaves a key out."""
    keys = settings(folder) | {"reference": reference or REAL} | changes
    (folder / "water.xyz").write_text(xyz)
    path = folder / "wrong.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in keys.items() if value is not None}))
    return path


CONFIGURATIONS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "misspelt key": ({"temprature_k": 500}, ("'temprature_k'", "Did you mean 'temperature_k'?")),
    "misspelt key of the reference": (
        {"reference": {"engine": "pyscf", "functinal": "pbe"}},
        ("'functinal'", "Did you mean 'functional'?"),
    ),
    "misspelt key of the model": ({"model": {"membres": 4}}, ("'membres'", "Did you mean 'members'?")),
    "no structures": ({"structures": None}, ("structures", "required", "add it")),
    "structures missing": ({"structures": "watr.xyz"}, ("watr.xyz", "does not exist", "expected a file")),
    "odd electron count": ({"xyz": HYDROXYL}, ("HO has 9 electrons", "multiplicity 1", "expected 2, 4")),
    "impossible charge": ({"charge": 1}, ("H2O has 9 electrons", "another charge (found 1)")),
    "unknown element": ({"xyz": "1\n\nXx 0 0 0\n"}, ("water.xyz", "unknown element 'Xx'", "expected element symbols")),
    "empty structure file": ({"xyz": ""}, ("water.xyz", "no structure", "expected at least one geometry")),
    "not a structure file": ({"xyz": "a poem about water\n"}, ("water.xyz", "cannot be read as structures")),
    "cut structure file": ({"xyz": "3\n\nO 0 0 0\nH 0 0 1\n"}, ("water.xyz", "cannot be read as structures")),
    "coordinates not numbers": ({"xyz": "2\n\nO 0 0 nan\nO 0 0 1.2\n"}, ("water.xyz", "finite", "atom 0", "nan")),
    "overlapping atoms": ({"xyz": "2\n\nO 0 0 0\nO 0 0 0.2\n"}, ("Atoms 0 (O) and 1 (O)", "0.200 Å", "unit")),
    "single atom": ({"xyz": "1\n\nHe 0 0 0\n"}, ("single atom", "nothing to explore")),
    "the same structure twice": ({"xyz": WATER + WATER}, ("water.xyz", "twice", "frames 0 and 1")),
    "periodic structure": (
        {"xyz": '3\nLattice="9 0 0 0 9 0 0 0 9" pbc="T T T"\n' + WATER.split("\n", 2)[2]},
        ("periodic", "isolated molecules", "pbc=False"),
    ),
    "negative temperature": ({"temperature_k": -300}, ("temperature_k", "greater than or equal to 1", "-300")),
    "infinite temperature": ({"temperature_k": float("inf")}, ("temperature_k", "finite", "inf")),
    "no timestep": ({"timestep_fs": 0}, ("timestep_fs", "greater than or equal to 0.001", "found 0")),
    "timestep in the wrong unit": ({"timestep_fs": 500}, ("timestep_fs", "less than or equal to 10", "500")),
    "text for a number": ({"walkers": "many"}, ("walkers", "integer", "'many'")),
    "fraction of a walker": ({"walkers": 2.5}, ("walkers", "2.5")),
    "misspelt calculator": (
        {"reference": {"engine": "ase", "calculator": "ase.calculators.emtt:EMT"}},
        ("no module 'ase.calculators.emtt'", "Did you mean 'emt'?"),
    ),
    "misspelt method of xTB": (
        {"reference": {"engine": "xtb", "method": "gfn2"}},
        ("reference.xtb.method", "'gfn2-xtb'", "found 'gfn2'"),
    ),
    "teacher that is not there": (
        {"reference": {"engine": "committee", "weights": "none.safetensors"}},
        ("reference.weights", "none.safetensors cannot be read"),
    ),
    "unknown functional": (
        {"reference": REAL | {"functional": "b3lpy"}},
        ("functional 'b3lpy'", "Did you mean 'b3lyp'?"),
    ),
    "functional that loses its dispersion": (
        {"reference": REAL | {"functional": "wb97x-d"}},
        ("'wb97x-d'", "unknown functional", "wb97x-d3bj"),
    ),
    "unknown basis": (
        {"reference": REAL | {"basis": "def2-spv"}},
        ("basis 'def2-spv'", "Did you mean 'def2-svp'?"),
    ),
    "basis without the element": (
        {"xyz": "2\n\nI 0 0 0\nI 0 0 2.7\n", "reference": REAL | {"basis": "6-31g"}},
        ("'6-31g'", "no functions for I", "choose one that covers"),
    ),
    "unknown engine": ({"reference": {"engine": "gaussian"}}, ("engine", "'gaussian'", "'pyscf'")),
    "engine left out": ({"reference": {"functional": "pbe"}}, ("reference: the key 'engine' is missing", "'pbe'")),
    "toy of another molecule": (
        {"xyz": "2\n\nO 0 0 0\nO 0 0 1.2\n", "multiplicity": 3, "reference": settings},
        ("MorseMolecule", "[8, 1, 1]", "[8, 8]"),
    ),
    "more cores than there are": ({"cores": 4096}, ("cores: 4096", f"may use {available_cores()}", "lower cores")),
    "more threads than cores": (
        {"cores": 1, "reference": REAL | {"threads": 2}},
        ("reference.threads", "2 threads", "1 cores", "raise cores"),
    ),
    "nothing left for dynamics": (
        {"initial_labels": 10, "label_budget": 10},
        ("initial_labels (10)", "smaller than label_budget (10)"),
    ),
    "one member": ({"model": {"members": 1}}, ("model.members", "at least 2", "cannot disagree")),
    "dashboard for everybody": (
        {"dashboard_address": "0.0.0.0:8787"},
        ("dashboard_address", "'0.0.0.0:8787'", "SSH tunnel"),
    ),
    "name with a slash": ({"name": "../water"}, ("name", "'../water'")),
    "database in a missing folder": ({"database": "no/such/folder/a.db"}, ("no/such/folder", "make it first")),
    "database is a folder": ({"database": "."}, ("is a folder", "a store is a file")),
    "database of an unknown kind": ({"database": "mysql://localhost/a"}, ("mysql://", "SQLite", "PostgreSQL")),
    "database server that is not there": (
        {"database": "postgresql://ada:secret@127.0.0.1:1/carbon"},
        ("postgresql://127.0.0.1:1/carbon", "cannot be reached", "check that the server runs"),
    ),
}


@pytest.mark.parametrize("wrong", CONFIGURATIONS)
def test_a_configuration_that_cannot_work_is_refused(alflow: Alflow, tmp_path: Path, wrong: str) -> None:
    changes, words = CONFIGURATIONS[wrong]
    if changes.get("reference") is settings:
        changes = changes | {"reference": settings(tmp_path)["reference"]}
    answer = alflow("validate", write(tmp_path, **changes))
    check_refusal(answer, *words)
    assert "secret" not in answer.err


FILES = {
    "not YAML": (b"walkers: [1, 2\nname: water\n", ("not valid YAML", "line")),
    "a list": (b"- structures: water.xyz\n", ("expected keys and values", "list")),
    "empty": (b"", ("empty", "structures")),
    "binary": (b"\xff\xfe\x00\x01", ("cannot be read as text",)),
    "a number as a key": (b"structures: water.xyz\n7: seven\n", ("7",)),
}


@pytest.mark.parametrize("wrong", FILES)
def test_a_file_that_is_no_campaign_is_refused(alflow: Alflow, tmp_path: Path, wrong: str) -> None:
    content, words = FILES[wrong]
    (tmp_path / "water.xyz").write_text(WATER)
    (tmp_path / "file.yaml").write_bytes(content)
    check_refusal(alflow("validate", tmp_path / "file.yaml"), "file.yaml", *words)


def test_a_campaign_file_that_is_missing_or_a_folder_is_refused(alflow: Alflow, tmp_path: Path) -> None:
    for command in ("run", "validate"):
        check_refusal(alflow(command, "watr.yaml"), "watr.yaml", "no such file", "expected a campaign in YAML")
    check_refusal(alflow("validate", tmp_path), str(tmp_path), "cannot be read")


def test_run_refuses_what_validate_refuses_and_leaves_nothing_behind(alflow: Alflow, tmp_path: Path) -> None:
    check_refusal(alflow("run", write(tmp_path, temperature_k=-1)), "temperature_k", "-1")
    check_refusal(alflow("run", write(tmp_path, xyz=HYDROXYL)), "9 electrons")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["water.xyz", "wrong.yaml"]


def test_a_database_that_cannot_be_made_is_refused_before_anything_is_computed(alflow: Alflow, tmp_path: Path) -> None:
    # the only folder that refuses a file even to root, who owns most test machines
    check_refusal(
        alflow("run", write(tmp_path, database="/proc/alflow.db")), "/proc/alflow.db", "choose another folder"
    )


def test_toy_campaigns_are_of_one_molecule(alflow: Alflow, tmp_path: Path) -> None:
    two = WATER + "2\n\nO 0 0 0\nO 0 0 1.2\n"
    check_refusal(alflow("validate", "--toy", write(tmp_path, xyz=two)), "--toy", "one and the same molecule")


def test_a_database_that_is_something_else_is_refused(alflow: Alflow, tmp_path: Path) -> None:
    (tmp_path / "poem.db").write_text("no database, but long enough to be taken for the head of one\n" * 30)
    for command in (["status"], ["resume"], ["stop"], ["why"], ["export"]):
        rest = {"why": ["abc"], "export": ["out.xyz"]}.get(command[0], [])
        check_refusal(alflow(*command, "poem.db", *rest), "poem.db", "not an SQLite database", "give the path")
        check_refusal(alflow(*command, "none.db", *rest), "none.db", "no store", "check the path")
    check_refusal(alflow("validate", write(tmp_path, database="poem.db")), "poem.db", "not an SQLite database")
    assert not (tmp_path / "none.db").exists()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Database of a small campaign."""
    config = toy(tmp_path_factory.mktemp("finished"), label_budget=6)
    run_campaign(config)
    return Path(config.database)


def test_a_campaign_that_is_not_there_is_named_with_those_that_are(alflow: Alflow, finished: Path) -> None:
    for command in ("status", "resume", "stop"):
        check_refusal(
            alflow(command, finished, "tpy"), "no campaign 'tpy'", "Did you mean 'toy'?", "Campaigns here: toy"
        )
    check_refusal(alflow("export", finished, "out.xyz", "--name", "tpy"), "no campaign 'tpy'", "Did you mean 'toy'?")


def test_a_finished_campaign_is_neither_stopped_nor_changed(alflow: Alflow, finished: Path) -> None:
    before = journal(finished)
    check_refusal(alflow("stop", finished), "'toy' is not running", "finished")
    file = finished.parent / "toy.yaml"
    file.write_text(yaml.safe_dump(settings(finished.parent, label_budget=6, walkers=5)))
    check_refusal(alflow("run", file), "other settings (walkers)", "choose another name")
    assert journal(finished) == before


def test_an_unknown_frame_is_answered_with_known_ones(alflow: Alflow, finished: Path) -> None:
    check_refusal(alflow("why", finished, "zzz"), "'zzz'", "newest frames here")
    check_refusal(alflow("why", finished, ""), "empty", "frame")


def test_an_export_overwrites_only_what_it_is_told_to(alflow: Alflow, finished: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.xyz").write_text("precious")
    check_refusal(alflow("export", finished, "mine.xyz"), "mine.xyz exists", "--overwrite")
    assert (tmp_path / "mine.xyz").read_text() == "precious"
    check_refusal(alflow("export", finished, "no/such/folder.xyz"), "no/such/folder.xyz", "cannot be written")
    assert alflow("export", finished, "mine.xyz", "--overwrite").code == 0
    assert "precious" not in (tmp_path / "mine.xyz").read_text()


def test_the_installed_program_answers_the_same(tmp_path: Path) -> None:
    file = write(tmp_path, temprature_k=1)
    done = subprocess.run([str(ALFLOW), "run", str(file)], capture_output=True, text=True, check=False, cwd=tmp_path)
    check_refusal(Answer(done.returncode, done.stdout, done.stderr), "'temprature_k'", "Did you mean 'temperature_k'?")
