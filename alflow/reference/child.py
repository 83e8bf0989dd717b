"""The process of one label: a small guard, and the worker it forks.

``python -m alflow.reference.child`` reads a pickled callable from its standard input and forks a worker that calls
it. The guard holds the standard input as a life line and does nothing but wait. It ends the worker, and everything
the worker has started, as soon as

- the worker ends (nothing may outlive its label),
- the parent orders it, with any byte on the life line (a limit was exceeded),
- the life line ends, because the parent died; the scratch folder is then removed as well.

Should the guard itself be killed, Linux kills the worker with it. Only the standard library is imported before the
fork: starting stays cheap, no library has threads yet, and the guard stays small. The guard is a process and not a
thread of the worker because compiled code may hold the interpreter for minutes.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import resource
import select
import shutil
import signal
import sys
import traceback
from pathlib import Path
from typing import Final, NoReturn

__all__ = ["BUG_FILE", "HEADER_BYTES", "main"]

BUG_FILE: Final = "bug.txt"
"""Where, in the scratch folder, the traceback of an exception is left."""

HEADER_BYTES: Final = 8
"""The payload is preceded by its length, big-endian."""

BUG_EXIT: Final = 70
"""Exit status after an exception; EX_SOFTWARE of sysexits.h."""

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_UNTOUCHED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    """Run one label; return, or die of, what the worker returned or died of."""
    payload = _read_payload()
    scratch = os.getcwd()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _process_control(_PR_SET_CHILD_SUBREAPER, 1)  # orphans of the worker come to the guard instead of to init
    bell, ring = os.pipe()
    os.set_blocking(bell, False)
    os.set_blocking(ring, False)
    signal.set_wakeup_fd(ring, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    for number in _UNTOUCHED:
        signal.signal(number, signal.SIG_IGN)  # a batch system's SIGTERM must not keep the guard from cleaning up
    guard = os.getpid()
    worker = os.fork()
    if worker == 0:
        os.close(bell)
        signal.set_wakeup_fd(-1)
        os.close(ring)
        _work(payload, scratch, guard)
    _own_group(worker)
    status, parent_lives = _watch(worker, bell)
    if not parent_lives:
        shutil.rmtree(scratch, ignore_errors=True)
    return _relay(status)


def _read_payload() -> bytes:
    data = _read_exactly(HEADER_BYTES)
    return _read_exactly(int.from_bytes(data, "big"))


def _read_exactly(size: int) -> bytes:
    parts = []
    while size > 0:
        part = os.read(0, min(size, 1 << 20))
        if not part:
            raise SystemExit("The parent ended before it had sent its request.")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _work(payload: bytes, scratch: str, guard: int) -> NoReturn:
    """Body of the worker: call the payload and leave without running anybody's exit handlers."""
    code = BUG_EXIT
    try:
        _own_group(0)
        _process_control(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:
            os._exit(BUG_EXIT)  # the guard died before the kernel was told to take the worker along
        for number in (*_UNTOUCHED, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)  # the life line is the guard's
        os.close(nothing)
        pickle.loads(payload)()
        code = 0
    except SystemExit as error:
        # A library that gives up is a crash, and an exit status of 0 without a result is found out by the parent.
        traceback.print_exc()
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
        Path(scratch, BUG_FILE).write_text(traceback.format_exc(), encoding="utf-8")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code & 0xFF)


def _own_group(process: int) -> None:
    """Give the worker a process group; called on both sides of the fork because either may come first."""
    try:
        os.setpgid(process, process)
    except (PermissionError, ProcessLookupError):
        return  # it has done so itself, or is gone already


def _process_control(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _watch(worker: int, bell: int) -> tuple[int, bool]:
    """Wait until the worker and all its offspring are gone: its wait status, and whether the parent still lives."""
    status: int | None = None
    parent_lives = ordered = False
    while status is None and not ordered:
        ready, _, _ = select.select([0, bell], [], [])
        if bell in ready:
            os.read(bell, 4096)
            status = _reap(worker)
        if 0 in ready:
            parent_lives = os.read(0, 1) != b""
            ordered = True
    if not ordered:
        parent_lives = True
    _kill_group(worker)
    if status is None:
        _, status = os.waitpid(worker, 0)
    _kill_orphans()
    return status, parent_lives


def _reap(worker: int) -> int | None:
    """Collect whoever has ended; the worker's wait status if it is among them."""
    found = None
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if process == 0:
            return found
        if process == worker:
            found = status


def _kill_group(worker: int) -> None:
    try:
        os.killpg(worker, signal.SIGKILL)
    except (PermissionError, ProcessLookupError):
        return  # nobody is left in it


def _kill_orphans() -> None:
    """Kill what the worker's offspring started in sessions of their own; the kernel has made them our children."""
    listing = Path(f"/proc/self/task/{os.getpid()}/children")
    while listing.exists():
        orphans = [int(word) for word in listing.read_text(encoding="ascii").split()]
        if not orphans:
            return
        for orphan in orphans:
            try:
                os.kill(orphan, signal.SIGKILL)
            except ProcessLookupError:
                continue
            os.waitpid(orphan, 0)


def _relay(status: int) -> int:
    """End the way the worker did."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    return os.WEXITSTATUS(status)


if __name__ == "__main__":
    sys.exit(main())
