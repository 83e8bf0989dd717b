"""Accuracy on revised MD17: error and calibration of the default committee against the number of labels.

Run with ``python benchmarks/rmd17.py [molecule …]``. Data: the folder ``rmd17`` below ``ALFLOW_DATA`` (by default
``../shared/data``), CC0, Christensen and von Lilienfeld, Mach. Learn.: Sci. Technol. 1, 045018 (2020). Every
line is one fit with default settings and seed 0 on the first labels of split 01, tested on 1000 others.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import torch

from alflow.domain import Evaluation, Label, Level, Structure
from alflow.domain.learning_config import ModelConfig, TrainingConfig
from alflow.tensors import to_batch
from alflow.training import fit_committee, force_errors
from alflow.units import EV_PER_KCAL_MOL

SIZES = (50, 100, 950)


def labels(folder: Path, molecule: str, part: str) -> list[Label]:
    data = np.load(folder / f"rmd17_{molecule}_{part}_01.npz")
    level = Level("rmd17", {"functional": "pbe", "basis": "def2-svp"})
    numbers = data["nuclear_charges"].astype(int)
    rows = zip(data["coords"], data["energies"] * EV_PER_KCAL_MOL, data["forces"] * EV_PER_KCAL_MOL, strict=True)
    return [Label(Structure.of(numbers, x), level, Evaluation(e, f)) for x, e, f in rows]


def milliseconds_per_call(committee: object, structures: list[Structure]) -> float:
    single = committee.to(torch.float32)  # type: ignore[attr-defined]
    batch = to_batch(structures, torch.float32)
    times = []
    for _ in range(20):
        began = time.perf_counter()
        single.predict(batch)
        times.append(time.perf_counter() - began)
    return 1e3 * min(times)


def main(molecules: list[str]) -> int:
    folder = Path(os.environ.get("ALFLOW_DATA", "../shared/data")) / "rmd17"
    if not folder.is_dir():
        print(f"Skipped: {folder} does not exist. Set ALFLOW_DATA to the folder that holds rmd17/.")
        return 0
    torch.set_num_threads(1)
    print("molecule  labels  force MAE  force RMSE  energy MAE   fit  16 structures  disagreement/   correlation")
    print("                    meV/Å       meV/Å        meV       s        ms       max error  MAE")
    for molecule in molecules:
        train, test = labels(folder, molecule, "train"), labels(folder, molecule, "test")
        for size in SIZES:
            began = time.perf_counter()
            committee = fit_committee(train[:size], [], ModelConfig(), TrainingConfig(), seed=0).committee
            seconds = time.perf_counter() - began
            e = force_errors(committee, test)
            speed = milliseconds_per_call(committee, [label.structure for label in test[:16]])
            print(
                f"{molecule:9} {size:6d} {1e3 * e.mean_absolute.mean():10.1f} {1e3 * np.sqrt(e.squared.mean()):11.1f} "
                f"{1e3 * np.abs(e.energy).mean():11.1f} {seconds:6.1f} {speed:10.1f} "
                f"{e.disagreement.mean() / e.max_atom.mean():12.2f} "
                f"{e.disagreement.mean() / e.mean_absolute.mean():6.1f} "
                f"{np.corrcoef(e.disagreement, e.max_atom)[0, 1]:11.2f}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["ethanol"]))
