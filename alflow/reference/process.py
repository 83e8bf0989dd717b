"""One label in a process of its own: limits enforced, every way to die a value, nothing left behind.

A label may need too much time or memory, crash inside compiled code or hang for ever. A thread can be stopped in
none of these cases, so each label gets a process that can be killed as a whole. It is forked from a guard that has
imported what labels need and stays for the next one; see :mod:`alflow.reference.child`.
Memory means resident memory of all its processes together: limiting the address space instead makes PySCF fail on
memory it reserves and never touches.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import cloudpickle
import psutil

from alflow.domain import Failure, FailureKind
from alflow.reference.child import BUG_EXIT, BUG_FILE, NO_ROOM_EXIT, OUTPUT_FILE
from alflow.reference.course import forget_checkpoint
from alflow.reference.credentials import without_credentials
from alflow.reference.guard import Conditions, Guard, GuardPool
from alflow.reference.oom import oom_kills
from alflow.reference.request import LabelRequest, LabelResult
from alflow.reference.spool import find_spooled
from alflow.reference.work import END_FILE, FAILURE_FILE, Beginning, Work

__all__ = ["BY_KERNEL", "WORKER_ENDS", "Worker", "close_guards", "run_label", "worker"]

POLL_S: Final = 0.1
_TAIL_CHARACTERS: Final = 2000
_CONFIG_FILE: Final = "pyscf_conf.py"
_MODULES: Final = ("cloudpickle", "alflow.reference.work")
"""What every label needs, whatever its reference."""

BY_KERNEL: Final = "killed_by_kernel"
"""In the diagnostics of a label that ran out of a memory that is not its own alone."""

WORKER_ENDS: Final = "worker_ends"
"""In the diagnostics of a label that was interrupted: whether its worker ends, or the label alone was told to."""

_GUARDS: Final = GuardPool()


@dataclass
class Worker:
    """What this process knows of its own end, which labels must know as well.

    Attributes:
        ends_at: When it must end, on the clock of :func:`time.monotonic`, s; None if nobody has said so. It may change
            while a label runs.
        interrupted: Whether a label had to be interrupted for it: another one would fare no better.
    """

    ends_at: float | None = None
    interrupted: bool = False


_WORKER: Final = Worker()


def worker() -> Worker:
    """What this process knows of its own end."""
    return _WORKER


def run_label(request: LabelRequest) -> LabelResult:
    """Compute one label in a process of its own, or take it from the spool where it already waits.

    Args:
        request: Reference, structure and limits.

    Returns:
        The result. Whatever the process does is a value: TIMEOUT, OOM (more resident memory than allowed, or than the
        job or the container has), CRASH (a signal, an exit status, no result), BUG (an exception, with its traceback),
        or what the reference itself answered.

    Raises:
        OSError: The scratch folder or the process cannot be created on this machine.

    Note:
        A guard stays for the next label, with its modules in memory, until this process ends; :func:`close_guards`
        ends it sooner. Any number of threads may label at the same time; each then has a guard of its own.
    """
    began = Beginning.now()
    found = find_spooled(request.spool, request.structure.id, request.reference.level.id)
    if found is not None:
        return found.result
    scratch = Path(tempfile.mkdtemp(prefix=f"alflow-{request.key}-")).absolute()
    try:
        return _run(request, scratch, began)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def close_guards() -> None:
    """End the guards that wait for this process's next label; that label starts another one."""
    _GUARDS.close()


@dataclass
class _Usage:
    """What the process tree has used so far."""

    cpu_s: float = 0.0
    peak_memory_mb: float = 0.0
    seen: dict[psutil.Process, float] = field(default_factory=dict)

    def sample(self, tree: list[psutil.Process]) -> float:
        """Resident memory of the processes now, MB."""
        memory = 0.0
        for member in tree:
            try:
                with member.oneshot():
                    memory += member.memory_info().rss / 1e6
                    times = member.cpu_times()
                self.seen[member] = times.user + times.system
            except psutil.NoSuchProcess:
                continue  # it ended while we were looking
        self.cpu_s = sum(self.seen.values())
        self.peak_memory_mb = max(self.peak_memory_mb, memory)
        return memory


