"""Processes that Linux has killed for memory: what it counts for the control group this process is in.

SLURM, containers and systemd limit memory by control groups. Beyond it the kernel ends a process with SIGKILL, as
anybody could, and says so nowhere but in a counter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

__all__ = ["oom_kills"]


def oom_kills(listing: Path = Path("/proc/self/cgroup"), mounts: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Number of processes of our control group that were killed because memory was used up.

    It is counted before the process gets the signal, so it has grown by the time that anyone sees it dead.

    Args:
        listing: Which groups this process is in.
        mounts: Where control groups are mounted.

    Returns:
        The number; None where nobody counts, as on other systems than Linux, or before Linux 4.13.
    """
    for counter in _counters(_read(listing), mounts):
        found = re.search(r"^oom_kill (\d+)$", _read(counter), re.MULTILINE)
        if found is not None:
            return int(found[1])
    return None


def _counters(listing: str, mounts: Path) -> Iterator[Path]:
    """Files in which the number may be: of version 1 if memory is in its hands, else of version 2."""
    groups = {controllers: path for _, controllers, path in re.findall(r"^(\d+):([^:]*):/(.*)$", listing, re.MULTILINE)}
    for controllers, path in groups.items():
        if "memory" in controllers.split(","):
            yield _folder(mounts / "memory", path) / "memory.oom_control"
    if "" in groups:
        yield _folder(mounts, groups[""]) / "memory.events"


def _folder(mount: Path, path: str) -> Path:
    """The group's folder; the mount where a container is shown its own group only, by the name it has outside."""
    return mount / path if (mount / path).is_dir() else mount


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
