"""The state of a self-consistent iteration between two cycles: density, Fock and error vectors of DIIS, and the best.

Put back, PySCF goes on as if it had not stopped: the next Fock matrix is extrapolated from the same vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from alflow.domain.structure import FloatArray
from alflow.reference.course import Checkpoint, Course

__all__ = ["Resumed", "resumed_from", "state_of"]


@dataclass(frozen=True, eq=False)
class Resumed:
    """Where an iteration goes on.

    Attributes:
        density: Density of the last cycle.
        best: Density with the smallest orbital gradient so far.
        norm: That gradient, Ha.
        begun: Cycles of the rung that was being climbed.
        rungs: Records of those before it.
        diis: State of the extrapolation.
    """

    density: FloatArray
    best: FloatArray
    norm: float
    begun: int
    rungs: list[dict[str, Any]]
    diis: Mapping[str, Any]

    def kernel(self, mean_field: Any) -> None:
        """Iterate on."""
        mean_field.pre_kernel = partial(_fill, self.diis)
        start, mean_field.diis_start_cycle = mean_field.diis_start_cycle, 0 if self.diis else 1
        try:
            mean_field.kernel(dm0=self.density)
        finally:
            del mean_field.pre_kernel
            mean_field.diis_start_cycle = start


def state_of(cycle: Mapping[str, Any], told: Mapping[str, Any], best: FloatArray | None) -> Checkpoint:
    """The checkpoint after a cycle.

    Args:
        cycle: Local variables of PySCF's iteration.
        told: What else there is to remember, as JSON values.
        best: Density with the smallest orbital gradient so far.
    """
    diis = cycle["mf_diis"]
    arrays = {"density": np.asarray(cycle["dm"])}
    arrays["best"] = arrays["density"] if best is None else best
    count = len(diis._bookkeep)
    if count:
        arrays["fock"] = np.stack([np.asarray(diis.get_vec(k)) for k in range(count)])
        arrays["error"] = np.stack([np.asarray(diis.get_err_vec(k)) for k in range(count)])
        arrays["products"] = np.asarray(diis._H)
    return Checkpoint(arrays, {**told, "order": [int(k) for k in diis._bookkeep], "head": int(diis._head)})


def resumed_from(course: Course, tolerance_ha: float, n_functions: int) -> Resumed | None:
    """Where to go on; None if there is no checkpoint that fits.

    Args:
        course: Knows where the checkpoint lies; gets a note of one that cannot be used.
        tolerance_ha: Orbital gradient that is aimed at: a second try with another one begins cold, as it always does.
        n_functions: Number of basis functions of this calculation.
    """
    found = course.take()
    if found is None:
        return None
    arrays, told = found.arrays, found.told
    try:
        if told["tolerance_ha"] != tolerance_ha:
            course.ignore()
            return None
        density = arrays["density"]
        if density.shape[-1] != n_functions:
            raise ValueError(f"it has {density.shape[-1]} basis functions, and {n_functions} are needed")
        diis = {"order": told["order"], "head": told["head"]}
        diis |= {name: arrays[name] for name in ("fock", "error", "products")} if told["order"] else {}
        rungs = [dict(rung) for rung in told["rungs"]]
        norm = np.inf if told["norm"] is None else float(told["norm"])
        resumed = Resumed(density, arrays["best"], norm, int(told["begun"]), rungs, diis)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        course.ignore(f"not a checkpoint of this calculation: {error}")
        return None
    course.restarted = True
    return resumed


def _fill(state: Mapping[str, Any], started: Mapping[str, Any]) -> None:
    """Give PySCF's fresh DIIS the vectors of the one that was interrupted."""
    diis = started["mf_diis"]
    for k in range(len(state["order"])):
        diis._store(f"x{k}", state["fock"][k])
        diis._store(f"e{k}", state["error"][k])
    diis._bookkeep, diis._head = list(state["order"]), state["head"]
    if state["order"]:
        diis._H = np.array(state["products"])
        diis._err_vec_touched = True
