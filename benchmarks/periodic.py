"""What a label of a crystal costs: time and peak memory of labels in their own process, and the memory predicted.

Usage: python benchmarks/periodic.py [CASE ...] [--json FILE]

Perfect lattices, rattled by 0.05 Å; one core, one thread. Without names all cases run, half an hour.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from ase import Atoms
from ase.build import bulk
from timing import apply_settings, machine, write

from alflow.domain import Structure
from alflow.reference import LabelRequest, PyscfPeriodicReference, run_label


def lattice(name: str, kind: str, constant: float, cubic: bool = True) -> Atoms:
    return bulk(name, kind, constant, cubic=cubic)


def reference(**settings: Any) -> PyscfPeriodicReference:
    return PyscfPeriodicReference(memory_mb=16000, **settings)


CASES: Final = {
    "Si2 Γ fft": (lattice("Si", "diamond", 5.43, False), reference(route="fft")),
    "Si2 2×2×2": (lattice("Si", "diamond", 5.43, False), reference(kpoints=(2, 2, 2))),
    "Si2 3×3×3": (lattice("Si", "diamond", 5.43, False), reference(kpoints=(3, 3, 3))),
    "Si2 2×2×2 DZVP": (
        lattice("Si", "diamond", 5.43, False),
        reference(kpoints=(2, 2, 2), basis="gth-dzvp-molopt-sr"),
    ),
    "Al1 4×4×4 smeared": (lattice("Al", "fcc", 4.05, False), reference(kpoints=(4, 4, 4), smearing_ha=0.01)),
    "Al4 2×2×2 smeared": (lattice("Al", "fcc", 4.05), reference(kpoints=(2, 2, 2), smearing_ha=0.01)),
    "Si8 Γ multigrid": (lattice("Si", "diamond", 5.43), reference()),
    "Si8 Γ multigrid, no stress": (lattice("Si", "diamond", 5.43), reference(stress=False)),
    "Si8 Γ fft": (lattice("Si", "diamond", 5.43), reference(route="fft")),
    "Si8 Γ fft, no stress": (lattice("Si", "diamond", 5.43), reference(route="fft", stress=False)),
    "C8 Γ multigrid, 160 Ha": (lattice("C", "diamond", 3.57), reference(ke_cutoff_ha=160.0)),
    "Si16 Γ multigrid": (lattice("Si", "diamond", 5.43).repeat((2, 1, 1)), reference()),
}


def rattled(atoms: Atoms) -> Structure:
    moved = atoms.positions + np.random.default_rng(1).normal(0.0, 0.05, atoms.positions.shape)
    return Structure.of(atoms.get_chemical_symbols(), moved, atoms.cell.array, [True] * 3)


def measured(name: str) -> dict[str, Any]:
    """One label: what it took, and what its numbers are worth."""
    atoms, level = CASES[name]
    with tempfile.TemporaryDirectory() as spool:
        asked = LabelRequest(
            level, rattled(atoms), "periodic-a1", Path(spool), time_limit_s=1800, memory_limit_mb=16000
        )
        result = run_label(asked)
    found = dict(result.outcome.diagnostics)
    points = int(np.prod(found["mesh"]))
    return {
        "case": name,
        "outcome": type(result.outcome).__name__,
        "cpu_s": result.provenance["cpu_s"],
        "peak_memory_mb": result.provenance["peak_memory_mb"],
        "predicted_memory_mb": level.predicted_memory_mb(points, found["n_ao"], len(atoms)),
        "n_functions": found["n_ao"],
        "mesh": found["mesh"],
        "cycles": found["cycles"],
        "gap_ev": found["gap_ev"],
        "net_force_ev_ang": found.get("net_force_ev_ang"),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cases", nargs="*", help=", ".join(CASES))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    apply_settings()
    found = []
    for name in given.cases or CASES:
        found.append(measured(name))
        line = found[-1]
        print(
            f"{name:28s} {line['cpu_s']:6.1f} s {line['peak_memory_mb']:6.0f} MB (predicted"
            f" {line['predicted_memory_mb']:.0f}), {line['n_functions']} functions, grid {line['mesh']},"
            f" net force {1e3 * (line['net_force_ev_ang'] or 0.0):.2f} meV/Å, {line['outcome']}",
            flush=True,
        )
    write({"benchmark": "periodic", "machine": machine(), "cases": found}, given.json)


if __name__ == "__main__":
    main()
