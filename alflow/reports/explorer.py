"""The map of the data set as something to play with: a picture to point at, and the structure beside it.

Written by hand instead of taken from a viewer's library: some 16 kB of script against 3 MB (decision 0027). Positions
travel as 16-bit integers in steps of :func:`packed`'s scale, which is at most 1/32767 of the largest coordinate.
"""

from __future__ import annotations

import base64
import json
from importlib.resources import files
from typing import Any

import numpy as np

from alflow.domain.elements import COVALENT_RADII_ANG, SYMBOLS
from alflow.reports.atlas import Atlas
from alflow.reports.figures import PART_COLORS
from alflow.reports.markup import Html
from alflow.reports.words import pretty

__all__ = ["explorer", "packed"]


def explorer(atlas: Atlas | None) -> Html | None:
    """The map, the viewer and their data; None without a map."""
    if atlas is None:
        return None
    data = json.dumps(packed(atlas), separators=(",", ":")).replace("<", "\\u003c")
    folder = files("alflow.reports")
    script = "".join((folder / name).read_text(encoding="utf-8") for name in ("structure.js", "report.js"))
    choices = "".join(f'<option value="{value}">{text}</option>' for value, text in _colorings(atlas))
    n = len(atlas.structures)
    return Html(
        '<div class="explorer"><div class="bar"><label>Color by <select id="map-color">'
        f'{choices}</select></label><span id="map-legend"></span></div><div class="panes">'
        f'<canvas id="map" tabindex="0" role="img" aria-label="Map of {n:,} structures; the arrow keys turn the '
        'structure, N and P choose another"></canvas><div class="side"><canvas id="viewer" tabindex="0" role="img" '
        'aria-label="The chosen structure in three dimensions; drag or arrow keys to turn, + and − to zoom"></canvas>'
        '<dl id="map-facts" aria-live="polite"></dl></div></div></div>'
        f'<script type="application/json" id="map-data">{data}</script><script>"use strict";\n{script}</script>'
    )


def _colorings(atlas: Atlas) -> list[tuple[str, str]]:
    offered = [("part", "part of the data set"), ("generation", "generation that saw it")]
    numbers = (
        ("error", "force error of the active committee", atlas.error),
        ("energy", "energy per atom", atlas.energy),
        ("disagreement", "disagreement when seen", atlas.disagreement),
    )
    return offered + [(name, text) for name, text, values in numbers if np.isfinite(values).any()]


def packed(atlas: Atlas) -> dict[str, Any]:
    """A map as plain JSON values, arrays in base64 (little endian)."""
    centered = [s.positions - (s.positions.mean(axis=0) if not s.is_periodic else 0.0) for s in atlas.structures]
    largest = max(float(np.abs(positions).max()) for positions in centered)
    scale = max(largest, 1e-6) / 32767.0
    flat = np.concatenate(centered)
    numbers = np.concatenate([s.numbers for s in atlas.structures])
    elements = sorted({int(number) for number in numbers})
    cells = [s.cell.round(4).reshape(-1).tolist() if s.is_periodic else None for s in atlas.structures]
    return {
        "xy": _base64(atlas.places, "<f4"),
        "positions": _base64(np.rint(flat / scale), "<i2"),
        "scale": scale,
        "numbers": _base64(numbers, "u1"),
        "sizes": [len(s) for s in atlas.structures],
        "cells": cells if any(cell is not None for cell in cells) else None,
        "formulas": [pretty(s.formula) for s in atlas.structures],
        "ids": [s.id[:12] for s in atlas.structures],
        "frames": list(atlas.frame_ids),
        "parts": list(atlas.parts),
        "partColors": PART_COLORS,
        "generation": atlas.generation.tolist(),
        "energy": _numbers(1000.0 * atlas.energy),
        "error": _numbers(1000.0 * atlas.error),
        "disagreement": _numbers(atlas.disagreement),
        "explained": list(atlas.explained),
        "elements": {
            number: {"symbol": SYMBOLS[number], "radius_ang": COVALENT_RADII_ANG[number]} for number in elements
        },
    }


def _base64(values: Any, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype=kind).tobytes()).decode()


def _numbers(values: Any) -> list[float | None]:
    return [float(f"{value:.5g}") if np.isfinite(value) else None for value in values]
