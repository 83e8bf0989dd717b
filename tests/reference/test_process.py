"""One label in a process of its own: every way to die has its class, and nothing stays behind."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cloudpickle
import numpy as np
import pytest

from alflow.domain import Evaluation, Failure, FailureKind, Structure
from alflow.reference import (
    LabelRequest,
    MuellerBrown,
    PyscfReference,
    process,
    remove_spooled,
    run_label,
    sweep_spool,
)
from alflow.reference.oom import oom_kills
from alflow.reference.process import WORKER_ENDS
from tests.reference.labels import ATOM, Family, alive, request, wait_until

pytestmark = pytest.mark.usefixtures("scratch")
# The processes cannot import a test module by its name, so what is defined here travels by value.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def spin_and_ignore_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        time.sleep(0.01)


def eat_memory() -> None:
    eaten = []
    for _ in range(60):  # 1.2 GB at most, should nobody stop it
        eaten.append(np.ones(20_000_000 // 8))
        time.sleep(0.02)
    time.sleep(60)


def eat_memory_in_another_process() -> None:
    subprocess.run([sys.executable, "-c", "import time; x = bytearray(400_000_000); time.sleep(60)"], check=True)


def segfault() -> None:
    ctypes.string_at(0)


def exit_in_compiled_code() -> None:
    os.write(2, b"malloc(3199880072) failed in JKArray\n")
    ctypes.CDLL(None).exit(1)


def exit_in_python() -> None:
    sys.exit(3)


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def be_asked_to_end() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def leave_without_a_word() -> None:
    os._exit(0)


def raise_an_exception() -> None:
    raise KeyError("no such basis")


def run_out_of_memory() -> None:
    raise MemoryError("Unable to allocate 1. PiB")


def answer_what_json_cannot_say() -> dict[str, object]:
    return {"array": np.zeros(3)}


def leave_a_daemon_behind() -> dict[str, object]:
    daemon = subprocess.Popen(["sleep", "600"], start_new_session=True)
    return {"daemon": daemon.pid}


def look_around() -> dict[str, object]:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_WAIT_POLICY")
    return {
        "environment": {name: os.environ[name] for name in names},
        "torch": "torch" in sys.modules,
        "distributed": "distributed" in sys.modules,
        "folder": os.getcwd(),
        "temporary": tempfile.gettempdir(),
        "pyscf_settings": Path(os.environ["PYSCF_CONFIG_FILE"]).read_text(encoding="utf-8"),
        "input": sys.stdin.read(),
        "path": sys.path,
    }


def test_a_result_comes_back_bit_for_bit_with_its_provenance(tmp_path: Path) -> None:
    began = time.time()
    result = run_label(request(look_around, tmp_path, threads=1, attempt=2))
    assert isinstance(result.outcome, Evaluation)
    assert result.outcome.energy == 1.0 / 3.0
    assert np.array_equal(result.outcome.forces, ATOM.positions / 7.0)
    assert np.array_equal(result.outcome.stress, np.eye(3) * 1e-300)
    assert not result.from_spool
    p = result.provenance
    assert (p["key"], p["attempt"], p["threads"]) == ("label-test-a1", 2, 1)
    assert began <= p["started_at"] <= p["ended_at"] <= time.time()
    assert p["wall_s"] == p["ended_at"] - p["started_at"]
    assert p["pid"] != os.getpid()
    assert 10 < p["peak_memory_mb"] < 500
    assert p["cpu_s"] > 0
    assert p["versions"]["numpy"] == np.__version__
    d = result.outcome.diagnostics
    assert set(d["environment"].values()) == {"1", "PASSIVE"}
    assert (d["torch"], d["distributed"], d["input"], d["pyscf_settings"]) == (False, False, "", "")
    assert d["folder"] == d["temporary"]
    assert not Path(d["folder"]).exists()
    assert set(map(os.path.abspath, sys.path)) <= set(d["path"])


def test_a_result_waits_in_the_spool_until_it_is_removed(tmp_path: Path) -> None:
    asked = request(leave_a_daemon_behind, tmp_path)
    first = run_label(asked)
    assert isinstance(first.outcome, Evaluation)
    assert not alive(first.outcome.diagnostics["daemon"])
    second = run_label(asked)
    assert second.from_spool
    assert second.provenance["pid"] == first.provenance["pid"]
    (swept,) = sweep_spool(asked.spool)
    assert (swept.structure_id, swept.level_id) == (ATOM.id, asked.reference.level.id)
    remove_spooled(asked.spool, first)
    remove_spooled(asked.spool, swept.result)  # gone already, and no error
    assert sweep_spool(asked.spool) == []
    assert not run_label(asked).from_spool


@pytest.mark.parametrize(
    ("act", "kind", "sentence"),
    [
        (segfault, FailureKind.CRASH, "killed by SIGSEGV"),
        (kill_itself, FailureKind.CRASH, "killed by SIGKILL, not by alflow"),
        (be_asked_to_end, FailureKind.CRASH, "killed by SIGTERM"),
        (exit_in_compiled_code, FailureKind.CRASH, "exit status 1"),
        (exit_in_python, FailureKind.CRASH, "exit status 3"),
        (leave_without_a_word, FailureKind.CRASH, "without a result"),
        (raise_an_exception, FailureKind.BUG, "Reference raised an exception: KeyError: 'no such basis'"),
        (answer_what_json_cannot_say, FailureKind.BUG, "not JSON serializable"),
        (run_out_of_memory, FailureKind.OOM, "1. PiB"),
    ],
)
def test_every_way_to_die_has_its_class(
    act: Callable[[], None], kind: FailureKind, sentence: str, tmp_path: Path
) -> None:
    result = run_label(request(act, tmp_path))
    assert isinstance(result.outcome, Failure)
    assert (result.outcome.kind, sentence in result.outcome.message) == (kind, True), result.outcome
    assert result.provenance["wall_s"] > 0
    assert result.spool_file is None
    assert sweep_spool(tmp_path / "spool") == []


def test_a_label_that_is_asked_to_end_in_a_job_is_charged_with_nothing_and_its_worker_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker without a job knows of no end, and its label has crashed like those above."""
    monkeypatch.setattr(process.worker(), "ends_at", time.monotonic() + 3600)
    monkeypatch.setattr(process.worker(), "interrupted", False)
    outcome = run_label(request(be_asked_to_end, tmp_path)).outcome
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.diagnostics) == (FailureKind.WALLTIME, {WORKER_ENDS: True})
    assert "asked to end (SIGTERM)" in outcome.message
    assert process.worker().interrupted


