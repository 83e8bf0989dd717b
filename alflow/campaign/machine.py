"""What a machine is, as far as numbers may hang on it: processor, cores, memory, and versions of what computes."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Final

__all__ = ["machine_gib", "this_machine"]

COMPUTING: Final = ("torch", "numba", "numpy")


def this_machine() -> dict[str, str]:
    """Describe this machine; the same at every call, so that equal runs on it write equal journals.

    Returns:
        ``processor``, ``cores``, ``memory_gib`` (of the machine, not of a container), ``python``, and the version of
        each package that committees are computed with.

    Examples:
        >>> sorted(this_machine())
        ['cores', 'memory_gib', 'numba', 'numpy', 'processor', 'python', 'torch']
    """
    machine = {"processor": _processor(), "cores": str(os.cpu_count() or 0), "memory_gib": f"{machine_gib():.1f}"}
    return machine | {"python": platform.python_version()} | {name: metadata.version(name) for name in COMPUTING}


def machine_gib() -> float:
    """Memory of this machine, not of a container, GiB."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30


def _processor(listed: Path = Path("/proc/cpuinfo")) -> str:
    """Model of the processor, or only its architecture where the system does not tell more."""
    lines = listed.read_text(encoding="utf-8").splitlines() if listed.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
