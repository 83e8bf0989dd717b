"""What Linux counts of processes it has killed for memory, in both versions of control groups."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from alflow.reference.oom import oom_kills

V1 = "9:name=systemd:/\n4:cpu,memory:/slurm/uid_1/job_7/step_0/task_0\n0::/\n"
V2 = "0::/system.slice/slurmstepd.scope/job_7/step_0/user/task_0\n"
CONTROL = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"
EVENTS = "low 0\nhigh 0\nmax 12\noom 4\noom_kill 2\noom_group_kill 0\n"


def counted(folder: Path, listing: str | None, files: dict[str, str]) -> int | None:
    for name, text in files.items():
        path = folder / "mounts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")
    if listing is not None:
        (folder / "cgroup").write_text(listing, encoding="ascii")
    return oom_kills(folder / "cgroup", folder / "mounts")


@pytest.mark.parametrize(
    ("listing", "files", "expected"),
    [
        (V1, {"memory/slurm/uid_1/job_7/step_0/task_0/memory.oom_control": CONTROL}, 3),
        (V2, {"system.slice/slurmstepd.scope/job_7/step_0/user/task_0/memory.events": EVENTS}, 2),
        # A container that is shown its own group only, by the name it has outside, or as the root.
        (V1, {"memory/memory.oom_control": CONTROL}, 3),
        (V2, {"memory.events": EVENTS}, 2),
        ("0::/\n", {"memory.events": EVENTS}, 2),
        # Both versions side by side: memory is where the first one lists it, and only there.
        (V1, {"memory/memory.oom_control": CONTROL, "memory.events": EVENTS}, 3),
    ],
)
def test_the_number_is_that_of_our_own_group(
    listing: str, files: dict[str, str], expected: int, tmp_path: Path
) -> None:
    assert counted(tmp_path, listing, files) == expected


@pytest.mark.parametrize(
    ("listing", "files"),
    [
        (None, {"memory.events": EVENTS}),
        ("", {"memory.events": EVENTS}),
        ("no such line\n", {"memory.events": EVENTS}),
        (V2, {}),
        (V1, {"memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\n"}),  # before Linux 4.13
        (V2, {"memory.events": "oom_kill many\n"}),
        ("0::/../..\n", {}),
    ],
)
def test_where_nobody_counts_there_is_no_number(listing: str | None, files: dict[str, str], tmp_path: Path) -> None:
    assert counted(tmp_path, listing, files) is None


@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
def test_whatever_this_machine_has_is_a_number_or_none() -> None:
    found = oom_kills()
    assert found is None or found >= 0