@pytest.mark.parametrize(
    ("counted", "victim", "kind"),
    [
        (8, "label", FailureKind.OOM),
        (8, "guard", FailureKind.OOM),
        (7, "label", FailureKind.CRASH),
        (None, "label", FailureKind.CRASH),
    ],
)
def test_a_label_killed_for_the_memory_of_its_job_is_out_of_memory_and_no_crash(
    counted: int | None, victim: str, kind: FailureKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files stand in for the kernel's; as the kernel does, the label counts first and is killed then."""
    listing, events = tmp_path / "cgroup", tmp_path / "memory.events"
    listing.write_text("0::/\n", encoding="ascii")
    events.write_text("oom 9\noom_kill 7\n", encoding="ascii")
    monkeypatch.setattr(process, "oom_kills", partial(oom_kills, listing, tmp_path))

    def use_up_the_memory_of_the_job() -> None:
        if counted is None:
            events.unlink()
        else:
            events.write_text(f"oom 9\noom_kill {counted}\n", encoding="ascii")
        os.kill(os.getpid() if victim == "label" else os.getppid(), signal.SIGKILL)
        time.sleep(600)

    result = run_label(request(use_up_the_memory_of_the_job, tmp_path))
    assert isinstance(result.outcome, Failure)
    assert result.outcome.kind is kind
    assert ("memory of its job, container or machine was used up, not by alflow's limit" in result.outcome.message) == (
        kind is FailureKind.OOM
    )
    assert result.outcome.diagnostics["exit_status"] == -signal.SIGKILL


def test_a_label_that_crashes_while_another_is_killed_for_memory_has_crashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = iter((7, 8))
    monkeypatch.setattr(process, "oom_kills", lambda: next(counts))
    result = run_label(request(segfault, tmp_path))
    assert isinstance(result.outcome, Failure)
    assert result.outcome.kind is FailureKind.CRASH


def test_a_label_knows_nothing_that_opens_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "secret")
    monkeypatch.setenv("PGSERVICEFILE", "/somewhere")
    monkeypatch.setenv("ALFLOW_TEST_KEPT", "yes")

    def tell() -> dict[str, object]:
        return {
            "names": [name for name in os.environ if name.startswith(("PG", "ALFLOW_TEST_KEPT"))],
            "inherited": "secret" in Path("/proc/self/environ").read_text(encoding="utf-8"),
        }

    outcome = run_label(request(tell, tmp_path)).outcome
    assert isinstance(outcome, Evaluation)
    assert outcome.diagnostics == {"names": ["ALFLOW_TEST_KEPT"], "inherited": False}
    assert os.environ["PGPASSWORD"] == "secret"


def test_a_crash_brings_the_last_words_and_a_bug_its_traceback(tmp_path: Path) -> None:
    crash = run_label(request(exit_in_compiled_code, tmp_path)).outcome
    assert isinstance(crash, Failure)
    assert "malloc(3199880072) failed" in crash.diagnostics["output_tail"]
    bug = run_label(request(raise_an_exception, tmp_path)).outcome
    assert isinstance(bug, Failure)
    assert "in raise_an_exception" in bug.diagnostics["traceback"]


