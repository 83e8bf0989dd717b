"""How long a step of a committee takes: alflow and what a user might pick instead, on one core.

Usage: python benchmarks/committee.py [--quick] [--json FILE] [--case NAME …]

A step is: positions in; energies and forces of all four members, their means and the spread of the forces out, neighbor
list included, every atom moved by about 0.02 Å each time. All processes run with the same settings: one core, one
thread, the C library keeping its memory. ``…_ms`` is the shortest step, ``…_median_ms`` the typical one. Peers that are
not installed are skipped.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from engine import PEERS, ask, how_to_install, peers
from systems import CASES, SCALING
from timing import apply_settings, machine, write

QUICK: Final = ("ethanol", "ethanol32", "water192")

UNDISTURBED: Final = 0.97
"""Share of the core below which a measurement is called disturbed."""


def main() -> None:
    apply_settings()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}, and less time for each")
    parser.add_argument("--case", nargs="+", choices=CASES, metavar="NAME", help=f"any of {', '.join(CASES)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    given = parser.parse_args()
    names = given.case or (QUICK if given.quick else CASES)
    seconds = 1.0 if given.quick else 4.0
    python, versions = peers()
    record: dict[str, Any] = {"benchmark": "committee", "machine": machine(), "peer_packages": versions, "cases": {}}
    record["cases"] = own_steps(names, seconds)
    for peer in PEERS:
        if peer.package in versions:
            add_peer(record["cases"], peer.key, ask(peer.script, arguments(names, seconds), python))
        else:
            print(how_to_install(peer))
    show(record["cases"])
    if not given.quick and not given.case:
        record["scaling"] = scaling(seconds)
    write(record, given.json)


def arguments(names: Sequence[str], seconds: float) -> list[str]:
    return ["--seconds", str(seconds), "--case", *names]


def own_steps(names: Sequence[str], seconds: float) -> dict[str, dict[str, Any]]:
    """One entry for each case that could be timed; the others are named with the reason."""
    cases = {}
    for name, found in ask("engine_alflow.py", arguments(names, seconds)).items():
        if "skipped" in found:
            print(f"Skipped: {name}: {found['skipped']}")
            continue
        entry = {"atoms": found["atoms"]}
        for kind in ("single", "committee", "committee_new_list"):
            if kind in found:
                entry |= {f"{kind}_ms": found[kind]["minimum_ms"], f"{kind}_median_ms": found[kind]["median_ms"]}
        entry["cpu_share"] = found["committee"]["cpu_share"]
        entry["surcharge"] = entry["committee_ms"] / entry["single_ms"]
        cases[name] = entry
    return cases


def add_peer(cases: dict[str, dict[str, Any]], key: str, answer: dict[str, Any]) -> None:
    """Write a peer's times, and how many times alflow's they are, into the entries of the cases."""
    name = key.removesuffix("4_ms")
    for case, entry in cases.items():
        found = answer[case]
        if "skipped" in found:
            entry[f"{name}_skipped"] = found["skipped"]
            continue
        entry[f"{name}_single_ms"] = found["single"]["minimum_ms"]
        entry[key] = found["committee"]["minimum_ms"]
        entry[f"{name}4_median_ms"] = found["committee"]["median_ms"]
        entry[f"{name}_cpu_share"] = found["committee"]["cpu_share"]
        entry[f"{name}4_ratio"] = entry[key] / entry["committee_ms"]


def show(cases: dict[str, dict[str, Any]]) -> None:
    titles = [f"{peer.key.removesuffix('4_ms')} × 4" for peer in PEERS]
    print("\nms per step    atoms   single  committee  surcharge" + "".join(f"{t:>14}  ratio" for t in titles))
    for name, entry in cases.items():
        line = f"{name:12} {entry['atoms']:7d} {entry['single_ms']:8.2f} {entry['committee_ms']:10.2f}"
        line += f" {entry['surcharge']:10.2f}"
        for peer in PEERS:
            key = peer.key.removesuffix("_ms")
            known = peer.key in entry
            line += f"{entry[peer.key]:14.2f} {entry[f'{key}_ratio']:6.1f}" if known else f"{'–':>14} {'–':>6}"
        print(line)
    shares = [value for entry in cases.values() for key, value in entry.items() if key.endswith("cpu_share")]
    if shares and min(shares) < UNDISTURBED:
        print(
            f"The core was shared: in one measurement only {100 * min(shares):.0f} % of the time was ours. Repeat it."
        )


def scaling(seconds: float) -> list[dict[str, float]]:
    """Time and memory per atom for liquid water from a thousand to a hundred thousand atoms, a process for each."""
    rows = []
    print("\n  atoms  committee ms  µs per atom  with a new list  peak memory MB  of which kB per atom")
    for atoms in SCALING:
        found = ask("engine_alflow.py", arguments([f"water{atoms}"], seconds))[f"water{atoms}"]
        step, anew = found["committee"]["minimum_ms"], found["committee_new_list"]["minimum_ms"]
        row = {
            "atoms": atoms,
            "committee_ms": step,
            "committee_us_per_atom": 1e3 * step / atoms,
            "committee_new_list_us_per_atom": 1e3 * anew / atoms,
            "peak_memory_mb": found["peak_memory_mb"],
            "memory_kb_per_atom": 1e3 * (found["peak_memory_mb"] - found["memory_before_mb"]) / atoms,
        }
        rows.append(row)
        print(
            f"{atoms:7d} {step:13.1f} {row['committee_us_per_atom']:12.2f} "
            f"{row['committee_new_list_us_per_atom']:16.2f} {row['peak_memory_mb']:15.0f} "
            f"{row['memory_kb_per_atom']:21.1f}"
        )
    return rows


if __name__ == "__main__":
    main()
