"""Questions as values: comparisons of columns, joined by and, or and not. Three-valued, as in SQL.

A comparison with a value that is missing is neither true nor false, and so is its negation: neither selects the frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from alflow.errors import QueryError
from alflow.store.asking.columns import Described, described
from alflow.store.asking.values import check_comparable, check_pattern, checked_value

__all__ = [
    "MAX_DEPTH",
    "MAX_TERMS",
    "Among",
    "And",
    "Between",
    "Column",
    "Comparison",
    "Expression",
    "IsNull",
    "Like",
    "Not",
    "Operator",
    "Or",
    "Value",
    "column",
    "conjuncts",
]

Operator = Literal["=", "!=", "<", "<=", ">", ">="]
Value = int | float | str | datetime

MAX_DEPTH: Final = 50
"""How deep a question may be nested."""

MAX_TERMS: Final = 500
"""How many comparisons a question may have; SQLite takes no more than a thousand in a row."""


class Expression:
    """A question about a frame; ``&``, ``|`` and ``~`` make greater ones of it."""

    depth: int = 1
    terms: int = 1

    def __and__(self, other: Expression) -> Expression:
        return And((*_parts(self, And), *_parts(other, And)))

    def __or__(self, other: Expression) -> Expression:
        return Or((*_parts(self, Or), *_parts(other, Or)))

    def __invert__(self) -> Expression:
        return Not(self)

    def __bool__(self) -> bool:
        raise QueryError(
            "A question has no truth of its own. Join questions with &, | and ~ instead of and, or and not, each in "
            "parentheses: (column.generation >= 2) & (column.disagreement > 0.3)."
        )


@dataclass(frozen=True)
class Comparison(Expression):
    """A column beside a value, or beside another column of the same unit."""

    column: Described
    operator: Operator
    value: Value | Described


@dataclass(frozen=True)
class Among(Expression):
    """A column that is one of some values."""

    column: Described
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Between(Expression):
    """A column from one value to another, both included."""

    column: Described
    low: Value
    high: Value


@dataclass(frozen=True)
class Like(Expression):
    """A text that fits a pattern: ``%`` stands for anything, ``_`` for one character; capitals matter."""

    column: Described
    pattern: str


@dataclass(frozen=True)
class IsNull(Expression):
    """A column that has no value."""

    column: Described


@dataclass(frozen=True)
class And(Expression):
    """All of them."""

    parts: tuple[Expression, ...]

    def __post_init__(self) -> None:
        _measure(self, self.parts)


@dataclass(frozen=True)
class Or(Expression):
    """At least one of them."""

    parts: tuple[Expression, ...]

    def __post_init__(self) -> None:
        _measure(self, self.parts)


@dataclass(frozen=True)
class Not(Expression):
    """The contrary; of a missing value there is none."""

    part: Expression

    def __post_init__(self) -> None:
        _measure(self, (self.part,))


class Column:
    """A column, to be compared: ``column.disagreement > 0.3``.

    Raises:
        QueryError: There is no such column, it is an array, or it cannot be compared with such a value.

    Examples:
        >>> from alflow.store import column
        >>> question = (column.formula == "C2H6O") & (column.disagreement > 0.3) & ~column.energy.is_null()
        >>> column.decision == "flaged"
        Traceback (most recent call last):
        ...
        alflow.errors.QueryError: decision is one of seed, flagged, audit, duplicate, unphysical, dropped; found \
'flaged'. Did you mean 'flagged'?
    """

    __hash__ = None  # type: ignore[assignment]  # two columns never compare to True or False

    def __init__(self, about: Described) -> None:
        self.about = about

    def __eq__(self, other: object) -> Expression:  # type: ignore[override]
        return self._compared("=", other)

    def __ne__(self, other: object) -> Expression:  # type: ignore[override]
        return self._compared("!=", other)

    def __lt__(self, other: object) -> Expression:
        return self._compared("<", other)

    def __le__(self, other: object) -> Expression:
        return self._compared("<=", other)

    def __gt__(self, other: object) -> Expression:
        return self._compared(">", other)

    def __ge__(self, other: object) -> Expression:
        return self._compared(">=", other)

    def is_in(self, values: Sequence[Value]) -> Expression:
        """Whether it is one of some values."""
        check_comparable(self.about, "in")
        return Among(self.about, tuple(checked_value(self.about, value) for value in values))

    def between(self, low: Value, high: Value) -> Expression:
        """Whether it lies from one value to another, both included."""
        check_comparable(self.about, "between")
        return Between(self.about, checked_value(self.about, low), checked_value(self.about, high))

    def like(self, pattern: str) -> Expression:
        """Whether it fits a pattern: ``%`` stands for anything, ``_`` for one character."""
        check_comparable(self.about, "like")
        return Like(self.about, check_pattern(pattern))

    def is_null(self) -> Expression:
        """Whether it has no value."""
        return IsNull(self.about)

    def _compared(self, operator: Operator, other: object) -> Expression:
        check_comparable(self.about, operator, other.about if isinstance(other, Column) else None)
        value = other.about if isinstance(other, Column) else checked_value(self.about, other)
        return Comparison(self.about, operator, value)


class _Columns:
    """All columns by name, as in ``column.disagreement``."""

    def __getattr__(self, name: str) -> Column:
        if name.startswith("__"):
            raise AttributeError(name)
        return Column(described(name))


column: Final = _Columns()
"""All columns by name, as in ``column.disagreement > 0.3``; `alflow query --columns-list` lists them."""


def conjuncts(expression: Expression | None) -> Iterator[Expression]:
    """What must hold, each for itself, for the whole to hold."""
    if isinstance(expression, And):
        for part in expression.parts:
            yield from conjuncts(part)
    elif expression is not None:
        yield expression


def _parts(expression: Expression, kind: type[And] | type[Or]) -> tuple[Expression, ...]:
    return expression.parts if isinstance(expression, kind) else (expression,)


def _measure(whole: Expression, parts: tuple[Expression, ...]) -> None:
    depth, terms = 1 + max(part.depth for part in parts), sum(part.terms for part in parts)
    if depth > MAX_DEPTH:
        raise QueryError(f"The question is nested more than {MAX_DEPTH} deep; write it flatter.")
    if terms > MAX_TERMS:
        raise QueryError(f"The question has more than {MAX_TERMS} comparisons; use 'in (…)' for lists of values.")
    object.__setattr__(whole, "depth", depth)
    object.__setattr__(whole, "terms", terms)
