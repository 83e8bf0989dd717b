"""How functions are compiled: to machine code, once per floating-point type, kept on disk between processes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import numba
from numba.core.caching import FunctionCache, NullCache
from numba.extending import register_jitable

__all__ = ["compiled", "inlined", "inner", "shared"]

_Function = TypeVar("_Function", bound=Callable[..., Any])

_OPTIONS: Final[dict[str, Any]] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}


class _Cache(FunctionCache):  # type: ignore[misc]  # numba is followed by no type checker
    """numba's cache on disk, which also notices when a file beside the function's own has changed.

    numba looks at the file of the function alone, but the machine code holds everything that was called from it.
    """

    def _index_key(self, signature: Any, codegen: Any) -> Any:
        folder = Path(self._py_func.__code__.co_filename).parent
        return (*super()._index_key(signature, codegen), _stamps(folder), _stamps(Path(__file__).parent))


@cache
def _stamps(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Name, time and size of the files in a folder that have compiled functions."""
    files = [file for file in sorted(folder.glob("*.py")) if b"alflow.tensors.jit" in file.read_bytes()]
    return tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files)


def compiled(function: _Function) -> _Function:
    """Compile a function to machine code, once per floating-point type; the result is kept on disk between processes.

    It is kept beside the package, or in the user's cache folder where the package cannot be written to, or where
    ``NUMBA_CACHE_DIR`` says. The function releases the GIL, never checks bounds, and divides like IEEE 754 (by zero to
    infinity).
    """
    dispatcher = numba.njit(**_OPTIONS)(function)
    try:
        dispatcher._cache = _Cache(function)
    except RuntimeError:
        dispatcher._cache = NullCache()  # nothing can be written anywhere: every process compiles for itself
    return cast(_Function, dispatcher)


def inner(function: _Function) -> _Function:
    """Compile a function that is only called by compiled ones and allocates nothing.

    Arrays are not reference-counted inside: in the innermost loops the counting alone would take as long as the work.
    """
    return cast(_Function, numba.njit(_nrt=False, **_OPTIONS)(function))


def inlined(function: _Function) -> _Function:
    """Like :func:`inner`, for a function so small that a call would cost more than it does."""
    return cast(_Function, numba.njit(_nrt=False, forceinline=True, **_OPTIONS)(function))


def shared(function: _Function) -> _Function:
    """Leave a function to Python as it is, and let compiled functions call it too."""
    return cast(_Function, register_jitable(function))
