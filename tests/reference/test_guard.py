"""The guard that stays: one for many labels, none of which sees anything of another, and gone when it should be."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cloudpickle
import numpy as np
import psutil
import pytest

from alflow.domain import Evaluation, Failure, FailureKind, Structure
from alflow.reference import LabelRequest, LabelResult, PyscfReference, close_guards, guard, run_label
from tests.reference.labels import ATOM, Family, alive, request, wait_until

pytestmark = pytest.mark.usefixtures("scratch")
cloudpickle.register_pickle_by_value(sys.modules[__name__])

WATER = Structure.of("OHH", [[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
FAST = PyscfReference(functional="hf", basis="sto-3g")


def tell() -> dict[str, object]:
    pyscf = sys.modules.get("pyscf.lib")
    return {
        "guard": os.getppid(),
        "folder": os.getcwd(),
        "temporary": tempfile.gettempdir(),
        "pyscf": pyscf.param.TMPDIR if pyscf else None,
        "config": os.environ["PYSCF_CONFIG_FILE"],
        "random": float(np.random.random()),
        "mood": os.environ.get("MOOD"),
    }


def told(result: LabelResult) -> dict[str, object]:
    assert isinstance(result.outcome, Evaluation), result.outcome
    return dict(result.outcome.diagnostics)


def ask(tmp_path: Path, number: int, preload: tuple[str, ...] = (), threads: int = 1) -> dict[str, object]:
    """What a label tells about its process; each number is a structure of its own."""
    asked = request(tell, tmp_path, preload, threads=threads)
    return told(run_label(replace(asked, structure=Structure.of("Ar", [[float(number), 0.0, 0.0]]))))


def hang() -> None:
    time.sleep(600)


def segfault() -> None:
    ctypes.string_at(0)


def eat_memory() -> None:
    eaten = np.ones(500_000_000 // 8)
    time.sleep(60)
    assert eaten.any()


def kill_the_guard_and_leave_a_daemon() -> None:
    daemon = subprocess.Popen(["sleep", "600"], start_new_session=True)
    Path(tempfile.gettempdir(), "..", "..", "daemon").write_text(str(daemon.pid), encoding="ascii")
    time.sleep(0.5)  # long enough to be seen
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(600)


def module(folder: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """A module that a guard can import."""
    (folder / f"{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    return (name,)


def test_only_the_first_label_waits_for_the_import(tmp_path: Path) -> None:
    moved = Structure.of(WATER.symbols, WATER.positions * 1.01)
    seconds = []
    for number, structure in enumerate((WATER, moved)):
        result = run_label(LabelRequest(FAST, structure, f"label-{number}", tmp_path / "spool"))
        assert isinstance(result.outcome, Evaluation)
        seconds.append(result.provenance["wall_s"])
    assert seconds[1] < 0.5 * seconds[0]  # 0.05 s and 0.8 s on an idle machine


def test_labels_share_a_guard_and_nothing_else(tmp_path: Path) -> None:
    first, second = (ask(tmp_path, number, preload=("pyscf.lib",)) for number in (1, 2))
    assert first["guard"] == second["guard"]
    for label in (first, second):
        assert label["folder"] == label["temporary"] == label["pyscf"] == str(Path(str(label["config"])).parent)
    assert first["folder"] != second["folder"]
    assert first["random"] != second["random"]


def test_the_guard_outlives_every_failure_of_a_label(tmp_path: Path) -> None:
    before = ask(tmp_path, 1)["guard"]
    for act, kind, limits in (
        (hang, FailureKind.TIMEOUT, {"time_limit_s": 0.5}),
        (segfault, FailureKind.CRASH, {}),
        (eat_memory, FailureKind.OOM, {"memory_limit_mb": 300.0}),
    ):
        outcome = run_label(request(act, tmp_path, **limits)).outcome
        assert isinstance(outcome, Failure)
        assert outcome.kind is kind
    assert ask(tmp_path, 2)["guard"] == before


def test_a_guard_killed_between_two_labels_costs_nothing(tmp_path: Path) -> None:
    before = ask(tmp_path, 1)["guard"]
    assert isinstance(before, int)
    os.kill(before, signal.SIGKILL)
    assert ask(tmp_path, 2)["guard"] != before


def test_a_guard_killed_with_a_label_is_a_crash_that_leaves_no_grandchild(tmp_path: Path) -> None:
    outcome = run_label(request(kill_the_guard_and_leave_a_daemon, tmp_path)).outcome
    assert isinstance(outcome, Failure)
    assert outcome.kind is FailureKind.CRASH
    daemon = int((tmp_path / "daemon").read_text(encoding="ascii"))
    assert wait_until(lambda: not alive(daemon), 2.0)
    assert ask(tmp_path, 1)["guard"]


def test_another_reference_another_number_of_threads_or_environment_gets_another_guard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guards = [ask(tmp_path, 1)["guard"]]
    guards.append(ask(tmp_path, 2, preload=("json",))["guard"])
    guards.append(ask(tmp_path, 3, threads=2)["guard"])
    monkeypatch.setenv("MOOD", "calm")
    last = ask(tmp_path, 4)
    assert last["mood"] == "calm"
    guards.append(last["guard"])
    assert len(set(guards)) == 4
    assert [pid for pid in guards if alive(int(str(pid)))] == guards[-1:]


def test_pyscf_on_two_threads_survives_the_fork(tmp_path: Path) -> None:
    for number in (1, 2):
        structure = Structure.of(WATER.symbols, WATER.positions * (1 + number / 100))
        reference = replace(FAST, functional="pbe", grid_level=1, threads=2)
        asked = LabelRequest(reference, structure, f"label-{number}", tmp_path / "spool", threads=2, time_limit_s=60)
        assert told(run_label(asked))["threads"] == 2


def test_threads_that_label_at_once_have_a_guard_each(tmp_path: Path) -> None:
    def wait_and_tell() -> dict[str, object]:
        time.sleep(1.0)
        return {"guard": os.getppid()}

    structures = [Structure.of("Ar", [[float(number), 0.0, 0.0]]) for number in (1, 2)]
    asked = [replace(request(wait_and_tell, tmp_path), structure=structure) for structure in structures]
    with ThreadPoolExecutor(2) as threads:
        guards = {told(result)["guard"] for result in threads.map(run_label, asked)}
    assert len(guards) == 2
    assert ask(tmp_path, 7)["guard"] in guards  # and are there for whoever comes next


def test_threads_that_exchange_guards_do_not_exchange_endings(tmp_path: Path) -> None:
    def label(status: int) -> LabelResult:
        return run_label(request(lambda: os._exit(status), tmp_path))

    with ThreadPoolExecutor(3) as threads:
        outcomes = [result.outcome for result in threads.map(label, range(1, 16))]
    assert [getattr(outcome, "message", outcome) for outcome in outcomes] == [
        f"The label's process ended with exit status {status}." for status in range(1, 16)
    ]


@pytest.mark.parametrize(("limit", "value"), [("LABELS_PER_GUARD", 1), ("GROWTH_MB", -1.0)])
def test_a_worn_guard_is_replaced(limit: str, value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, limit, value)
    assert ask(tmp_path, 1)["guard"] != ask(tmp_path, 2)["guard"]


def test_an_import_that_fails_is_left_to_the_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preload = ("no_such_module", *module(tmp_path, "broken_module", "1 / 0", monkeypatch))
    assert ask(tmp_path, 1, preload)["guard"] == ask(tmp_path, 2, preload)["guard"]


def test_an_import_that_crashes_is_a_crash_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preload = module(tmp_path, "crashing_module", "import ctypes; ctypes.string_at(0)", monkeypatch)
    outcome = run_label(request(tell, tmp_path, preload)).outcome
    assert isinstance(outcome, Failure)
    assert (outcome.kind, "SIGSEGV" in outcome.message) == (FailureKind.CRASH, True)
    assert "crashing_module.py" in outcome.diagnostics["output_tail"]


def test_an_import_that_hangs_is_killed_at_the_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preload = module(tmp_path, "hanging_module", "import time; time.sleep(600)", monkeypatch)
    outcome = run_label(request(tell, tmp_path, preload, time_limit_s=1.0)).outcome
    assert isinstance(outcome, Failure)
    assert outcome.kind is FailureKind.TIMEOUT


def test_a_parent_killed_during_the_import_leaves_nothing(
    tmp_path: Path,
    scratch: Path,
    monkeypatch: pytest.MonkeyPatch,
    other_parent: Callable[[LabelRequest], subprocess.Popen[bytes]],
) -> None:
    note = tmp_path / "importing"
    text = f"import os, pathlib, time; pathlib.Path({str(note)!r}).write_text(str(os.getpid())); time.sleep(600)"
    preload = module(tmp_path, "endless_module", text, monkeypatch)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    parent = other_parent(request(tell, tmp_path, preload))
    assert wait_until(lambda: note.exists() and note.read_text() != "", 20)
    started = psutil.Process(parent.pid).children(recursive=True)
    assert int(note.read_text(encoding="ascii")) in {process.pid for process in started}
    parent.kill()
    parent.wait()
    assert wait_until(lambda: not any(alive(process.pid) for process in started), 5.0)
    assert wait_until(lambda: not any(scratch.iterdir()), 5.0)


def run_script(text: str, tmp_path: Path) -> str:
    """Run a script that labels, with every warning an error; what it printed."""
    asked = LabelRequest(Family(tmp_path / "pids", 0.0), ATOM, "label-f-a1", tmp_path / "spool")
    (tmp_path / "request").write_bytes(cloudpickle.dumps(asked))
    begin = (
        "import os, pickle, time; from pathlib import Path; from alflow.reference import close_guards, run_label\n"
        f"run_label(pickle.loads(Path({str(tmp_path / 'request')!r}).read_bytes()))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", begin + text],
        env=os.environ | {"TMPDIR": tempfile.gettempdir()},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def test_a_script_that_labels_ends_without_a_word_and_its_guard_with_it(tmp_path: Path) -> None:
    run_script("", tmp_path)
    worker, its_guard, grandchild = map(int, (tmp_path / "pids").read_text(encoding="ascii").split())
    assert not any(alive(pid) for pid in (worker, its_guard, grandchild))


def test_a_fork_of_the_parent_does_not_hold_the_life_line(tmp_path: Path) -> None:
    text = """
