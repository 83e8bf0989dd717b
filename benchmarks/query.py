"""How fast a data set of a million labelled frames answers and streams, from SQLite.

``python benchmarks/query.py`` fills a temporary SQLite file with frames of ten atoms, each with its structure, its job,
its execution, its label and the event that completed it, as campaigns write them (a few GB for a million), and asks:

- how long the example query takes to its first page of 20 rows, as ``alflow query`` prints it,
- how long other questions take: one whose answer is rare, one that has no answer, and counting all,
- how many frames a second stream out of it, as labels (structure, energy, forces), structures and arrays, and what
  memory that takes.

The rows are inserted with Python's sqlite3 and without syncing: the file is made to be read.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sqlite3
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from timing import machine, write

from alflow.domain import Level, Structure
from alflow.domain.identity import content_id
from alflow.store import Selection, Store

QUERY = "formula = C3H6O and max_force_ev_ang < 20 and disagreement > 0.3 and generation >= 2"
"""The example of docs/query.md for a molecule of ten atoms."""

RARE = "formula = C3H6O and disagreement > 4"
NEVER = "max_force_ev_ang > 1e6 and disagreement > 0.3"
FORMULAS = ("CCCOHHHHHH", "CCNHHHHHHH")
PER_PIECE = 20_000
LEVEL = Level("pyscf", {"functional": "pbe", "basis": "def2-svp"})
GENERATIONS = 20
DAY = "2026-11-27 00:00:00.000000"


def blobs(arrays: np.ndarray) -> list[bytes]:
    """Encode many arrays (row, atom, 3) as :mod:`alflow.store.arrays` does."""
    header = struct.pack("<2scB3I", b"AF", b"f", 2, arrays.shape[1], 3, 0)
    data = np.ascontiguousarray(arrays, dtype="<f8").tobytes()
    size = arrays.shape[1] * 24
    return [header + data[start : start + size] for start in range(0, len(data), size)]


def fill(path: Path, n_frames: int) -> None:
    """Make a store with one campaign of so many labelled frames."""
    with Store.open(path, create=True) as store:
        store.create_campaign("acetone", {}, seed=1)
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode = MEMORY", "synchronous = OFF", "cache_size = -1000000", "foreign_keys = OFF"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("BEGIN")
    settings = json.dumps(dict(LEVEL.settings), sort_keys=True, separators=(",", ":"))
    connection.execute("INSERT INTO levels VALUES (?, ?, ?)", (LEVEL.id, LEVEL.engine, settings))
    rng = np.random.default_rng(1)
    members: list[tuple[str, str, str, str]] = []
    for start in range(0, n_frames, PER_PIECE):
        rows = list(piece(rng, start, min(PER_PIECE, n_frames - start), n_frames))
        for table, width in (("structures", 9), ("frames", 17), ("label_jobs", 14), ("executions", 19), ("labels", 10)):
            marks = ", ".join("?" * width)
            connection.executemany(f"INSERT INTO {table} VALUES ({marks})", [row[table] for row in rows])
        connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", [row["events"] for row in rows])
        members += [("d" * 64, row["structures"][0], LEVEL.id, row["split"]) for row in rows]
    n_audit = sum(split == "audit" for *_, split in members)
    dataset = ("d" * 64, n_frames - n_audit, n_audit, DAY)
    connection.execute("INSERT INTO datasets VALUES (?, 1, ?, 0, ?, ?)", dataset)
    connection.executemany("INSERT INTO dataset_members VALUES (?, ?, ?, ?)", members)
    metrics = json.dumps({"audit_force_mae_ev_ang": 0.05})
    committee = (1, 1, "c" * 64, "c.safetensors", "d" * 64, None, "active", metrics, DAY)
    marks = ", ".join("?" * 10)
    connection.execute(f"INSERT INTO committees VALUES ({marks})", (1, *committee))
    connection.execute("COMMIT")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()


def piece(rng: np.random.Generator, start: int, number: int, total: int) -> Iterator[dict[str, Any]]:
    """Rows of some frames, by table, in the order of the columns."""
    shape = (number, 10, 3)
    positions, forces = rng.normal(size=shape), rng.normal(size=shape) * rng.lognormal(0.0, 0.7, (number, 1, 1))
    predicted = forces + 0.1 * rng.normal(size=shape)
    disagreement = rng.lognormal(np.log(0.2), 0.7, number)
    max_force = np.linalg.norm(forces, axis=2).max(axis=1)
    error = np.linalg.norm(predicted - forces, axis=2).max(axis=1)
    energy = -193.0 * 27.2 + rng.normal(size=number)
    kinds = [Structure.of(text, np.arange(30).reshape(10, 3)) for text in FORMULAS]
    numbers = [
        struct.pack("<2scB3I", b"AF", b"i", 1, 10, 0, 0) + kind.numbers.astype("<i8").tobytes() for kind in kinds
    ]
    cell = struct.pack("<2scB3I", b"AF", b"f", 2, 3, 3, 0) + bytes(72)
    story = {"host": "node1", "versions": {"alflow": "0.1.0", "pyscf": "2.14.0"}, "threads": 1, "wall_s": 12.5}
    provenance, told = json.dumps(story), json.dumps({"scf_cycles": 11, "gap_ev": 7.25, "gradient_norm_ha": 1e-6})
    encoded = zip(blobs(positions), blobs(forces), blobs(predicted), strict=True)
    for i, (placed, pushed, guessed) in enumerate(encoded):
        frame = start + i
        kind = frame % 2
        fields = {"numbers": kinds[kind].numbers, "positions": positions[i], "cell": np.zeros((3, 3))}
        name = content_id("structure", fields | {"pbc": np.zeros(3, bool), "charge": 0, "multiplicity": 1})
        key = hashlib.sha256(name.encode()).hexdigest()[:16]
        generation = 1 + GENERATIONS * frame // total
        wrong, purpose = float(disagreement[i]), "audit" if frame % 20 == 0 else "flagged"
        seen = (wrong, wrong / 4, 0.15, purpose, "its disagreement is above the threshold", float(energy[i]) + 0.01)
        done = {"kind": "label_done", "task": f"t{frame}", "frame_id": key, "max_error": float(error[i])}
        execution = ("label", f"j{key}", 1, 1, "w1", "node1", 4711, DAY, DAY, "done", None, "", 12.5, 12.0, 700.0, 1)
        run, seq = f"c1-e1-t{frame}", (2 * frame + 1, 0.0)
        yield {
            "structures": (name, kinds[kind].formula, 10, 0, 1, numbers[kind], placed, cell, "FFF"),
            "frames": (key, 1, name, "walker", frame % 64, frame, 0.5 * frame, generation, *seen, guessed, *seq),
            "label_jobs": (f"j{key}", 1, key, name, LEVEL.id, purpose, "done", wrong, 1, 0, None, "", 2 * frame + 2, 0),
            "executions": (frame + 1, 1, run, *execution),
            "labels": (name, LEVEL.id, float(energy[i]), pushed, None, float(max_force[i]), told, provenance, run, DAY),
            "events": (1, 2 * frame + 2, "label_done", json.dumps(done), DAY),
            "split": "audit" if purpose == "audit" else "train",
        }


def answers(path: Path) -> dict[str, float]:
    """How long questions take, s; each the first time it is asked of an open store."""
    asked: dict[str, Callable[[Store], Any]] = {
        "example_first_page_s": lambda store: list(store.select(QUERY, limit=20).rows()),
        "rare_answer_s": lambda store: list(store.select(RARE).rows()),
        "no_answer_s": lambda store: list(store.select(NEVER).rows()),
        "largest_ten_s": lambda store: list(store.select(order_by="disagreement", descending=True, limit=10).rows()),
        "example_counted_s": lambda store: store.select(QUERY).count(),
    }
    found = {}
    for name, ask in asked.items():
        with Store.open(path, read_only=True) as store:
            began = time.perf_counter()
            ask(store)
            found[name] = time.perf_counter() - began
    return found


def streams(path: Path, most: int) -> dict[str, float]:
    """How many frames a second come out, by wall time and by processor time, and what memory that takes, MB."""
    kinds: dict[str, Callable[[Selection], Iterator[Any]]] = {
        "labels": lambda it: it.labels(),
        "structures": lambda it: it.structures(),
        "arrays": lambda it: (row for page in it.arrays("energy", "positions", "forces") for row in page["energy_ev"]),
    }
    found: dict[str, float] = {}
    process = psutil.Process()
    for question, name in ((None, "all"), (QUERY, "example")):
        for kind, read in kinds.items():
            with Store.open(path, read_only=True) as store:
                before = process.memory_info().rss
                wall, cpu = time.perf_counter(), time.process_time()
                number = sum(1 for _ in read(store.select(question, limit=most)))
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
                found[f"{name}_{kind}"] = number
                found[f"{name}_{kind}_per_s"] = number / wall
                found[f"{name}_{kind}_per_cpu_s"] = number / cpu
                found[f"{name}_{kind}_memory_mb"] = (process.memory_info().rss - before) / 1e6
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--most", type=int, default=1_000_000, help="frames that are streamed at most")
    parser.add_argument("--file", type=Path, help="keep the database here, or use it if it is there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = given.file or Path(folder) / "query.db"
        if not path.exists():
            fill(path, given.frames)
        results = {"database_gb": path.stat().st_size / 1e9} | answers(path) | streams(path, given.most)
    for name, value in results.items():
        print(f"{name:32} {value:12.4g}")
    record = {"frames": given.frames, "most": given.most}
    write({"benchmark": "query", "machine": machine(), "given": record} | results, given.json)


if __name__ == "__main__":
    main()
