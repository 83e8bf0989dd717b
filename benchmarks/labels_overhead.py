"""What a process of its own costs a label: run_label beside a bare PySCF loop that computes the same gradients.

Usage: python benchmarks/labels_overhead.py [--quick] [--case ethanol --labels 200] [--json FILE]

Slightly displaced structures, each computed by both, on one core and one thread: 50 of water at HF/sto-3g, where a
label is nearly nothing but overhead, and 20 of ethanol at PBE/def2-SVP, the default level. They take turns of five,
because the next label gets the memory of the last one, unless there was time to give it back to the machine. The bare
loop runs in one process that has loaded PySCF and computed a first gradient. ``--quick`` computes half of them. The
memory is the largest of a label's process, in the median of the first and of the last fifth of the labels.

The bare loop computes no charges. So each structure is computed a third time, by ``run_label`` without properties: what
that takes more than the bare loop is overhead, and the rest is what the charges cost.
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
TURN: Final = 5


def main() -> None:
    apply_settings()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="half of the structures")
    parser.add_argument("--case", choices=list(CASES), help="only this molecule")
    parser.add_argument("--labels", type=int, metavar="N", help="number of structures of each molecule")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    given = parser.parse_args()
    record: dict[str, Any] = {"benchmark": "labels_overhead", "machine": machine()}
    print("molecule  labels  bare   label  overhead  bare CPU  label CPU  first label   (medians, ms)")
    for name, (reference, n) in CASES.items():
        if given.case in (None, name):
            start = read_structures(WORKFLOWS / f"{name}.xyz")[0]
            count = given.labels or n // (2 if given.quick else 1)
            record[name] = told(name, compare(reference, rattle(start, count, seed=1)))
    write(record, given.json)


def compare(reference: PyscfReference, structures: Sequence[Structure]) -> dict[str, float]:
    """Time both on all structures, after one that loads and warms up."""
    bare, labels, plain = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        warm, first = bare_gradient(reference, structures[0]), label(reference, structures[0], Path(folder, "first"))
        for start in range(0, len(structures), TURN):
            turn = structures[start : start + TURN]
            bare += [bare_gradient(reference, structure) for structure in turn]
            labels += [label(reference, structure, Path(folder)) for structure in turn]
            plain += [label(reference.plain, structure, Path(folder, "plain")) for structure in turn]
    fifth = max(1, len(labels) // 5)
    for (energy, *_), (same, *_) in zip([warm, *bare], [first, *labels], strict=True):
        assert abs(energy - same) < 1e-6  # the same work: both are converged far better than this
    for (energy, *_), (same, *_) in zip(labels, plain, strict=True):
        assert energy == same  # charges are looked at when the energy is known
    return {
        "labels": len(labels),
        "bare_ms": statistics.median(wall for _, wall, _ in bare),
        "label_ms": statistics.median(wall for _, wall, *_ in labels),
        "overhead_ms": statistics.median(ours[1] - alone[1] for ours, alone in zip(labels, bare, strict=True)),
        "plain_ms": statistics.median(wall for _, wall, *_ in plain),
        "ratio_of_pairs": ratio_of_pairs(labels, bare),
        "plain_ratio_of_pairs": ratio_of_pairs(plain, bare),
        "bare_cpu_ms": statistics.median(cpu for _, _, cpu in bare),
        "label_cpu_ms": statistics.median(cpu for _, _, cpu, _ in labels),
        "memory_first_mb": statistics.median(memory for *_, memory in labels[:fifth]),
        "memory_last_mb": statistics.median(memory for *_, memory in labels[-fifth:]),
        "first_label_ms": first[1],
    }


def ratio_of_pairs(ours: Sequence[tuple[float, ...]], bare: Sequence[tuple[float, ...]]) -> float:
    """Median of the ratio of the wall times of the same structure."""
    return statistics.median(mine[1] / alone[1] for mine, alone in zip(ours, bare, strict=True))


def label(reference: PyscfReference, structure: Structure, spool: Path) -> tuple[float, float, float, float]:
    """Energy, eV, wall time and the processor time of the label's own process, ms, and its memory, MB."""
    began = time.perf_counter()
    result = run_label(LabelRequest(reference, structure, "label", spool))
    wall = time.perf_counter() - began
    assert isinstance(result.outcome, Evaluation), result.outcome
    spent = result.provenance
    return result.outcome.energy, 1e3 * wall, 1e3 * spent["cpu_s"], spent["peak_memory_mb"]


def bare_gradient(reference: PyscfReference, structure: Structure) -> tuple[float, float, float]:
    """What a script without alflow would do: energy, eV, wall time and processor time, ms."""
    began, cpu = time.perf_counter(), time.process_time()
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
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    return float(field.e_tot) * EV_PER_HARTREE, 1e3 * wall, 1e3 * cpu


def told(name: str, found: dict[str, float]) -> dict[str, float]:
    """Print a row."""
    ratio, plain = found["label_ms"] / found["bare_ms"], found["plain_ms"] / found["bare_ms"]
    print(
        f"{name:9} {found['labels']:6} {found['bare_ms']:5.0f} {found['label_ms']:7.0f} {found['overhead_ms']:9.1f} "
        f"{found['bare_cpu_ms']:9.0f} {found['label_cpu_ms']:10.0f} {found['first_label_ms']:12.0f}"
        f"   {ratio:.3f} times the bare loop, {found['ratio_of_pairs']:.3f} in the median of pairs;"
        f" without charges {plain:.3f}, {found['plain_ratio_of_pairs']:.3f};"
        f" memory {found['memory_first_mb']:.0f}, in the end {found['memory_last_mb']:.0f} MB",
        flush=True,
    )
    return found


if __name__ == "__main__":
    main()
