"""Drawing: a figure is a name, what it shows, its numbers, and a function that draws it. The one door to matplotlib."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure as Sheet
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

__all__ = ["INK", "MUTED", "PALETTE", "Figure", "as_svg", "logarithmic", "write_csv", "write_files"]

INK: Final = "#1c2128"
MUTED: Final = "#68717d"
GRID: Final = "#dfe3e8"
PAPER: Final = "#fdfdfc"
PALETTE: Final = {
    "blue": "#2b6cb0",
    "teal": "#0d8a72",
    "amber": "#c07a10",
    "red": "#c6404f",
    "violet": "#7a5bb5",
    "gray": "#8c96a3",
}
"""Told apart in any common color blindness, and readable on white as on black."""

_THEMED: Final = {INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper"} | {
    color: name for name, color in PALETTE.items()
}
_STYLE: Final = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.0,
    "svg.fonttype": "none",
    "svg.hashsalt": "alflow",
    "figure.dpi": 100,
    "savefig.transparent": True,
}


@dataclass(frozen=True, eq=False)
class Figure:
    """A figure of a report.

    Attributes:
        name: Name of its files.
        title: What it shows, in a few words.
        alt: What can be seen, in a sentence with numbers, for those who cannot see it.
        columns: Its numbers: columns of one length, by name with unit.
        draw: Draws it on a sheet.
        size: Width and height, inches.
        further: Columns of another length, by the ending that the name of their file gets.
    """

    name: str
    title: str
    alt: str
    columns: Mapping[str, Any]
    draw: Callable[[Any], None]
    size: tuple[float, float] = (7.2, 3.2)
    further: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def as_svg(figure: Figure) -> str:
    """Draw a figure as SVG to stand in a page: its colors are the page's variables, its ids its own."""
    text = _drawn(figure, "svg").decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    for color, name in _THEMED.items():
        text = text.replace(color, f"var(--{name})")
    text = re.sub(r'\bid="([^"]+)"', rf'id="{figure.name}-\1"', text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{figure.name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{figure.name}-\1)", text)
    text = re.sub(r' width="[\d.]+pt" height="[\d.]+pt"| height="[\d.]+pt"| width="[\d.]+pt"', "", text, count=2)
    return text.replace("<svg ", '<svg role="img" aria-hidden="true" ', 1)


def write_files(figure: Figure, folder: Path) -> list[Path]:
    """Write a figure as SVG and PNG, and its numbers as CSV.

    Raises:
        OSError: The folder cannot be written.
    """
    pictures = {folder / f"{figure.name}.{kind}": kind for kind in ("svg", "png")}
    for path, kind in pictures.items():
        path.write_bytes(_drawn(figure, kind, facecolor="white", transparent=False))
    tables = {folder / f"{figure.name}.csv": figure.columns}
    tables |= {folder / f"{figure.name}_{ending}.csv": columns for ending, columns in figure.further.items()}
    for path, columns in tables.items():
        path.write_text(write_csv(columns), encoding="utf-8")
    return [*pictures, *tables]


def logarithmic(axes: Any, which: str, low: float, high: float) -> None:
    """Make an axis logarithmic, with plain numbers at a few places whether it spans one decade or many.

    Args:
        axes: The axes.
        which: ``x`` or ``y``.
        low: Smallest number that is shown.
        high: Largest.
    """
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    decades = np.log10(high / low) if low > 0 else 9.0
    steps = (1.0,) if decades > 2.5 else (1.0, 3.0) if decades > 1.3 else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def write_csv(columns: Mapping[str, Any]) -> str:
    """Columns as comma-separated values; a number that is none is left empty.

    Examples:
        >>> print(write_csv({"labels": [10, 20], "error_ev_ang": [0.1, float("nan")]}), end="")
        labels,error_ev_ang
        10,0.1
        20,
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in zip(*columns.values(), strict=True):
        writer.writerow(["" if isinstance(cell, float) and not np.isfinite(cell) else _plain(cell) for cell in row])
    return text.getvalue()


def _plain(cell: Any) -> Any:
    value = cell.item() if isinstance(cell, np.generic) else cell
    return f"{value:.9g}" if isinstance(value, float) else value


def _drawn(figure: Figure, kind: str, **settings: Any) -> bytes:
    with mpl.rc_context(_STYLE):  # type: ignore[arg-type]
        sheet = Sheet(figsize=figure.size, layout="constrained")
        figure.draw(sheet)
        data = io.BytesIO()
        metadata = {"Date": None} if kind == "svg" else {}
        sheet.savefig(data, format=kind, dpi=180, metadata=metadata, **settings)
    return data.getvalue()
