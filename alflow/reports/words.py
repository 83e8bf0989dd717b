"""Numbers as people read them: rounded alike everywhere in a report."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

__all__ = ["duration", "interval", "listed", "milli", "percent", "plural", "pretty", "size"]


def milli(value: float) -> str:
    """A number in eV/Å or eV in thousandths, with the digits that matter.

    Examples:
        >>> milli(0.01234), milli(0.1234), milli(0.000012)
        ('12.3', '123', '0.012')
    """
    value *= 1000.0
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) >= 0.1 else f"{value:.2g}"


def interval(mean: float, lower: float, upper: float, write: Callable[[float], str], unit: str) -> str:
    """A number with its interval.

    Examples:
        >>> interval(0.012, 0.010, 0.014, milli, "meV/Å")
        '12 meV/Å (95 % interval 10 to 14)'
    """
    number = f"{write(mean)} {unit}".strip()
    known = math.isfinite(lower) and math.isfinite(upper)
    told = f"95 % interval {write(lower)} to {write(upper)}" if known else "one value: no interval"
    return f"{number} ({told})".replace("-", "−")


def listed(names: Sequence[str]) -> str:
    """Names in a sentence.

    Examples:
        >>> listed(["H"]), listed(["H", "C", "O"])
        ('H', 'H, C and O')
    """
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def pretty(formula: str) -> str:
    """A formula with its numbers below the line.

    Examples:
        >>> pretty("C2H6O")
        'C₂H₆O'
    """
    return formula.translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def percent(share: float) -> str:
    """A share in percent.

    Examples:
        >>> percent(0.125), percent(0.004), percent(1.0)
        ('12 %', '0.4 %', '100 %')
    """
    value = 100.0 * share
    return f"{value:.0f} %" if value >= 1.0 or value == 0.0 else f"{value:.1f} %"


def plural(count: int, noun: str) -> str:
    """A number with its noun.

    Examples:
        >>> plural(1, "label"), plural(1000, "label")
        ('1 label', '1,000 labels')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """A stretch of time.

    Examples:
        >>> duration(0.25), duration(42.0), duration(180.0), duration(7200.0), duration(4e5)
        ('0.25 s', '42 s', '3.0 min', '2.0 h', '4.6 d')
    """
    for least, unit, name in ((2 * 86400.0, 86400.0, "d"), (5400.0, 3600.0, "h"), (120.0, 60.0, "min")):
        if seconds >= least:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.3g} s"


def size(n_bytes: float) -> str:
    """A file's size.

    Examples:
        >>> size(512), size(2_400_000)
        ('512 bytes', '2.4 MB')
    """
    if n_bytes < 1000:
        return f"{n_bytes:.0f} bytes"
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes >= 1e6 else f"{n_bytes / 1e3:.0f} kB"
