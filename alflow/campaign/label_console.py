"""``alflow label``: what is to be labelled and how, progress, and a table of what it cost."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final, get_args

import yaml
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from alflow.campaign.config import available_cores
from alflow.campaign.console import start_logging
from alflow.campaign.executors.dask import label_executor
from alflow.campaign.labelled import Labelled, counted
from alflow.campaign.labelling import label_structures
from alflow.campaign.teacher import beside, check_reference, make_reference
from alflow.domain import Structure
from alflow.domain.ase import read_structures
from alflow.domain.config import explain
from alflow.errors import ConfigError, InputError, did_you_mean
from alflow.reference import PyscfConfig, ReferenceConfig
from alflow.reference.orbital_config import Preset
from alflow.store.location import check_location, shown

__all__ = ["LabelProgress", "label", "label_slots", "read_level", "show_cost"]

log = logging.getLogger("alflow")

LINE_EVERY_S: Final = 5.0
SHOWN_FRAMES: Final = 20


def label(file: Path, level: str, database: str, name: str, cores: int | None) -> list[Labelled]:
    """Label the structures of a file and say what it cost.

    Args:
        file: Structures, in any format ASE reads.
        level: A preset, or a YAML file with the keys of ``reference:``.
        database: SQLite file or PostgreSQL URL.
        name: Name under which the work is recorded.
        cores: Cores to use; all by default.

    Raises:
        InputError: Something that was given cannot be used; nothing was run.
    """
    console = Console()
    start_logging(console)
    config = read_level(level)
    structures = _read(file)
    try:
        check_reference(config, structures)
    except InputError as error:
        raise type(error)(f"{file}: {error}") from error
    check_location(database)
    slots = label_slots(cores, config.threads)
    watcher = LabelProgress(slots)
    executor = partial(label_executor, slots, config.threads, "127.0.0.1:0")
    found = label_structures(structures, make_reference(config), config, database, name, slots, executor, watcher)
    show_cost(console, found, time.monotonic() - watcher.began, slots)
    console.print(f"database  {shown(database)}, name {name}", soft_wrap=True, highlight=False, markup=False)
    if any(item.state == "open" for item in found):
        console.print("Stopped; the same command goes on where it was left.", highlight=False)
    return found


def read_level(text: str) -> ReferenceConfig:
    """Read a level of theory: the name of a preset, or a YAML file.

    Raises:
        ConfigError: Neither, or the file says something impossible.
    """
    if text in get_args(Preset):
        return PyscfConfig.model_validate({"preset": text})
    path = Path(text)
    if not path.is_file():
        presets = ", ".join(get_args(Preset))
        raise ConfigError(
            f"--level {text}: expected {presets}, or a YAML file with the keys of reference:."
            f"{did_you_mean(text, get_args(Preset))}"
        )
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())}).") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected keys and values, such as functional: pbe.")
    if set(data) == {"reference"} and isinstance(data["reference"], dict):
        data = data["reference"]
    try:
        return TypeAdapter(ReferenceConfig).validate_python({"engine": "pyscf", **beside(path, data)})
    except ValidationError as error:
        raise explain(error, str(path)) from None


def _read(file: Path) -> list[Structure]:
    if not file.is_file():
        raise ConfigError(f"{file} does not exist; expected a file of structures.")
    structures = read_structures(file) if file.stat().st_size else []
    if not structures:
        raise ConfigError(f"{file} holds no structure.")
    return structures


def label_slots(cores: int | None, threads: int) -> int:
    """Labels at once on so many cores, or on all of them.

    Raises:
        ConfigError: There are not so many cores, or too few for one label.
    """
    available = available_cores()
    if cores is not None and not 1 <= cores <= available:
        raise ConfigError(f"--cores {cores}: this process may use 1 to {available}.")
    wanted = available if cores is None else cores
    if threads > wanted:
        raise ConfigError(f"A label of {threads} threads does not fit on {wanted} cores; lower threads.")
    return wanted // threads


class LabelProgress:
    """Writes a line now and then: how many are done, and when the rest will be."""

    def __init__(self, slots: int) -> None:
        self.began = time.monotonic()
        self._slots, self._last = slots, 0.0

    def __call__(self, found: Sequence[Labelled]) -> None:
        """Write a line, if it is time for one or all is done."""
        if time.monotonic() - self._last < LINE_EVERY_S and any(item.state == "open" for item in found):
            return
        self._last = time.monotonic()
        count = Counter(item.state for item in found)
        expected = [item.expected_s for item in found if item.state == "open" and item.expected_s is not None]
        left = f", about {_clock(sum(expected) / self._slots)} left" if expected else ""
        log.info(
            "labels %d/%d (%d known before, %d failed)%s", count["done"] + count["known"], len(found), count["known"],
            count["failed"], left if count["open"] else "",
        )  # fmt: skip


def show_cost(console: Console, found: Sequence[Labelled], elapsed_s: float, slots: int) -> None:
    """Print what was computed, by formula, what could not be, and which labels carry a warning."""
    table = Table(title="Labels", title_justify="left", box=None)
    for column in ("formula", "computed", "known", "failed", "left", "median s", "longest s", "CPU s", "peak MB"):
        table.add_column(column, justify="left" if column == "formula" else "right")
    formulas = list(dict.fromkeys(item.formula for item in found))
    for formula in formulas:
        _row(table, formula, [item for item in found if item.formula == formula])
    if len(formulas) > 1:
        _row(table, "all", found)
    console.print(table)
    busy = sum(item.wall_s or 0.0 for item in found)
    share = 100 * busy / (slots * elapsed_s) if elapsed_s > 0 else 0.0
    console.print(f"{_clock(elapsed_s)} on {slots} slot(s), {share:.0f} % of them busy", highlight=False, markup=False)
    failed = [item for item in found if item.state == "failed"]
    _show_frames(console, [f"frame {item.number} ({item.formula}) failed: {item.message}" for item in failed])
    flagged = [item for item in found if item.flags]
    if flagged:
        flags = counted(Counter(flag for item in flagged for flag in item.flags))
        console.print(f"flags: {flags}", soft_wrap=True, highlight=False, markup=False)
        _show_frames(console, [f"frame {item.number} ({item.formula}): {', '.join(item.flags)}" for item in flagged])


def _show_frames(console: Console, lines: Sequence[str]) -> None:
    for line in lines[:SHOWN_FRAMES]:
        console.print(Text(line), soft_wrap=True)
    if len(lines) > SHOWN_FRAMES:
        console.print(f"… and {len(lines) - SHOWN_FRAMES} more", highlight=False)


def _row(table: Table, name: str, items: Sequence[Labelled]) -> None:
    count = Counter(item.state for item in items)
    walls = [item.wall_s for item in items if item.wall_s is not None]
    cpu = sum(item.cpu_s or 0.0 for item in items)
    peak = max((item.peak_memory_mb or 0.0 for item in items), default=0.0)
    numbers = [f"{median(walls):.2f}", f"{max(walls):.2f}", f"{cpu:.1f}", f"{peak:.0f}"] if walls else ["–"] * 4
    table.add_row(name, *(str(count[state]) for state in ("done", "known", "failed", "open")), *numbers)


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
