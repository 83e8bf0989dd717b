"""How much one orchestrator can take: a whole campaign whose tasks cost nothing but time.

Usage: python benchmarks/scale.py [--labels N] [--slots N] [--walkers N] [--database URL] [--json FILE] [--profile]

Everything is real but the work: ``decide``, the journal, the database, the queue, the walkers. Labels come from the
synthetic reference (0.2 s in the median, one in fifty fails), segments of dynamics are random displacements of the
starting structure (0.05 to 0.15 s), most of which are flagged, a training takes 1 s and gives a file of random bytes.
What these stand-ins cost is taken out of the processor time given; the rest is the orchestrator's.

Printed: labels per second, processor time per label and per event, how late the loop was to hear of a task that had
ended (its lag), the size of the database, memory at a tenth and at the end, and how long it takes to replay the whole
journal from the database, and to read it only.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import heapq
import pstats
import secrets
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from timing import machine, memory_mb, write

from alflow import CampaignConfig, Store
from alflow.campaign.bookmark import Bookmark
from alflow.campaign.events import Event, event_from_json
from alflow.campaign.executors import Completion
from alflow.campaign.launch import run_campaign
from alflow.campaign.state import State
from alflow.campaign.tasks import (
    Answer,
    ExploreTask,
    LabelTask,
    ScoreTask,
    Task,
    TrainingResult,
    TrainTask,
    WeightFile,
)
from alflow.domain import Structure
from alflow.domain.ase import read_structures
from alflow.domain.identity import digest_of_bytes
from alflow.exploration import FlaggedFrame, SegmentOutcome, Walker, WalkerOutcome
from alflow.exploration.outcome import Reason, WalkerStatus
from alflow.reference import LabelResult, MorseMolecule, Synthetic
from alflow.reports.feed import Place

STRUCTURE: Final = Path(__file__).parents[1] / "workflows" / "ethanol.xyz"
SEGMENT_S: Final = 0.1
TRAINING_S: Final = 1.0
FLAGGED: Final = 0.9
"""Share of walkers that end a segment on a flagged frame."""


class SimulatedExecutor:
    """Slots that hold a task until its time is over; then the answer is made up, here and at once.

    Args:
        slots: Tasks at once.
        folder: Where weight files go.

    Attributes:
        lags: How late the loop was to ask for each task that had ended, s.
        own_cpu_s: Processor time of making the answers up, s.
    """

    dashboard = None
    drained: tuple[str, ...] = ()
    board: Place | None = None

    def __init__(self, slots: int, folder: Path) -> None:
        self.slots = slots
        self.pools = {"shared": slots}
        self.lags: list[float] = []
        self.own_cpu_s = 0.0
        self._folder = folder
        self._rng = np.random.default_rng(0)
        self._ends: list[tuple[float, int, Task]] = []
        self._number = 0

    def submit(self, task: Task) -> None:
        """Begin a task."""
        began = time.process_time()
        self._number += 1
        heapq.heappush(self._ends, (time.monotonic() + self._takes_s(task), self._number, task))
        self.own_cpu_s += time.process_time() - began

    def wait(self, timeout_s: float) -> list[Completion]:
        """Every task whose time is over, once there is one."""
        ahead = self._ends[0][0] - time.monotonic() if self._ends else timeout_s
        if ahead > 0:
            time.sleep(min(ahead, timeout_s))
        began, now = time.process_time(), time.monotonic()
        completions = []
        while self._ends and self._ends[0][0] <= now:
            end, _, task = heapq.heappop(self._ends)
            self.lags.append(now - end)
            completions.append(Completion(task.name, self._answer(task), worker="simulated"))
        self.own_cpu_s += time.process_time() - began
        return completions

    def close(self) -> None:
        """There is nothing to end."""

    def _takes_s(self, task: Task) -> float:
        if isinstance(task, LabelTask):
            assert isinstance(task.request.reference, Synthetic)
            return task.request.reference.takes_s(task.request.structure)
        return TRAINING_S if isinstance(task, TrainTask) else SEGMENT_S * self._rng.uniform(0.5, 1.5)

    def _answer(self, task: Task) -> Answer:
        value: Any
        if isinstance(task, LabelTask):
            reference = task.request.reference
            assert isinstance(reference, Synthetic)
            value = LabelResult(reference.at_once(task.request.structure), {"wall_s": self._takes_s(task)})
        elif isinstance(task, ExploreTask):
            walkers = tuple(self._moved(walker, task) for walker in task.walkers)
            audit = self._frame(task.walkers[0]) if task.settings.audit else None
            value = SegmentOutcome(walkers, audit, 1, task.settings.n_steps * len(walkers))
        elif isinstance(task, TrainTask):
            data = secrets.token_bytes(100_000)
            weights = WeightFile(self._folder / f"{digest_of_bytes(data)}.safetensors", digest_of_bytes(data))
            weights.path.write_bytes(data)
            value = TrainingResult(weights, True, "", {"audit_force_mae_ev_ang": 0.05, "n_audit": 10.0})
        else:
            assert isinstance(task, ScoreTask)
            value = dict.fromkeys(task.frame_ids, 1.0)
        now = time.time()
        return Answer(value, "simulated", 0, now, now, 0.0)

    def _displaced(self, structure: Structure) -> Structure:
        moved = structure.positions + 0.05 * self._rng.standard_normal(structure.positions.shape)
        return Structure.of(structure.numbers, moved)

    def _frame(self, walker: Walker) -> FlaggedFrame:
        structure = self._displaced(walker.structure)
        forces = self._rng.standard_normal(structure.positions.shape)
        return FlaggedFrame(walker.walker, walker.step + 1, structure, 1.0, 0.5, 0.0, forces)

    def _moved(self, walker: Walker, task: ExploreTask) -> WalkerOutcome:
        steps = task.settings.n_steps
        after = replace(walker, step=walker.step + steps)
        if self._rng.random() > FLAGGED:
            return WalkerOutcome(after, WalkerStatus.RUNNING, None, "", None, None, steps, 0.1, 300.0)
        frame = replace(self._frame(walker), step=after.step)
        message = "its disagreement of 1.000 eV/Å is above the threshold"
        return WalkerOutcome(after, WalkerStatus.PAUSED, Reason.DISAGREEMENT, message, frame, None, steps, 1.0, 300.0)


class Gauge:
    """Watches memory while the campaign runs."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self.at_a_tenth_mb = 0.0
        self.began = self.ended = time.monotonic()

    def seen(self, state: State, event: Event | None) -> None:
        """Look at a tenth of the budget, and take the time of the last label."""
        if event is None:
            return
        if event.kind == "label_done":
            self.ended = time.monotonic()
        if not self.at_a_tenth_mb and state.n_done >= self._budget // 10:
            self.at_a_tenth_mb = memory_mb()[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=int, default=10_000)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--walkers", type=int, default=512)
    parser.add_argument("--database", help="PostgreSQL URL of an empty database; SQLite in a temporary folder without")
    parser.add_argument("--profile", action="store_true", help="show where the time goes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        profile = cProfile.Profile() if given.profile else None
        found = measure(given.labels, given.slots, given.walkers, given.database, Path(folder), profile)
        for name, value in found.items():
            print(f"{name:32} {value:12.4g}")
        if profile is not None:
            pstats.Stats(profile).sort_stats("cumtime").print_stats("alflow", 60)
        write({"benchmark": "scale", "machine": machine(), "given": vars(given) | {"json": None}} | found, given.json)


def measure(
    labels: int, slots: int, walkers: int, database: str | None, folder: Path, profile: cProfile.Profile | None
) -> dict[str, float]:
    """Run the campaign, then read its journal back."""
    home = read_structures(STRUCTURE)[0]
    target = database or str(folder / "scale.db")
    config = CampaignConfig(
        structures=str(STRUCTURE),
        name="scale",
        database=target,
        walkers=walkers,
        label_budget=labels,
        initial_labels=slots,
        quiet_ps=1e9,
        target_force_error_ev_ang=1e-4,
        threshold_ev_ang=0.5,
    )
    reference = Synthetic(MorseMolecule.around(home), duration_s=0.2, spread=0.3, failure_rate=0.02)
    executor, gauge = SimulatedExecutor(slots, folder), Gauge(labels)
    began, cpu = time.monotonic(), time.process_time()
    if profile is not None:
        profile.enable()
    ended = run_campaign(config, reference=reference, observers=[gauge], executor=executor)
    if profile is not None:
        profile.disable()
    cpu_s = time.process_time() - cpu - executor.own_cpu_s
    with Store.open(target, read_only=True) as store:
        campaign = store.campaign("scale")
        size = sum(file.stat().st_size for file in folder.glob("scale.db*"))
        gc.collect()
        gc.freeze()  # as the runner does before it reads the journal
        again = time.perf_counter()
        state = Bookmark(store, campaign.id, folder / "without a bookmark").replay()
        replay_s, again = time.perf_counter() - again, time.perf_counter()
        n_events = sum(1 for _ in map(event_from_json, store.journal_texts(campaign.id)))
        read_s = time.perf_counter() - again
    assert state == ended.state
    return {
        "labels": state.n_done,
        "generations": state.generation,
        "labels_per_s": state.n_done / (gauge.ended - began),
        "cpu_ms_per_label": 1e3 * cpu_s / state.n_done,
        "cpu_ms_per_event": 1e3 * cpu_s / n_events,
        "lag_p50_ms": 1e3 * float(np.quantile(executor.lags, 0.5)),
        "lag_p99_ms": 1e3 * float(np.quantile(executor.lags, 0.99)),
        "lag_max_ms": 1e3 * max(executor.lags),
        "database_kb_per_label": size / 1e3 / state.n_done,
        "memory_at_a_tenth_mb": gauge.at_a_tenth_mb,
        "memory_at_the_end_mb": memory_mb()[0],
        "events": n_events,
        "journal_read_s_per_1e5_events": read_s / n_events * 1e5,
        "journal_replayed_s_per_1e5_events": replay_s / n_events * 1e5,
    }


if __name__ == "__main__":
    main()
