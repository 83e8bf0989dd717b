"""Half an hour of random kills on a real campaign: water with PySCF, and no process of it is safe.

Usage: make soak, or python -m tests.faults.soak [--minutes 30] [--every 30] [--calm-minutes 5] [--folder DIR] …

First the campaign runs undisturbed for a while, to know its pace. Then the same campaign begins anew; at random moments
one random process of it is ended with SIGKILL: the orchestrator (with Dask's scheduler in it), a worker, the guard of
label processes, a process that computes a label, a helper of Python's multiprocessing. An orchestrator that is gone is
started again at once, by the same command, as a user would. In the end it is asked to stop, and ``alflow db check``
looks at every promise. Printed: kills by kind of process, labels, labels that were lost or computed twice, executions
that were lost, and how much later the same number of labels was there.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil
import yaml

from tests.campaign.toys import XYZ, rows

from .processes import ALFLOW, is_label_worker, marked, start, wait_until_nothing_is_left, words_of

CONFIG: Final = {
    "name": "water",
    "structures": "water.xyz",
    "database": "water.db",
    "reference": {"engine": "pyscf", "functional": "pbe", "basis": "def2-svp"},
    "temperature_k": 1000,
    "walkers": 16,
    "label_budget": 100_000,
    "labels_per_generation": 25,
    "threshold_ev_ang": 0.02,  # next to everything is worth a label: the soak ends it, not the committee
    "target_force_error_ev_ang": 1e-5,
    "duplicate_tolerance_ang": 0.002,
    "quiet_ps": 1e6,
    "dashboard_address": "127.0.0.1:0",
    "model": {"members": 4, "components": 48, "hidden": [24]},
    "training": {"epochs": 20, "min_steps": 300},
}


@dataclass
class Course:
    """What was seen of a campaign while it ran.

    Attributes:
        labels: (seconds since the start, labels in the database), now and then.
        kills: How many processes of each kind were killed.
        starts: How often the command was started.
        lost: Labels that were in the database before a kill and not after it.
    """

    labels: list[tuple[float, int]] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    lost: set[str] = field(default_factory=set)

    def reached(self, number: int) -> float | None:
        """When so many labels were there, s; None if they never were."""
        return next((second for second, count in self.labels if count >= number), None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--every", type=float, default=30.0, help="seconds between two kills, in the mean")
    parser.add_argument("--calm-minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    parser.add_argument("--folder", type=Path, help="an empty or new folder that is kept; a temporary one without")
    given = parser.parse_args()
    print(f"--seed {given.seed} repeats these choices, though not the moments", flush=True)
    with tempfile.TemporaryDirectory(prefix="alflow-soak-") as temporary:
        folder = given.folder or Path(temporary)
        calm = run(folder / "calm", given.calm_minutes, None, given.every)
        rough = run(folder / "rough", given.minutes, random.Random(given.seed), given.every)
        return report(folder / "rough", calm, rough)


def run(folder: Path, minutes: float, chance: random.Random | None, every: float) -> Course:
    """Run the campaign for some minutes, disturbed or not, and stop it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "water.xyz").write_text(XYZ)
    (folder / "water.yaml").write_text(yaml.safe_dump(CONFIG))
    database, course, began = folder / "water.db", Course(), time.monotonic()
    process = begin(folder, course)
    next_kill = began + 20
    while time.monotonic() < began + 60 * minutes:
        time.sleep(0.5)
        if process.poll() is not None:
            if process.returncode >= 0:
                raise RuntimeError(f"the campaign ended by itself:\n{(folder / 'output.txt').read_text()[-3000:]}")
            process = begin(folder, course)
        course.labels.append((time.monotonic() - began, len(labelled(database))))
        if chance is not None and time.monotonic() > next_kill:
            kill_one(folder, database, process, chance, course)
            next_kill = time.monotonic() + every * chance.uniform(0.3, 1.7)
    stop(folder, process, course)
    print(f"{folder.name}: {len(labelled(database))} labels in {minutes:g} minutes", flush=True)
    return course


