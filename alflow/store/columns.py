"""Column types: what the tables hold, and the checks a value passes on its way in."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy.typing as npt
from sqlalchemy import DateTime, Dialect, Double, LargeBinary, Text
from sqlalchemy.types import TypeDecorator

from alflow.domain.identity import canonical_json
from alflow.errors import StoreError
from alflow.store.arrays import decode, decode_shared, encode

__all__ = ["ArrayColumn", "FiniteNumber", "FreeText", "Json", "JsonObject", "StoredJson", "UtcTime", "printable"]

_parse = json.JSONDecoder().decode


def printable(text: str) -> str:
    """Replace what no database accepts in a text: zero bytes and broken Unicode, as a crashed program may print.

    Examples:
        >>> printable("exit \\0")
        'exit �'
    """
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


class ArrayColumn(TypeDecorator[npt.NDArray[Any]]):
    """A numpy array of float64 or int64, as described in :mod:`alflow.store.arrays`; never a NaN.

    Args:
        name: Name of the column, for error messages.
        shared: Whether many rows hold the same few values, so that equal ones come back as one array object.
    """

    impl = LargeBinary
    cache_ok = True

    def __init__(self, name: str, shared: bool = False) -> None:
        super().__init__()
        self.name = name
        self.shared = shared

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Encode on the way in."""
        return None if value is None else encode(value, self.name)

    def result_processor(self, dialect: Dialect, coltype: Any) -> Callable[[Any], Any]:
        """Decode on the way out, without the detour over the underlying type: this is most of the time of a read."""
        read = decode_shared if self.shared else decode
        return lambda blob: None if blob is None else read(bytes(blob))


class FiniteNumber(TypeDecorator[float]):
    """A float64 that is neither NaN nor infinite.

    SQLite would turn a NaN into NULL without a word and PostgreSQL would keep it, above every other number; so it is
    stopped here, and a CHECK of the table stops whoever writes without alflow.
    """

    impl = Double
    cache_ok = True

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Refuse what is not finite."""
        if value is None:
            return None
        number = float(value)
        if not math.isfinite(number):
            raise StoreError(f"{self.name} must be a finite number; found {number}. Nothing was stored.")
        return number


class Json(TypeDecorator[Any]):
    """A JSON value in its canonical form: sorted keys, no NaN; plain text to SQL."""

    impl = Text
    cache_ok = True

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Write canonical JSON."""
        if value is None:
            return None
        try:
            return printable(canonical_json(value))
        except (TypeError, ValueError) as error:
            raise StoreError(f"{self.name} must hold plain JSON values with finite numbers: {error}.") from None

    def result_processor(self, dialect: Dialect, coltype: Any) -> Callable[[Any], Any]:
        """Read JSON."""
        return lambda text: None if text is None else _parse(text)


class StoredJson(Mapping[str, Any]):
    """A JSON object as it is stored, read when it is first looked into: who reads a million labels rarely does."""

    __slots__ = ("_read", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._read: dict[str, Any] | None = None

    def _all(self) -> dict[str, Any]:
        if self._read is None:
            self._read = _parse(self._text)
        return self._read

    def __getitem__(self, key: str) -> Any:
        return self._all()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __repr__(self) -> str:
        return repr(self._all())

    def __reduce__(self) -> Any:
        return StoredJson, (self._text,)


class JsonObject(Json):
    """A JSON object, never NULL, that is read when it is first looked into."""

    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: Any) -> Callable[[Any], Any]:
        """Wrap the text."""
        return StoredJson


class FreeText(TypeDecorator[str]):
    """A sentence from anywhere, even from a program that crashed while writing it."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Replace what no database accepts."""
        return None if value is None else printable(str(value))


class UtcTime(TypeDecorator[datetime]):
    """A moment, in UTC. SQLite keeps no time zones, so the zone is fixed here."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Turn any zone into UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise StoreError(
                f"A time needs its zone, such as datetime.now(UTC); found {value.isoformat()} without one."
            )
        return value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Say that it is UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
