"""How functions are compiled: to machine code, once per floating-point type, kept on disk between processes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile, NullCache
from numba.extending import register_jitable

__all__ = ["compiled", "inlined", "inner", "shared"]

_Function = TypeVar("_Function", bound=Callable[..., Any])

_OPTIONS: Final[dict[str, Any]] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}


class _Files(IndexDataCacheFile):  # type: ignore[misc]  # numba is followed by no type checker
    """The files of one function, safe for several processes that compile at the same time.

    numba numbers them 1, 2, ... in the order of an index. Two processes that compile for different types may both take
    a number, and the one whose index stays would be given the machine code of the other. Here the number hangs on the
    types, and a file is there before the index names it; an index that is overwritten costs a compilation, no more.
    """

    def save(self, key: Any, data: Any) -> None:
        name = self._data_name(int(sha256(repr(key).encode()).hexdigest()[:12], 16))
        self._save_data(name, data)
        self._save_index({**self._load_index(), key: name})


class _Cache(FunctionCache):  # type: ignore[misc]  # numba is followed by no type checker
    """numba's cache on disk, which also notices when a file beside the function's own has changed.

    numba looks at the file of the function alone, but the machine code holds everything that was called from it.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file = _Files(self._cache_path, self._impl.filename_base, self._impl.locator.get_source_stamp())

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
