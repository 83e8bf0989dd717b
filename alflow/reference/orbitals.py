"""Orbitals on the grid of a cell: small blocks, kept while there is room; and forces of local potentials at once.

PySCF evaluates the orbitals anew in every cycle, and for every atom when it differentiates; both are most of its time.
Its blocks are as large as two gigabytes. Neither changes a number. Measured in docs/decisions/0014-periodic-pyscf.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from pyscf.pbc import tools
from pyscf.pbc.dft.numint import KNumInt
from pyscf.pbc.grad import krks, kuks
from pyscf.pbc.gto.pseudo import get_alphas, get_vlocG

__all__ = ["BLOCK_MB", "KeptOrbitals", "RestrictedForces", "UnrestrictedForces"]

BLOCK_MB: Final = 60.0
"""Size of a block of orbitals; the derivatives of a stress take several times as much."""

_COMPLEX, _REAL, _WITH_SLOPES = 16, 8, 4


class KeptOrbitals(KNumInt):  # type: ignore[misc]
    """Integration on the grid with orbitals and slopes that are evaluated once.

    Attributes:
        room_mb: Memory they may take, MB; where they need more, they are evaluated anew each time.
    """

    def __init__(self, kpts: Any, room_mb: float) -> None:
        super().__init__(kpts)
        self.room_mb = room_mb
        self._kept: list[tuple[Any, Any, Any, Any]] | None = None

    def block_loop(
        self,
        cell: Any,
        grids: Any,
        nao: int | None = None,
        deriv: int = 0,
        kpts: Any = None,
        kpts_band: Any = None,
        max_memory: float = 2000,
        non0tab: Any = None,
        blksize: int | None = None,
    ) -> Iterator[tuple[Any, Any, Any, Any, Any]]:
        """Go through the grid; as in PySCF, but from memory where possible."""
        points = np.zeros((1, 3)) if kpts is None else kpts

        def anew(order: int) -> Iterator[tuple[Any, Any, Any, Any, Any]]:
            size = min(max_memory, BLOCK_MB)
            return super(KeptOrbitals, self).block_loop(  # type: ignore[no-any-return]
                cell, grids, nao, order, points, kpts_band, size, non0tab, blksize
            )

        if deriv > 1 or kpts_band is not None or self._size_mb(cell, grids, points) > self.room_mb:
            yield from anew(deriv)
            return
        if self._kept is None:
            self._kept = [(ao, mask, weight, coords) for ao, _, mask, weight, coords in anew(1)]
        for ao, mask, weight, coords in self._kept:
            orbitals = ao if deriv == 1 else [part[0] for part in ao]
            yield orbitals, orbitals, mask, weight, coords

    def forget(self) -> None:
        """Give the memory back."""
        self._kept = None

    @staticmethod
    def _size_mb(cell: Any, grids: Any, points: Any) -> float:
        number = _REAL if len(points) == 1 and not np.any(points) else _COMPLEX
        return float(grids.weights.size * cell.nao_nr() * len(points) * _WITH_SLOPES * number / 1e6)


class _Forces:
    """Derivatives of the local pseudopotentials from one pass over the grid, instead of one for each atom.

    −∂E/∂R has two parts: orbitals that move with their atom (here a matrix for each direction), and potentials that
    move: (1/N) Re Σ_G conj(n(G)) iG e^{−iG·R} v(G), with the Fourier transform n(G) of the density on N points.
    """

    base: Any
    cell: Any

    def get_hcore(self, cell: Any = None, kpts: Any = None) -> Any:
        """Slopes of kinetic energy and local potential with respect to the first orbital."""
        h1 = np.asarray(cell.pbc_intor("int1e_ipkin", kpts=kpts))
        potential = -np.einsum("ag,ag->g", cell.get_SI(), get_vlocG(cell))
        potential[0] = np.sum(get_alphas(cell))
        on_grid = tools.ifft(potential, cell.mesh).real
        start = 0
        for orbitals, _, _, weight, _ in self.base._numint.block_loop(cell, self.base.grids, cell.nao_nr(), 1, kpts):
            part, start = on_grid[start : start + weight.size], start + weight.size
            for k, ao in enumerate(orbitals):
                scaled = ao[0] * part[:, None]
                found = np.stack([slope.conj().T @ scaled for slope in ao[1:4]])
                h1[k] += found if np.iscomplexobj(h1) else found.real
        return h1

    def hcore_generator(self, cell: Any = None, kpts: Any = None) -> Callable[[int], Any]:
        """What moves with an atom's orbitals; PySCF calls it once for each atom."""
        cell = self.cell if cell is None else cell
        h1 = self.get_hcore(cell, self.base.kpts if kpts is None else kpts)
        slices = cell.aoslice_by_atom()

        def derivative(atom: int) -> Any:
            first, last = slices[atom][2:]
            matrix = np.zeros((3, len(h1), *h1.shape[2:]), dtype=h1.dtype)
            for k, slope in enumerate(h1):
                matrix[:, k, first:last] -= slope[:, first:last]
                matrix[:, k, :, first:last] -= slope[:, first:last].transpose(0, 2, 1).conj()
            return matrix

        return derivative

    def grad_elec(self, *args: Any, **kwargs: Any) -> Any:
        """Gradient of the electronic energy."""
        de = super().grad_elec(*args, **kwargs)  # type: ignore[misc]
        return de + self._moving_potentials()

    def _moving_potentials(self) -> Any:
        cell, base = self.cell, self.base
        density = np.asarray(base.make_rdm1())
        total = density if density.ndim == 3 else density.sum(axis=0)
        rho = tools.fft(base._numint.get_rho(cell, total, base.grids, base.kpts), cell.mesh).conj()
        moving = 1j * rho * cell.get_SI() * get_vlocG(cell)
        return np.real(moving @ cell.get_Gv(cell.mesh)) / rho.size


class RestrictedForces(_Forces, krks.Gradients):  # type: ignore[misc]
    """Gradient of a restricted field."""


class UnrestrictedForces(_Forces, kuks.Gradients):  # type: ignore[misc]
    """Gradient of an unrestricted field."""
