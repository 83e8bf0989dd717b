"""What a column may be compared with: values of its own kind, checked before the database sees them."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Any, Final

from alflow.domain.formula import normal_formula
from alflow.errors import QueryError, StructureError, did_you_mean
from alflow.store.asking.columns import Described, Kind

__all__ = ["MAX_VALUES", "check_comparable", "check_pattern", "checked_value", "value_of_word"]

MAX_VALUES: Final = 10_000
"""How many values a list may have."""

_LARGEST: Final = 2**63 - 1
_MAX_TEXT: Final = 1000
_NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_ORDERED: Final = ("<", "<=", ">", ">=", "between")
_NUMERIC: Final = (Kind.WHOLE, Kind.NUMBER)


def check_comparable(column: Described, operator: str, other: Described | None = None) -> None:
    """Check that an operator means something for a column, or for two of them.

    Raises:
        QueryError: It does not; the message says what does.
    """
    if column.kind is Kind.ARRAY:
        raise QueryError(f"{column.name} is an array, which can be shown but not compared.")
    if operator in _ORDERED and column.kind in (Kind.TEXT, Kind.WORD):
        raise QueryError(f"{column.name} is text, which has no order here; use =, !=, in or like.")
    if operator == "like" and column.kind not in (Kind.TEXT, Kind.WORD):
        raise QueryError(f"{column.name} is a {column.kind}; 'like' is for text. Use =, <, > or between.")
    if other is None:
        return
    if column.kind not in _NUMERIC or other.kind not in _NUMERIC:
        raise QueryError(f"{column.name} and {other.name} cannot be compared; only columns that hold numbers can.")
    if column.unit != other.unit:
        units = " and ".join(f"{it.name} {f'in {it.unit}' if it.unit else 'without a unit'}" for it in (column, other))
        raise QueryError(f"Columns of different units cannot be compared: {units}.")


def value_of_word(column: Described, word: str, quoted: bool = False) -> Any:
    """Read what somebody wrote as a value of a column.

    Args:
        column: What it is compared with.
        word: The text, without quotes.
        quoted: Whether it was in quotes.

    Raises:
        QueryError: It is none; the message says what was expected and found.
    """
    if column.kind in _NUMERIC:
        if quoted or not _NUMBER.fullmatch(word):
            expected = "whole number, such as 2" if column.kind is Kind.WHOLE else "number, such as 0.3 or 1e-3"
            quotes = " in quotes" if quoted else ""
            raise QueryError(f"{column.name} is a {expected}; found '{word}'{quotes}.")
        return checked_value(column, int(word) if re.fullmatch(r"[+-]?[0-9]{1,25}", word) else float(word))
    return checked_value(column, word)


def checked_value(column: Described, value: Any) -> Any:
    """Check a value of Python, and bring it into the form in which it is stored.

    Raises:
        QueryError: It is of another kind than the column.
    """
    if value is None:
        raise QueryError(f"Nothing equals a missing value; ask whether {column.name} is null.")
    if column.kind in _NUMERIC:
        return _number(column, value)
    if column.kind is Kind.TIME:
        return _time(column, value)
    if not isinstance(value, str):
        raise QueryError(f"{column.name} is text; found {_shown(value)}.")
    text = _sound(value)
    if column.words and text not in column.words:
        hint = did_you_mean(text, column.words)
        raise QueryError(f"{column.name} is one of {', '.join(column.words)}; found '{text}'.{hint}")
    if column.name == "formula":
        try:
            return normal_formula(text)
        except StructureError as error:
            raise QueryError(str(error)) from None
    return str(text)


def check_pattern(pattern: Any) -> str:
    """Check a pattern of ``like``.

    Raises:
        QueryError: It is no text, or too long.
    """
    if not isinstance(pattern, str):
        raise QueryError(f"'like' takes a text with % and _; found {_shown(pattern)}.")
    return _sound(pattern)


def _number(column: Described, value: Any) -> int | float:
    try:
        if isinstance(value, (str, bytes, bool)):
            raise TypeError
        whole = int(value) if value == int(value) else None
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise QueryError(f"{column.name} is a {column.kind}; found {_shown(value)}.") from None
    if column.kind is Kind.NUMBER:
        return number
    if whole is None or abs(whole) > _LARGEST:
        raise QueryError(f"{column.name} is a whole number of at most 19 digits; found {_shown(value)}.")
    return whole


def _time(column: Described, value: Any) -> datetime:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(_sound(value))
        except ValueError:
            raise QueryError(
                f"{column.name} is a time, such as 2026-11-27 or 2026-11-27T18:30; found '{value}'."
            ) from None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime):
        raise QueryError(f"{column.name} is a time, such as 2026-11-27; found {_shown(value)}.")
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        raise QueryError(f"{column.name} is a time between the years 1 and 9999; found {value}.") from None


def _sound(text: str) -> str:
    if len(text) > _MAX_TEXT:
        raise QueryError(f"A text may have {_MAX_TEXT} characters; found {len(text)}.")
    try:
        sound = "\0" not in text and text.encode() is not None
    except UnicodeEncodeError:
        sound = False
    if not sound:
        raise QueryError(f"A text may hold no zero bytes and no broken Unicode; found {text!a}.")
    return text


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 40 else f"{text[:36]} …"
