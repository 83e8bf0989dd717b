"""What a process of its own costs a label: run_label beside a bare PySCF loop that computes the same gradients.

Usage: python benchmarks/labels_overhead.py [--quick] [--json FILE]

Slightly displaced structures, each computed by both, in turns, on one core and one thread: 50 of water at HF/sto-3g,
where a label is nearly nothing but overhead, and 20 of ethanol at PBE/def2-SVP, the default level. The bare loop runs
in one process that has loaded PySCF and computed a first gradient. ``--quick`` computes a quarter of the structures.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pyscf.dft
import pyscf.gto
import pyscf.scf
from timing import apply_settings, machine, write

from alflow.domain import Evaluation, Structure
from alflow.domain.ase import read_structures
from alflow.exploration import rattle
from alflow.reference import LabelRequest, PyscfReference, run_label
from alflow.units import ANG_PER_BOHR, EV_PER_HARTREE

WORKFLOWS: Final = Path(__file__).parents[1] / "workflows"
CASES: Final = {
    "water": (PyscfReference(functional="hf", basis="sto-3g"), 50),
    "ethanol": (PyscfReference(functional="pbe", basis="def2-svp"), 20),
}
"""Level and number of structures of each molecule."""


def main() -> None:
    apply_settings()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a quarter of the structures")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    given = parser.parse_args()
    record: dict[str, Any] = {"benchmark": "labels_overhead", "machine": machine()}
    print("molecule  labels  bare   label  overhead  bare CPU  label CPU  first label   (medians, ms)")
    for name, (reference, n) in CASES.items():
        start = read_structures(WORKFLOWS / f"{name}.xyz")[0]
        record[name] = told(name, compare(reference, rattle(start, n // (4 if given.quick else 1) + 1, seed=1)))
    write(record, given.json)


def compare(reference: PyscfReference, structures: Sequence[Structure]) -> dict[str, float]:
    """Time both on all structures; the first one, which loads and warms up, is reported by itself."""
    bare, labels, bare_cpu, label_cpu = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for number, structure in enumerate(structures):
            began, cpu = time.perf_counter(), time.process_time()
            energy = bare_gradient(reference, structure)
            between, cpu = time.perf_counter(), time.process_time() - cpu
            result = run_label(LabelRequest(reference, structure, f"label-{number}", Path(folder)))
            ended = time.perf_counter()
            bare.append(1e3 * (between - began))
            labels.append(1e3 * (ended - between))
            bare_cpu.append(1e3 * cpu)
            label_cpu.append(1e3 * result.provenance["cpu_s"])
            # The same work: where two convergence thresholds are met, energies agree far better than this.
            assert isinstance(result.outcome, Evaluation), result.outcome
            assert abs(result.outcome.energy - energy) < 1e-6
    overheads = [label - alone for label, alone in zip(labels[1:], bare[1:], strict=True)]
    return {
        "labels": len(overheads),
        "bare_ms": statistics.median(bare[1:]),
        "label_ms": statistics.median(labels[1:]),
        "overhead_ms": statistics.median(overheads),
        "bare_cpu_ms": statistics.median(bare_cpu[1:]),
        "label_cpu_ms": statistics.median(label_cpu[1:]),
        "first_label_ms": labels[0],
    }


def bare_gradient(reference: PyscfReference, structure: Structure) -> float:
    """What a script without alflow would do; the energy, eV."""
    atoms = list(zip(structure.symbols, structure.positions / ANG_PER_BOHR, strict=True))
    molecule = pyscf.gto.M(atom=atoms, unit="Bohr", basis=reference.basis, verbose=0, max_memory=reference.memory_mb)
    if reference.is_dft:
        field = pyscf.dft.RKS(molecule, xc=reference.functional).density_fit()
        field.grids.level = reference.grid_level
    else:
        field = pyscf.scf.RHF(molecule).density_fit()
    field.chkfile = None
    field.conv_check = False
    field.conv_tol = reference.energy_tolerance_ha
    field.conv_tol_grad = reference.gradient_tolerance_ha
    field.kernel()
    gradient = field.nuc_grad_method()
    gradient.grid_response = reference.is_dft
    gradient.kernel()
    return float(field.e_tot) * EV_PER_HARTREE


def told(name: str, found: dict[str, float]) -> dict[str, float]:
    """Print a row."""
    ratio = found["label_ms"] / found["bare_ms"]
    print(
        f"{name:9} {found['labels']:6} {found['bare_ms']:5.0f} {found['label_ms']:7.0f} {found['overhead_ms']:9.1f} "
        f"{found['bare_cpu_ms']:9.0f} {found['label_cpu_ms']:10.0f} {found['first_label_ms']:12.0f}"
        f"   {ratio:.3f} times the bare loop",
        flush=True,
    )
    return found


if __name__ == "__main__":
    main()
