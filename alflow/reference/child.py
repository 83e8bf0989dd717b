"""The processes of labels: a guard that stays, and the worker it forks for each label.

``python -m alflow.reference.child PIPE MODULE ...`` waits for requests on its standard input. When the first has come
it imports the modules, once, and from then on each label begins with a fork of what is loaded already and has its
process for itself all the same: own memory, own folder, own process group. The guard never computes, so whatever a
label does to its process is gone with it, and no library has begun a parallel region, after which a fork would hang.
What a label may leave for the next one lies on a shelf: see :mod:`alflow.reference.shelf`.

The guard holds its standard input as a life line. It ends the worker, and everything the worker has started, as soon
as

- the worker ends (nothing may outlive its label),
- the parent orders it (a limit was exceeded),
- the life line ends, because the parent died; the scratch folder is then removed and the guard ends as well.

How the worker began and ended goes back on the pipe. Should the guard itself be killed, Linux kills the worker with
it. The guard is a process and not a thread of the worker because compiled code may hold the interpreter for minutes.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import pickle
import resource
import select
import shutil
import signal
import struct
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final, NoReturn

__all__ = [
    "BUG_EXIT",
    "BUG_FILE",
    "ENDED",
    "HEADER_BYTES",
    "KILL",
    "LABEL",
    "NEWS",
    "NO_ROOM_EXIT",
    "OUTPUT_FILE",
    "STARTED",
    "main",
]

BUG_FILE: Final = "bug.txt"
"""Where, in the scratch folder, the traceback of an exception is left."""

OUTPUT_FILE: Final = "output.txt"
"""Where, in the scratch folder, the label's standard output and error go."""

BUG_EXIT: Final = 70
"""Exit status after an exception; EX_SOFTWARE of sysexits.h."""

NO_ROOM_EXIT: Final = 74
"""Exit status when the disk has no room for a result, and perhaps none for a traceback; EX_IOERR of sysexits.h."""

LABEL: Final = b"L"
"""To the guard: a label, followed by the length of the request, big-endian, and the request."""

KILL: Final = b"K"
"""To the guard: end the label that runs."""

HEADER_BYTES: Final = 8

NEWS: Final = struct.Struct("!cq")
"""From the guard: :data:`STARTED` with the worker's pid, or :data:`ENDED` with its wait status."""

STARTED: Final = b"S"
ENDED: Final = b"E"

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_UNTOUCHED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class _Request:
    """A pickled callable, the folder it runs in and what is added to its environment."""

    scratch: str
    environment: Mapping[str, str]
    payload: bytes


@dataclass(frozen=True)
class _Pipes:
    """What the guard listens to besides its standard input, and where it answers; nothing of it is the worker's."""

    bell: int
    ring: int
    news: int

    def close(self) -> None:
        """Let go of all of them."""
        signal.set_wakeup_fd(-1)
        for end in (self.bell, self.ring, self.news):
            os.close(end)


def main(news: int, modules: Sequence[str]) -> None:
    """Run one label after another until the life line ends.

    Args:
        news: File descriptor of the pipe on which the guard answers.
        modules: What to import before the first label.
    """
    pipes = _become_guard(news)
    request = _next_request()
    if request is not None:
        _preload(modules, request.scratch)
    while request is not None:
        worker = _start(request, pipes)
        _tell(pipes, STARTED, worker)
        status, parent_lives = _watch(worker, pipes.bell)
        _tell(pipes, ENDED, status)
        following = _next_request() if parent_lives else None
        if following is None:
            shutil.rmtree(request.scratch, ignore_errors=True)  # a parent that lives has done so already
        request = following


