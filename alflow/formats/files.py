"""Which format a file has, and who reads or writes it."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from alflow.errors import FormatError, did_you_mean
from alflow.formats.deepmd import DeepmdSource, is_exported, write_deepmd
from alflow.formats.entry import Entry, Exported, ReadSettings, Source
from alflow.formats.extxyz import ExtxyzSource, write_extxyz
from alflow.formats.hdf5 import Hdf5Source, write_hdf5
from alflow.formats.npz import NpzSource

__all__ = ["FORMATS", "fingerprint_of", "format_of", "open_source", "write_labels"]

FORMATS: Final = ("extxyz", "ase-db", "deepmd", "npz", "hdf5")
"""Formats that are read; all but ``npz`` are written too."""

_DAMAGE: Final = (
    *(ValueError, LookupError, TypeError, OSError, RuntimeError, EOFError, MemoryError, SyntaxError),
    *(sqlite3.Error, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)
"""What libraries raise over bytes that are not what was written."""

_SUFFIXES: Final = {
    ".xyz": "extxyz",
    ".extxyz": "extxyz",
    ".db": "ase-db",
    ".npz": "npz",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
}


def format_of(path: Path, wanted: str | None = None) -> str:
    """The format of a file, by its name unless it is said.

    Args:
        path: The file or folder; need not exist.
        wanted: What was said.

    Raises:
        FormatError: No such format, or the name does not tell.
    """
    if wanted is not None:
        if wanted not in FORMATS:
            raise FormatError(f"--format {wanted}: expected {', '.join(FORMATS)}.{did_you_mean(wanted, FORMATS)}")
        return wanted
    if path.is_dir() or not path.suffix:
        return "deepmd"
    if path.suffix.lower() not in _SUFFIXES:
        raise FormatError(
            f"{path}: the name does not tell the format; expected one that ends in {', '.join(_SUFFIXES)}, a folder "
            "of DeePMD-kit, or --format."
        )
    return _SUFFIXES[path.suffix.lower()]


def open_source(path: Path, wanted: str | None = None, settings: ReadSettings | None = None) -> Source:
    """Open a file of labels.

    Args:
        path: The file, or the folder of DeePMD-kit.
        wanted: Its format, if its name does not tell.
        settings: Units and names, where they are not those of the format.

    Raises:
        FormatError: It cannot be read as that.
    """
    if not path.exists():
        raise FormatError(f"{path} does not exist; expected a file of labels.")
    found = format_of(path, wanted)
    if path.is_dir() != (found == "deepmd"):
        what = "a folder" if path.is_dir() else "a file"
        raise FormatError(f"{path} is {what}; labels as {found} are {'files' if path.is_dir() else 'in a folder'}.")
    return _Guarded(path, lambda: _readers()[found](path, settings or ReadSettings()))


class _Guarded:
    """A source whose file may be damaged in ways that its reader does not expect."""

    def __init__(self, path: Path, opened: Callable[[], Source]) -> None:
        self._path = path
        with self._reading("the beginning"):
            self._source = opened()
        self.units = self._source.units

    def __len__(self) -> int:
        with self._reading("the number of labels"):
            return len(self._source)

    def __iter__(self) -> Iterator[Entry]:
        entries, place = iter(self._source), "the beginning"
        while True:
            with self._reading(f"what follows {place}"):
                entry = next(entries, None)
            if entry is None:
                return
            place = entry.place
            yield entry

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        try:
            yield
        except _DAMAGE as error:
            said = str(error) or type(error).__name__
            raise FormatError(f"{self._path} is damaged: {what} cannot be read ({said}).") from error


def _readers() -> Mapping[str, Callable[[Path, ReadSettings], Source]]:
    return {
        "extxyz": ExtxyzSource,
        "ase-db": lambda path, settings: _asedb().AseDatabaseSource(path, settings),
        "deepmd": DeepmdSource,
        "npz": NpzSource,
        "hdf5": Hdf5Source,
    }


def _asedb() -> Any:
    """ASE takes half a second to load: only those wait for it who use its database."""
    return import_module("alflow.formats.asedb")


def fingerprint_of(path: Path) -> str:
    """SHA-256 of a file, or of all files of a folder with their names."""
    hasher = hashlib.sha256()
    for file in sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]:
        if path.is_dir():
            hasher.update(f"\0{file.relative_to(path).as_posix()}\0".encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                hasher.update(block)
    return hasher.hexdigest()


def write_labels(
    path: Path, rows: Iterable[Exported], wanted: str | None = None, about: Mapping[str, Any] | None = None
) -> int:
    """Write labels; the file appears whole, or not at all.

    Args:
        path: The file, or the folder for DeePMD-kit; a file that exists is replaced, a folder only if alflow wrote it.
        rows: Each label with what else is told of it; read once, one after the other.
        wanted: The format, if the name does not tell.
        about: What is told of all labels, where the format has a place for it.

    Returns:
        How many were written.

    Raises:
        FormatError: The format cannot hold these labels, or is only read.
        OSError: The file cannot be written.
    """
    found = format_of(path, wanted)
    if found == "npz":
        raise FormatError(f"{path}: npz is read only; it has no place for cells and provenance. HDF5 (.h5) has.")
    if path.exists() and not (path.is_dir() if found == "deepmd" else path.is_file()):  # a device, say
        raise FormatError(f"{path} is in the way; choose another name.")
    if path.is_dir() and any(path.iterdir()) and not is_exported(path):
        raise FormatError(f"{path} is a folder with other things in it; choose another name.")
    draft = path.with_name(f".{path.name}.part")
    _remove(draft)
    try:
        number = _write(found, draft, rows, about)
        if path.is_dir():
            shutil.rmtree(path)
        draft.replace(path)
    finally:
        _remove(draft)
    return number


def _write(found: str, draft: Path, rows: Iterable[Exported], about: Mapping[str, Any] | None) -> int:
    if found == "extxyz":
        return write_extxyz(draft, rows)
    if found == "deepmd":
        return write_deepmd(draft, rows)
    if found == "hdf5":
        return write_hdf5(draft, rows, about)
    number: int = _asedb().write_asedb(draft, rows)
    return number


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