fork = os.fork()
if fork == 0:
    time.sleep(600)
began = time.monotonic()
close_guards()
print(time.monotonic() - began)
os.kill(fork, 9)
"""
    assert float(run_script(text, tmp_path)) < 3.0  # a guard that does not end is killed after 5 s


def test_closing_twice_is_no_error_and_the_next_label_has_a_guard_again(tmp_path: Path) -> None:
    before = ask(tmp_path, 1)["guard"]
    close_guards()
    close_guards()
    assert ask(tmp_path, 2)["guard"] != before


def look_at_the_shelf() -> dict[str, object]:
    charges = sys.modules["alflow.reference.charges"]
    before = charges._ATOMS.take("O sto-3g 1")
    return {"found": before is not None, "profile": charges._free_atom("O", "sto-3g", 1).tobytes().hex()}


def test_a_free_atom_is_computed_for_the_first_label_of_a_guard_only(tmp_path: Path) -> None:
    preload = ("alflow.reference.charges",)
    first, second = (ask_the_shelf(tmp_path, number, preload) for number in (1, 2))
    assert (first.pop("found"), second.pop("found")) == (False, True)
    assert first == second


def ask_the_shelf(tmp_path: Path, number: int, preload: tuple[str, ...]) -> dict[str, object]:
    asked = request(look_at_the_shelf, tmp_path, preload)
    return told(run_label(replace(asked, structure=Structure.of("Ar", [[float(number), 0.0, 0.0]]))))


def test_a_label_is_the_same_to_the_last_bit_from_a_guard_that_has_served_and_from_a_new_one(tmp_path: Path) -> None:
    reference = PyscfReference(functional="pbe", basis="sto-3g", grid_level=1, properties=("hirshfeld", "iao"))
    found = []
    for number in range(4):
        if number == 2:
            close_guards()  # number 1 finds the free atoms on the shelf, number 2 has none again
        result = run_label(LabelRequest(reference, WATER, "label", tmp_path / str(number)))
        assert isinstance(result.outcome, Evaluation), result.outcome
        found.append((result.outcome.energy.hex(), result.outcome.forces.tobytes(), told(result)))
    assert found[0][2]["hirshfeld_charges_e"]
    assert found == [found[0]] * 4
