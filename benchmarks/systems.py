"""The structures that are timed, the same for alflow and for every peer. Needs numpy and ASE only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Final

import ase
import ase.io
import numpy as np
import numpy.typing as npt
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

__all__ = ["CASES", "SCALING", "MissingDataError", "System", "bpa_frames", "data_folder", "system"]

CASES: Final = ("ethanol", "ethanol32", "bpa", "water192", "water1536", "water12288")
"""Names of the cases, small to large."""

SCALING: Final = {960: (5, 1, 1), 5184: (3, 3, 3), 12288: (4, 4, 4), 34560: (6, 6, 5), 98304: (8, 8, 8)}
"""Replicas of the 192-atom box by their number of atoms: the series from 10³ to 10⁵."""

JITTER_ANG: Final = 0.02
"""Standard deviation of each atom's displacement from the start, Å, new at every step."""

BOX_ANG: Final = 12.42
"""Edge of the box of 64 water molecules, Å: 0.999 g/cm³."""


class MissingDataError(Exception):
    """The folder of reference data does not hold what a case needs."""


@dataclass(frozen=True)
class System:
    """Copies of one structure, evaluated together.

    Attributes:
        name: Name of the case.
        atoms: The structure.
        copies: How many of them make one batch.
    """

    name: str
    atoms: ase.Atoms
    copies: int = 1

    @property
    def n_atoms(self) -> int:
        """Atoms of the whole batch."""
        return self.copies * len(self.atoms)

    def steps(self, n: int = 16) -> Iterator[npt.NDArray[np.float64]]:
        """Positions of one step after the other, Å, shape (copy, atom, 3): jittered around the start, without end."""
        rng = np.random.default_rng(1)
        n = min(n, max(3, 400_000 // self.n_atoms))
        shape = (self.copies, *self.atoms.positions.shape)
        return cycle([self.atoms.positions + rng.normal(0.0, JITTER_ANG, shape) for _ in range(n)])


def system(name: str) -> System:
    """The system of a case, or ``waterN`` with N among those of :data:`SCALING`.

    Raises:
        MissingDataError: 3BPA, and its data are not there.
    """
    if name == "ethanol":
        return System(name, molecule("CH3CH2OH"))
    if name == "ethanol32":
        return System(name, molecule("CH3CH2OH"), copies=32)
    if name == "bpa":
        return System(name, bpa_frames()[0])
    replicas = {f"water{n}": repeats for n, repeats in SCALING.items()}
    replicas |= {"water192": (1, 1, 1), "water1536": (2, 2, 2)}
    return System(name, water(replicas[name]))


def data_folder() -> Path:
    """Folder of the reference data."""
    return Path(os.environ.get("ALFLOW_DATA", "../shared/data"))


def bpa_frames() -> list[ase.Atoms]:
    """The 500 frames of 3-(benzyloxy)pyridin-2-amine at 300 K (BOTNet-datasets).

    Raises:
        MissingDataError: The file is not there.
    """
    file = data_folder() / "3bpa" / "train_300K.xyz"
    if not file.is_file():
        raise MissingDataError(f"{file} is missing: set ALFLOW_DATA to the folder that holds 3bpa/.")
    frames = []
    for read in ase.io.iread(file, index=":"):
        # The file gives a cell of 50 Å and no periodic direction; a molecule has no cell.
        frame = ase.Atoms(read.numbers, read.positions)
        frame.calc = SinglePointCalculator(frame, energy=read.get_potential_energy(), forces=read.get_forces())
        frames.append(frame)
    return frames


def water(repeats: tuple[int, int, int] = (1, 1, 1)) -> ase.Atoms:
    """Liquid water: 64 molecules in a cubic box, repeated, each atom of every replica displaced a little.

    The oxygen atoms stand on a disordered lattice and every molecule takes, of many random orientations, the one that
    leaves its atoms farthest from the others. The density is that of the liquid, and with it the number of neighbors,
    on which alone the time depends.
    """
    rng = np.random.default_rng(7)
    monomer = molecule("H2O")
    shape = monomer.positions - monomer.positions[0]
    grid = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    oxygens = (grid + 0.5) * BOX_ANG / 4 + rng.normal(0.0, 0.35, (64, 3))
    placed = np.repeat(oxygens[:, None], 3, axis=1)
    for m in list(range(64)) * 2:
        others = np.delete(placed, m, axis=0).reshape(-1, 3)
        trials = [oxygens[m] + shape @ _rotation(rng) for _ in range(30)]
        placed[m] = max(trials, key=lambda trial: _nearest(trial, others))
    box = ase.Atoms("OHH" * 64, positions=placed.reshape(-1, 3), cell=[BOX_ANG] * 3, pbc=True)
    if repeats == (1, 1, 1):
        return box
    large: ase.Atoms = box * repeats
    large.positions += rng.normal(0.0, JITTER_ANG, large.positions.shape)
    return large


def _rotation(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    orthogonal, triangular = np.linalg.qr(rng.normal(size=(3, 3)))
    return np.asarray(orthogonal * np.sign(np.diag(triangular)))


def _nearest(trial: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> float:
    vectors = trial[:, None] - others[None]
    vectors -= BOX_ANG * np.round(vectors / BOX_ANG)
    return float((vectors**2).sum(axis=-1).min())
