"""A shelf: arrays that a process and all its forks share.

What depends on no structure, such as the density of a free atom, is computed by the first label that needs it and taken
from the shelf by the labels after it, although each has a process of its own. The guard makes the shelf when it imports
and never looks at it; it is anonymous memory, so nothing is left on any disk, however the processes end.
"""

from __future__ import annotations

import mmap
from hashlib import sha256
from typing import Final

import numpy as np

from alflow.domain.structure import FloatArray

__all__ = ["Shelf"]

_DIGEST: Final = 32
_FREE: Final = bytes(_DIGEST)


class Shelf:
    """Arrays by name, in memory that forks of this process share.

    An array is written once and never changed. Each carries a digest of its name and numbers: one that a process left
    half written when it was killed, or that a stray pointer has hit, counts as absent. Two processes that write at the
    same time may lose an array, and no more. Places nobody has used take no memory.

    Args:
        places: How many arrays there is room for; what comes later is not kept.
        length: Number of float64 in each.

    Examples:
        >>> shelf = Shelf(places=2, length=3)
        >>> shelf.take("oxygen") is None
        True
        >>> shelf.put("oxygen", np.array([1.0, 2.0, 3.0]))
        >>> shelf.take("oxygen")
        array([1., 2., 3.])
    """

    def __init__(self, places: int, length: int) -> None:
        self._length = length
        self._size = 2 * _DIGEST + 8 * length
        self._memory = mmap.mmap(-1, places * self._size)

    def take(self, name: str) -> FloatArray | None:
        """The array of that name, bit for bit as it was put; None if there is none, or a damaged one."""
        key = sha256(name.encode()).digest()
        for start in range(0, len(self._memory), self._size):
            found = self._memory[start : start + _DIGEST]
            if found == _FREE:
                return None
            if found == key:
                seal = self._memory[start + _DIGEST : start + 2 * _DIGEST]
                data = self._memory[start + 2 * _DIGEST : start + self._size]
                return np.frombuffer(data) if sha256(key + data).digest() == seal else None
        return None

    def put(self, name: str, array: FloatArray) -> None:
        """Keep an array of that name while there is room, in place of a damaged one.

        Args:
            name: Everything the numbers depend on.
            array: float64, shape (length,).

        Raises:
            ValueError: An array of another length.
        """
        if array.shape != (self._length,):
            raise ValueError(f"Expected an array of shape ({self._length},); found {array.shape}.")
        key, data = sha256(name.encode()).digest(), np.ascontiguousarray(array, dtype=np.float64).tobytes()
        for start in range(0, len(self._memory), self._size):
            if self._memory[start : start + _DIGEST] in (_FREE, key):
                self._memory[start + 2 * _DIGEST : start + self._size] = data
                self._memory[start + _DIGEST : start + 2 * _DIGEST] = sha256(key + data).digest()
                self._memory[start : start + _DIGEST] = key  # last: from here on it is found
                return
