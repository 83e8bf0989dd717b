"""How much does the integration grid notice which way a molecule is turned, and does a label say so?

Usage: python benchmarks/force_noise.py [--quick] [--molecules NAME ...] [--functionals NAME ...] [--presets NAME ...]
       [--turns N] [--json FILE]

Each molecule is distorted once (0.05 Å) and turned at random; its forces are turned back. Without a grid they would be
the same. Told are the root mean square and the largest deviation of a force component from its mean over all
orientations, and the largest as a share of the noise that the labels state: above 1, they claim too much. ``--quick``
takes water and methyl, two functionals and three orientations.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
from ase.build import molecule
from scipy.spatial.transform import Rotation
from timing import apply_settings, machine, write

from alflow.domain import Evaluation, Structure
from alflow.reference import PyscfConfig, make_reference

MOLECULES: Final = {"water": ("H2O", 1), "methyl": ("CH3", 2), "formaldehyde": ("H2CO", 1), "ethanol": ("CH3CH2OH", 1)}
"""Name in ASE's collection, and multiplicity."""
FUNCTIONALS: Final = ("svwn", "pbe", "wb97x-d3bj", "tpss", "scan", "r2scan", "m06-2x")
PRESETS: Final = ("fast", "standard", "tight")
DISTORTION_ANG: Final = 0.05
QUICK: Final = {"molecules": ("water", "methyl"), "functionals": ("pbe", "r2scan"), "presets": ("fast", "standard")}


def main() -> None:
    apply_settings()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--molecules", nargs="+", choices=list(MOLECULES), metavar="NAME")
    parser.add_argument("--functionals", nargs="+", metavar="NAME")
    parser.add_argument("--presets", nargs="+", choices=PRESETS, metavar="NAME")
    parser.add_argument("--turns", type=int, metavar="N", help="orientations")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    given = parser.parse_args()
    usual = QUICK if given.quick else {"molecules": MOLECULES, "functionals": FUNCTIONALS, "presets": PRESETS}
    turns = given.turns or (3 if given.quick else 6)
    rows = []
    print(
        f"{'molecule':12} {'functional':11} {'preset':9} grid  rms, meV/Å  largest  stated  share   CPU s", flush=True
    )
    for name in given.molecules or usual["molecules"]:
        for functional in given.functionals or usual["functionals"]:
            for preset in given.presets or usual["presets"]:
                row = measured(name, PyscfConfig(functional=functional, preset=preset, properties=[]), turns)
                rows.append({"molecule": name, "functional": functional, "preset": preset, **row})
                print(
                    f"{name:12} {functional:11} {preset:9} {row['grid_level']:4d} {row['rms_mev_ang']:12.3f}"
                    f" {row['largest_mev_ang']:8.3f} {row['stated_mev_ang']:7.3f} {row['share']:6.2f}"
                    f" {row['cpu_s']:7.2f}",
                    flush=True,
                )
    worst = max(rows, key=lambda row: float(row["share"]))
    print(f"largest share: {worst['share']:.2f}, {worst['molecule']} with {worst['functional']}, {worst['preset']}")
    write({"benchmark": "force_noise", "machine": machine(), "turns": turns, "rows": rows}, given.json)


def measured(name: str, config: PyscfConfig, turns: int) -> dict[str, Any]:
    """What the forces of one molecule do when it is turned; processor time is that of a label."""
    formula, multiplicity = MOLECULES[name]
    atoms, reference = molecule(formula), make_reference(config)
    random = np.random.default_rng(5)
    positions = atoms.positions + random.normal(0.0, DISTORTION_ANG, atoms.positions.shape)
    forces, stated = [], []
    began = time.process_time()
    for turn in Rotation.random(turns, rng=random).as_matrix():
        structure = Structure.of(atoms.numbers, positions @ turn.T, multiplicity=multiplicity)
        outcome = reference.evaluate(structure)
        if not isinstance(outcome, Evaluation):
            raise RuntimeError(f"no label: {outcome}")
        forces.append(outcome.forces @ turn)
        stated.append(float(outcome.diagnostics["force_noise_ev_ang"]))
    deviations = 1e3 * np.abs(np.array(forces) - np.mean(forces, axis=0))
    return {
        "grid_level": config.resolved_grid_level,
        "rms_mev_ang": float(np.sqrt((deviations**2).mean())),
        "largest_mev_ang": float(deviations.max()),
        "stated_mev_ang": 1e3 * max(stated),
        "share": float(deviations.max() / (1e3 * max(stated))),
        "cpu_s": (time.process_time() - began) / turns,
    }


if __name__ == "__main__":
    main()
