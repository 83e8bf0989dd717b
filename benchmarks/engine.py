"""Every potential is timed in a process of its own, which prints one line of JSON: the engine.

alflow and each peer have a script ``engine_*.py``. The benchmarks start them one after the other, so that no package's
threads, memory or floating-point settings touch another's, and a peer may live in another environment: the interpreter
named by ALFLOW_PEERS_PYTHON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from systems import MissingDataError, System, system
from timing import SETTINGS, apply_settings, forget_peak_memory, installed, measure_in_turns, memory_mb

__all__ = ["PEERS", "Calls", "Peer", "Skipped", "ask", "how_to_install", "peers", "serve"]

Calls = Mapping[str, Callable[[], object]]


@dataclass(frozen=True)
class Peer:
    """Another package that a user might pick instead.

    Attributes:
        key: Name of its results.
        package: Name it is installed by.
        version: The version that was measured.
        script: The engine that times it.
    """

    key: str
    package: str
    version: str
    script: str


PEERS: Final = (
    Peer("torchani4_ms", "torchani", "2.9.0", "engine_torchani.py"),
    Peer("apax4_ms", "apax", "0.14.0", "engine_apax.py"),
    Peer("mace4_ms", "mace-torch", "0.3.16", "engine_mace.py"),
)


class Skipped(Exception):
    """A case that an engine leaves out, with the reason."""


def serve(evaluate: Callable[[System], Calls], train: Callable[[], Mapping[str, float]]) -> None:
    """Answer one question from the command line: time steps of some cases, or an epoch of training.

    Args:
        evaluate: Makes the calls that are timed for a system, by name.
        train: Measures training; keys end in their unit.
    """
    apply_settings()
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", nargs="+", default=[])
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--train", action="store_true")
    given = parser.parse_args()
    answer: dict[str, Any] = {}
    for name in given.case:
        try:
            answer[name] = _timed(evaluate, system(name), given.seconds)
        except (Skipped, MissingDataError) as reason:
            answer[name] = {"skipped": str(reason)}
    if given.train:
        try:
            answer["train"] = dict(train())
        except (Skipped, MissingDataError) as reason:
            answer["train"] = {"skipped": str(reason)}
    print(json.dumps(answer))


def _timed(evaluate: Callable[[System], Calls], which: System, seconds: float) -> dict[str, Any]:
    calls = evaluate(which)
    before, _ = memory_mb()
    forget_peak_memory()
    timings = {name: asdict(timing) for name, timing in measure_in_turns(calls, seconds).items()}
    return {**timings, "atoms": which.n_atoms, "memory_before_mb": before, "peak_memory_mb": memory_mb()[1]}


def ask(script: str, arguments: Sequence[str], python: str = sys.executable) -> dict[str, Any]:
    """Run an engine and read its answer.

    Raises:
        SystemExit: The engine failed; what it said is shown.
    """
    line = [python, str(Path(__file__).with_name(script)), *arguments]
    done = subprocess.run(line, capture_output=True, text=True, check=False, env={**os.environ, **SETTINGS})
    if done.returncode != 0:
        sys.exit(f"{script} {' '.join(arguments)} failed:\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def peers() -> tuple[str, dict[str, str]]:
    """The interpreter that has the peers, and the versions of all measured packages it finds."""
    python = os.environ.get("ALFLOW_PEERS_PYTHON", sys.executable)
    names = [peer.package for peer in PEERS] + ["torch", "jax", "ase", "numpy"]
    if python == sys.executable:
        return python, installed(names)
    code = f"import json, timing; print(json.dumps(timing.installed({names!r})))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    found: dict[str, str] = json.loads(done.stdout)
    return python, found


def how_to_install(peer: Peer) -> str:
    """One line that says what is missing."""
    return (
        f"Skipped: {peer.package} is not installed. To compare, pip install {peer.package}=={peer.version} here, or in "
        "another environment whose python ALFLOW_PEERS_PYTHON names."
    )