def begin(folder: Path, course: Course) -> subprocess.Popen[str]:
    """Start the command, the first time or again."""
    course.starts += 1
    return start(folder, "run", "water.yaml")


def kill_one(folder: Path, database: Path, root: subprocess.Popen[str], chance: random.Random, course: Course) -> None:
    """End one process with SIGKILL: first its kind is drawn, then one of that kind."""
    kinds: dict[str, list[psutil.Process]] = {}
    for process in marked(folder):
        kinds.setdefault(kind_of(process, root), []).append(process)
    kinds.pop("gone", None)
    if not kinds:
        return
    kind = chance.choice(sorted(kinds))
    before = labelled(database)
    try:
        chance.choice(kinds[kind]).kill()
    except psutil.NoSuchProcess:
        return
    course.kills[kind] += 1
    if kind == "orchestrator":
        root.wait(timeout=20)
    course.lost |= before - labelled(database)


def kind_of(process: psutil.Process, root: subprocess.Popen[str]) -> str:
    """What a process of the campaign is there for."""
    words = words_of(process)
    if process.pid == root.pid:
        return "orchestrator"
    if is_label_worker(process):
        return "label"
    if "alflow.reference.child" in words:
        return "guard"
    if "spawn_main" in words:
        return "worker"
    return "helper" if words else "gone"


def labelled(database: Path) -> set[str]:
    """Structures that have their label."""
    if not database.exists() or not rows(database, "SELECT name FROM sqlite_master WHERE name = 'labels'"):
        return set()
    return {row[0] for row in rows(database, "SELECT structure_id FROM labels")}


def stop(folder: Path, process: subprocess.Popen[str], course: Course) -> None:
    """Ask the campaign to stop, as a user would; one that a kill has just hit is started again for that."""
    if process.poll() is not None:
        process = begin(folder, course)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        asked = subprocess.run([str(ALFLOW), "stop", "water.db"], cwd=folder, capture_output=True, check=False)
        if asked.returncode == 0:
            process.wait(timeout=120)
        time.sleep(1)
    wait_until_nothing_is_left(folder)


def report(folder: Path, calm: Course, rough: Course) -> int:
    """Print what came of it; returns the exit status."""
    database = folder / "water.db"
    runs = dict(rows(database, "SELECT status, count(*) FROM executions WHERE kind = 'label' GROUP BY status"))
    others = dict(rows(database, "SELECT kind, count(*) FROM executions WHERE status = 'lost' GROUP BY kind"))
    twice = rows(
        database,
        "SELECT count(*) FROM (SELECT subject FROM executions WHERE kind = 'label' AND status = 'done'"
        " GROUP BY subject HAVING count(*) > 1)",
    )[0][0]
    spooled = rows(database, "SELECT count(*) FROM executions WHERE message LIKE 'found in the spool%'")[0][0]
    number = len(labelled(database))
    common = min(calm.labels[-1][1], rough.labels[-1][1])
    calm_s, rough_s = calm.reached(common), rough.reached(common)
    print(f"kills: {sum(rough.kills.values())} ({', '.join(f'{n} {kind}' for kind, n in sorted(rough.kills.items()))})")
    print(f"starts of the command: {rough.starts}")
    print(f"labels: {number}; lost: {len(rough.lost)}; computed twice: {twice}; found in the spool: {spooled}")
    print(f"label executions: {runs}; lost executions by kind: {others}")
    if calm_s and rough_s:
        print(f"{common} labels: after {calm_s:.0f} s undisturbed, after {rough_s:.0f} s with kills")
    check = subprocess.run([str(ALFLOW), "db", "check", str(database)], capture_output=True, text=True, check=False)
    print(check.stdout + check.stderr)
    return int(bool(rough.lost) or twice > 0 or check.returncode != 0)


if __name__ == "__main__":
    sys.exit(main())
