"""How long labels of a file take into a database, and out of it again.

Usage: python benchmarks/imports.py [--labels 100000] [--json FILE]

The frames are those of rMD17 ethanol (9 atoms; needs ALFLOW_DATA), drawn again and displaced by 0.01 Å, because the
copy in that folder has thousands, not a hundred thousand. The same labels are read as npz, and exported and read
back as every other format. One process, and one core if it is started on one (``taskset -c 1 …``). Processor time
stands beside the time on the clock, because the work of others shows only in the second.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from timing import apply_settings, machine, write

from alflow.campaign.export import export_labels
from alflow.campaign.importing import Origin, check_source, import_labels
from alflow.domain import Level
from alflow.formats import open_source

DATA: Final = Path(os.environ.get("ALFLOW_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))
LEVEL: Final = Level("imported", {"description": "rMD17 ethanol, displaced"})
FILES: Final = ("labels.xyz", "ase.db", "deepmd", "labels.h5")


def main() -> None:
    apply_settings()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=int, default=100_000, metavar="N", help="how many")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    given = parser.parse_args()
    origin = DATA / "rmd17" / "rmd17_ethanol_train_01.npz"
    if not origin.is_file():
        print(f"{origin} is not there; set ALFLOW_DATA to the folder of the reference data.")
        return
    record: dict[str, Any] = {"benchmark": "imports", "machine": machine(), "labels": given.labels}
    print(f"{given.labels} labels of ethanol; load {os.getloadavg()[0]:.1f}")
    print("step                 seconds  CPU seconds")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        archive = many(origin, folder / "many.npz", given.labels)
        database = str(folder / "labels.db")
        record["npz"] = taken("check and import npz", lambda: bring(archive, database))
        for file in FILES:
            record[f"out {file}"] = taken(f"export {file}", lambda f=file: export_labels(database, None, folder / f))
            record[f"in {file}"] = taken(f"check {file}", lambda f=file: check_source(open_source(folder / f), f, idle))
    record["load"] = os.getloadavg()
    write(record, given.json)


def many(origin: Path, target: Path, n: int) -> Path:
    """Make an archive of so many frames out of one with fewer."""
    dice = np.random.default_rng(0)
    with np.load(origin) as known:
        drawn = dice.integers(0, len(known["coords"]), n)
        np.savez(
            target,
            nuclear_charges=known["nuclear_charges"],
            coords=known["coords"][drawn] + dice.normal(0, 0.01, (n, *known["coords"].shape[1:])),
            energies=known["energies"][drawn],
            forces=known["forces"][drawn],
        )
    return target


def bring(file: Path, database: str) -> None:
    source = open_source(file)
    check_source(source, str(file), idle)
    origin = Origin(str(file), "", source.units.text, "benchmark")
    done = import_labels(source, LEVEL, origin, database, "imported", idle)
    assert done.new == len(source), done


def idle(number: int) -> None:
    """Show nothing."""


def taken(what: str, work: Callable[[], Any]) -> dict[str, float]:
    began, cpu = time.perf_counter(), time.process_time()
    work()
    found = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu}
    print(f"{what:<20} {found['seconds']:8.1f} {found['cpu_seconds']:12.1f}", flush=True)
    return found


if __name__ == "__main__":
    main()
