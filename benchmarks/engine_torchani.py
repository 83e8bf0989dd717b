"""Times torchani: four untrained models of the ANI-2x form in a loop, each with energy and forces, single precision.

The package's own ensemble gives mean energies only, so the members' forces take one model after the other. Speed does
not depend on the weights; nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Mapping

import ase
import numpy as np
import torch
from engine import Calls, Skipped, serve
from systems import System, bpa_frames
from timing import measure
from torchani.arch import ANI, Assembler
from torchani.utils import SYMBOLS_1X, SYMBOLS_2X

MEMBERS = 4
BATCH = 10
LARGEST_CELL = 2000
"""Atoms above which a step takes seconds and gigabytes."""


def untrained(form: str, symbols: tuple[str, ...], neighborlist: str) -> ANI:
    assembler = Assembler(periodic_table_index=True)
    assembler.set_symbols(symbols)
    assembler.set_global_cutoff_fn("cosine")
    assembler.set_aev_computer(radial=form, angular=form, strategy="pyaev")
    assembler.set_atomic_networks(ctor=form)
    assembler.set_neighborlist(neighborlist)
    assembler.set_zeros_as_self_energies()
    return assembler.assemble(1)


def evaluate(which: System) -> Calls:
    """One step: every model's energies and forces, then mean and spread. The neighbor list is made anew every time."""
    if len(which.atoms) > LARGEST_CELL:
        raise Skipped("takes too long")
    torch.manual_seed(0)
    # Its adaptive list takes no batches; these two are what it would choose.
    neighborlist = "cell_list" if which.atoms.pbc.any() else "all_pairs"
    models = [untrained("ani2x", SYMBOLS_2X, neighborlist) for _ in range(MEMBERS)]
    for model in models:
        model.requires_grad_(False)
    numbers = torch.as_tensor(which.atoms.numbers, dtype=torch.long).expand(which.copies, -1)
    periodic = bool(which.atoms.pbc.any())
    cell = torch.as_tensor(which.atoms.cell.array, dtype=torch.float32) if periodic else None
    pbc = torch.as_tensor(which.atoms.pbc) if periodic else None
    steps = which.steps()

    def run(members: list[ANI]) -> object:
        positions = torch.as_tensor(next(steps), dtype=torch.float32)
        energies, forces = [], []
        for model in members:
            x = positions.detach().requires_grad_(True)
            energy = model((numbers, x), cell, pbc).energies
            forces.append(-torch.autograd.grad(energy.sum(), x)[0])
            energies.append(energy.detach())
        every = torch.stack(forces)
        return torch.stack(energies).mean(dim=0), every.mean(dim=0), every.std(dim=0, correction=0)

    return {"single": lambda: run(models[:1]), "committee": lambda: run(models)}


def train() -> Mapping[str, float]:
    """One epoch of one model of the ANI-1x form on 3BPA, times four: energies and forces, Adam, batches of ten."""
    frames = bpa_frames()
    torch.manual_seed(0)
    model = untrained("ani1x", SYMBOLS_1X, "all_pairs")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    numbers, positions, energies, forces = tensors(frames)

    def step(which: slice) -> None:
        x = positions[which].detach().requires_grad_(True)
        energy = model((numbers[which], x)).energies
        (gradient,) = torch.autograd.grad(energy.sum(), x, create_graph=True)
        loss = (energy - energies[which]).square().mean() + 100.0 * (gradient + forces[which]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def epoch() -> None:
        for first in range(0, len(frames), BATCH):
            step(slice(first, first + BATCH))

    step(slice(0, BATCH))
    seconds = measure(epoch, budget_s=1.0, least=2).minimum_ms / 1e3
    return {"one_model_epoch_s": seconds, "committee_epoch_s": MEMBERS * seconds}


def tensors(frames: list[ase.Atoms]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    energies = np.array([frame.get_potential_energy() for frame in frames])
    return (
        torch.as_tensor(np.stack([frame.numbers for frame in frames]), dtype=torch.long),
        torch.as_tensor(np.stack([frame.positions for frame in frames]), dtype=torch.float32),
        torch.as_tensor(energies - energies.mean(), dtype=torch.float32),
        torch.as_tensor(np.stack([frame.get_forces() for frame in frames]), dtype=torch.float32),
    )


if __name__ == "__main__":
    serve(evaluate, train)
