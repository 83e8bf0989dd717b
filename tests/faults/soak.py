"""Half an hour of random kills on a real campaign: water with PySCF, and no process of it is safe.

Usage: make soak, or python -m tests.faults.soak [--minutes 30] [--every 30] [--calm-minutes 5] [--folder DIR]
[--database URL]

First the campaign runs undisturbed for a while, to know its pace. Then the same campaign begins anew; at random moments
one random process of it is ended with SIGKILL: the orchestrator (with Dask's scheduler in it), a worker, the guard of
label processes, a process that computes a label, a helper of Python's multiprocessing, or an orphan whose orchestrator
is gone and which is about to end by itself. An orchestrator that is gone is started again at once, by the same command,
as a user would. In the end it is asked to stop, and ``alflow db check --deep`` looks at every promise. Printed: each
kill with its moment, kills by kind, labels, labels that were lost, changed or computed again, executions that were lost
and how many may have been, and how much later the same number of labels was there. The exit status is 0 if nothing was
broken.

Lost means: seen in the database once, and at any later look not there, or with other numbers. Computed again means: an
execution was started for a structure whose label lay in the database or in the spool when an orchestrator was dead.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
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

from alflow.reference import sweep_spool
from tests.campaign.toys import XYZ, rows, rows_so_far
from tests.postgresql import SERVER, address, forget

from .processes import ALFLOW, each, is_label_worker, kill_tree, marked, start, wait_until_nothing_is_left, words_of

Label = tuple[float, bytes]
"""Energy and forces of a label, as they are stored."""

CONFIG: Final = {
    "name": "water",
    "structures": "water.xyz",
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
        counts: (seconds since the start, labels in the database), now and then.
        kills: How many processes of each kind were killed.
        starts: How often the command was started.
        known: What each label that was ever seen held.
        paid: For each orchestrator that was killed: the last execution by then, and structures whose label was safe.
        broken: Promises that were not kept, a sentence each.
    """

    counts: list[tuple[float, int]] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    known: dict[str, Label] = field(default_factory=dict)
    paid: list[tuple[int, set[str]]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def reached(self, number: int) -> float | None:
        """When so many labels were there, s; None if they never were."""
        return next((second for second, count in self.counts if count >= number), None)

    def look(self, database: str) -> None:
        """Compare what is in the database with all that was ever seen there."""
        now = labelled(database)
        for structure, label in self.known.items():
            if structure not in now:
                self.broken.append(f"the label of structure {structure} was there and is lost")
            elif now[structure] != label:
                self.broken.append(f"the label of structure {structure} has other numbers than before")
        self.known = now


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--every", type=float, default=30.0, help="seconds between two kills, in the mean")
    parser.add_argument("--calm-minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    parser.add_argument("--folder", type=Path, help="an empty or new folder that is kept; a temporary one without")
    parser.add_argument("--database", help="postgresql:// server on which two databases are made; SQLite files without")
    given = parser.parse_args()
    if given.database is not None:
        os.environ[SERVER] = given.database
    if given.folder is not None and given.folder.exists() and any(given.folder.iterdir()):
        parser.error(f"{given.folder} is not empty; what an older soak left there would be taken for this one's")
    print(f"--seed {given.seed} repeats these choices, though not the moments", flush=True)
    with tempfile.TemporaryDirectory(prefix="alflow-soak-") as temporary:
        folder = given.folder or Path(temporary)
        try:
            calm = run(folder / "calm", given.calm_minutes, None, given.every)
            rough = run(folder / "rough", given.minutes, random.Random(given.seed), given.every)
            return report(folder / "rough", calm, rough)
        finally:
            for part in ("calm", "rough") if given.folder is None else ():
                forget(folder / part / "water.db")


def run(folder: Path, minutes: float, chance: random.Random | None, every: float) -> Course:
    """Run the campaign for some minutes, disturbed or not, and stop it."""
    folder.mkdir(parents=True, exist_ok=True)
    forget(folder / "water.db")  # what a server may have of an older soak in a folder of that name
    (folder / "water.xyz").write_text(XYZ)
    database, course, began = address(folder / "water.db"), Course(), time.monotonic()
    (folder / "water.yaml").write_text(yaml.safe_dump(CONFIG | {"database": database}))
    process = begin(folder, course)
    next_kill = began + 20  # after the first label, or it would be a test of starting alone
    while time.monotonic() < began + 60 * minutes:
        time.sleep(0.5)
        if process.poll() is not None:
            if process.returncode != -signal.SIGKILL:
                said = (folder / "output.txt").read_text()[-3000:]
                course.broken.append(f"the campaign ended by itself, exit status {process.returncode}:\n{said}")
                break
            process = begin(folder, course)
        course.look(database)
        course.counts.append((time.monotonic() - began, len(course.known)))
        if chance is not None and course.known and time.monotonic() > next_kill:
            kind = kill_one(folder, process, chance)
            if kind is not None:
                course.kills[kind] += 1
                print(f"{time.monotonic() - began:6.0f} s: killed {kind}", flush=True)
            if kind == "orchestrator":
                course.paid.append(safe(database, folder / "water.alflow" / "spool"))
            course.look(database)
            next_kill = time.monotonic() + every * chance.uniform(0.3, 1.7)
    stop(folder, process, course)
    course.look(database)
    print(f"{folder.name}: {len(course.known)} labels in {minutes:g} minutes", flush=True)
    return course


def begin(folder: Path, course: Course) -> subprocess.Popen[str]:
    """Start the command, the first time or again."""
    course.starts += 1
    return start(folder, "run", "water.yaml")


def kill_one(folder: Path, root: subprocess.Popen[str], chance: random.Random) -> str | None:
    """End one process with SIGKILL: first its kind is drawn, then one of that kind.

    Returns:
        What it was; None if there was nothing to kill, or it went by itself before.
    """
    try:
        family = {root.pid} | {child.pid for child in psutil.Process(root.pid).children(recursive=True)}
    except psutil.NoSuchProcess:
        return None
    kinds: dict[str, list[psutil.Process]] = {}
    for process in marked(folder):
        kinds.setdefault(kind_of(process, root, family), []).append(process)
    kinds.pop("gone", None)
    if not kinds:
        return None
    kind = chance.choice(sorted(kinds))
    victim = chance.choice(kinds[kind])
    try:
        victim.suspend()  # now it is what it is
        still = victim.status() != psutil.STATUS_ZOMBIE and kind_of(victim, root, family) == kind
        victim.kill()
    except psutil.NoSuchProcess:
        return None
    if kind == "orchestrator":
        root.wait(timeout=20)
    return kind if still else "gone"


def kind_of(process: psutil.Process, root: subprocess.Popen[str], family: set[int]) -> str:
    """What a process of the campaign is there for."""
    words = words_of(process)
    if process.pid == root.pid:
        return "orchestrator"
    if not words:
        return "gone"
    if process.pid not in family:
        return "orphan"
    if is_label_worker(process):
        return "label"
    if "alflow.reference.child" in words:
        return "guard"
    return "worker" if "spawn_main" in words else "helper"


def labelled(database: str) -> dict[str, Label]:
    """Structures that have their label, and its numbers."""
    found = rows_so_far(database, "SELECT structure_id, energy_ev, forces_ev_ang FROM labels")
    return {structure: (energy, forces) for structure, energy, forces in found}


def safe(database: str, spool: Path) -> tuple[int, set[str]]:
    """What a killed orchestrator leaves: its last execution, and structures that nobody may compute again."""
    if not labelled(database):
        return 0, set()
    waiting = {found.structure_id for found in sweep_spool(spool)}
    last = rows(database, "SELECT coalesce(max(id), 0) FROM executions")[0][0]
    return last, waiting | set(labelled(database))


def stop(folder: Path, process: subprocess.Popen[str], course: Course) -> None:
    """Ask the campaign to stop, as a user would; one that a kill has just hit is started again for that."""
    ended = process.poll()
    if ended == -signal.SIGKILL:
        process = begin(folder, course)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        asked = [str(ALFLOW), "stop", address(folder / "water.db")]
        subprocess.run(asked, cwd=folder, capture_output=True, check=False)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
    if process.poll() is None:
        course.broken.append("the campaign did not stop within two minutes of being asked")
        kill_tree(process)
    elif process.returncode != 0 and ended in (None, -signal.SIGKILL):
        course.broken.append(f"asked to stop, the campaign ended with exit status {process.returncode}")
    try:
        wait_until_nothing_is_left(folder)
    except AssertionError as error:
        course.broken.append(f"processes of an ended campaign: {error}")
        each(marked(folder), psutil.Process.kill)


def again(database: str, course: Course) -> set[str]:
    """Structures that were computed once more, though their label was safe when an orchestrator was killed."""
    started = rows(
        database,
        "SELECT e.id, j.structure_id FROM executions e JOIN label_jobs j ON j.id = e.subject"
        " WHERE e.kind = 'label' AND e.message NOT LIKE 'found%'",
    )
    repeated = {s for last, known in course.paid for number, s in started if number > last and s in known}
    done = rows(
        database,
        "SELECT j.structure_id FROM executions e JOIN label_jobs j ON j.id = e.subject WHERE e.kind = 'label'"
        " AND e.status = 'done' AND e.message NOT LIKE 'found: %' GROUP BY j.structure_id HAVING count(*) > 1",
    )
    return repeated | {structure for (structure,) in done}


def report(folder: Path, calm: Course, rough: Course) -> int:
    """Print what came of it; returns the exit status."""
    database, kills = address(folder / "water.db"), rough.kills
    runs = dict(rows(database, "SELECT status, count(*) FROM executions WHERE kind = 'label' GROUP BY status"))
    lost = dict(rows(database, "SELECT kind, count(*) FROM executions WHERE status = 'lost' GROUP BY kind"))
    crashed = rows(database, "SELECT count(*) FROM executions WHERE failure_kind = 'CRASH'")[0][0]
    spooled = rows(database, "SELECT count(*) FROM executions WHERE message LIKE 'found in the spool%'")[0][0]
    payloads = rows(database, "SELECT payload_json FROM events")
    slots = max((json.loads(payload).get("slots", 0) for (payload,) in payloads), default=0)
    twice, broken = again(database, rough), [f"calm: {sentence}" for sentence in calm.broken] + rough.broken
    if twice:
        broken.append(f"labels computed again: {sorted(twice)}")
    most = slots * kills["orchestrator"] + kills["worker"]
    if sum(lost.values()) > most:
        broken.append(f"{sum(lost.values())} executions were lost; with these kills at most {most} were in flight")
    if crashed > kills["label"] + kills["guard"]:
        broken.append(f"{crashed} labels crashed, and only {kills['label'] + kills['guard']} were killed")
    never = sorted({"orchestrator", "worker", "guard", "label", "helper"} - set(kills))
    print(f"kills: {sum(kills.values())} ({', '.join(f'{n} {kind}' for kind, n in sorted(kills.items()))})")
    print(f"never hit: {', '.join(never) or 'none'}; starts of the command: {rough.starts}")
    print(f"labels: {len(rough.known)}; computed again: {len(twice)}; found in the spool: {spooled}")
    print(f"label executions: {runs}; crashed: {crashed}; lost executions by kind: {lost}, at most {most} may be")
    common = min(calm.counts[-1][1], rough.counts[-1][1])
    calm_s, rough_s = calm.reached(common), rough.reached(common)
    if common and calm_s and rough_s:
        print(f"{common} labels: after {calm_s:.0f} s undisturbed, after {rough_s:.0f} s with kills")
    check = subprocess.run(
        [str(ALFLOW), "db", "check", database, "--deep"], capture_output=True, text=True, check=False
    )
    print(check.stdout + check.stderr)
    if check.returncode != 0:
        broken.append("alflow db check found damage")
    if not rough.known or not kills:
        broken.append("nothing was labelled or nothing was killed: this soak shows nothing")
    print("\n".join(f"BROKEN: {sentence}" for sentence in broken) or "nothing was broken")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
