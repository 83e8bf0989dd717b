"""Times MACE: four untrained models 64x0e (two layers, correlation 3, cutoff 5 Å), single precision.

One step is what its ASE calculator does with a list of models: graph, each model's energy, forces and stress, mean and
variance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from engine import Calls, Skipped, serve
from mace import modules
from mace.calculators import MACECalculator
from systems import System

# isort: split
# Only once mace has been imported can this be loaded with a recent torch.
from e3nn import o3

MEMBERS = 4
LARGEST = 2000
"""Atoms above which a step takes minutes."""


def untrained(elements: list[int], neighbors: float) -> torch.nn.Module:
    return modules.ScaleShiftMACE(
        r_max=5.0,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=3,
        interaction_cls=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
        interaction_cls_first=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
        num_interactions=2,
        num_elements=len(elements),
        hidden_irreps=o3.Irreps("64x0e"),
        MLP_irreps=o3.Irreps("16x0e"),
        atomic_energies=np.zeros(len(elements)),
        avg_num_neighbors=neighbors,
        atomic_numbers=elements,
        correlation=3,
        gate=torch.nn.functional.silu,
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )


def evaluate(which: System) -> Calls:
    """One step of the calculator; copies one after the other, since it takes one structure at a time."""
    if len(which.atoms) > LARGEST:
        raise Skipped("takes minutes a step")
    if which.copies > 1:
        raise Skipped("its calculator takes one structure at a time")
    torch.manual_seed(0)
    elements = sorted({int(number) for number in which.atoms.numbers})
    models = [untrained(elements, 20.0) for _ in range(MEMBERS)]
    return {"single": stepper(which, models[:1]), "committee": stepper(which, models)}


def stepper(which: System, models: list[torch.nn.Module]) -> Callable[[], object]:
    atoms = which.atoms.copy()
    atoms.calc = MACECalculator(models=models, device="cpu", default_dtype="float32")
    steps = which.steps()

    def run() -> object:
        atoms.positions = next(steps)[0]
        return atoms.get_forces(), atoms.calc.results.get("forces_comm")

    return run


def train() -> Mapping[str, float]:
    """Left out: an epoch of four models takes minutes."""
    raise Skipped("an epoch of four models takes minutes")


if __name__ == "__main__":
    serve(evaluate, train)