@dataclass(frozen=True)
class _Ending:
    """How a label's process ended.

    Attributes:
        pid: The worker; the guard, if it never came to a worker.
        exit_code: As in :attr:`subprocess.Popen.returncode`.
        excess: The limit for which it was killed.
        words: What the guard has written, if it died as well.
        out_of_memory: Whether the kernel ended it, or another process beside it, because memory was used up.
    """

    pid: int
    exit_code: int
    excess: Failure | None
    words: str
    out_of_memory: bool


def _run(request: LabelRequest, scratch: Path, began: Beginning) -> LabelResult:
    usage = _Usage()
    try:
        payload = cloudpickle.dumps(Work(request, scratch, began))
    except Exception as error:
        bug = Failure(FailureKind.BUG, f"The reference cannot be pickled: {type(error).__name__}: {error}")
        return LabelResult(bug, _provenance(request, began, os.getpid(), usage))
    (scratch / _CONFIG_FILE).touch()
    conditions = Conditions((*_MODULES, *getattr(request.reference, "preload", ())), _environment(request.threads))
    deadline = time.monotonic() + request.time_limit_s
    kills = oom_kills()
    _tell_end(scratch)
    while True:
        guard = _GUARDS.take(conditions, _own_environment(scratch))
        excess = None
        try:
            guard.submit(scratch, _own_environment(scratch), payload)
            excess = _watch(guard, deadline, request, scratch, usage)
        finally:
            exit_code = guard.stop(usage.seen)
            words = "" if guard.alive else guard.last_words(_TAIL_CHARACTERS)
            out_of_memory = exit_code == -signal.SIGKILL and _more(oom_kills(), kills)
            ending = _Ending(guard.worker or guard.pid, exit_code, excess, words, out_of_memory)
            # A guard that died while it had nothing to do is not this label's fault; one notices at the next label.
            again = excess is None and guard.worker is None and guard.labels > 1
            _GUARDS.give_back(guard)  # and belongs to another thread at once
        if not again:
            return _verdict(request, scratch, began, ending, usage)


def _more(now: int | None, before: int | None) -> bool:
    return now is not None and before is not None and now > before


def _environment(threads: int) -> dict[str, str]:
    """The process finds the same modules, has its own number of threads, and tells where it crashed."""
    count = str(threads)
    return without_credentials(os.environ) | {
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONFAULTHANDLER": "1",
        "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path),
    }


def _own_environment(scratch: Path) -> dict[str, str]:
    """The label uses its own folder and reads nobody's PySCF settings."""
    config = str(scratch / _CONFIG_FILE)
    return {"PYSCF_CONFIG_FILE": config, "PYSCF_TMPDIR": str(scratch), "TMPDIR": str(scratch)}


def _tell_end(scratch: Path) -> float | None:
    """Tell the label's process when this one ends; what was told."""
    ends_at = _WORKER.ends_at
    if ends_at is not None:
        draft = scratch / f"{END_FILE}.draft"
        draft.write_text(repr(ends_at), encoding="ascii")
        draft.replace(scratch / END_FILE)
    return ends_at


def _watch(guard: Guard, deadline: float, request: LabelRequest, scratch: Path, usage: _Usage) -> Failure | None:
    """Wait for the end of the label; answer the limit it exceeds, if it does."""
    told = _WORKER.ends_at
    while not guard.wait(min(POLL_S, max(deadline - time.monotonic(), 0.001))):
        if _WORKER.ends_at != told:
            told = _tell_end(scratch)
        memory = usage.sample(guard.tree())
        if memory > request.memory_limit_mb:
            message = f"The label used {memory:.0f} MB of memory; allowed are {request.memory_limit_mb:.0f} MB."
            return Failure(FailureKind.OOM, message, {"memory_mb": memory})
        if time.monotonic() > deadline:
            message = f"The label was not done after {request.time_limit_s:g} s."
            return Failure(FailureKind.TIMEOUT, message, {"time_limit_s": request.time_limit_s})
    return None


