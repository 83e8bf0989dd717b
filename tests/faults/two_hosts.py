"""Two machines in one: network namespaces joined by a virtual cable, which can be pulled.

Each has an address, a host name and mounts of its own, so what is hidden from one the other still has. Nothing of it
is seen from outside, and all of it is gone with its processes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Host", "two_hosts", "why_not"]

_ENTER: Final = ("--user", "--net", "--mount", "--uts", "--preserve-credentials", "--")
_LASTS: Final = ("sleep", "900")


@dataclass(frozen=True)
class Host:
    """One of the two.

    Attributes:
        name: Its host name.
        address: Its address on the cable.
        anchor: The process that keeps its namespaces.
    """

    name: str
    address: str
    anchor: subprocess.Popen[bytes]

    def command(self, *words: str) -> list[str]:
        """What runs a command there."""
        return ["nsenter", "--target", str(self.anchor.pid), *_ENTER, *words]

    def do(self, *words: str) -> None:
        """Run a command there, to its end."""
        subprocess.run(self.command(*words), check=True, capture_output=True, timeout=20)

    def hide(self, folder: Path) -> None:
        """Give the host an empty folder in place of one that the other sees."""
        self.do("mount", "-t", "tmpfs", "none", str(folder))

    def unplug(self) -> None:
        """Pull its end of the cable: packets vanish, and no connection is told."""
        self.do("ip", "link", "set", "cable", "down")

    def plug(self) -> None:
        """Put it back."""
        self.do("ip", "link", "set", "cable", "up")


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Two hosts, *west* and *east*, for as long as this lasts."""
    anchors: list[subprocess.Popen[bytes]] = []
    try:
        west = _host("west", "10.77.0.1", ["unshare", "-rnmu", *_LASTS], os.getpid(), anchors)
        beside = west.command("unshare", "-nmu", *_LASTS)
        east = _host("east", "10.77.0.2", beside, west.anchor.pid, anchors)
        west.do("ip", "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", str(east.anchor.pid))
        for host in (west, east):
            host.do("hostname", host.name)
            host.do("ip", "address", "add", f"{host.address}/24", "dev", "cable")
            host.do("ip", "link", "set", "lo", "up")
            host.plug()
        yield west, east
    finally:
        for anchor in anchors:
            anchor.kill()
            anchor.wait(timeout=20)


def why_not() -> str:
    """What this machine lacks for two hosts; empty if nothing."""
    missing = [tool for tool in ("unshare", "nsenter", "ip", "hostname") if shutil.which(tool) is None]
    if missing:
        return f"needs {', '.join(missing)}"
    try:
        with two_hosts():
            return ""
    except (OSError, subprocess.SubprocessError, AssertionError) as error:
        return f"namespaces cannot be made here: {error}"


def _host(name: str, address: str, command: Sequence[str], other: int, anchors: list[subprocess.Popen[bytes]]) -> Host:
    anchor = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    anchors.append(anchor)
    ends = time.monotonic() + 10
    while _namespace(anchor.pid, "net") == _namespace(other, "net") or _words(anchor.pid) != list(_LASTS):
        assert anchor.poll() is None, f"{' '.join(command)} ended with {anchor.returncode}"
        assert time.monotonic() < ends, f"{' '.join(command)} made no namespace"
        time.sleep(0.01)
    return Host(name, address, anchor)


def _namespace(process: int, kind: str) -> str:
    return os.readlink(f"/proc/{process}/ns/{kind}")


def _words(process: int) -> list[str]:
    return Path(f"/proc/{process}/cmdline").read_text().split("\0")[:-1]
