"""What a label process does between its start and its end."""

from __future__ import annotations

import math
import os
import platform
import resource
import shutil
import signal
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from alflow.domain import Evaluation, Failure, FailureKind, Outcome
from alflow.domain.identity import canonical_json
from alflow.domain.label import NonFiniteError, check_forces
from alflow.reference.cost import size_of
from alflow.reference.course import STEPS_MADE, Course, Interrupted, checkpoint_path
from alflow.reference.request import LabelRequest
from alflow.reference.spool import spool_path, write_spooled
from alflow.reference.spotcheck import spot_check

__all__ = ["END_FILE", "FAILURE_FILE", "Beginning", "Work"]

END_FILE: Final = "end.txt"
"""Where, in the scratch folder, the parent writes when the time of its worker is up; see :class:`Course`."""

FAILURE_FILE: Final = "failure.json"
"""Where, in the scratch folder, a failure is handed to the parent."""


@dataclass(frozen=True)
class Beginning:
    """A moment on two clocks: one tells the time of day, the other, which nobody sets, how long something takes.

    Attributes:
        unix: Unix time, s.
        monotonic: The clock that all processes of a machine share, s.
    """

    unix: float
    monotonic: float

    @classmethod
    def now(cls) -> Beginning:
        """This moment."""
        return cls(time.time(), time.monotonic())

    def until_now(self) -> dict[str, float]:
        """Begin, end and what lies between them, as the provenance of a label tells them, s."""
        ended = self.unix + time.monotonic() - self.monotonic
        return {"started_at": self.unix, "ended_at": ended, "wall_s": ended - self.unix}


@dataclass(frozen=True, eq=False)
class Work:
    """A request on its way into its process; calling it computes and leaves the result on disk.

    Attributes:
        request: What is asked.
        scratch: The process's own folder.
        began: When the parent began.
    """

    request: LabelRequest
    scratch: Path
    began: Beginning

    def __call__(self) -> None:
        """Evaluate the structure; spool an evaluation, hand a failure over in the scratch folder.

        Raises:
            TypeError: The reference answered neither an evaluation nor a failure.
            ValueError: The evaluation is of another number of atoms.
        """
        request = self.request
        outcome: Outcome
        try:
            outcome = self._evaluated()
        except Interrupted as end:
            message = "The time of its worker was up; it goes on from its checkpoint."
            outcome = Failure(FailureKind.WALLTIME, message, {STEPS_MADE: end.steps_made})
        except MemoryError as error:
            outcome = Failure(FailureKind.OOM, f"Memory could not be allocated: {error}.")
        except NonFiniteError as error:
            outcome = Failure(FailureKind.NON_FINITE, str(error))
        if isinstance(outcome, Evaluation):
            check_forces(request.structure, outcome)
            self._spool(outcome)
            if request.spot_check:
                outcome = self._looked_at_twice(outcome)
        if isinstance(outcome, Evaluation):
            # The result is safe and nobody needs this folder any more; the parent may not live to remove it.
            shutil.rmtree(self.scratch, ignore_errors=True)
        elif isinstance(outcome, Failure):
            record = {
                "kind": str(outcome.kind),
                "message": outcome.message,
                "diagnostics": finite_only(dict(outcome.diagnostics)),
                "provenance": self._provenance(),
            }
            (self.scratch / FAILURE_FILE).write_text(canonical_json(record), encoding="utf-8")
        else:
            raise TypeError(f"A reference returns an Evaluation or a Failure; found {type(outcome).__name__}.")

    def _evaluated(self) -> Outcome:
        """Evaluate the structure, from the checkpoint of an earlier attempt if there is one.

        Raises:
            Interrupted: The time of the worker was up; there is a checkpoint.
        """
        request = self.request
        in_steps = getattr(request.reference, "evaluate_in_steps", None)
        if in_steps is None:
            return request.reference.evaluate(request.structure)
        ids = (request.structure.id, request.reference.level.id)
        course = Course(
            checkpoint_path(request.spool, *ids), *ids, self.scratch / END_FILE, request.checkpoint_every_s
        )  # fmt: skip
        signal.signal(signal.SIGTERM, lambda number, frame: course.stop())
        outcome: Outcome = in_steps(request.structure, course)
        if isinstance(outcome, Failure) and course.restarted:
            course.forget()
            outcome = in_steps(request.structure, course)
        told: dict[str, Any] = {"restarted": True} if course.restarted else {}
        told |= {"checkpoint": course.note} if course.note is not None else {}
        if isinstance(outcome, Evaluation) and told:
            outcome = replace(outcome, diagnostics={**outcome.diagnostics, **told})
        return outcome

    def _spool(self, evaluation: Evaluation) -> None:
        request = self.request
        ids = (request.structure.id, request.reference.level.id)
        write_spooled(request.spool, *ids, evaluation, self._provenance())

    def _looked_at_twice(self, evaluation: Evaluation) -> Outcome:
        """Check a label; it lies in the spool already, so that none is lost to a check that hangs or dies."""
        request = self.request
        try:
            outcome = spot_check(request.reference, request.structure, evaluation)
        except Exception as error:  # a defect in the check is no defect of the label; it is written down
            why = f"{type(error).__name__}: {' '.join(str(error).split())}"
            outcome = replace(evaluation, diagnostics={**evaluation.diagnostics, "spot_check": {"left_out": why}})
        if isinstance(outcome, Evaluation):
            self._spool(outcome)
        else:
            spool_path(request.spool, request.structure.id, request.reference.level.id).unlink(missing_ok=True)
        return outcome

    def _provenance(self) -> dict[str, Any]:
        own, others = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        return {
            "key": self.request.key,
            "attempt": self.request.attempt,
            "host": platform.node(),
            "pid": os.getpid(),
            **self.began.until_now(),
            "cpu_s": own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime,
            "peak_memory_mb": _peak_memory_mb(own.ru_maxrss),
            "threads": self.request.threads,
            "size": size_of(self.request.reference, self.request.structure),
            "versions": _versions(),
        }


def _peak_memory_mb(maxrss: int) -> float:
    """Largest resident size of this process, MB.

    Linux carries ``ru_maxrss`` over from the parent's image, which may be a large one; VmHWM belongs to this one alone.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    return maxrss / 1e6 if sys.platform == "darwin" else maxrss * 1024 / 1e6


def _versions() -> dict[str, str]:
    """Versions of Python and of those libraries this label has loaded."""
    versions = {"python": platform.python_version()}
    for name in ("alflow", "numpy", "scipy", "pyscf"):
        module = sys.modules.get(name)
        if module is not None:
            versions[name] = str(getattr(module, "__version__", "unknown"))
    return versions


def finite_only(value: Any) -> Any:
    """The same JSON value with None for every number that is not finite: a failure's diagnostics may hold some."""
    if isinstance(value, dict):
        return {str(key): finite_only(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite_only(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
