"""Are there unstable fields of open shells above the gap gate, and what would it cost to test them all?

Usage: python benchmarks/open_shells.py [CASE ...] [--functionals NAME ...] [--basis NAME] [--json FILE]

Radicals, ions, triplets and quartets, at rest and stretched. Each field is converged as for a label; where its gap is
above the gate of docs/labels.md, so that a label would not test it, it is tested for internal stability all the same,
and a descending direction is followed. Told are the gap, the gate, by how much the energy fell, and the processor time
of the test over that of the field.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any, Final

from ase.build import molecule
from timing import apply_settings, machine, write

from alflow.domain import Failure, Structure
from alflow.reference import PyscfReference
from alflow.reference.ladder import Trace
from alflow.reference.scf import Field, converge
from alflow.reference.stability import gap_gate_ev, settle, smallest_gap_ev

FUNCTIONALS: Final = ("pbe", "r2scan", "b3lyp", "wb97x-d3bj")


def built(name: str, charge: int, multiplicity: int) -> Structure:
    """A molecule of ASE's collection."""
    atoms = molecule(name)
    return Structure.of(atoms.numbers, atoms.positions, charge=charge, multiplicity=multiplicity)


def pulled(name: str, atom: int, neighbor: int, length: float, charge: int, multiplicity: int) -> Structure:
    """The same with one atom moved along its bond to a length, Å."""
    atoms = molecule(name)
    bond = atoms.positions[atom] - atoms.positions[neighbor]
    atoms.positions[atom] = atoms.positions[neighbor] + bond * length / float((bond**2).sum() ** 0.5)
    return Structure.of(atoms.numbers, atoms.positions, charge=charge, multiplicity=multiplicity)


CASES: Final = {
    "OH": built("OH", 0, 2),
    "OH 1.6 Å": pulled("OH", 1, 0, 1.6, 0, 2),
    "NO": built("NO", 0, 2),
    "NO 1.8 Å": pulled("NO", 1, 0, 1.8, 0, 2),
    "CN": built("CN", 0, 2),
    "CH": built("CH", 0, 2),
    "NH2": built("NH2", 0, 2),
    "CH3": built("CH3", 0, 2),
    "CH3 2.2 Å": pulled("CH3", 1, 0, 2.2, 0, 2),
    "HCO": built("HCO", 0, 2),
    "NO2": built("NO2", 0, 2),
    "CH3O": built("CH3O", 0, 2),
    "C2H3": built("C2H3", 0, 2),
    "H2O+": built("H2O", 1, 2),
    "H2O+ 2.0 Å": pulled("H2O", 1, 0, 2.0, 1, 2),
    "CH4+": built("CH4", 1, 2),
    "NH3+": built("NH3", 1, 2),
    "N2+": built("N2", 1, 2),
    "O2+": built("O2", 1, 2),
    "HCl+": built("HCl", 1, 2),
    "C2H4+": built("C2H4", 1, 2),
    "H2CO+": built("H2CO", 1, 2),
    "O2-": built("O2", -1, 2),
    "H2 + electron hole, 2.0 Å": pulled("H2", 1, 0, 2.0, 1, 2),
    "O2 triplet": built("O2", 0, 3),
    "O2 triplet 1.8 Å": pulled("O2", 1, 0, 1.8, 0, 3),
    "NH triplet": built("NH", 0, 3),
    "CH2 triplet": built("CH2_s3B1d", 0, 3),
    "H2CO triplet": built("H2CO", 0, 3),
    "C2H4 triplet": built("C2H4", 0, 3),
    "H2O triplet": built("H2O", 0, 3),
    "H2 triplet 1.5 Å": pulled("H2", 1, 0, 1.5, 0, 3),
    "N quartet": built("N", 0, 4),
    "Li": built("Li", 0, 2),
    "F": built("F", 0, 2),
}


def main() -> None:
    apply_settings()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--functionals", nargs="+", default=list(FUNCTIONALS), metavar="NAME")
    parser.add_argument("--basis", default="def2-svp")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    given = parser.parse_args()
    rows = []
    print(f"{'case':26} {'functional':11} gap, eV   gate  {'field was':11} lowered, eV  test / field", flush=True)
    for functional in given.functionals:
        reference = PyscfReference(functional, given.basis, grid_level=2)
        for name in given.cases or CASES:
            row = tested(CASES[name], reference)
            rows.append({"case": name, "functional": functional, **row})
            print(f"{name:26} {functional:11} {told(row)}", flush=True)
    above = [row for row in rows if row["forced"]]
    wrong = [f"{row['case']} {row['functional']}" for row in above if row["lowered_ev"] > 0.0]
    print(
        f"{len(rows)} fields, {len(above)} above the gate, of which {len(wrong)} unstable: {', '.join(wrong) or 'none'}"
    )
    if above:
        field, test = (sum(row[part] for row in above) for part in ("field_s", "test_s"))
        print(f"the tests of those above took {test / field:.1f} times as long as their fields")
    write({"benchmark": "open_shells", "machine": machine(), "rows": rows}, given.json)


def tested(structure: Structure, reference: PyscfReference) -> dict[str, Any]:
    """One field, with a test of its stability whatever its gap."""
    began = time.process_time()
    field = converge(reference, structure)
    field_s = time.process_time() - began
    if isinstance(field, Failure):
        return {"failed": field.message, "forced": False, "field_s": field_s}
    assert isinstance(field, Field)
    gap = smallest_gap_ev(field.mean_field)
    row = {"gap_ev": gap, "gate_ev": gap_gate_ev(reference.method.exact_exchange), "field_s": field_s}
    if gap is None or field.verdict.internal != "not tested":
        return {**row, "forced": False, "verdict": field.verdict.internal, "lowered_ev": field.verdict.lowered_ev}
    began = time.process_time()
    _, verdict = settle(field.mean_field, _never, reference.spin_policy, reference.max_cycles, Trace())
    test_s = time.process_time() - began
    fell = {"verdict": verdict.internal, "lowered_ev": verdict.lowered_ev, "test_s": test_s}
    return {**row, **fell, "forced": True}


def _never() -> Any:
    raise AssertionError("an open shell has no restricted form to leave")


def told(row: dict[str, Any]) -> str:
    """A row as a line of the table."""
    if "failed" in row:
        return str(row["failed"])
    gap = "none" if row["gap_ev"] is None else f"{row['gap_ev']:.2f}"
    cost = f"{row['test_s'] / row['field_s']:.1f}" if row["forced"] else "tested anyway"
    return f"{gap:>7} {row['gate_ev']:6.1f}  {row['verdict']:11} {row['lowered_ev']:11.5f}  {cost}"


if __name__ == "__main__":
    main()