def _become_guard(news: int) -> _Pipes:
    os.set_inheritable(news, False)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _process_control(_PR_SET_CHILD_SUBREAPER, 1)  # orphans of the worker come to the guard instead of to init
    bell, ring = os.pipe()
    os.set_blocking(bell, False)
    os.set_blocking(ring, False)
    signal.set_wakeup_fd(ring, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    for number in _UNTOUCHED:
        signal.signal(number, signal.SIG_IGN)  # a batch system's SIGTERM must not keep the guard from cleaning up
    return _Pipes(bell, ring, news)


def _next_request() -> _Request | None:
    """Wait for a label; None when the parent is gone. An order to kill that came too late for its label is passed."""
    try:
        while _read_exactly(1) != LABEL:
            continue
        size = int.from_bytes(_read_exactly(HEADER_BYTES), "big")
        return _Request(*pickle.loads(_read_exactly(size)))
    except EOFError:
        return None


def _read_exactly(size: int) -> bytes:
    parts = []
    while size > 0:
        part = os.read(0, min(size, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _tell(pipes: _Pipes, kind: bytes, value: int) -> None:
    try:
        os.write(pipes.news, NEWS.pack(kind, value))
    except BrokenPipeError:
        return  # the parent is gone; the life line says so as well


def _preload(modules: Sequence[str], scratch: str) -> None:
    """Import what every label needs. What fails here fails again in the label, where it is told."""
    sentinel = _post_sentinel(scratch)
    for name in modules:
        try:
            import_module(name)
        except BaseException:
            traceback.print_exc()
    sys.stdout.flush()  # or every worker would write again what is waiting here
    gc.collect()
    gc.freeze()  # a collection in a worker would otherwise copy the pages of all that was imported
    os.kill(sentinel, signal.SIGKILL)
    os.waitpid(sentinel, 0)


def _post_sentinel(scratch: str) -> int:
    """Have the life line watched while the guard imports: an import may hang just when the parent dies."""
    guard = os.getpid()
    sentinel = os.fork()
    if sentinel == 0:
        _process_control(_PR_SET_PDEATHSIG, signal.SIGKILL)
        line = select.poll()
        line.register(0, 0)  # nothing but its end is waited for
        line.poll()
        _process_control(_PR_SET_PDEATHSIG, 0)  # or the kernel, on a busy machine, ends it before the folder is removed
        os.kill(guard, signal.SIGKILL)
        shutil.rmtree(scratch, ignore_errors=True)
        os._exit(0)
    return sentinel


def _start(request: _Request, pipes: _Pipes) -> int:
    """Fork the worker of a label."""
    guard = os.getpid()
    worker = os.fork()
    if worker == 0:
        _work(request, pipes, guard)
    _own_group(worker)
    return worker


def _work(request: _Request, pipes: _Pipes, guard: int) -> NoReturn:
    """Body of the worker: call the payload and leave without running anybody's exit handlers."""
    code = BUG_EXIT
    try:
        _own_group(0)
        _process_control(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:
            os._exit(BUG_EXIT)  # the guard died before the kernel was told to take the worker along
        pipes.close()
        for number in (*_UNTOUCHED, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        _move_in(request)
        pickle.loads(request.payload)()
        code = 0
    except SystemExit as error:
        # A library that gives up is a crash, and an exit status of 0 without a result is found out by the parent.
        traceback.print_exc()
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException as error:
        code = NO_ROOM_EXIT if getattr(error, "errno", None) in _NO_ROOM else BUG_EXIT
        with suppress(OSError):
            Path(request.scratch, BUG_FILE).write_text(traceback.format_exc(), encoding="utf-8")
        with suppress(OSError):
            traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(code & 0xFF)


def _move_in(request: _Request) -> None:
    """Replace what the worker has inherited and must not share: input, output, folder, environment, random numbers."""
    os.chdir(request.scratch)
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(OUTPUT_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for mine, inherited in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(mine, inherited)
    os.close(nothing)
    os.close(output)
    os.environ.update(request.environment)
    tempfile.tempdir = None  # found anew, from the environment
    if (pyscf := sys.modules.get("pyscf.lib.parameters")) is not None:
        vars(pyscf)["TMPDIR"] = request.scratch  # read from the environment when it was imported
    if (random := sys.modules.get("numpy.random")) is not None:
        random.seed()


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
    parent_lives = True
    ordered = False
    while status is None and not ordered:
        ready, _, _ = select.select([0, bell], [], [])
        if bell in ready:
            os.read(bell, 4096)
            status = _reap(worker)
        if 0 in ready:
            parent_lives = os.read(0, 1) != b""
            ordered = True
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


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
    os._exit(0)  # nothing to tidy up, and taking a hundred modules down would take longer than the end may