def test_a_label_that_hangs_and_ignores_sigterm_is_killed_at_its_time_limit(tmp_path: Path) -> None:
    began = time.monotonic()
    result = run_label(request(spin_and_ignore_sigterm, tmp_path, time_limit_s=0.8))
    assert isinstance(result.outcome, Failure)
    assert result.outcome.kind is FailureKind.TIMEOUT
    assert time.monotonic() - began < 8.0  # 0.1 s on an idle machine


@pytest.mark.parametrize("act", [eat_memory, eat_memory_in_another_process])
def test_the_memory_of_all_processes_of_a_label_counts(act: Callable[[], None], tmp_path: Path) -> None:
    result = run_label(request(act, tmp_path, memory_limit_mb=300.0))
    assert isinstance(result.outcome, Failure)
    assert result.outcome.kind is FailureKind.OOM
    assert result.provenance["peak_memory_mb"] > 300


def test_a_reference_that_cannot_be_pickled_is_a_bug_and_not_an_exception(tmp_path: Path) -> None:
    generator = (i for i in range(3))

    def hold_a_generator() -> None:
        next(generator)

    result = run_label(request(hold_a_generator, tmp_path))
    assert isinstance(result.outcome, Failure)
    assert result.outcome.kind is FailureKind.BUG
    assert "pickle" in result.outcome.message


def test_a_failure_of_physics_passes_through_unchanged(tmp_path: Path) -> None:
    pair = Structure.of("HH", [[0, 0, 0], [0, 0, 0.05]])
    asked = LabelRequest(PyscfReference(functional="hf", basis="sto-3g"), pair, "label-x-a1", tmp_path / "spool")
    result = run_label(asked)
    assert isinstance(result.outcome, Failure)
    assert result.outcome == PyscfReference(functional="hf", basis="sto-3g").evaluate(pair)


def test_a_pyscf_label_is_the_same_in_its_own_process(tmp_path: Path) -> None:
    water = Structure.of("OHH", [[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
    reference = PyscfReference(functional="pbe", basis="sto-3g", grid_level=1, dispersion="d3bj")
    result = run_label(LabelRequest(reference, water, "label-w-a1", tmp_path / "spool"))
    here = reference.evaluate(water)
    assert isinstance(result.outcome, Evaluation)
    assert isinstance(here, Evaluation)
    # One thread, one machine: the same operations in the same order.
    assert result.outcome.energy == here.energy
    assert np.array_equal(result.outcome.forces, here.forces)
    assert result.provenance["versions"]["pyscf"]


def test_a_killed_parent_takes_child_and_grandchild_along(
    tmp_path: Path, scratch: Path, other_parent: Callable[[LabelRequest], subprocess.Popen[bytes]]
) -> None:
    note = tmp_path / "pids"
    parent = other_parent(LabelRequest(Family(note, 600.0), ATOM, "label-f-a1", tmp_path / "spool"))
    assert wait_until(note.exists, 20)
    pids = [int(word) for word in note.read_text(encoding="ascii").split()]
    assert all(alive(pid) for pid in pids)
    parent.kill()
    parent.wait()
    assert wait_until(lambda: not any(alive(pid) for pid in pids), 5.0)
    assert wait_until(lambda: not any(scratch.iterdir()), 5.0)


def test_a_killed_guard_takes_its_worker_along(tmp_path: Path) -> None:
    def kill_the_guard() -> None:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(600)

    result = run_label(request(kill_the_guard, tmp_path))
    assert isinstance(result.outcome, Failure)
    assert result.outcome.kind is FailureKind.CRASH


def test_a_result_survives_the_parent_that_did_not_live_to_read_it(
    tmp_path: Path, other_parent: Callable[[LabelRequest], subprocess.Popen[bytes]]
) -> None:
    note = tmp_path / "pids"
    asked = LabelRequest(Family(note, 0.3), ATOM, "label-f-a1", tmp_path / "spool")
    parent = other_parent(asked)
    assert wait_until(note.exists, 20)
    parent.send_signal(signal.SIGSTOP)
    assert wait_until(lambda: any(asked.spool.glob("*.label.json")), 20)
    parent.kill()
    parent.wait()
    result = run_label(asked)
    assert result.from_spool
    assert isinstance(result.outcome, Evaluation)
    assert np.array_equal(result.outcome.forces, MuellerBrown().evaluate(ATOM).forces)
    pids = [int(word) for word in note.read_text(encoding="ascii").split()]
    assert wait_until(lambda: not any(alive(pid) for pid in pids), 5.0)
    assert wait_until(lambda: not any(Path(tempfile.gettempdir()).iterdir()), 5.0)


@pytest.mark.parametrize("key", ["", "../a", "a/b", ".hidden", "-a", "a" * 121])
def test_a_key_that_is_no_file_name_is_refused(key: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="A key is"):
        LabelRequest(MuellerBrown(), ATOM, key, tmp_path)


def test_a_limit_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="time_limit_s must be positive"):
        LabelRequest(MuellerBrown(), ATOM, "a", tmp_path, time_limit_s=float("nan"))
