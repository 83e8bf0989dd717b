"""How accurate the default committee is on public data, and how long it takes to train it.

Usage: python benchmarks/accuracy.py [--quick] [--only NAME …] [--splits N] [--json FILE]

rMD17 (ethanol, aspirin, uracil): 50 labels, and 950 plus 50 for validation, of each official split; 1000 others to
test. 3BPA: 500 labels at 300 K; the frames at 600 K and 1200 K, and those at 300 K that are not among the 500, to test.
Silicon (Zuo et al. 2020): 214 crystals with stress, 25 to test. ``--quick`` is ethanol with 50 labels, split 01. Data
come from the folder ALFLOW_DATA. Default hyper-parameters, four members, seed 0, one core; errors are of the members'
mean.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from systems import data_folder
from timing import apply_settings, machine, write

from alflow.domain import Evaluation, Label, Level, Structure
from alflow.domain.learning_config import ModelConfig, TrainingConfig
from alflow.tensors import to_batch
from alflow.training import fit_committee, force_errors
from alflow.units import EV_PER_KCAL_MOL

MOLECULES: Final = ("ethanol", "aspirin", "uracil")
SEEN_BPA: Final = (
    6, 19, 22, 29, 34, 36, 44, 49, 63, 69, 73, 74, 78, 82, 84, 92, 97, 102, 108, 119, 120, 122, 128, 129, 134, 138, 140,
    144, 150, 152, 164,
)  # fmt: skip
"""Frames of the mixed-temperature file that are in the 300 K file too."""
EV_ANG3_PER_KBAR: Final = 6.241509074e-4


def main() -> None:
    apply_settings()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only ethanol with 50 labels, split 01")
    parser.add_argument("--only", nargs="+", choices=(*MOLECULES, "3bpa", "silicon"), help="only these data sets")
    parser.add_argument("--splits", type=int, default=3, choices=(1, 2, 3), help="how many of rMD17's splits")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    print("data set         train  validation  force MAE  force RMSE   energy MAE    time   CPU  disagreement/MAE")
    print("                                       meV/Å       meV/Å  meV/structure    s      s           (median)")
    for row in cases(given.quick, given.only, given.splits):
        rows.append(row)
        print(
            f"{row['name']:16} {row['n_train']:5d} {row['n_validation']:11d} {row['force_mae_mev_ang']:10.1f} "
            f"{row['force_rmse_mev_ang']:11.1f} {row['energy_mae_mev']:12.1f} {row['train_s']:7.0f} "
            f"{row['train_cpu_s']:5.0f} {row['disagreement_per_error']:12.2f}",
            flush=True,
        )
    write({"benchmark": "accuracy", "machine": machine(), "rows": rows}, given.json)


def cases(quick: bool, only: Sequence[str] | None, splits: int) -> Iterator[dict[str, Any]]:
    folder = data_folder()
    wanted = ("ethanol",) if quick else only or (*MOLECULES, "3bpa", "silicon")
    if not folder.is_dir():
        print(f"Skipped: {folder} does not exist. Set ALFLOW_DATA to the folder that holds rmd17/, 3bpa/ and silicon/.")
        return
    for molecule in (name for name in MOLECULES if name in wanted):
        for n_train, n_validation in ((50, 0),) if quick else ((50, 0), (950, 50)):
            for split in range(1, 2 if quick else splits + 1):
                labels, tests = (rmd17(folder, molecule, part, split) for part in ("train", "test"))
                name = f"{molecule} {split:02d}"
                validation = labels[n_train : n_train + n_validation]
                yield from errors_of({name: tests}, labels[:n_train], validation)
    if "3bpa" in wanted:
        train, tests_by_temperature = bpa(folder)
        yield from errors_of(tests_by_temperature, train, [])
    if "silicon" in wanted:
        yield from errors_of({"silicon": silicon(folder, "test")}, silicon(folder, "training"), [])


def errors_of(tests: dict[str, list[Label]], train: list[Label], validation: list[Label]) -> Iterator[dict[str, Any]]:
    """Train one committee with default settings and measure it on each set of labels."""
    began, cpu = time.perf_counter(), time.process_time()
    fit = fit_committee(train, validation, ModelConfig(), TrainingConfig(), seed=0)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    for name, labels in tests.items():
        errors = force_errors(fit.committee, labels)
        share = errors.n_atoms / errors.n_atoms.sum()
        row = {
            "name": name,
            "n_train": len(train),
            "n_validation": len(validation),
            "n_test": len(labels),
            "force_mae_mev_ang": 1e3 * float((errors.mean_absolute * share).sum()),
            "force_rmse_mev_ang": 1e3 * float(np.sqrt((errors.squared * share).sum())),
            "energy_mae_mev": 1e3 * float(np.abs(errors.energy).mean()),
            "energy_mae_mev_atom": 1e3 * float(np.abs(errors.energy / errors.n_atoms).mean()),
            "energy_rmse_mev": 1e3 * float(np.sqrt((errors.energy**2).mean())),
            "disagreement_per_error": float(np.median(errors.disagreement) / errors.mean_absolute.mean()),
            "train_s": seconds,
            "train_cpu_s": cpu,
        }
        if labels[0].evaluation.stress is not None:
            found = [fit.committee.predict(to_batch([label.structure]), stress=True).stress for label in labels]
            known = np.stack([np.asarray(label.evaluation.stress) for label in labels])
            means = torch.cat([stress.mean(dim=0) for stress in found if stress is not None]).numpy()
            row["stress_mae_mev_ang3"] = 1e3 * float(np.abs(means - known).mean())
        yield row


def rmd17(folder: Path, molecule: str, part: str, split: int) -> list[Label]:
    """One part of a split of rMD17: Christensen and von Lilienfeld, Mach. Learn.: Sci. Technol. 1, 045018 (2020)."""
    data = np.load(folder / "rmd17" / f"rmd17_{molecule}_{part}_{split:02d}.npz")
    level = Level("rmd17", {"functional": "pbe", "basis": "def2-svp"})
    numbers = data["nuclear_charges"].astype(int)
    rows = zip(data["coords"], data["energies"] * EV_PER_KCAL_MOL, data["forces"] * EV_PER_KCAL_MOL, strict=True)
    return [Label(Structure.of(numbers, x), level, Evaluation(e, f)) for x, e, f in rows]


def bpa(folder: Path) -> tuple[list[Label], dict[str, list[Label]]]:
    """3BPA at 300 K, and test frames by temperature (Kovács et al., J. Chem. Theory Comput. 17, 7696 (2021))."""
    level = Level("3bpa", {"functional": "wb97x", "basis": "6-31g*"})

    def read(name: str) -> list[Label]:
        frames = read_extxyz(folder / "3bpa" / name)
        return [Label(structure, level, evaluation) for structure, evaluation in frames]

    mixed = read("train_mixedT.xyz")
    tests = {
        "3bpa 300 K": [mixed[i] for i in range(167) if i not in SEEN_BPA],
        "3bpa 600 K": mixed[167:334],
        "3bpa 1200 K": mixed[334:],
    }
    return read("train_300K.xyz"), tests


def read_extxyz(path: Path) -> list[tuple[Structure, Evaluation]]:
    """Structures with their energies and forces; the cell is there only to please the format."""
    lines = path.read_text().splitlines()
    found, start = [], 0
    while start < len(lines):
        n_atoms = int(lines[start])
        energy = float(lines[start + 1].split("energy=")[1].split()[0])
        rows = [line.split() for line in lines[start + 2 : start + 2 + n_atoms]]
        numbers = np.array([[float(x) for x in row[1:7]] for row in rows])
        found.append((Structure.of([row[0] for row in rows], numbers[:, :3]), Evaluation(energy, numbers[:, 3:])))
        start += 2 + n_atoms
    return found


def silicon(folder: Path, part: str) -> list[Label]:
    """Crystals with stress (Zuo et al., J. Phys. Chem. A 124, 731 (2020)); there, compression is positive, in kbar."""
    level = Level("silicon", {"functional": "pbe"})
    labels = []
    for entry in json.loads((folder / "silicon" / f"{part}.json").read_text()):
        cell = np.array(entry["structure"]["lattice"]["matrix"])
        fractional = np.array([site["abc"] for site in entry["structure"]["sites"]])
        outputs = entry["outputs"]
        xx, yy, zz, xy, yz, xz = -EV_ANG3_PER_KBAR * np.array(outputs["virial_stress"])
        stress = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        structure = Structure.of(["Si"] * len(fractional), fractional @ cell, cell)
        labels.append(Label(structure, level, Evaluation(outputs["energy"], np.array(outputs["forces"]), stress)))
    return labels


if __name__ == "__main__":
    main()
