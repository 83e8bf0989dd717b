"""What a worker says of itself. Sent by value: it must run where alflow is not installed, or is another version."""

from __future__ import annotations

import platform
import socket
from importlib import import_module, metadata

__all__ = ["PACKAGES", "introduce", "mismatch"]

PACKAGES = ("alflow", "dask", "distributed", "pyscf", "torch")


def introduce(packages: tuple[str, ...]) -> dict[str, str]:
    """Name of this machine, and versions of Python and of some packages; a package that cannot be had says why."""
    told = {"host": socket.gethostname(), "python": ".".join(platform.python_version_tuple()[:2])}
    for name in packages:
        try:
            told[name] = metadata.version(name).partition("+")[0]
            import_module(name)
        except Exception as error:
            told[name] = f"not importable ({type(error).__name__}: {error})"
    return told


def mismatch(own: dict[str, str], told: dict[str, str]) -> str:
    """What a worker has that differs from ours, as one clause; empty if nothing does.

    Examples:
        >>> mismatch({"host": "a", "python": "3.11", "torch": "2.9"}, {"host": "b", "python": "3.11", "torch": "2.8"})
        'torch 2.8 instead of 2.9'
    """
    return ", ".join(
        f"{name} {told.get(name, 'unknown')} instead of {version}"
        for name, version in own.items()
        if name != "host" and told.get(name) != version
    )
