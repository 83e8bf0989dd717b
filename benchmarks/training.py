"""How long training takes on one core: alflow's committee and what a user might pick instead.

Usage: python benchmarks/training.py [--quick] [--json FILE]

3BPA: one epoch over the 500 frames at 300 K for four members, energies and forces, batches of ten. Ethanol: how long
until the committee has learnt ten more labels (80, then 90 of rMD17). Data come from the folder ALFLOW_DATA.
``--quick`` leaves the peers out. Peers that are not installed are skipped.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

from engine import PEERS, ask, how_to_install, peers
from timing import apply_settings, machine, write

TRAINED: Final = ("torchani", "apax")
"""Peers whose epoch takes seconds rather than minutes."""


def main() -> None:
    apply_settings()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="without the peers")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    given = parser.parse_args()
    python, versions = peers()
    record: dict[str, Any] = {"benchmark": "training", "machine": machine(), "peer_packages": versions}
    record["alflow"] = told("alflow", ask("engine_alflow.py", ["--train"])["train"])
    for peer in [] if given.quick else [peer for peer in PEERS if peer.package in TRAINED]:
        if peer.package in versions:
            record[peer.package] = told(peer.package, ask(peer.script, ["--train"], python)["train"])
        else:
            print(how_to_install(peer))
    write(record, given.json)


def told(name: str, found: dict[str, Any]) -> dict[str, Any]:
    """Print what an engine measured."""
    if "skipped" in found:
        print(f"Skipped: {name}: {found['skipped']}")
    else:
        print(f"{name:10}" + "   ".join(f"{key.removesuffix('_s')} {value:.2f} s" for key, value in found.items()))
    return found


if __name__ == "__main__":
    main()
