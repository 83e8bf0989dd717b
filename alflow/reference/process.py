"""One label in a process of its own: limits enforced, every way to die a value, nothing left behind.

A label may need too much time or memory, crash inside compiled code or hang for ever. A thread can be stopped in
none of these cases, so each label gets a process that can be killed as a whole; see :mod:`alflow.reference.child`.
Memory means resident memory of all its processes together: limiting the address space instead makes PySCF fail on
memory it reserves and never touches.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import cloudpickle
import psutil

from alflow.domain import Failure, FailureKind
from alflow.reference.child import BUG_EXIT, BUG_FILE, HEADER_BYTES
from alflow.reference.request import LabelRequest, LabelResult
from alflow.reference.spool import find_spooled
from alflow.reference.work import FAILURE_FILE, Work

__all__ = ["run_label"]

POLL_S: Final = 0.1
_GRACE_S: Final = 5.0
_TAIL_CHARACTERS: Final = 2000
_OUTPUT_FILE: Final = "output.txt"
_CONFIG_FILE: Final = "pyscf_conf.py"


def run_label(request: LabelRequest) -> LabelResult:
    """Compute one label in a process of its own, or take it from the spool where it already waits.

    Args:
        request: Reference, structure and limits.

    Returns:
        The result. Whatever the process does is a value: TIMEOUT, OOM (more resident memory than allowed), CRASH (a
        signal, an exit status, no result), BUG (an exception, with its traceback), or what the reference itself
        answered.

    Raises:
        OSError: The scratch folder or the process cannot be created on this machine.
    """
    started_at = time.time()
    found = find_spooled(request.spool, request.structure.id, request.reference.level.id)
    if found is not None:
        return found.result
    scratch = Path(tempfile.mkdtemp(prefix=f"alflow-{request.key}-")).absolute()
    try:
        return _run(request, scratch, started_at)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@dataclass
class _Usage:
    """What the process tree has used so far."""

    cpu_s: float = 0.0
    peak_memory_mb: float = 0.0
    seen: dict[int, float] = field(default_factory=dict)

    def sample(self, process: int) -> float:
        """Resident memory of the tree now, MB."""
        memory = 0.0
        try:
            root = psutil.Process(process)
            tree = [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return 0.0
        for member in tree:
            try:
                with member.oneshot():
                    memory += member.memory_info().rss / 1e6
                    times = member.cpu_times()
                self.seen[member.pid] = times.user + times.system
            except psutil.NoSuchProcess:
                continue  # it ended while we were looking
        self.cpu_s = sum(self.seen.values())
        self.peak_memory_mb = max(self.peak_memory_mb, memory)
        return memory


def _run(request: LabelRequest, scratch: Path, started_at: float) -> LabelResult:
    usage = _Usage()
    try:
        payload = cloudpickle.dumps(Work(request, scratch, started_at))
    except Exception as error:
        bug = Failure(FailureKind.BUG, f"The reference cannot be pickled: {type(error).__name__}: {error}")
        return LabelResult(bug, _provenance(request, started_at, os.getpid(), usage))
    (scratch / _CONFIG_FILE).touch()
    with (scratch / _OUTPUT_FILE).open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "alflow.reference.child"],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=scratch,
            env=_environment(request, scratch),
            start_new_session=True,
        )
    try:
        excess = _watch(process, payload, request, usage)
    finally:
        _end(process)
    return _verdict(request, scratch, started_at, process, excess, usage)


def _environment(request: LabelRequest, scratch: Path) -> dict[str, str]:
    """The process finds the same modules, uses its own threads and scratch, and reads nobody's PySCF settings."""
    threads = str(request.threads)
    return os.environ | {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYSCF_CONFIG_FILE": str(scratch / _CONFIG_FILE),
        "PYSCF_TMPDIR": str(scratch),
        "PYTHONFAULTHANDLER": "1",
        "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path),
        "TMPDIR": str(scratch),
    }


