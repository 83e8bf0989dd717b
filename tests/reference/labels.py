"""Labels that do something real in their process, and ways to see what became of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cloudpickle
import numpy as np
import psutil

from alflow.domain import Evaluation, Level, Outcome, Structure
from alflow.reference import LabelRequest, MuellerBrown

ATOM = Structure.of("Ar", [[0.3, 0.7, 0.2]])
# The processes cannot import a test module by its name, so what is defined here travels by value.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


@dataclass(frozen=True)
class Reference:
    """A real reference that does something real before it answers."""

    act: Callable[[], dict[str, object] | None]
    preload: tuple[str, ...] = ()

    @property
    def level(self) -> Level:
        return Level("test", {"act": self.act.__name__})

    def evaluate(self, structure: Structure) -> Outcome:
        diagnostics = self.act() or {}
        return Evaluation(1.0 / 3.0, structure.positions / 7.0, np.eye(3) * 1e-300, diagnostics)


@dataclass(frozen=True)
class Family:
    """A reference that starts a process in a session of its own, tells both pids, and then takes its time."""

    note: Path
    seconds: float

    @property
    def level(self) -> Level:
        return Level("family", {})

    def evaluate(self, structure: Structure) -> Outcome:
        grandchild = subprocess.Popen(["sleep", "600"], start_new_session=True)
        part = self.note.with_suffix(".part")
        part.write_text(f"{os.getpid()} {os.getppid()} {grandchild.pid}", encoding="ascii")
        part.replace(self.note)
        time.sleep(self.seconds)
        return MuellerBrown().evaluate(structure)


def request(
    act: Callable[[], dict[str, object] | None], tmp_path: Path, preload: tuple[str, ...] = (), **limits: float
) -> LabelRequest:
    settings: dict[str, object] = {"time_limit_s": 20.0, "memory_limit_mb": 2000.0} | limits
    return LabelRequest(Reference(act, preload), ATOM, "label-test-a1", tmp_path / "spool", **settings)


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def wait_until(happened: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if happened():
            return True
        time.sleep(0.02)
    return happened()
