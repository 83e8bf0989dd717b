"""The smallest real campaign from its workflow file to its use in an ASE script."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
import pytest

import alflow
from alflow.campaign.config import load_config
from alflow.domain import Evaluation
from alflow.domain.ase import from_atoms
from alflow.exploration import rattle
from alflow.reference import make_reference
from tests.campaign.toys import check_promises, rows, toy_file
from tests.faults.processes import ALFLOW, start, wait_until_nothing_is_left

pytestmark = pytest.mark.timeout(900)  # a real campaign, perhaps on a machine that has other work too

WORKFLOWS = Path(__file__).parents[2] / "workflows"


@pytest.mark.parametrize("script", sorted(path.stem for path in WORKFLOWS.glob("*.py")))
def test_a_workflow_is_short_and_equals_its_yaml_file(script: str) -> None:
    sys.path.insert(0, str(WORKFLOWS))
    try:
        module = importlib.import_module(script)
    finally:
        sys.path.remove(str(WORKFLOWS))
    assert load_config(WORKFLOWS / f"{script}.yaml") == module.config
    assert len((WORKFLOWS / f"{script}.py").read_text().splitlines()) <= 40


@dataclass(frozen=True)
class Run:
    """A campaign that was run from its workflow script."""

    folder: Path
    database: Path
    output: str
    refused: subprocess.CompletedProcess[str]


def ask(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line in a folder to its end."""
    line = [str(ALFLOW), *map(str, arguments)]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False, timeout=100)