def _verdict(request: LabelRequest, scratch: Path, began: Beginning, ending: _Ending, usage: _Usage) -> LabelResult:
    # A result that reached the spool counts, however its process ended afterwards.
    found = find_spooled(request.spool, request.structure.id, request.reference.level.id)
    if found is not None:
        peak = _with_peak(found.result.provenance, usage)
        _forget_checkpoint(request)
        return replace(found.result, provenance=peak, from_spool=False)
    provenance: dict[str, Any] = _provenance(request, began, ending.pid, usage)
    if ending.excess is not None:
        return LabelResult(ending.excess, provenance)
    status = ending.exit_code
    reported = scratch / FAILURE_FILE
    if status == 0 and reported.exists():
        record = json.loads(reported.read_text(encoding="utf-8"))
        failure = Failure(FailureKind(record["kind"]), record["message"], record["diagnostics"])
        if failure.kind is FailureKind.WALLTIME:
            _WORKER.interrupted = _WORKER.ends_at is not None
            failure = replace(failure, diagnostics={**failure.diagnostics, WORKER_ENDS: _WORKER.interrupted})
        else:  # the calculation has come to its end, though not to a label
            _forget_checkpoint(request)
        return LabelResult(failure, _with_peak(record["provenance"], usage))
    bug = scratch / BUG_FILE
    if status == NO_ROOM_EXIT:
        return LabelResult(_no_room(request, scratch, bug), provenance)
    if status == BUG_EXIT and bug.exists():
        story = bug.read_text(encoding="utf-8", errors="replace")
        last = story.strip().splitlines()[-1] if story.strip() else "no traceback"
        message = f"{type(request.reference).__name__} raised an exception: {last}"
        return LabelResult(Failure(FailureKind.BUG, message, {"traceback": story}), provenance)
    if status == -signal.SIGTERM and _WORKER.ends_at is not None:  # a batch system asks all of a job's processes to end
        _WORKER.interrupted = True
        asked = "The label's process was asked to end (SIGTERM), as all are in a job that is cancelled."
        return LabelResult(Failure(FailureKind.WALLTIME, asked, {WORKER_ENDS: True}), provenance)
    if status not in (-signal.SIGKILL, -signal.SIGTERM):  # from outside; any other end might follow from the checkpoint
        _forget_checkpoint(request)
    diagnostics = {"exit_status": status, "output_tail": ending.words + _tail(scratch / OUTPUT_FILE)}
    if ending.out_of_memory:
        killed = Failure(FailureKind.OOM, _killed_for_memory(request, usage), diagnostics | {BY_KERNEL: True})
        return LabelResult(killed, provenance)
    return LabelResult(Failure(FailureKind.CRASH, _obituary(status), diagnostics), provenance)


def _forget_checkpoint(request: LabelRequest) -> None:
    forget_checkpoint(request.spool, request.structure.id, request.reference.level.id)


def _no_room(request: LabelRequest, scratch: Path, bug: Path) -> Failure:
    """No fault of the structure's: every other label would end like this one."""
    message = (
        f"There is no room on a disk of {platform.node()} for the result of a label, in {request.spool} or "
        f"{scratch.parent}; make some."
    )
    story = bug.read_text(encoding="utf-8", errors="replace") if bug.exists() else ""
    return Failure(FailureKind.BUG, message, {"traceback": f"{message}\n{story}"})


def _killed_for_memory(request: LabelRequest, usage: _Usage) -> str:
    """Not by our limit: by that of a job of SLURM, a container or the machine, which includes the worker itself."""
    return (
        "The kernel killed the label's process because the memory of its job, container or machine was used up, not "
        f"by alflow's limit: it was seen with {usage.peak_memory_mb:.0f} MB and may use {request.memory_limit_mb:.0f}. "
        "Give workers of labels more memory (memory_gib of SLURM jobs, the limit of a container), run fewer labels at "
        "once, or lower reference.memory_limit_mb."
    )


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


def _provenance(request: LabelRequest, began: Beginning, pid: int, usage: _Usage) -> dict[str, Any]:
    """Provenance of a label whose process did not live to write its own."""
    return {
        "key": request.key,
        "attempt": request.attempt,
        "host": platform.node(),
        "pid": pid,
        **began.until_now(),
        "cpu_s": usage.cpu_s,
        "peak_memory_mb": usage.peak_memory_mb,
        "threads": request.threads,
        "versions": {"python": platform.python_version()},
    }
