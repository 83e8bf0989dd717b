"""Times alflow's committee: one member and four, single precision, default settings; for water both cutoffs are 6 Å.

One step is what a walker pays: positions in, every member's energy and forces, their means, spread and disagreement.
The weights are fitted to a few small structures labelled by a toy; speed does not depend on them.
"""

from __future__ import annotations

import itertools
import multiprocessing
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import ase
import numpy as np
import torch
from ase.build import molecule
from engine import Calls, Skipped, serve
from systems import System, bpa_frames, data_folder

from alflow.domain import Evaluation, Label, Level, Structure
from alflow.domain.ase import from_atoms
from alflow.domain.learning_config import ModelConfig, TrainingConfig
from alflow.potentials import Committee, load_committee
from alflow.reference.toy import LennardJones
from alflow.tensors import to_batch
from alflow.training import fit_committee
from alflow.units import EV_PER_KCAL_MOL

MEMBERS = 4
LIQUID_ANG = 6.0
"""Both cutoffs for water, Å: those at which the field measures liquids."""

BATCH = 10

FEW = 6
"""Labels of the toy."""


def evaluate(which: System) -> Calls:
    """A step of one member and of four; in a cell also with a list of neighbors that can never be kept."""
    start = to_batch([from_atoms(which.atoms)] * which.copies)
    single, committee = (committee_for(which, members) for members in (1, MEMBERS))
    steps = [torch.as_tensor(positions) for positions, _ in zip(which.steps(), range(16), strict=False)]
    turn = itertools.count()

    def run(potential: Committee, moving: Sequence[torch.Tensor]) -> object:
        said = potential.predict(start.with_positions(moving[next(turn) % len(moving)]))
        return said.energy, said.mean_forces, said.force_std(), said.disagreement()

    calls = {"single": lambda: run(single, steps), "committee": lambda: run(committee, steps)}
    if which.atoms.pbc.any():
        # A lattice is its own mirror image through the origin, but every atom of the structure is somewhere else.
        mirrored = [positions * sign for positions in steps for sign in (1, -1)]
        calls["committee_new_list"] = lambda: run(committee, mirrored)
    return calls


def committee_for(which: System, members: int) -> Committee:
    """A committee that knows the elements of a system.

    It is fitted in a process of its own, whose memory is gone when the steps are timed.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "committee.safetensors"
        child = multiprocessing.get_context("fork").Process(target=fit_to_file, args=(which, members, file))
        child.start()
        child.join()
        return load_committee(file, dtype=torch.float32)


def fit_to_file(which: System, members: int, file: Path) -> None:
    model = ModelConfig(members=members)
    atoms = which.atoms
    if atoms.pbc.any():
        model = ModelConfig(members=members, cutoff_ang=LIQUID_ANG, angular_cutoff_ang=LIQUID_ANG)
        atoms = ase.Atoms(molecule("H2O"), cell=[6.5] * 3, pbc=True) * (1, 1, 2)
    toy = LennardJones(well_ev=0.05, sigma_ang=0.95, cutoff_ang=5.0)
    rng = np.random.default_rng(0)
    labels = []
    for _ in range(FEW):
        moved = atoms.positions + rng.normal(0.0, 0.05, atoms.positions.shape)
        structure = Structure.of(atoms.numbers, moved, atoms.cell.array, atoms.pbc)
        outcome = toy.evaluate(structure)
        if not isinstance(outcome, Evaluation):
            raise RuntimeError(f"the toy could not label {structure.formula}: {outcome}")
        labels.append(Label(structure, toy.level, outcome))
    training = TrainingConfig(epochs=1, min_steps=1)
    fit_committee(labels, [], model, training, seed=0).committee.save(file)


def train() -> Mapping[str, float]:
    """Training four members on 500 frames of 3BPA, and again after ten more labels of ethanol."""
    return {**alflow_epoch_seconds(bpa_labels()), **retraining_seconds()}


def alflow_epoch_seconds(labels: Sequence[Label]) -> Mapping[str, float]:
    """Wall time of one epoch of all members in a training of three, and of everything that is done once, s."""
    training = TrainingConfig(batch_labels=BATCH, epochs=3, min_steps=1)
    metrics = fit_committee(labels, [], ModelConfig(members=MEMBERS), training, seed=0).metrics
    epoch = metrics["step_seconds"] * metrics["steps"] / training.epochs
    return {"committee_epoch_s": epoch, "once_s": metrics["fit_seconds"] - training.epochs * epoch}


def retraining_seconds() -> Mapping[str, float]:
    """Wall time of the first fit to 80 labels of rMD17 ethanol and of the next one to 90, s.

    Raises:
        Skipped: The data are not there.
    """
    file = data_folder() / "rmd17" / "rmd17_ethanol_train_01.npz"
    if not file.is_file():
        raise Skipped(f"{file} is missing: set ALFLOW_DATA to the folder that holds rmd17/.")
    data = np.load(file)
    level = Level("rmd17", {"functional": "pbe", "basis": "def2-svp"})
    rows = zip(data["coords"], data["energies"] * EV_PER_KCAL_MOL, data["forces"] * EV_PER_KCAL_MOL, strict=True)
    some = [row for row, _ in zip(rows, range(90), strict=False)]
    labels = [Label(Structure.of(data["nuclear_charges"], x), level, Evaluation(float(e), f)) for x, e, f in some]
    model = ModelConfig(members=MEMBERS)
    began = time.perf_counter()
    first = fit_committee(labels[:80], [], model, TrainingConfig(), seed=0).committee
    fitted = time.perf_counter()
    fit_committee(labels, [], model, TrainingConfig(), seed=1, start=first)
    return {"ethanol_80_labels_s": fitted - began, "ethanol_80_to_90_labels_s": time.perf_counter() - fitted}


def bpa_labels() -> list[Label]:
    """The 500 frames of 3BPA at 300 K as labels."""
    level = Level("3bpa", {"functional": "wb97x", "basis": "6-31g(d)"})
    return [
        Label(from_atoms(frame), level, Evaluation(frame.get_potential_energy(), frame.get_forces()))
        for frame in bpa_frames()
    ]


if __name__ == "__main__":
    torch.set_num_threads(1)
    serve(evaluate, train)
