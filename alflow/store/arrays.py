"""Arrays as bytes: numbers go into the database and come back bit for bit.

An array is stored as 16 bytes of header and then its elements, little-endian, in C order:

====== ====== ==================================================================
offset bytes  meaning
====== ====== ==================================================================
0      2      the letters ``AF``
2      1      element type: ``f`` for float64, ``i`` for int64
3      1      number of axes, at most 3
4      12     length of each axis, three unsigned 32-bit integers; unused ones are 0
16     8 each the elements
====== ====== ==================================================================

Anybody with SQL and numpy can read a column without alflow; forces, for instance, with
``numpy.frombuffer(blob, "<f8", offset=16).reshape(-1, 3)``.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from math import prod
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from alflow.errors import StoreError

__all__ = ["decode", "decode_shared", "encode"]

_HEADER: Final = struct.Struct("<2scB3I")
_MAGIC: Final = b"AF"
_DTYPES: Final = {b"f": np.dtype("<f8"), b"i": np.dtype("<i8")}
_MAX_AXES: Final = 3


def encode(values: npt.ArrayLike, name: str) -> bytes:
    """Write an array as header and little-endian elements.

    Args:
        values: Floating-point or integer numbers with one to three axes.
        name: The column they are meant for, for the error message.

    Raises:
        StoreError: A number is not finite, or these are not numbers.

    Examples:
        >>> blob = encode([[0.0, 0.0, 1.5]], "forces_ev_ang")
        >>> np.frombuffer(blob, "<f8", offset=16)
        array([0. , 0. , 1.5])
    """
    array = np.asarray(values)
    if array.dtype.kind not in "fiub" or not 1 <= array.ndim <= _MAX_AXES:
        raise StoreError(
            f"{name} holds numbers on one to three axes; found an array of {array.dtype} of shape {array.shape}."
        )
    code = b"f" if array.dtype.kind == "f" else b"i"
    if code == b"f" and not np.isfinite(array).all():
        bad = tuple(np.argwhere(~np.isfinite(array))[0].tolist())
        raise StoreError(f"{name} must be finite numbers; element {bad} is {float(array[bad])}. Nothing was stored.")
    shape = array.shape + (0,) * (_MAX_AXES - array.ndim)
    header = _HEADER.pack(_MAGIC, code, array.ndim, *shape)
    return header + np.ascontiguousarray(array, dtype=_DTYPES[code]).tobytes()


def decode(blob: bytes) -> npt.NDArray[Any]:
    """Read an array that :func:`encode` wrote; nobody can write to it.

    Raises:
        StoreError: The bytes are no such array: cut short, or written by something else.

    Examples:
        >>> decode(encode([8, 1, 1], "numbers"))
        array([8, 1, 1])
    """
    try:
        dtype, shape, n_bytes = _layout(blob[: _HEADER.size])
    except (struct.error, ValueError, KeyError):
        n_bytes = -1
    if len(blob) != n_bytes:
        raise StoreError(
            f"A stored array of {len(blob)} bytes is damaged: its header and its length disagree. "
            "Restore the database from a backup."
        )
    array: npt.NDArray[Any] = np.ndarray(shape, dtype, blob, _HEADER.size)  # a view: bytes are read-only, so is it
    return array if dtype.isnative else _native(array)


def _native(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    swapped = array.astype(array.dtype.newbyteorder("="))
    swapped.setflags(write=False)
    return swapped


@lru_cache(maxsize=1024)
def _layout(header: bytes) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    magic, code, axes, *lengths = _HEADER.unpack(header)
    if magic != _MAGIC or not 1 <= axes <= _MAX_AXES:
        raise ValueError("not an array of alflow")
    shape = tuple(lengths[:axes])
    return _DTYPES[code], shape, _HEADER.size + 8 * prod(shape)


decode_shared = lru_cache(maxsize=4096)(decode)
"""Read an array that many rows have in common (atomic numbers, cells): equal bytes give the same array object."""
