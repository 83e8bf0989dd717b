"""Times apax: an untrained full ensemble of four Gaussian-moment networks, default settings, compiled by XLA.

One step is what its ASE calculator does: neighbor list (kept with a skin of 0.5 Å, its default), all members in one
compiled call, mean and spread. The ensemble is written as a checkpoint first, since the calculator reads nothing else.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ase
import ase.io
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from apax.config import Config
from apax.md.ase_calc import ASECalculator
from apax.optimizer import get_opt
from apax.train.checkpoints import create_params, create_train_state
from apax.train.metrics import initialize_metrics
from apax.train.run import initialize_datasets, initialize_loss_fn
from apax.train.trainer import make_step_fns
from engine import Calls, Skipped, serve
from systems import System, bpa_frames
from timing import measure

MEMBERS = 4
BATCH = 10
LARGEST = 2000
"""Atoms above which its neighbor list of all pairs takes gigabytes."""


def configuration(folder: Path, members: int, **data: Any) -> Config:
    ensemble = {"kind": "full", "n_members": members} if members > 1 else None
    return Config.model_validate(
        {
            "n_epochs": 1,
            "data": {"directory": str(folder), "experiment": "untrained", "data_path": "none", **data},
            "model": {"name": "gmnn", "ensemble": ensemble},
            "loss": [{"name": "energy"}, {"name": "forces", "weight": 4.0}],
            "metrics": [{"name": "forces", "reductions": ["mae"]}],
        }
    )


def calculator(folder: Path, atoms: ase.Atoms, members: int) -> ASECalculator:
    """Its calculator with untrained weights."""
    config = configuration(folder, members)
    builder = config.model.get_builder()(config.model.model_dump())
    box = atoms.cell.array
    model = builder.build_energy_derivative_model(apply_mask=True, init_box=box)
    # Weights do not depend on the geometry: one pair of atoms is enough to shape them.
    positions = jnp.zeros((2, 3)).at[1, 0].set(0.1 if atoms.pbc.any() else 1.0)
    example = (positions, jnp.array([1, 8]), jnp.array([[0, 1], [1, 0]]), jnp.asarray(box), jnp.zeros((2, 3)))
    params, _ = create_params(model, jax.random.PRNGKey(0), example, members)
    where = config.data.model_version_path
    where.mkdir(parents=True)
    config.dump_config(where)
    with ocp.CheckpointManager((where / "best").resolve()) as manager:
        manager.save(0, args=ocp.args.StandardSave({"model": {"params": params}, "epoch": 0}))
    return ASECalculator(where)


def evaluate(which: System) -> Calls:
    """One step of the calculator; copies one after the other, since it takes one structure at a time."""
    if len(which.atoms) > LARGEST:
        raise Skipped("its neighbor list of all pairs takes gigabytes")
    return {"single": stepper(which, 1), "committee": stepper(which, MEMBERS)}


def stepper(which: System, members: int) -> Callable[[], object]:
    atoms = which.atoms.copy()
    with tempfile.TemporaryDirectory() as folder:
        atoms.calc = calculator(Path(folder), atoms, members)
    steps = which.steps()

    def run() -> object:
        for positions in next(steps):
            atoms.positions = positions
            forces = atoms.get_forces()
        return forces

    run()
    results = atoms.calc.results
    spread = results.get("forces_uncertainty")
    if members > 1 and (spread is None or not np.any(spread > 0)):
        raise RuntimeError(f"apax returned no spread of the members' forces: {sorted(results)}")
    return run


def train() -> Mapping[str, float]:
    """One epoch of its own training step on 3BPA for the full ensemble: energies and forces, batches of ten."""
    frames = bpa_frames()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ase.io.write(folder / "train.xyz", frames)
        ase.io.write(folder / "validation.xyz", frames[:BATCH])
        config = configuration(
            folder,
            MEMBERS,
            data_path=None,
            train_data_path=str(folder / "train.xyz"),
            val_data_path=str(folder / "validation.xyz"),
            batch_size=BATCH,
            valid_batch_size=BATCH,
        )
        config.data.model_version_path.mkdir(parents=True)
        seconds = epoch_seconds(config)
    return {"committee_epoch_s": seconds}


def epoch_seconds(config: Config) -> float:
    """Wall time of the training steps of one epoch, s; batches are prepared before."""
    dataset, _, statistics = initialize_datasets(config)
    example, box = dataset.init_input()
    builder = config.model.get_builder()(config.model.model_dump())
    model = builder.build_energy_derivative_model(
        scale=statistics.elemental_scale, shift=statistics.elemental_shift, apply_mask=True, init_box=box
    )
    batched = jax.vmap(model.apply, in_axes=(None, 0, 0, 0, 0, 0))
    params, _ = create_params(model, jax.random.PRNGKey(0), example, MEMBERS)
    steps = dataset.steps_per_epoch()
    optimizer = get_opt(params, config.n_epochs, steps, freeze_layers=[], **config.optimizer.model_dump())
    state = create_train_state(batched, params, optimizer)
    metrics = initialize_metrics(config.metrics)
    step, _ = make_step_fns(initialize_loss_fn(config.loss), metrics, model=batched, is_ensemble=True)
    source = dataset.shuffle_and_batch()
    batches = [next(source) for _ in range(steps)]
    carry = (state, metrics.empty())
    jax.block_until_ready(step(carry, batches[0]))

    def epoch() -> None:
        now = carry
        for batch in batches:
            now, _ = step(now, batch)
        jax.block_until_ready(now)

    return measure(epoch, budget_s=1.0, least=1).minimum_ms / 1e3


if __name__ == "__main__":
    serve(evaluate, train)
