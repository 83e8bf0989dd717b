"""Labels that are interrupted go on from a checkpoint, and are the labels they would have been."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from alflow import Structure
from alflow.domain import Evaluation, Failure, FailureKind, Outcome
from alflow.reference import LabelRequest, LabelResult, MorseMolecule, PyscfReference, run_label
from alflow.reference.course import Checkpoint, Course, Interrupted, checkpoint_path, forget_checkpoint
from alflow.reference.process import worker
from alflow.reference.resume import resumed_from
from tests.faults.references import Stepwise

WATER = Structure.of("OHH", [[0.0, 0.0, 0.0], [0.0, 0.76, 0.59], [0.05, -0.78, 0.57]])
METHYL = Structure.of("CHHH", [[0, 0, 0], [1.08, 0, 0.05], [-0.54, 0.935, 0], [-0.54, -0.935, 0]], multiplicity=2)
PBE = PyscfReference(functional="pbe", basis="sto-3g", grid_level=1)
HF = PyscfReference(functional="hf", basis="sto-3g")
SLOW = Stepwise(MorseMolecule.around(WATER), steps=8, pause_s=0.1)


def ids(reference: PyscfReference, structure: Structure) -> tuple[str, str]:
    return structure.id, reference.level.id


def in_pieces(reference: PyscfReference, structure: Structure, folder: Path, pieces: list[int]) -> Outcome:
    """Interrupt after so many cycles of each process, then let it end."""
    for cycles in pieces:
        course = course_of(reference, structure, folder)
        made = course.step

        def counted(state: Callable[[], Checkpoint], last: bool = False, left: list[int] = [cycles]) -> None:  # noqa: B006
            left[0] -= 1
            if left[0] <= 0:
                course.stop()  # noqa: B023
            made(state, last)  # noqa: B023

        course.step = counted  # type: ignore[method-assign]
        with pytest.raises(Interrupted):
            reference.evaluate_in_steps(structure, course)
    course = course_of(reference, structure, folder)
    outcome = reference.evaluate_in_steps(structure, course)
    assert (course.restarted, course.note) == (True, None)
    return outcome


def course_of(reference: PyscfReference, structure: Structure, folder: Path) -> Course:
    where = checkpoint_path(folder, *ids(reference, structure))
    return Course(where, *ids(reference, structure), folder / "end", every_s=1e9)


@pytest.mark.parametrize(
    ("reference", "structure", "pieces"),
    [
        (PBE, WATER, [3]),
        (PBE, WATER, [1, 1, 1, 1]),
        (PBE, METHYL, [4]),
        (replace(PBE, smearing_ha=0.01), WATER, [3]),
        (replace(HF, max_cycles=4), WATER, [3]),
        (replace(HF, max_cycles=4), WATER, [6, 1]),
        (replace(HF, solvent_dielectric=78.4), WATER, [3]),
    ],
)
def test_a_label_in_pieces_takes_the_very_way_it_would_have_taken(
    reference: PyscfReference, structure: Structure, pieces: list[int], tmp_path: Path
) -> None:
    """The vectors of DIIS come back too, so that cycles, rungs and tests of stability are the same to the last bits."""
    whole = reference.evaluate(structure)
    pieced = in_pieces(reference, structure, tmp_path, pieces)
    assert isinstance(whole, Evaluation)
    assert isinstance(pieced, Evaluation)
    assert pieced.energy == pytest.approx(whole.energy, abs=1e-9)
    np.testing.assert_allclose(pieced.forces, whole.forces, atol=1e-8)
    for name in ("cycles", "internal_stability", "external_stability"):
        assert pieced.diagnostics[name] == whole.diagnostics[name]
    rungs = [[(r["rung"], r["cycles"]) for r in label.diagnostics["scf_rungs"]] for label in (whole, pieced)]
    assert rungs[0] == rungs[1]


def test_a_label_interrupted_before_its_gradient_differs_by_less_than_its_convergence(tmp_path: Path) -> None:
    whole = PBE.evaluate(WATER)
    assert isinstance(whole, Evaluation)
    pieced = in_pieces(PBE, WATER, tmp_path, [int(whole.diagnostics["cycles"])])
    assert isinstance(pieced, Evaluation)
    assert pieced.diagnostics["cycles"] == whole.diagnostics["cycles"] + 1, "the last cycle is made once more"
    assert abs(pieced.energy - whole.energy) < 1e-7
    assert np.abs(pieced.forces - whole.forces).max() < whole.diagnostics["force_noise_ev_ang"]


@pytest.mark.parametrize("damage", ["truncated", "altered", "other-basis", "empty"])
def test_a_checkpoint_that_cannot_be_used_is_ignored_with_a_note(damage: str, tmp_path: Path) -> None:
    course = course_of(PBE, WATER, tmp_path)
    course.stop()
    with pytest.raises(Interrupted):
        PBE.evaluate_in_steps(WATER, course)
    place = checkpoint_path(tmp_path, *ids(PBE, WATER))
    data = place.read_bytes()
    other = Checkpoint.from_bytes(data, *ids(PBE, WATER))
    wrong = Checkpoint({**other.arrays, "density": np.eye(3)}, other.told).to_bytes(*ids(PBE, WATER))
    place.write_bytes(
        {
            "truncated": data[:-40],
            "altered": data[:-200] + b"x" + data[-199:],
            "other-basis": wrong,
            "empty": b"",
        }[damage]
    )
    course = course_of(PBE, WATER, tmp_path)
    outcome = PBE.evaluate_in_steps(WATER, course)
    assert not course.restarted
    assert "not a" in str(course.note)
    cold = PBE.evaluate(WATER)
    assert isinstance(outcome, Evaluation)
    assert isinstance(cold, Evaluation)
    assert outcome.energy == pytest.approx(cold.energy, abs=1e-9)


def request_for(folder: Path, reference: PyscfReference | Stepwise = SLOW, every_s: float = 1e9) -> LabelRequest:
    return LabelRequest(reference, WATER, "label-a", folder / "spool", checkpoint_every_s=every_s)


@pytest.fixture
def end() -> Iterator[Callable[[float], None]]:
    """Tell this process when it ends, in so many seconds; nothing of it is left for other tests."""

    def ends_in(seconds: float) -> None:
        worker().ends_at = time.monotonic() + seconds

    yield ends_in
    worker().ends_at, worker().interrupted = None, False


def test_a_label_longer_than_its_worker_lives_is_made_by_several(tmp_path: Path, end: Callable[[float], None]) -> None:
    whole = PBE.evaluate(WATER)
    end(0.0)
    for steps in (1, 2, 3):
        found = run_label(request_for(tmp_path, PBE))
        assert isinstance(found.outcome, Failure)
        assert found.outcome.kind is FailureKind.WALLTIME
        assert found.outcome.diagnostics == {"worker_ends": True, "steps_made": steps}
        assert worker().interrupted
    worker().ends_at = None
    made = run_label(request_for(tmp_path, PBE)).outcome
    assert isinstance(whole, Evaluation)
    assert isinstance(made, Evaluation)
    assert made.diagnostics["restarted"] is True
    assert made.diagnostics["cycles"] == whole.diagnostics["cycles"]
    assert made.energy == pytest.approx(whole.energy, abs=1e-9)
    assert list((tmp_path / "spool").glob("*.checkpoint")) == [], "a label that exists needs none"


def test_a_label_hears_of_the_end_while_it_runs(tmp_path: Path, end: Callable[[float], None]) -> None:
    threading.Timer(0.5, end, (0.0,)).start()
    found = run_label(request_for(tmp_path)).outcome
    assert isinstance(found, Failure)
    assert found.kind is FailureKind.WALLTIME
    end(100.0)
    made = run_label(request_for(tmp_path)).outcome
    assert isinstance(made, Evaluation)
    assert 1 <= made.diagnostics["began_at_step"] < SLOW.steps


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_label_whose_process_is_killed_goes_on_from_its_last_checkpoint(
    number: signal.Signals, tmp_path: Path
) -> None:
    results: list[LabelResult] = []
    thread = threading.Thread(target=lambda: results.append(run_label(request_for(tmp_path, every_s=0.0))))
    thread.start()
    place = checkpoint_path(tmp_path / "spool", WATER.id, SLOW.level.id)
    while not place.exists():
        time.sleep(0.01)
    (guard,) = [p for p in psutil.Process().children() if "alflow.reference.child" in p.cmdline() and p.children()]
    os.kill(guard.children()[0].pid, number)
    thread.join(timeout=30)
    assert isinstance(results[0].outcome, Failure)
    killed = number == signal.SIGKILL
    assert results[0].outcome.kind is (FailureKind.CRASH if killed else FailureKind.WALLTIME)
    assert not worker().interrupted, "only the label was told to end, not its worker"
    made = run_label(request_for(tmp_path)).outcome
    assert isinstance(made, Evaluation)
    assert made.diagnostics["began_at_step"] >= 1
    assert made.diagnostics["restarted"] is True


def test_steps_towards_another_tolerance_do_not_count(tmp_path: Path) -> None:
    """A second try's checkpoint is of no use to the next first try, which would else seem further each time."""
    course = course_of(PBE, WATER, tmp_path)
    told = {"tolerance_ha": 1e-7, "order": [], "head": 0, "rungs": [], "norm": None, "begun": 0}
    aside = Checkpoint({"density": np.eye(7), "best": np.eye(7)}, told)
    course.step(lambda: aside)
    course.step(lambda: aside)
    course.stop()
    with pytest.raises(Interrupted) as ended:
        course.step(lambda: aside)
    assert ended.value.steps_made == 3
    same, other = (course_of(PBE, WATER, tmp_path) for _ in range(2))
    for course, tolerance, steps in ((other, 1e-5, 1), (same, 1e-7, 4)):
        kept = checkpoint_path(tmp_path, *ids(PBE, WATER)).read_bytes()
        assert (resumed_from(course, tolerance, 7) is None) == (steps == 1)
        course.stop()
        with pytest.raises(Interrupted) as ended:
            course.step(lambda: aside)
        assert ended.value.steps_made == steps
        checkpoint_path(tmp_path, *ids(PBE, WATER)).write_bytes(kept)
    assert (other.note, other.restarted) == (None, False)


