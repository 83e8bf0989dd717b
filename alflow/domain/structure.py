"""A structure: which atoms, where, in which cell, with which charge and spin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from alflow.domain.elements import MASSES_U, SYMBOLS, atomic_number
from alflow.domain.formula import hill_formula
from alflow.domain.identity import content_id
from alflow.errors import StructureError

__all__ = ["FloatArray", "IntArray", "Structure", "frozen_array"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def frozen_array(values: Any, dtype: npt.DTypeLike = np.float64) -> npt.NDArray[Any]:
    """Copy values into a contiguous array nobody can write to."""
    array = np.array(values, dtype=dtype, order="C", copy=True)
    array.setflags(write=False)
    return array


@dataclass(frozen=True, eq=False)
class Structure:
    """Atoms in space.

    Two structures are equal when their :attr:`id` is: same elements in the same order, same coordinates bit for bit,
    same cell and periodicity, same charge and multiplicity.

    Attributes:
        numbers: Atomic numbers, shape (atom,).
        positions: Cartesian positions, Å, shape (atom, 3). Never wrapped into the cell.
        cell: Cell vectors as rows, Å, shape (3, 3); zeros for a molecule.
        pbc: Whether each cell vector repeats, shape (3,).
        charge: Total charge, e.
        multiplicity: Spin multiplicity 2S + 1.

    Raises:
        StructureError: Wrong shapes, unknown elements, non-finite numbers, or a periodic direction without a cell.

    Examples:
        >>> water = Structure.of("OHH", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
        >>> water.formula, water.n_electrons, len(water)
        ('H2O', 10, 3)
    """

    numbers: IntArray
    positions: FloatArray
    cell: FloatArray
    pbc: npt.NDArray[np.bool_]
    charge: int = 0
    multiplicity: int = 1

    def __post_init__(self) -> None:
        numbers = frozen_array(self.numbers, np.int64)
        positions = frozen_array(self.positions)
        cell = frozen_array(self.cell)
        pbc = frozen_array(self.pbc, np.bool_)
        _check_shapes(numbers, positions, cell, pbc)
        _check_values(numbers, positions, cell, pbc)
        if self.multiplicity < 1:
            raise StructureError(f"Multiplicity is 2S+1, at least 1; found {self.multiplicity}.")
        for name, value in (("numbers", numbers), ("positions", positions), ("cell", cell), ("pbc", pbc)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "charge", int(self.charge))
        object.__setattr__(self, "multiplicity", int(self.multiplicity))

    @classmethod
    def of(
        cls,
        elements: str | Sequence[str] | Sequence[int] | npt.NDArray[Any],
        positions: npt.ArrayLike,
        cell: npt.ArrayLike | None = None,
        pbc: bool | Sequence[bool] | None = None,
        charge: int = 0,
        multiplicity: int = 1,
    ) -> Structure:
        """Build a structure from symbols or atomic numbers.

        Args:
            elements: Symbols (``"OHH"``, ``["O", "H", "H"]``) or atomic numbers, shape (atom,).
            positions: Cartesian positions, Å, shape (atom, 3).
            cell: Cell vectors as rows, Å, shape (3, 3), or three lengths; None for a molecule.
            pbc: Periodicity; by default everywhere if there is a cell, else nowhere.
            charge: Total charge, e.
            multiplicity: Spin multiplicity 2S + 1.
        """
        if isinstance(elements, str):
            elements = _split_symbols(elements)
        numbers = [atomic_number(e) if isinstance(e, str) else int(e) for e in elements]
        matrix = np.zeros((3, 3)) if cell is None else np.asarray(cell, dtype=float)
        if matrix.shape == (3,):
            matrix = np.diag(matrix)
        periodic = (cell is not None) if pbc is None else pbc
        flags = np.array([periodic] * 3 if isinstance(periodic, bool) else periodic, dtype=bool)
        return cls(np.array(numbers), np.asarray(positions, dtype=float), matrix, flags, charge, multiplicity)

    @cached_property
    def id(self) -> str:
        """SHA-256 of the exact content, 64 hexadecimal characters."""
        fields = {
            name: getattr(self, name) for name in ("numbers", "positions", "cell", "pbc", "charge", "multiplicity")
        }
        return content_id("structure", fields)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Structure) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def symbols(self) -> tuple[str, ...]:
        """Element symbol of each atom."""
        return tuple(SYMBOLS[n] for n in self.numbers)

    @property
    def masses(self) -> FloatArray:
        """Mass of each atom, u, shape (atom,)."""
        return np.array([MASSES_U[n] for n in self.numbers])

    @property
    def is_periodic(self) -> bool:
        """Whether any direction repeats."""
        return bool(self.pbc.any())

    @property
    def n_electrons(self) -> int:
        """Number of electrons, all electrons counted."""
        return int(self.numbers.sum()) - self.charge

    @property
    def formula(self) -> str:
        """Chemical formula in Hill order: carbon, hydrogen, then the alphabet."""
        symbols = self.symbols
        return hill_formula({symbol: symbols.count(symbol) for symbol in set(symbols)})

    def with_positions(self, positions: npt.ArrayLike) -> Structure:
        """The same atoms at other positions, Å, shape (atom, 3)."""
        moved = np.asarray(positions, dtype=float)
        return Structure(self.numbers, moved, self.cell, self.pbc, self.charge, self.multiplicity)


def _split_symbols(text: str) -> list[str]:
    symbols: list[str] = []
    for character in text:
        if character.islower() and symbols:
            symbols[-1] += character
        else:
            symbols.append(character)
    return symbols


def _check_shapes(numbers: Any, positions: Any, cell: Any, pbc: Any) -> None:
    n = numbers.shape[0] if numbers.ndim == 1 else -1
    if n < 1:
        raise StructureError(f"A structure needs at least one atom; found atomic numbers of shape {numbers.shape}.")
    if positions.shape != (n, 3):
        raise StructureError(f"Positions of {n} atoms have shape ({n}, 3); found {positions.shape}.")
    if cell.shape != (3, 3) or pbc.shape != (3,):
        raise StructureError(f"A cell has shape (3, 3) and pbc (3,); found {cell.shape} and {pbc.shape}.")


def _check_values(numbers: Any, positions: Any, cell: Any, pbc: Any) -> None:
    if numbers.min() < 1 or numbers.max() >= len(SYMBOLS):
        raise StructureError(f"Atomic numbers go from 1 to {len(SYMBOLS) - 1}; found {sorted(set(numbers.tolist()))}.")
    if not np.isfinite(positions).all():
        bad = int(np.argwhere(~np.isfinite(positions).all(axis=1))[0, 0])
        raise StructureError(f"Positions must be finite numbers; atom {bad} is at {positions[bad].tolist()}.")
    if not np.isfinite(cell).all():
        raise StructureError("Cell vectors must be finite numbers.")
    if pbc.any() and abs(np.linalg.det(cell)) < 1e-6:
        raise StructureError("A periodic structure needs three independent cell vectors; their volume is zero.")
