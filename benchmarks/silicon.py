"""Lattice constant and bulk modulus of silicon: a committee beside the PySCF level it was trained on.

Usage: python benchmarks/silicon.py COMMITTEE.safetensors [--db silicon.db] [--json FILE]

The cubic cell of eight atoms at nine lattice constants, labelled at the level of ``workflows/silicon.yaml`` in the
campaign's database (so that none is paid twice), and evaluated by the committee; a Birch-Murnaghan equation of state is
fitted to both. One core, about five minutes for the labels.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

import ase.build
import numpy as np
from ase.eos import EquationOfState
from timing import machine, write

from alflow.campaign.config import load_config
from alflow.campaign.executors import InlineExecutor
from alflow.campaign.labelling import label_structures
from alflow.campaign.teacher import make_reference
from alflow.domain.ase import from_atoms
from alflow.potentials import load_committee
from alflow.store import Store

WORKFLOW: Final = Path(__file__).parents[1] / "workflows" / "silicon.yaml"
LATTICE_CONSTANTS_ANG: Final = np.linspace(5.54, 5.86, 9)
EV_ANG3_IN_GPA: Final = 160.21766208


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("committee", type=Path, help="weight file of the committee")
    parser.add_argument("--db", default="silicon.db", help="database for the labels")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    given = parser.parse_args()
    cells = [ase.build.bulk("Si", "diamond", a=a, cubic=True) for a in LATTICE_CONSTANTS_ANG]
    structures = [from_atoms(cell) for cell in cells]
    config = load_config(WORKFLOW)
    reference = make_reference(config.reference)
    label_structures(structures, reference, config.reference, given.db, "equation of state", 1, InlineExecutor)
    with Store.open(given.db, read_only=True) as store:
        labels = store.labels_by_id([(structure.id, reference.level.id) for structure in structures])
    committee = load_committee(given.committee)
    predicted = [committee.evaluate(structure) for structure in structures]
    volumes = [cell.get_volume() for cell in cells]
    record: dict[str, Any] = {"benchmark": "silicon", "machine": machine()}
    record["pyscf"] = fitted(volumes, [label.evaluation.energy for label in labels])
    record["committee"] = fitted(volumes, [evaluation.energy for evaluation in predicted])
    print("           lattice constant, Å   bulk modulus, GPa")
    for name in ("pyscf", "committee"):
        print(f"{name:10} {record[name]['lattice_constant_ang']:19.4f} {record[name]['bulk_modulus_gpa']:19.1f}")
    pairs = [(ours.stress, label.evaluation.stress) for ours, label in zip(predicted, labels, strict=True)]
    worst = max(float(np.abs(ours - true).max()) for ours, true in pairs if ours is not None and true is not None)
    record["largest_stress_error_ev_ang3"] = worst
    print(f"largest error of the committee's stress: {1e3 * worst:.2f} meV/Å³")
    write(record, given.json)


def fitted(volumes: list[float], energies: list[float]) -> dict[str, float]:
    """Lattice constant, Å, and bulk modulus, GPa, of the cubic cell."""
    volume, _, modulus = EquationOfState(volumes, energies, eos="birchmurnaghan").fit()
    return {"lattice_constant_ang": volume ** (1 / 3), "bulk_modulus_gpa": modulus * EV_ANG3_IN_GPA}


if __name__ == "__main__":
    main()
