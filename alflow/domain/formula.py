"""Chemical formulas: one spelling for each composition."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from alflow.domain.elements import atomic_number
from alflow.errors import StructureError

__all__ = ["hill_formula", "normal_formula"]

_GROUP: Final = re.compile(r"([A-Z][a-z]?)([0-9]*)")


def hill_formula(counts: Mapping[str, int]) -> str:
    """Spell a composition in Hill order: carbon, hydrogen, then the alphabet; without carbon, the alphabet.

    Examples:
        >>> hill_formula({"O": 1, "H": 6, "C": 2})
        'C2H6O'
        >>> hill_formula({"O": 1, "H": 2})
        'H2O'
    """
    carbon = "C" in counts
    order = sorted(counts, key=lambda s: (0 if carbon and s == "C" else 1 if carbon and s == "H" else 2, s))
    return "".join(s + (str(counts[s]) if counts[s] > 1 else "") for s in order)


def normal_formula(text: str) -> str:
    """Spell a formula as structures do, however somebody wrote it.

    Args:
        text: Symbols, each with a number behind it or none; a symbol may come more than once.

    Raises:
        StructureError: It is no formula.

    Examples:
        >>> normal_formula("CH3CH2OH")
        'C2H6O'
        >>> normal_formula("OH2")
        'H2O'
    """
    counts: dict[str, int] = {}
    end = 0
    for group in _GROUP.finditer(text):
        symbol, number = group.groups()
        if group.start() != end or len(number) > 9 or number.startswith("0"):
            break
        atomic_number(symbol)
        counts[symbol] = counts.get(symbol, 0) + int(number or 1)
        end = group.end()
    if end != len(text) or not text:
        raise StructureError(f"'{text}' is no formula; expected symbols and numbers, such as C2H6O or CH3CH2OH.")
    return hill_formula(counts)
