"""The parent's end of the guards: starting them, handing labels to them, ending them.

See :mod:`alflow.reference.child` for the other end. A guard has imported what labels need and stays for the next one;
a label asked for with other modules, threads or environment gets a guard of its own.
"""

from __future__ import annotations

import atexit
import os
import pickle
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import psutil

from alflow.reference.child import ENDED, HEADER_BYTES, KILL, LABEL, NEWS, STARTED

__all__ = ["Conditions", "Guard", "GuardPool"]

LABELS_PER_GUARD: Final = 500
"""A guard that has served so many labels is replaced; its start then costs each of them two milliseconds."""

GROWTH_MB: Final = 200.0
"""A guard that has grown by so much since its first label is replaced; it has no reason to grow at all."""

_GRACE_S: Final = 5.0


@dataclass(frozen=True)
class Conditions:
    """What a guard is started with and all its labels share.

    Attributes:
        modules: What is imported once, for all labels.
        environment: The whole environment, but for what each label gets of its own.
    """

    modules: tuple[str, ...]
    environment: Mapping[str, str]


class Guard:
    """A guard process and the one label it may be running.

    Args:
        conditions: What it is started with.
        environment: What is added for the import; the first label's.

    Attributes:
        conditions: What it was started with.
        labels: Number of labels handed to it.
        worker: Process of the label that was handed over last, once it has begun.
        exit_code: How that label ended, as in :attr:`subprocess.Popen.returncode`; None while it runs.
    """

    def __init__(self, conditions: Conditions, environment: Mapping[str, str]) -> None:
        self.conditions = conditions
        self.labels = 0
        self.worker: int | None = None
        self.exit_code: int | None = None
        self._first_mb: float | None = None
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the guard
        self._news, news = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "alflow.reference.child", str(news), *conditions.modules],
                stdin=subprocess.PIPE,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                bufsize=0,
                cwd="/",
                env={**conditions.environment, **environment},
                pass_fds=[news],
                start_new_session=True,
            )
        except BaseException:
            os.close(self._news)
            self._output.close()
            raise
        finally:
            os.close(news)

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can take a label."""
        return self._process.poll() is None

    @property
    def worn(self) -> bool:
        """Whether it has served enough labels, or grown, and should be replaced."""
        try:
            size = psutil.Process(self.pid).memory_info().rss / 1e6
        except psutil.NoSuchProcess:
            return True
        if self._first_mb is None:
            self._first_mb = size
        return self.labels >= LABELS_PER_GUARD or size > self._first_mb + GROWTH_MB

    def submit(self, scratch: Path, environment: Mapping[str, str], payload: bytes) -> None:
        """Hand a label over: a folder to run in, what to add to the environment, a pickled callable."""
        self.labels += 1
        self.worker = self.exit_code = None
        request = pickle.dumps((str(scratch), dict(environment), payload))
        self._send(LABEL + len(request).to_bytes(HEADER_BYTES, "big") + request)

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end of the label, at most for some time; whether it has ended."""
        deadline = time.monotonic() + timeout_s
        while self.exit_code is None and _ready(self._news, deadline - time.monotonic()):
            news = os.read(self._news, NEWS.size)
            if not news:
                self.exit_code = self._process.wait()  # the guard has died, and the label with it
                break
            kind, value = NEWS.unpack(news)
            if kind == STARTED:
                self.worker = value
            elif kind == ENDED:
                self.exit_code = os.waitstatus_to_exitcode(value)
        return self.exit_code is not None

    def tree(self) -> list[psutil.Process]:
        """All processes of the label that runs; while the guard is still importing for it, the guard as well."""
        tree = []
        for process in [*([] if self.worker else [self.pid]), *_offspring(self.pid)]:
            with suppress(psutil.NoSuchProcess):  # it ended while we were looking
                tree.append(psutil.Process(process))
        return tree

    def stop(self, seen: Iterable[psutil.Process] = ()) -> int:
        """Make sure that the label and all it has started are gone; its :attr:`exit_code`.

        Args:
            seen: Processes of the label that were seen before; what a guard that died can no longer end.
        """
        if self.exit_code is not None and self.alive:
            return self.exit_code  # the guard has told how the label ended, and tells it only when nothing is left
        left = {process for process in (*seen, *self.tree()) if process.pid != self.pid}
        if self.exit_code is None and self.worker is not None:
            self._send(KILL)
            self.wait(_GRACE_S)
        if self.exit_code is None:
            self._process.kill()  # it is importing, or stuck: the kernel takes the worker along
            self.exit_code = self._process.wait()
        if self.worker is not None and not self.alive:
            with suppress(PermissionError, ProcessLookupError):
                os.killpg(self.worker, signal.SIGKILL)
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        return self.exit_code

    def last_words(self, characters: int) -> str:
        """The end of what the guard itself has written, such as why an import failed."""
        self._output.seek(0, os.SEEK_END)
        self._output.seek(max(self._output.tell() - characters, 0))
        return self._output.read().decode("utf-8", errors="replace")

    def close(self) -> None:
        """End the guard; a label that still runs ends with it."""
        self._let_go()
        try:
            self._process.wait(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def disown(self) -> None:
        """In a process that was forked from the guard's parent: close the copies of its pipes, leave it alone."""
        self._let_go()
        self._process.returncode = 0  # not our child: nobody here may wait for it, or warn that nobody does

    def _let_go(self) -> None:
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
            os.close(self._news)
            self._output.close()

    def _send(self, data: bytes) -> None:
        """Write to the life line and leave it open; that a guard is gone is noticed by whoever waits for it."""
        line = self._process.stdin
        rest = memoryview(data)
        with suppress(BrokenPipeError):
            while line is not None and rest:
                rest = rest[line.write(rest) :]


class GuardPool:
    """The guards of this process: one for each thread that is labelling at the same time.

    They end with the process, however it ends. A fork of this process starts without any.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Guard] = []
        self._busy: list[Guard] = []
        self._registered = False

    def take(self, conditions: Conditions, environment: Mapping[str, str]) -> Guard:
        """An idle guard with these conditions, or a new one, which takes the place of one with others.

        Args:
            conditions: What the guard is started with.
            environment: What is added for its import, should it be a new one.

        Raises:
            OSError: It cannot be started.
        """
        with self._lock:
            self._register()
            match = next((g for g in self._idle if g.conditions == conditions and g.alive), None)
            replaced = self._idle[0] if match is None and self._idle else None
            taken = Guard(conditions, environment) if match is None else match
            self._idle = [guard for guard in self._idle if guard not in (taken, replaced)]
            self._busy.append(taken)
        if replaced is not None:
            replaced.close()
        return taken

    def give_back(self, guard: Guard) -> None:
        """Keep a guard whose label has ended for the next one, unless it died or has served its time."""
        keep = guard.alive and not guard.worn
        with self._lock:
            self._busy.remove(guard)
            if keep:
                self._idle.append(guard)
        if not keep:
            guard.close()

    def close(self) -> None:
        """End the guards that have no label."""
        with self._lock:
            idle, self._idle = self._idle, []
        for guard in idle:
            guard.close()

    def _register(self) -> None:
        if not self._registered:
            self._registered = True
            atexit.register(self.close)
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        for guard in (*self._idle, *self._busy):
            guard.disown()
        self._idle, self._busy = [], []


def _ready(pipe: int, timeout_s: float) -> bool:
    line = select.poll()  # select() refuses descriptors above 1023, and a worker of a cluster may have many
    line.register(pipe, select.POLLIN)
    return bool(line.poll(max(timeout_s, 0.0) * 1e3))


def _offspring(process: int) -> list[int]:
    """All descendants of a process.

    psutil reads every process of the machine for them: milliseconds, ten times a second for each label. Linux keeps
    a list for each thread.
    """
    if not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
        with suppress(psutil.NoSuchProcess):
            return [child.pid for child in psutil.Process(process).children(recursive=True)]
    found = []
    with suppress(OSError):  # it ended while we were looking
        for thread in os.listdir(f"/proc/{process}/task"):
            listing = Path(f"/proc/{process}/task/{thread}/children").read_text(encoding="ascii")
            for child in map(int, listing.split()):
                found += [child, *_offspring(child)]
    return found