def _watch(process: subprocess.Popen[bytes], payload: bytes, request: LabelRequest, usage: _Usage) -> Failure | None:
    """Wait for the end of the process; answer the limit it exceeds, if it does."""
    deadline = time.monotonic() + request.time_limit_s
    _send(process, len(payload).to_bytes(HEADER_BYTES, "big") + payload)
    while True:
        try:
            process.wait(timeout=min(POLL_S, max(deadline - time.monotonic(), 0.001)))
            return None
        except subprocess.TimeoutExpired:
            memory = usage.sample(process.pid)
        if memory > request.memory_limit_mb:
            message = f"The label used {memory:.0f} MB of memory; allowed are {request.memory_limit_mb:.0f} MB."
            return Failure(FailureKind.OOM, message, {"memory_mb": memory})
        if time.monotonic() > deadline:
            message = f"The label was not done after {request.time_limit_s:g} s."
            return Failure(FailureKind.TIMEOUT, message, {"time_limit_s": request.time_limit_s})


def _send(process: subprocess.Popen[bytes], data: bytes) -> None:
    """Write to the life line and leave it open; a process that is already gone is noticed by whoever waits for it."""
    if process.stdin is None or process.stdin.closed:
        return
    try:
        process.stdin.write(data)
        process.stdin.flush()
    except BrokenPipeError:
        return


def _end(process: subprocess.Popen[bytes]) -> None:
    """Make sure that the guard, the worker and all they have started are gone."""
    if process.poll() is None:
        try:
            tree = psutil.Process(process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            tree = []
        _send(process, b"K")
        try:
            process.wait(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()  # the guard itself is stuck: the kernel takes the worker along
            process.wait()
        for member in tree:
            if member.is_running():
                member.kill()
    if process.stdin is not None:
        try:
            process.stdin.close()
        except BrokenPipeError:
            return  # what was still to be sent has nobody to read it


def _verdict(
    request: LabelRequest,
    scratch: Path,
    started_at: float,
    process: subprocess.Popen[bytes],
    excess: Failure | None,
    usage: _Usage,
) -> LabelResult:
    # A result that reached the spool counts, however its process ended afterwards.
    found = find_spooled(request.spool, request.structure.id, request.reference.level.id)
    if found is not None:
        peak = _with_peak(found.result.provenance, usage)
        return replace(found.result, provenance=peak, from_spool=False)
    provenance: dict[str, Any] = _provenance(request, started_at, process.pid, usage)
    if excess is not None:
        return LabelResult(excess, provenance)
    reported = scratch / FAILURE_FILE
    if process.returncode == 0 and reported.exists():
        record = json.loads(reported.read_text(encoding="utf-8"))
        failure = Failure(FailureKind(record["kind"]), record["message"], record["diagnostics"])
        return LabelResult(failure, _with_peak(record["provenance"], usage))
    bug = scratch / BUG_FILE
    if process.returncode == BUG_EXIT and bug.exists():
        story = bug.read_text(encoding="utf-8", errors="replace")
        last = story.strip().splitlines()[-1] if story.strip() else "no traceback"
        message = f"{type(request.reference).__name__} raised an exception: {last}"
        return LabelResult(Failure(FailureKind.BUG, message, {"traceback": story}), provenance)
    tail = _tail(scratch / _OUTPUT_FILE)
    diagnostics = {"exit_status": process.returncode, "output_tail": tail}
    return LabelResult(Failure(FailureKind.CRASH, _obituary(process.returncode), diagnostics), provenance)


def _obituary(status: int) -> str:
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        hint = ", not by alflow; the kernel does so when memory runs out" if -status == signal.SIGKILL else ""
        return f"The label's process was killed by {name}{hint}."
    if status == 0:
        return "The label's process ended without a result."
    return f"The label's process ended with exit status {status}."


def _tail(path: Path) -> str:
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(file.tell() - _TAIL_CHARACTERS, 0))
        return file.read().decode("utf-8", errors="replace")


def _with_peak(provenance: Any, usage: _Usage) -> dict[str, Any]:
    """The process knows its own peak; the tree's, with what it started, may be larger."""
    peak = max(float(provenance["peak_memory_mb"]), usage.peak_memory_mb)
    return dict(provenance) | {"peak_memory_mb": peak}


def _provenance(request: LabelRequest, started_at: float, pid: int, usage: _Usage) -> dict[str, Any]:
    """Provenance of a label whose process did not live to write its own."""
    ended_at = time.time()
    return {
        "key": request.key,
        "attempt": request.attempt,
        "host": platform.node(),
        "pid": pid,
        "started_at": started_at,
        "ended_at": ended_at,
        "wall_s": ended_at - started_at,
        "cpu_s": usage.cpu_s,
        "peak_memory_mb": usage.peak_memory_mb,
        "threads": request.threads,
        "versions": {"python": platform.python_version()},
    }
