"""What a label process does between its start and its end."""

from __future__ import annotations

import math
import os
import platform
import resource
import shutil
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from alflow.domain import Evaluation, Failure, FailureKind, Outcome
from alflow.domain.identity import canonical_json
from alflow.domain.label import NonFiniteError, check_forces
from alflow.reference.cost import size_of
from alflow.reference.request import LabelRequest
from alflow.reference.spool import write_spooled
from alflow.reference.spotcheck import spot_check

__all__ = ["FAILURE_FILE", "Work"]

CHECK_COST: Final = 8.0
"""A check takes less than this many times its label: two labels, and one on a grid two sizes finer."""

FAILURE_FILE: Final = "failure.json"
"""Where, in the scratch folder, a failure is handed to the parent."""


@dataclass(frozen=True, eq=False)
class Work:
    """A request on its way into its process; calling it computes and leaves the result on disk.

    Attributes:
        request: What is asked.
        scratch: The process's own folder.
        started_at: When the parent began, Unix time, s.
    """

    request: LabelRequest
    scratch: Path
    started_at: float

    def __call__(self) -> None:
        """Evaluate the structure; spool an evaluation, hand a failure over in the scratch folder.

        Raises:
            TypeError: The reference answered neither an evaluation nor a failure.
            ValueError: The evaluation is of another number of atoms.
        """
        request = self.request
        outcome: Outcome
        try:
            outcome = request.reference.evaluate(request.structure)
        except MemoryError as error:
            outcome = Failure(FailureKind.OOM, f"Memory could not be allocated: {error}.")
        except NonFiniteError as error:
            outcome = Failure(FailureKind.NON_FINITE, str(error))
        if isinstance(outcome, Evaluation):
            check_forces(request.structure, outcome)
            outcome = self._looked_at_twice(outcome)
        if isinstance(outcome, Evaluation):
            ids = (request.structure.id, request.reference.level.id)
            write_spooled(request.spool, *ids, outcome, self._provenance())
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

    def _looked_at_twice(self, evaluation: Evaluation) -> Outcome:
        """Check a label that was drawn for it, unless the time is short: no label may be lost to a check."""
        request = self.request
        if not request.spot_check or request.attempt > 1:
            return evaluation
        spent = time.time() - self.started_at
        if CHECK_COST * spent > request.time_limit_s - spent:
            why = f"the label took {spent:.1f} s of {request.time_limit_s:.0f}"
        else:
            try:
                return spot_check(request.reference, request.structure, evaluation)
            except MemoryError:
                why = "memory was short"
        return replace(evaluation, diagnostics={**evaluation.diagnostics, "spot_check": {"left_out": why}})

    def _provenance(self) -> dict[str, Any]:
        ended = time.time()
        own, others = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        return {
            "key": self.request.key,
            "attempt": self.request.attempt,
            "host": platform.node(),
            "pid": os.getpid(),
            "started_at": self.started_at,
            "ended_at": ended,
            "wall_s": ended - self.started_at,
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
