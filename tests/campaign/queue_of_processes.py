"""Stands in for SLURM where there is none: ``sbatch``, ``squeue`` and ``scancel`` that run scripts as processes.

It runs the scripts as they are, at once, and knows only what alflow asks of it. ``tests/campaign/test_slurm.py`` uses
the real programs where they are.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil

PROGRAM = '#!/bin/sh\nexec "{python}" "{here}" {name} "{jobs}" "$@"\n'


def install(folder: Path) -> Path:
    """Make the three programs; returns the folder they are in."""
    programs = folder / "bin"
    (folder / "jobs").mkdir(parents=True)
    programs.mkdir()
    for name in ("sbatch", "squeue", "scancel"):
        text = PROGRAM.format(python=sys.executable, here=Path(__file__), name=name, jobs=folder / "jobs")
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    return programs


def sbatch(jobs: Path, arguments: list[str]) -> None:
    """Start every element of an array as a process group, recorded by its number."""
    script = Path(arguments[-1])
    (count,) = [int(word.rpartition("-")[2]) + 1 for word in arguments if word.startswith("--array=")]
    number = 1 + max((int(path.name.partition("_")[0]) for path in jobs.iterdir()), default=0)
    (log,) = re.findall(r"^#SBATCH --output='?([^'\n]+)'?$", script.read_text(), re.MULTILINE)
    for element in range(count):
        with Path(log.replace("%A", str(number)).replace("%a", str(element))).open("w") as output:
            process = subprocess.Popen(
                ["bash", str(script)], stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True
            )
        (jobs / f"{number}_{element}").write_text(str(process.pid))
    print(number)


def squeue(jobs: Path, arguments: list[str]) -> None:
    """Print the number of every array element that lives."""
    assert arguments == ["--me", "--noheader", "--array", "--format=%F"]
    for path in sorted(jobs.iterdir()):
        if lives(int(path.read_text())):
            print(path.name.partition("_")[0])


def scancel(jobs: Path, arguments: list[str]) -> None:
    """End jobs by their numbers."""
    for path in jobs.iterdir():
        if path.name.partition("_")[0] in arguments and lives(int(path.read_text())):
            os.killpg(int(path.read_text()), signal.SIGKILL)


def lives(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


if __name__ == "__main__":
    {"sbatch": sbatch, "squeue": squeue, "scancel": scancel}[sys.argv[1]](Path(sys.argv[2]), sys.argv[3:])
