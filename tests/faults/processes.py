"""The processes of a campaign, as the machine sees them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

ALFLOW = Path(sys.executable).with_name("alflow")
MARK = "ALFLOW_TEST_MARK"


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start the command line in a folder, its output in ``output.txt``; every process it starts carries a mark."""
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    environment = os.environ | {MARK: str(folder), "TMPDIR": str(scratch), "OMP_NUM_THREADS": "1"}
    with (folder / "output.txt").open("a") as output:
        return subprocess.Popen(
            [str(ALFLOW), *arguments], cwd=folder, env=environment, stdout=output, stderr=output, text=True
        )


def marked(folder: Path) -> list[psutil.Process]:
    """Every living process that descends from one started in a folder, whoever its parent is now."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == str(folder):
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_until_nothing_is_left(folder: Path) -> None:
    """Wait for the end of what notices by itself that its parent is gone, as the guard of labels does."""
    deadline = time.monotonic() + 20
    while left := marked(folder):
        assert time.monotonic() < deadline, f"still there 20 s after the kill: {left}"
        time.sleep(0.1)


def kill_tree(root: subprocess.Popen[str]) -> int:
    """End a process and all its descendants with SIGKILL, none of them noticing that the others go.

    Returns:
        How many label processes were among them.
    """
    tree = [psutil.Process(root.pid)]
    each(tree, psutil.Process.suspend)
    while new := [p for p in tree[0].children(recursive=True) if p not in tree]:
        each(new, psutil.Process.suspend)  # what is stopped starts nothing; look again for what was faster
        tree.extend(new)
    labelling = sum(is_label_worker(p) for p in tree)
    each(tree, psutil.Process.kill)
    root.wait(timeout=20)
    psutil.wait_procs(tree[1:], timeout=20)
    return labelling


def each(processes: list[psutil.Process], act: Callable[[psutil.Process], None]) -> None:
    """Do something to all of them that are still there."""
    for process in processes:
        try:
            act(process)
        except psutil.NoSuchProcess:
            continue


def words_of(process: psutil.Process | None) -> str:
    """Command line of a process; empty if it is gone."""
    try:
        return "" if process is None else " ".join(process.cmdline())
    except psutil.Error:
        return ""


def is_label_worker(process: psutil.Process) -> bool:
    """Whether this is the process that computes a label, which is a child of its guard."""
    try:
        parent = process.parent()
    except psutil.Error:
        return False
    return all("alflow.reference.child" in words_of(p) for p in (process, parent))


def is_first_attempt(process: psutil.Process) -> bool:
    """Whether the process of a label belongs to an attempt that follows no other; its folder is named by its task."""
    try:
        return "-a1-l0-" in process.cwd()
    except psutil.Error:
        return False


def is_dask_worker(process: psutil.Process) -> bool:
    """Whether this is a worker of the campaign's own cluster."""
    return "spawn_main" in words_of(process)
