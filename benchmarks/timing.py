"""One way to time: the same process settings, the same measure and the same record for alflow and for every peer.

Only the standard library is imported here, so that a peer's environment needs nothing of alflow's.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

__all__ = [
    "SETTINGS",
    "Timing",
    "apply_settings",
    "forget_peak_memory",
    "installed",
    "machine",
    "measure",
    "measure_in_turns",
    "memory_mb",
    "write",
]

SETTINGS: Final = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    "JAX_PLATFORMS": "cpu",
    "CUDA_VISIBLE_DEVICES": "",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TORCHANI_NO_WARN_EXTENSIONS": "1",
    # The C library keeps freed memory instead of handing it back: eager tensor code runs up to 2.2 times as fast.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "268435456",
}
"""What every timed process runs with."""

PACKAGES: Final = ("alflow", "torch", "numpy", "numba", "vesin", "torchani", "apax", "jax", "mace-torch", "ase")
"""Packages whose versions a record names, where they are installed."""


def apply_settings() -> None:
    """Start this script again with the settings if it runs without them, and stay on one core.

    Threads and the C library read their settings once, at the start of a process.
    """
    if any(os.environ.get(name) != value for name, value in SETTINGS.items()):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **SETTINGS})
    cores = os.sched_getaffinity(0)
    if len(cores) > 1:
        os.sched_setaffinity(0, {max(cores)})


@dataclass(frozen=True)
class Timing:
    """How long calls took, wall time in ms.

    Attributes:
        minimum_ms: Shortest call; what the machine can do, least disturbed by others on it.
        median_ms: Typical call.
        calls: Number of timed calls.
        cpu_share: Processor time over wall time of all of them; well below 1 means that somebody else used the core.
    """

    minimum_ms: float
    median_ms: float
    calls: int
    cpu_share: float

    @classmethod
    def of(cls, seconds: Sequence[float], cpu_s: float) -> Timing:
        """Summarize the wall times of calls, s, and the processor time they took together."""
        return cls(1e3 * min(seconds), 1e3 * statistics.median(seconds), len(seconds), cpu_s / sum(seconds))


def measure(call: Callable[[], object], budget_s: float, least: int = 3) -> Timing:
    """Time a call: warm up, then repeat until the time is spent, but at least a few times."""
    return measure_in_turns({"call": call}, budget_s, least)["call"]


def measure_in_turns(
    calls: Mapping[str, Callable[[], object]], budget_s: float, least: int = 3, rounds: int = 4
) -> dict[str, Timing]:
    """Time several calls in turns, so that their ratios do not depend on what else the machine did meanwhile.

    Args:
        calls: What to time, by name.
        budget_s: Time for each, s; the warm-up of three calls (one, if it is slow) is not counted.
        least: Smallest number of timed calls of each.
        rounds: Number of turns.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    cpu = dict.fromkeys(calls, 0.0)
    for call in calls.values():
        began = time.perf_counter()
        call()
        if time.perf_counter() - began < budget_s:
            call()
            call()
    for turn in range(rounds):
        for name, call in calls.items():
            wanted = -(-least * (turn + 1) // rounds)
            ends = time.perf_counter() + budget_s / rounds
            used = time.process_time()
            while len(seconds[name]) < wanted or time.perf_counter() < ends:
                began = time.perf_counter()
                call()
                seconds[name].append(time.perf_counter() - began)
            cpu[name] += time.process_time() - used
    return {name: Timing.of(times, cpu[name]) for name, times in seconds.items()}


def forget_peak_memory() -> None:
    """Start anew to record the largest resident memory of this process; where the system cannot, do nothing."""
    switch = Path("/proc/self/clear_refs")
    if os.access(switch, os.W_OK):
        switch.write_text("5", encoding="ascii")


def memory_mb() -> tuple[float, float]:
    """Resident memory of this process now and at its peak, MB."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.is_file() else []
    kilobytes = {line.partition(":")[0]: line.split()[1] for line in lines if line.startswith("Vm")}
    if "VmRSS" not in kilobytes:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
        return peak, peak
    return float(kilobytes["VmRSS"]) * 1024 / 1e6, float(kilobytes["VmHWM"]) * 1024 / 1e6


def machine() -> dict[str, Any]:
    """Describe where and with what a measurement was made."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "cores_used": len(os.sched_getaffinity(0)),
        "load_average_at_start": os.getloadavg()[0],
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": installed(PACKAGES),
        "settings": SETTINGS,
    }


def installed(packages: Sequence[str]) -> dict[str, str]:
    """Versions of those packages that this interpreter finds."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def write(record: Mapping[str, Any], file: Path | None) -> None:
    """Write a record as JSON, if a file is named."""
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        print(f"Written: {file}")
