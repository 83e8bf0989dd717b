"""``alflow import``: which level the labels of a file have, progress, and what became of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Final, get_args

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from alflow.campaign.console import start_logging
from alflow.campaign.importing import Imported, Origin, Watcher, check_source, import_labels
from alflow.campaign.label_console import read_level
from alflow.campaign.labelling import check_name
from alflow.campaign.teacher import make_reference
from alflow.domain import Level
from alflow.errors import ConfigError, did_you_mean
from alflow.formats import ReadSettings, fingerprint_of, open_source
from alflow.reference.orbital_config import Preset
from alflow.store.location import check_location, shown

__all__ = ["AS_WRITTEN", "import_file", "stated_level"]

log = logging.getLogger("alflow")

AS_WRITTEN: Final = "as-written"
"""What is said for ``--level`` of a file that alflow wrote: each label keeps the level it has there."""

SHOWN_CONFLICTS: Final = 20
LINE_EVERY_S: Final = 5.0


def import_file(
    file: Path,
    level: str,
    database: str,
    name: str,
    wanted: str | None = None,
    settings: ReadSettings | None = None,
    implausible: bool = False,
) -> Imported:
    """Take the labels of a file into a database and say what became of them.

    Args:
        file: The file, or a folder of DeePMD-kit.
        level: Their level of theory: a preset, a YAML file with the keys of ``reference:``, a description in words, or
            ``as-written``.
        database: SQLite file or PostgreSQL URL; made if it does not exist.
        name: Name under which they are recorded.
        wanted: The format, if the name does not tell.
        settings: Units and names, where they are not those of the format.
        implausible: Whether numbers are taken that look like those of another unit.

    Raises:
        InputError: Something that was given cannot be used; nothing was imported.
    """
    console = Console()
    start_logging(console)
    stated = stated_level(level)
    check_name(name)
    check_location(database)
    source = open_source(file, wanted, settings)
    began = time.monotonic()
    with _progress(console, "checking", len(source)) as watcher:
        written = check_source(source, str(file), watcher, implausible)
    found = stated if stated is not None else written
    if found is None:
        raise ConfigError(
            f"--level {AS_WRITTEN}: {file} says nothing of a level of theory, because alflow did not write it; state "
            "the level."
        )
    origin = Origin(str(file), fingerprint_of(file), source.units.text, level)
    with _progress(console, "importing", len(source)) as watcher:
        done = import_labels(source, found, origin, database, name, watcher)
    _show(console, done, time.monotonic() - began)
    if done.left:
        console.print(f"Stopped with {done.left} left; the same command goes on.", highlight=False)
    console.print(f"level     {found.engine}, {found.id[:12]}", soft_wrap=True, highlight=False, markup=False)
    console.print(f"database  {shown(database)}, name {name}", soft_wrap=True, highlight=False, markup=False)
    return done


def stated_level(text: str) -> Level | None:
    """The level of theory that was stated; None if the file shall tell.

    A preset or a YAML file gives the level of the reference that it describes, so that an imported label equals one
    that is computed here. Any other words are taken as they are: a level of the engine ``imported``.

    Raises:
        ConfigError: Nothing was said, or a file or a preset was meant that does not exist.

    Examples:
        >>> stated_level("PBE/def2-SVP, ORCA 6.0").to_json()
        '{"engine":"imported","settings":{"description":"PBE/def2-SVP, ORCA 6.0"}}'
    """
    words = " ".join(text.split())
    presets = get_args(Preset)
    if words == AS_WRITTEN:
        return None
    if words in presets or Path(text).is_file():
        return make_reference(read_level(text)).level
    if not words:
        raise ConfigError("--level is empty; state the level of theory of the labels.")
    if Path(words).suffix.lower() in (".yaml", ".yml"):
        raise ConfigError(f"--level {text}: there is no such file.")
    if get_close_matches(words, [*presets, AS_WRITTEN], cutoff=0.75):
        listed = f"{', '.join(presets)}, {AS_WRITTEN}, a YAML file, or a description in words"
        raise ConfigError(f"--level {text}: expected {listed}.{did_you_mean(words, [*presets, AS_WRITTEN])}")
    return Level("imported", {"description": words})


@contextmanager
def _progress(console: Console, what: str, total: int) -> Iterator[Watcher]:
    """A bar on a terminal, a line now and then elsewhere."""
    if not console.is_terminal:
        yield _Lines(what, total)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, refresh_per_second=5) as bar:
        task = bar.add_task(what, total=total)
        yield lambda number: bar.advance(task, number)


class _Lines:
    """Writes how far it is, now and then."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._done, self._last = what, total, 0, time.monotonic()

    def __call__(self, number: int) -> None:
        self._done += number
        if time.monotonic() - self._last > LINE_EVERY_S:
            self._last = time.monotonic()
            log.info("%s %d/%d", self._what, self._done, self._total)


def _show(console: Console, done: Imported, elapsed_s: float) -> None:
    def line(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    line(
        f"{done.new} labels imported, {done.known} were known, {done.repeated} stand in the file again, "
        f"{len(done.conflicts)} conflicts ({elapsed_s:.1f} s)"
    )
    for conflict in done.conflicts[:SHOWN_CONFLICTS]:
        line(
            f"  {conflict.place}: structure {conflict.structure_id[:12]} has another label, which stays; the energies "
            f"differ by {conflict.energy_ev:+.6g} eV, the forces by up to {conflict.force_ev_ang:.3g} eV/Å"
        )
    if len(done.conflicts) > SHOWN_CONFLICTS:
        line(f"  … and {len(done.conflicts) - SHOWN_CONFLICTS} more")
