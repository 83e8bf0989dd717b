"""The house keeps its own rules: light to import, nothing hidden in its face, small files and functions."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import alflow

PACKAGE = Path(alflow.__file__).parent
FILES = sorted(path for path in PACKAGE.rglob("*.py") if "migrations" not in path.parts)
HEAVY = ("torch", "numba", "pyscf", "tblite", "dftd3", "distributed", "dask", "sqlalchemy", "ase", "pydantic")
BANNED = {"utils", "helpers", "common", "misc", "core", "base", "manager", "handler", "processor"}


def loaded_by(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after some code."""
    show = f"{code}\nimport sys\nprint(*sys.modules)"
    line = [sys.executable, "-c", show]
    done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=120)
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


@pytest.mark.parametrize("code", ["import alflow", "import alflow.cli", "import alflow.errors, alflow.units"])
def test_importing_alflow_loads_nothing_heavy(code: str) -> None:
    assert not loaded_by(code) & set(HEAVY)


def test_the_configuration_is_checked_without_torch_and_dask() -> None:
    """``alflow validate`` answers at once."""
    assert not loaded_by("from alflow import CampaignConfig") & {"torch", "distributed", "sqlalchemy", "pyscf"}


def test_everything_that_is_announced_can_be_imported_and_nothing_else() -> None:
    for name in alflow.__all__:
        assert getattr(alflow, name) is not None
    assert sorted(alflow.__all__) == list(alflow.__all__), "in alphabetical order"
    assert set(alflow._HOMES) | {"__version__"} == set(alflow.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Potential'"):
        _ = alflow.Potential  # type: ignore[attr-defined]


def test_a_public_object_is_the_one_of_its_room() -> None:
    from_face = loaded_by("import alflow\nassert alflow.run.__module__ == 'alflow.campaign.console'")
    assert "distributed" in from_face


def test_who_runs_a_campaign_or_looks_at_it_does_not_load_torch() -> None:
    """It is the workers that move and train."""
    parts = "console, launch, runner, status, label_console, elsewhere, work"
    assert not loaded_by(f"from alflow.campaign import {parts}") & {"torch", "numba", "pyscf"}
    assert "torch" in loaded_by("from alflow.campaign import work\nwork.load_learning()")


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(PACKAGE)) for path in FILES])
def test_files_and_functions_are_small_and_well_named(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400, f"{path.name} becomes a folder"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 60, f"{node.name} is two functions"
    assert path.stem not in BANNED


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(PACKAGE)) for path in FILES])
def test_no_import_hides_and_no_failure_is_swallowed(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            hidden = [node for node in ast.walk(function) if isinstance(node, ast.Import | ast.ImportFrom)]
            assert hidden == [], f"{function.name} imports"
        if isinstance(function, ast.ExceptHandler):
            assert not all(isinstance(node, ast.Pass) for node in function.body), f"line {function.lineno}"


def test_every_module_says_what_it_is_for() -> None:
    silent = [path for path in FILES if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []


def test_the_migrations_are_checked_by_make_check() -> None:
    script = Path(__file__).with_name("check_migrations.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No new upgrade operations detected" in done.stdout + done.stderr