def test_a_failure_that_follows_from_a_checkpoint_is_not_believed(tmp_path: Path) -> None:
    """A whole checkpoint with a density from which nothing can come: the label begins anew and is made."""
    reference = replace(HF, max_cycles=12)
    course = course_of(reference, WATER, tmp_path / "spool")
    course.stop()
    with pytest.raises(Interrupted):
        reference.evaluate_in_steps(WATER, course)
    place = checkpoint_path(tmp_path / "spool", *ids(reference, WATER))
    found = Checkpoint.from_bytes(place.read_bytes(), *ids(reference, WATER))
    bad = {**found.arrays, "density": np.full_like(found.arrays["density"], np.nan)}
    place.write_bytes(Checkpoint(bad, found.told).to_bytes(*ids(reference, WATER)))
    made = run_label(request_for(tmp_path, reference)).outcome
    cold = reference.evaluate(WATER)
    assert isinstance(made, Evaluation)
    assert isinstance(cold, Evaluation)
    assert made.energy == pytest.approx(cold.energy, abs=1e-9)
    assert "restarted" not in made.diagnostics


def test_a_failure_leaves_no_checkpoint(tmp_path: Path) -> None:
    hopeless = replace(HF, max_cycles=1, gradient_tolerance_ha=1e-13)
    found = run_label(request_for(tmp_path, hopeless, every_s=0.0)).outcome
    assert isinstance(found, Failure)
    assert found.kind is FailureKind.SCF_FAIL
    assert list((tmp_path / "spool").glob("*")) == []


def test_a_checkpoint_that_cannot_be_removed_stops_nobody(tmp_path: Path) -> None:
    place = checkpoint_path(tmp_path, *ids(PBE, WATER))
    (place / "in the way").mkdir(parents=True)
    forget_checkpoint(tmp_path, *ids(PBE, WATER))
    assert place.exists()
