"""From a question to an SQL expression. Every value is a bound parameter; nothing a user wrote becomes SQL text."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Double, Text, and_, literal, not_, or_

from alflow.store.asking.columns import Described, Kind, Source
from alflow.store.asking.expressions import (
    Among,
    And,
    Between,
    Comparison,
    Expression,
    IsNull,
    Like,
    Not,
    Or,
    conjuncts,
)
from alflow.store.asking.joining import columns_sources, hidden, sql_columns
from alflow.store.columns import UtcTime

__all__ = ["certain_sources", "compiled", "likely_few", "sources_of"]

_OPERATORS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_TYPES: Final[Mapping[Kind, Any]] = {
    Kind.WHOLE: BigInteger(),  # a column of 32 bits may be compared with any whole number
    Kind.NUMBER: Double(),
    Kind.TIME: UtcTime(),
    Kind.TEXT: Text(),
    Kind.WORD: Text(),
}
_INDEXED: Final = ("frame_id", "structure_id", "disagreement_ev_ang", "formula", "max_force_ev_ang")


def compiled(expression: Expression, dialect: str, index: Expression | None = None) -> ColumnElement[bool]:
    """Compile a question.

    Args:
        expression: The question.
        dialect: Name of the SQL dialect.
        index: The only part of it that SQLite may answer from an index.
    """

    def column_of(column: Described) -> Any:
        found = sql_columns(dialect)[column.name]
        return found if expression is index else hidden(dialect, found)

    match expression:
        case And(parts):
            return and_(*(compiled(part, dialect, index) for part in parts))
        case Or(parts):
            return or_(*(compiled(part, dialect, index) for part in parts))
        case Not(part):
            return not_(compiled(part, dialect, index))
        case Comparison(column, sign, value):
            other = column_of(value) if isinstance(value, Described) else _bound(column, value)
            return _OPERATORS[sign](column_of(column), other)  # type: ignore[no-any-return]
        case Among(column, values):
            return column_of(column).in_([_bound(column, value) for value in values])  # type: ignore[no-any-return]
        case Between(column, low, high):
            return column_of(column).between(_bound(column, low), _bound(column, high))  # type: ignore[no-any-return]
        case Like(column, pattern):
            return _like(column_of(column), pattern, dialect)
        case IsNull(column):
            return column_of(column).is_(None)  # type: ignore[no-any-return]
    raise TypeError(f"A question is made of columns; found {type(expression).__name__}.")


def sources_of(expression: Expression | None) -> frozenset[Source]:
    """Tables that a question looks at."""
    match expression:
        case And(parts) | Or(parts):
            return frozenset(source for part in parts for source in sources_of(part))
        case Not(part):
            return sources_of(part)
        case Comparison(column, _, Described() as other):
            return columns_sources([column, other])
        case Comparison(column) | Among(column) | Between(column) | Like(column) | IsNull(column):
            return columns_sources([column])
    return frozenset()


def certain_sources(expression: Expression | None) -> frozenset[Source]:
    """Tables without a row in which a question selects nothing, because it compares with a value from there."""
    compared = (part for part in conjuncts(expression) if isinstance(part, Comparison | Among | Between | Like))
    return frozenset(source for part in compared for source in columns_sources([part.column]))


def likely_few(expression: Expression | None) -> list[Comparison | Among | Between]:
    """Parts that must hold and can be looked up in an index."""
    found = [part for part in conjuncts(expression) if isinstance(part, Comparison | Among | Between)]
    return [
        part
        for part in found
        if part.column.name in _INDEXED
        and not (isinstance(part, Comparison) and (part.operator == "!=" or isinstance(part.value, Described)))
    ]


def _bound(column: Described, value: Any) -> Any:
    return literal(value, _TYPES[column.kind])


def _like(column: Any, pattern: str, dialect: str) -> ColumnElement[bool]:
    if dialect == "postgresql":
        return column.like(literal(pattern.replace("\\", "\\\\"), Text()))  # type: ignore[no-any-return]
    # SQLite's LIKE takes CO for Co; its GLOB does not
    signs = {"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}
    return column.op("GLOB", is_comparison=True)(  # type: ignore[no-any-return]
        literal("".join(signs.get(character, character) for character in pattern), Text())
    )
