"""Do alflow's labels agree with published ones? Dimers of S66x8 at ωB97X/6-31G(d).

Usage: python benchmarks/s66x8.py [--dimers N] [--json FILE]

The published energies and forces are Gaussian's (COMP6, Smith et al., J. Chem. Phys. 148, 241733 (2018)), with
Cartesian d functions; what the file calls forces are gradients. The smallest N dimers, at their equilibrium separation
and at half of it more. Beside the differences stands how far either set of forces turns a dimer, meV, which is noise of
its grid alone. (The published forces add up to nothing exactly, which says nothing of theirs.) Data come from the
folder ALFLOW_DATA; reading them needs h5py, which comes with PySCF.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from systems import data_folder
from timing import apply_settings, machine, write

from alflow.domain import Evaluation, Structure
from alflow.reference import PyscfConfig, make_reference
from alflow.units import EV_PER_HARTREE

SEPARATIONS = (2, 6)
"""Places in the series of eight: the equilibrium and a long one."""


def main() -> None:
    apply_settings()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dimers", type=int, default=6, help="how many, smallest first")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    given = parser.parse_args()
    file = data_folder() / "s66x8" / "s66x8_wb97x6-31gd.h5"
    if not file.is_file():
        print(f"Skipped: {file} is missing. Set ALFLOW_DATA to the folder that holds s66x8/.")
        return
    settings = {"functional": "wb97x", "basis": "6-31g*", "cartesian": True}
    references = {name: make_reference(PyscfConfig(density_fitting=name == "fitted", **settings)) for name in
                  ("exact", "fitted")}  # fmt: skip
    rows = []
    print("dimer   atoms  place  integrals  energy, meV  force RMS, meV/Å  largest  torque  published  CPU s")
    with h5py.File(file) as data:
        group = data["s66x8"]
        for dimer in sorted(group, key=lambda name: len(group[name]["species"]))[: given.dimers]:
            for place in SEPARATIONS:
                for name, reference in references.items():
                    row = {
                        "dimer": dimer,
                        "place": place,
                        "integrals": name,
                        **compared(group[dimer], place, reference),
                    }
                    rows.append(row)
                    print(
                        f"{dimer:7} {row['atoms']:5d} {place:6d}  {name:9} {row['energy_mev']:12.2f}"
                        f" {row['force_rms_mev_ang']:17.2f} {row['force_max_mev_ang']:8.2f} {row['torque_mev']:7.2f}"
                        f" {row['published_torque_mev']:10.2f} {row['cpu_s']:6.1f}",
                        flush=True,
                    )
    write({"benchmark": "s66x8", "machine": machine(), "rows": rows}, given.json)


def compared(group: Any, place: int, reference: Any) -> dict[str, Any]:
    """Differences of one geometry's label from the published one."""
    symbols = [symbol.decode() for symbol in group["species"][:]]
    began = time.process_time()
    outcome = reference.evaluate(Structure.of(symbols, group["coordinates"][place].astype(float)))
    if not isinstance(outcome, Evaluation):
        raise RuntimeError(f"no label: {outcome}")
    published = -group["forces"][place].astype(float) * EV_PER_HARTREE
    wrong = 1e3 * (outcome.forces - published)
    return {
        "atoms": len(symbols),
        "energy_mev": 1e3 * (outcome.energy - float(group["energies"][place]) * EV_PER_HARTREE),
        "force_rms_mev_ang": float(np.sqrt((wrong**2).mean())),
        "force_max_mev_ang": float(np.abs(wrong).max()),
        "torque_mev": torque(group["coordinates"][place].astype(float), outcome.forces),
        "published_torque_mev": torque(group["coordinates"][place].astype(float), published),
        "cpu_s": time.process_time() - began,
    }


def torque(positions: np.ndarray, forces: np.ndarray) -> float:
    """Size of the torque of forces that add up to nothing, meV."""
    return float(1e3 * np.linalg.norm(np.cross(positions - positions.mean(axis=0), forces).sum(axis=0)))


if __name__ == "__main__":
    main()
