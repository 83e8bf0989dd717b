"""Stands in for SLURM where there is none: ``sbatch``, ``squeue`` and ``scancel`` that run scripts as processes.

It runs the scripts as they are, at once, and knows only what alflow asks of it. ``tests/campaign/test_slurm.py`` uses
the real programs where they are. It fails when it is told to; see :func:`fail`. It has one node; jobs that exclude it
wait for ever.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

PROGRAM = '#!/bin/sh\nexec "{python}" "{here}" {name} "{jobs}" "$@"\n'
NODE = "here"
REFUSAL = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"


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


def fail(folder: Path, *how: str, program: str = "sbatch") -> None:
    """Let the next calls of ``sbatch`` or ``squeue`` go wrong.

    Args:
        folder: The folder of :func:`install`.
        how: For one call after the other: ``refuse``; and of ``sbatch`` also ``hang``, ``lose``: to hang with the jobs
            started, ``deny``: to refuse with the jobs started, or ``node``: to know no node that is excluded.
        program: Which of the two.
    """
    (folder / f"{program}.fates").write_text("\n".join(how))


def fate(jobs: Path, program: str) -> str:
    """What is to happen to this call."""
    file = jobs.parent / f"{program}.fates"
    first, _, rest = file.read_text().partition("\n") if file.exists() else ("", "", "")
    file.write_text(rest)
    return first


def sbatch(jobs: Path, arguments: list[str]) -> None:
    """Start every element of an array as a process group, recorded by its number."""
    script = Path(arguments[-1])
    how = fate(jobs, "sbatch")
    if how == "refuse":
        sys.exit(REFUSAL)
    if how == "hang":
        time.sleep(60)
    excluded = {node for node in option(arguments, "exclude").split(",") if node}
    with (jobs.parent / "excluded").open("a") as told:
        told.write(f"{script.stem} {' '.join(sorted(excluded))}\n")
    if how == "node" and excluded:
        sys.exit("sbatch: error: Batch job submission failed: Invalid node name specified")
    command = ["sleep", "1000"] if NODE in excluded else ["bash", str(script)]
    name = option(arguments, "job-name")
    (count,) = [int(word.rpartition("-")[2]) + 1 for word in arguments if word.startswith("--array=")]
    number = 1 + max((int(path.name.partition("_")[0]) for path in jobs.iterdir()), default=0)
    (log,) = re.findall(r"^#SBATCH --output='?([^'\n]+)'?$", script.read_text(), re.MULTILINE)
    for element in range(count):
        with Path(log.replace("%A", str(number)).replace("%a", str(element))).open("w") as output:
            told_job = {"SLURM_ARRAY_JOB_ID": str(number), "SLURM_ARRAY_TASK_ID": str(element), "SLURMD_NODENAME": NODE}
            process = subprocess.Popen(
                command, stdout=output, stderr=output, stdin=subprocess.DEVNULL,
                env=os.environ | told_job, start_new_session=True,
            )  # fmt: skip
        (jobs / f"{number}_{element}").write_text(f"{process.pid} {name}")
    if how == "lose":
        time.sleep(60)
    if how == "deny":
        sys.exit(REFUSAL)
    print(number)


def option(arguments: list[str], name: str) -> str:
    """Value of an option; empty if it was not given."""
    return "".join(word.partition("=")[2] for word in arguments if word.startswith(f"--{name}="))


def squeue(jobs: Path, arguments: list[str]) -> None:
    """Print the number and the name of every array element that lives."""
    assert arguments == ["--me", "--noheader", "--array", "--format=%i %j"]
    if fate(jobs, "squeue"):
        sys.exit("slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
    for path in sorted(jobs.iterdir()):
        pid, name = path.read_text().split()
        if lives(int(pid)):
            print(path.name, name)


def scancel(jobs: Path, arguments: list[str]) -> None:
    """End jobs by their numbers."""
    for path in jobs.iterdir():
        pid = int(path.read_text().split()[0])
        if path.name.partition("_")[0] in arguments and lives(pid):
            os.killpg(pid, signal.SIGKILL)


def lives(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


if __name__ == "__main__":
    {"sbatch": sbatch, "squeue": squeue, "scancel": scancel}[sys.argv[1]](Path(sys.argv[2]), sys.argv[3:])