@pytest.fixture(scope="module")
def water(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """``workflows/water.py``, started as a user starts it; in its midst somebody tries to run it a second time."""
    folder = tmp_path_factory.mktemp("water")
    database = folder / "water.db"
    with (folder / "output.txt").open("w") as output:
        line = [sys.executable, str(WORKFLOWS / "water.py")]
        process = subprocess.Popen(line, cwd=folder, stdout=output, stderr=output)
    try:
        wait_for_labels(process, database, 3)
        refused = ask(folder, "run", WORKFLOWS / "water.yaml")
        assert process.wait(timeout=600) == 0, (folder / "output.txt").read_text()
    finally:
        process.kill()
        process.wait()
    return Run(folder, database, (folder / "output.txt").read_text(), refused)


def wait_for_labels(process: subprocess.Popen[bytes] | subprocess.Popen[str], database: Path, count: int) -> None:
    """Wait until a running campaign has committed some labels."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "the campaign ended before it had labels"
        made = database.exists() and rows(database, "SELECT name FROM sqlite_master WHERE name = 'labels'")
        if made and rows(database, "SELECT count(*) FROM labels")[0][0] >= count:
            return
        time.sleep(0.1)
    raise AssertionError(f"fewer than {count} labels in a minute")


@pytest.mark.slow
def test_the_water_workflow_ends_with_a_summary_and_what_to_do_next(water: Run) -> None:
    check_promises(water.database)
    assert "finished" in water.output
    assert "force error" in water.output
    assert re.search(r"labelling +exploring +training +handing over +idle", water.output), "where the cores' time went"
    for next_step in ("alflow status", "alflow export", "alflow.load_committee"):
        assert next_step in water.output


@pytest.mark.slow
def test_a_second_run_of_a_live_campaign_is_refused_naming_its_holder(water: Run) -> None:
    assert water.refused.returncode == 2
    assert water.refused.stderr.count("\n") == 1
    assert re.match(r"alflow: Campaign 'water' is driven by \S+:\d+, which is alive; ", water.refused.stderr)


@pytest.mark.slow
def test_status_says_how_the_campaign_stands(water: Run) -> None:
    status = ask(water.folder, "status", "water.db")
    assert status.returncode == 0, status.stderr
    labels = rows(water.database, "SELECT count(*) FROM labels")[0][0]
    for words in ("Campaign water", "finished", f"{labels} done", "generation", "meV/Å", "idle"):
        assert words in status.stdout


@pytest.mark.slow
def test_the_export_is_read_back_by_ase_with_its_provenance(water: Run) -> None:
    done = ask(water.folder, "export", "water.db", "water.xyz")
    assert done.returncode == 0, done.stderr
    frames = ase.io.read(water.folder / "water.xyz", ":")
    stored = dict(rows(water.database, "SELECT structure_id, energy_ev FROM labels"))
    assert len(frames) == len(stored)
    for atoms in frames:
        assert atoms.get_chemical_formula() == "H2O"
        assert atoms.info["campaign"] == "water"
        assert {"pyscf", "pbe", "def2-svp"} <= set(re.findall(r"[\w-]+", str(atoms.info["level"])))
        assert {"attempt", "host", "versions", "level_id", "structure_id"} <= set(atoms.info)
        assert atoms.info["split"] in ("train", "validation", "audit")
        assert len(atoms.info["frame_id"]) == 16
        # eight decimals in the file
        assert atoms.get_potential_energy() == pytest.approx(stored[atoms.info["structure_id"]], abs=1e-7)
        assert np.abs(atoms.get_forces().sum(axis=0)).max() < 0.01  # density fitting on a grid with its response
        assert from_atoms(atoms).n_electrons == 10
    purposes = {atoms.info["purpose"] for atoms in frames}
    assert {"seed", "audit"} <= purposes
    dynamic = [atoms for atoms in frames if atoms.info["purpose"] != "seed"]
    assert all({"walker", "step", "generation", "disagreement_ev_ang"} <= set(atoms.info) for atoms in dynamic)


@pytest.mark.slow
def test_why_tells_the_whole_story_of_a_flagged_frame(water: Run) -> None:
    query = (
        "SELECT f.id, f.walker, f.step, f.generation, f.disagreement_ev_ang, f.threshold_ev_ang FROM frames f"
        " JOIN label_jobs j ON j.frame_id = f.id WHERE f.decision = 'flagged' AND j.state = 'done' LIMIT 1"
    )
    frame, walker, step, generation, disagreement, threshold = rows(water.database, query)[0]
    story = ask(water.folder, "why", "water.db", frame[:8])
    assert story.returncode == 0, story.stderr
    told = " ".join(story.stdout.split())
    assert f"walker {walker} at step {step}" in told
    assert f"generation {generation}" in told
    assert f"{disagreement:.3f} eV/Å; the threshold was {threshold:.3f} eV/Å" in told
    assert re.search(r"decision flagged", told)
    assert re.search(r"attempt 1 done on \S+, [\d.]+ s, \d+ MB", told)
    assert re.search(r"label energy -\d+\.\d{6} eV, largest force [\d.]+ eV/Å; the committee was wrong by up to", told)
    assert re.search(r"entered data set [0-9a-f]{12} as (train|validation)", told)


@pytest.mark.slow
def test_the_committee_is_two_lines_in_an_ase_script_and_as_good_as_the_audit_says(water: Run) -> None:
    weights = re.search(r"^committee +(\S+)$", water.output, re.MULTILINE)
    assert weights is not None
    audit = rows(
        water.database,
        "SELECT json_extract(metrics_json, '$.audit_force_mae_ev_ang') FROM committees WHERE state = 'active'",
    )[0][0]
    config = load_config(WORKFLOWS / "water.yaml")
    atoms = ase.io.read(WORKFLOWS / "water.xyz")
    held_out = rattle(from_atoms(atoms), 4, seed=4711, temperature=config.temperature_k)
    errors = []
    atoms.calc = alflow.load_committee(water.folder / weights[1])
    reference = make_reference(config.reference)
    for structure in held_out:
        label = reference.evaluate(structure)
        assert isinstance(label, Evaluation)
        atoms.positions = structure.positions
        errors.append(np.abs(atoms.get_forces() - label.forces).mean())
    # Four frames from another distribution (uncorrelated bonds) than the audited dynamics: the order of magnitude.
    assert np.mean(errors) < 5 * audit + 0.01, (np.mean(errors), audit)


@pytest.mark.slow
def test_a_campaign_is_stopped_and_resumed_from_the_command_line(tmp_path: Path) -> None:
    database = tmp_path / "toy.db"
    process = start(tmp_path, "run", str(toy_file(tmp_path, delay_s=0.5, executor="dask", cores=2, label_budget=16)))
    wait_for_labels(process, database, 2)
    stopped = ask(tmp_path, "stop", database, "toy")
    assert stopped.returncode == 0, stopped.stderr
    assert re.search(r"\S+:\d+ was asked to stop 'toy'", stopped.stdout)
    assert process.wait(timeout=60) == 0, (tmp_path / "output.txt").read_text()
    assert rows(database, "SELECT state, holder FROM campaigns") == [("stopped", None)]
    assert rows(database, "SELECT count(*) FROM executions WHERE status IN ('running', 'lost')") == [(0,)]
    assert "alflow resume" in (tmp_path / "output.txt").read_text()
    before = set(rows(database, "SELECT structure_id FROM labels"))
    assert len(before) < 16
    resumed = ask(tmp_path, "resume", database)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert before < set(rows(database, "SELECT structure_id FROM labels"))
    check_promises(database)
    wait_until_nothing_is_left(tmp_path)
