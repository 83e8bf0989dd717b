"""Analytic references: exact energies and forces in microseconds, for dry runs and tests.

They satisfy the same protocol as PySCF, so everything that takes a reference can be tried with one of these first.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

from alflow.domain import Evaluation, Failure, FailureKind, Level, Outcome, Structure
from alflow.domain.elements import COVALENT_RADII_ANG
from alflow.domain.structure import FloatArray
from alflow.errors import StructureError

__all__ = ["LennardJones", "Morse", "MorseMolecule", "MuellerBrown"]

BOND_TOLERANCE: Final = 1.25
"""Two atoms are bonded when closer than this multiple of the sum of their covalent radii."""


@dataclass(frozen=True)
class Morse:
    """A Morse potential between every pair of atoms: E = Σ D (1 − exp(−a (r − r₀)))² − D.

    Meant for diatomics; three atoms already attract into a triangle. Molecules only.

    Attributes:
        depth_ev: Well depth D, eV.
        width_per_ang: Inverse width a, 1/Å.
        distance_ang: Distance r₀ of the minimum, Å.
        delay_s: Time every evaluation takes longer, s; no part of the level.
    """

    depth_ev: float = 4.5
    width_per_ang: float = 1.9
    distance_ang: float = 0.75
    delay_s: float = 0.0

    @cached_property
    def level(self) -> Level:
        """The three parameters."""
        return Level(
            "morse",
            {
                "depth_ev": self.depth_ev,
                "width_per_ang": self.width_per_ang,
                "distance_ang": self.distance_ang,
            },
        )

    def evaluate(self, structure: Structure) -> Outcome:
        """Compute energy and forces of a molecule."""
        time.sleep(self.delay_s)
        if structure.is_periodic:
            return _no_periodicity("Morse")
        i, j = np.triu_indices(len(structure), k=1)
        vectors, distances = _pairs(structure.positions, i, j)
        energies, slopes = _morse(distances, self.depth_ev, self.width_per_ang, self.distance_ang)
        forces = _pair_forces(len(structure), i, j, vectors, distances, slopes)
        return _outcome(float((energies - self.depth_ev).sum()), forces)


@dataclass(frozen=True)
class LennardJones:
    """A Lennard-Jones potential between every pair of atoms, for clusters and periodic cells.

    E = Σ 4ε ((σ/r)¹² − (σ/r)⁶) S(r), where S falls from 1 at 0.8 cutoffs to 0 at the cutoff with two continuous
    derivatives: S = 1 − 10x³ + 15x⁴ − 6x⁵. In a cell every image within the cutoff counts and the stress is given.

    Attributes:
        well_ev: Well depth ε, eV.
        sigma_ang: Distance σ of zero energy, Å.
        cutoff_ang: Distance beyond which atoms do not interact, Å.
        delay_s: Time every evaluation takes longer, s; no part of the level.
    """

    well_ev: float = 0.0104
    sigma_ang: float = 3.4
    cutoff_ang: float = 10.0
    delay_s: float = 0.0

    @cached_property
    def level(self) -> Level:
        """The three parameters."""
        return Level(
            "lennard-jones",
            {"well_ev": self.well_ev, "sigma_ang": self.sigma_ang, "cutoff_ang": self.cutoff_ang},
        )

    def evaluate(self, structure: Structure) -> Outcome:
        """Compute energy, forces and, where there is a cell in all three directions, stress."""
        time.sleep(self.delay_s)
        i, j, vectors = _all_pairs(structure, self.cutoff_ang)
        distances = np.linalg.norm(vectors, axis=1)
        energies, slopes = self._pair(distances)
        # Every pair is met from both ends.
        forces = _pair_forces(len(structure), i, j, vectors, distances, 0.5 * slopes)
        stress = None
        if structure.pbc.all():
            with np.errstate(all="ignore"):
                pull = 0.5 * (slopes / distances)[:, None] * vectors
            stress = pull.T @ vectors / abs(np.linalg.det(structure.cell))
        return _outcome(0.5 * float(energies.sum()), forces, stress)

    def _pair(self, r: FloatArray) -> tuple[FloatArray, FloatArray]:
        start = 0.8 * self.cutoff_ang
        with np.errstate(all="ignore"):
            sixth = (self.sigma_ang / r) ** 6
            bare = 4.0 * self.well_ev * (sixth**2 - sixth)
            bare_slope = -24.0 * self.well_ev * (2.0 * sixth**2 - sixth) / r
        x = np.clip((r - start) / (self.cutoff_ang - start), 0.0, 1.0)
        switch = 1.0 - x**3 * (10.0 - 15.0 * x + 6.0 * x**2)
        switch_slope = -30.0 * x**2 * (1.0 - x) ** 2 / (self.cutoff_ang - start)
        return bare * switch, bare_slope * switch + bare * switch_slope


@dataclass(frozen=True)
class MuellerBrown:
    """The Müller–Brown surface in x and y of the first atom, harmonic in its z.

    E/scale = Σₖ Aₖ exp(aₖ (x − x⁰ₖ)² + bₖ (x − x⁰ₖ)(y − y⁰ₖ) + cₖ (y − y⁰ₖ)²), with x and y in length scales; three
    minima, two saddle points. Further atoms feel nothing. Müller and Brown, Theor. Chim. Acta 53, 75 (1979).

    Attributes:
        energy_scale_ev: Energy of one unit of the paper, eV.
        length_scale_ang: Length of one unit of the paper, Å.
        stiffness_ev_ang2: Force constant along z, eV/Å².
        delay_s: Time every evaluation takes longer, s; no part of the level.
    """

    energy_scale_ev: float = 0.01
    length_scale_ang: float = 1.0
    stiffness_ev_ang2: float = 10.0
    delay_s: float = 0.0

    @cached_property
    def level(self) -> Level:
        """The three parameters."""
        return Level(
            "mueller-brown",
            {
                "energy_scale_ev": self.energy_scale_ev,
                "length_scale_ang": self.length_scale_ang,
                "stiffness_ev_ang2": self.stiffness_ev_ang2,
            },
        )

    def evaluate(self, structure: Structure) -> Outcome:
        """Compute energy and forces."""
        time.sleep(self.delay_s)
        amplitude = np.array([-200.0, -100.0, -170.0, 15.0])
        a, b, c = np.array([[-1, -1, -6.5, 0.7], [0, 0, 11, 0.6], [-10, -10, -6.5, 0.7]])
        x, y = structure.positions[0, :2] / self.length_scale_ang
        z = structure.positions[0, 2]
        dx = x - np.array([1, 0, -0.5, -1])
        dy = y - np.array([0, 0.5, 1.5, 1])
        with np.errstate(all="ignore"):
            terms = amplitude * np.exp(a * dx**2 + b * dx * dy + c * dy**2)
            slope_x = float((terms * (2 * a * dx + b * dy)).sum())
            slope_y = float((terms * (b * dx + 2 * c * dy)).sum())
        forces = np.zeros((len(structure), 3))
        per_length = self.energy_scale_ev / self.length_scale_ang
        forces[0] = [-per_length * slope_x, -per_length * slope_y, -self.stiffness_ev_ang2 * z]
        energy = self.energy_scale_ev * float(terms.sum()) + 0.5 * self.stiffness_ev_ang2 * float(z) ** 2
        return _outcome(energy, forces)


@dataclass(frozen=True)
class MorseMolecule:
    """A stand-in for DFT around one molecule: Morse bonds, harmonic angles, soft repulsion of what is not bonded.

    E = Σ_bonds D (1 − exp(−a (r − r₀)))² + Σ_angles ½k ((cos θ − cos θ₀)/sin θ₀)² + Σ_others A exp(−(r/s)²)

    (near-linear angles: k (1 + cos θ)). Bonds, r₀ and θ₀ are read off a reference geometry once and never change, so
    the surface is single-valued and smooth wherever no two atoms coincide. For the same reason it is *not* symmetric
    under exchange of like atoms that are bonded differently, and it never forms a new bond. The reference geometry is
    close to, not exactly at, the minimum; s is 0.9 times the sum of the covalent radii plus 0.5 Å.

    Attributes:
        numbers: Atomic numbers of the reference geometry.
        bonds: Bonded pairs with their length: (i, j, r₀ in Å).
        angles: Bonded triples with their cosine: (i, apex, k, cos θ₀).
        depth_ev: Bond energy D, eV.
        width_per_ang: Inverse width a of every bond, 1/Å.
        angle_stiffness_ev: Stiffness k of every angle, eV/rad².
        repulsion_ev: Energy A of two coinciding atoms that share neither a bond nor a neighbor, eV.
        delay_s: Time every evaluation takes longer, s; no part of the level.
    """

    numbers: tuple[int, ...]
    bonds: tuple[tuple[int, int, float], ...]
    angles: tuple[tuple[int, int, int, float], ...]
    depth_ev: float = 4.5
    width_per_ang: float = 1.9
    angle_stiffness_ev: float = 4.0
    repulsion_ev: float = 3.0
    delay_s: float = 0.0

    @classmethod
    def around(
        cls,
        geometry: Structure,
        depth_ev: float = 4.5,
        width_per_ang: float = 1.9,
        angle_stiffness_ev: float = 4.0,
        repulsion_ev: float = 3.0,
        delay_s: float = 0.0,
    ) -> MorseMolecule:
        """Read bonds and angles off a geometry.

        Args:
            geometry: A sensible geometry of the molecule, such as the first structure of a campaign.
            depth_ev: Bond energy, eV.
            width_per_ang: Inverse width of every bond, 1/Å.
            angle_stiffness_ev: Stiffness of every angle, eV/rad².
            repulsion_ev: Energy of two coinciding atoms that are not bonded, eV.
            delay_s: Time every evaluation takes longer, s.
        """
        radii = np.array([COVALENT_RADII_ANG[n] for n in geometry.numbers])
        x = geometry.positions
        bonds = []
        neighbors: list[list[int]] = [[] for _ in range(len(geometry))]
        for i, j in itertools.combinations(range(len(geometry)), 2):
            distance = float(np.linalg.norm(x[i] - x[j]))
            if distance < BOND_TOLERANCE * (radii[i] + radii[j]):
                bonds.append((i, j, distance))
                neighbors[i].append(j)
                neighbors[j].append(i)
        angles = []
        for apex, around in enumerate(neighbors):
            for i, k in itertools.combinations(around, 2):
                u, v = x[i] - x[apex], x[k] - x[apex]
                angles.append((i, apex, k, float(u @ v / (np.linalg.norm(u) * np.linalg.norm(v)))))
        numbers = tuple(int(n) for n in geometry.numbers)
        parameters = (depth_ev, width_per_ang, angle_stiffness_ev, repulsion_ev, delay_s)
        return cls(numbers, tuple(bonds), tuple(angles), *parameters)

    @cached_property
    def level(self) -> Level:
        """Topology and parameters."""
        settings: dict[str, Any] = {
            "numbers": list(self.numbers),
            "bonds_ang": [list(bond) for bond in self.bonds],
            "angles_cosine": [list(angle) for angle in self.angles],
            "depth_ev": self.depth_ev,
            "width_per_ang": self.width_per_ang,
            "angle_stiffness_ev": self.angle_stiffness_ev,
            "repulsion_ev": self.repulsion_ev,
        }
        return Level("morse-molecule", settings)

    def check(self, structure: Structure) -> None:
        """Check that a structure has the atoms this surface was made for.

        Raises:
            StructureError: Other elements, another order, or a periodic structure.
        """
        if structure.is_periodic or tuple(structure.numbers.tolist()) != self.numbers:
            raise StructureError(
                f"MorseMolecule was made for a molecule with atomic numbers {list(self.numbers)}, in this order; found"
                f" {structure.numbers.tolist()}{' in a periodic cell' if structure.is_periodic else ''}."
            )

    def evaluate(self, structure: Structure) -> Outcome:
        """Compute energy and forces; another molecule is rejected."""
        time.sleep(self.delay_s)
        try:
            self.check(structure)
        except StructureError as error:
            return Failure(FailureKind.REJECTED, str(error))
        x, n = structure.positions, len(structure)
        energy, forces = 0.0, np.zeros((n, 3))
        for i, j, lengths, curve in self._pair_terms(n):
            vectors, distances = _pairs(x, i, j)
            energies, slopes = curve(distances, lengths)
            energy += float(energies.sum())
            forces += _pair_forces(n, i, j, vectors, distances, slopes)
        bend, bend_forces = _bend(x, self.angles, self.angle_stiffness_ev)
        return _outcome(energy + bend, forces + bend_forces)

    def _pair_terms(self, n: int) -> list[tuple[Any, Any, FloatArray, Any]]:
        """Bonds and repelling pairs: first atoms, second atoms, lengths (Å), curve."""
        bonded = np.array([bond[:2] for bond in self.bonds], dtype=int).reshape(-1, 2)
        lengths = np.array([bond[2] for bond in self.bonds])
        near = {(i, j) for i, j, _ in self.bonds} | {(min(i, k), max(i, k)) for i, _, k, _ in self.angles}
        apart = [pair for pair in itertools.combinations(range(n), 2) if pair not in near]
        others = np.array(apart, dtype=int).reshape(-1, 2)
        radii = np.array([COVALENT_RADII_ANG[z] for z in self.numbers])
        ranges = 0.9 * radii[others].sum(axis=1) + 0.5

        def stretch(r: FloatArray, r0: FloatArray) -> tuple[FloatArray, FloatArray]:
            return _morse(r, self.depth_ev, self.width_per_ang, r0)

        def repel(r: FloatArray, s: FloatArray) -> tuple[FloatArray, FloatArray]:
            energies = self.repulsion_ev * np.exp(-((r / s) ** 2))
            return energies, -2.0 * r / s**2 * energies

        return [(bonded[:, 0], bonded[:, 1], lengths, stretch), (others[:, 0], others[:, 1], ranges, repel)]


def _bend(x: FloatArray, angles: tuple[tuple[int, int, int, float], ...], stiffness: float) -> tuple[float, FloatArray]:
    """Energy (eV) and forces (eV/Å) of all angles."""
    forces = np.zeros_like(x)
    if not angles:
        return 0.0, forces
    i, apex, k = np.array([angle[:3] for angle in angles]).T
    target = np.array([angle[3] for angle in angles])
    u, v = x[i] - x[apex], x[k] - x[apex]
    with np.errstate(all="ignore"):
        nu, nv = np.linalg.norm(u, axis=1), np.linalg.norm(v, axis=1)
        cosine = (u * v).sum(axis=1) / (nu * nv)
        sine2 = 1.0 - target**2
        linear = sine2 < 0.05  # within 13° of straight: the first form would divide by almost nothing
        safe = np.where(linear, 1.0, sine2)
        energies = np.where(linear, stiffness * (1.0 + cosine), 0.5 * stiffness * (cosine - target) ** 2 / safe)
        slopes = np.where(linear, stiffness, stiffness * (cosine - target) / safe)
        on_i = -slopes[:, None] * (v / (nu * nv)[:, None] - (cosine / nu**2)[:, None] * u)
        on_k = -slopes[:, None] * (u / (nu * nv)[:, None] - (cosine / nv**2)[:, None] * v)
    np.add.at(forces, i, on_i)
    np.add.at(forces, k, on_k)
    np.add.at(forces, apex, -on_i - on_k)
    return float(energies.sum()), forces


def _morse(r: FloatArray, depth: float, width: float, r0: FloatArray | float) -> tuple[FloatArray, FloatArray]:
    """Energy D(1 − e)² and its slope."""
    with np.errstate(all="ignore"):
        e = np.exp(-width * (r - r0))
        return depth * (1.0 - e) ** 2, 2.0 * depth * width * e * (1.0 - e)


def _pairs(x: FloatArray, i: Any, j: Any) -> tuple[FloatArray, FloatArray]:
    vectors = x[j] - x[i]
    return vectors, np.linalg.norm(vectors, axis=1)


def _pair_forces(n: int, i: Any, j: Any, vectors: FloatArray, distances: FloatArray, slopes: FloatArray) -> FloatArray:
    """Forces, eV/Å, from the slopes dE/dr of pairs whose vectors point from i to j."""
    forces = np.zeros((n, 3))
    with np.errstate(all="ignore"):
        pull = (slopes / distances)[:, None] * vectors
    np.add.at(forces, i, pull)
    np.add.at(forces, j, -pull)
    return forces


def _all_pairs(structure: Structure, cutoff: float) -> tuple[Any, Any, FloatArray]:
    """Every ordered pair within the cutoff, images included: i, j, vector from i to j's image (Å)."""
    n, x = len(structure), structure.positions
    reach = [0, 0, 0]
    if structure.is_periodic:
        # Distance between lattice planes; positions may lie outside the cell, hence their own spread on top.
        heights = 1.0 / np.linalg.norm(np.linalg.inv(structure.cell), axis=0)
        spread = np.ptp(x @ np.linalg.inv(structure.cell), axis=0)
        reach = [
            int(np.ceil(cutoff / h + s)) if p else 0 for h, s, p in zip(heights, spread, structure.pbc, strict=True)
        ]
    images = np.array(list(itertools.product(*(range(-m, m + 1) for m in reach))), dtype=float)
    vectors = x[None, None, :, :] - x[None, :, None, :] + (images @ structure.cell)[:, None, None, :]
    close = np.linalg.norm(vectors, axis=-1) < cutoff
    home = len(images) // 2
    close[home, np.arange(n), np.arange(n)] = False
    _, i, j = np.nonzero(close)
    return i, j, vectors[close]


def _no_periodicity(name: str) -> Failure:
    return Failure(FailureKind.REJECTED, f"{name} describes isolated molecules; found a periodic structure.")


def _outcome(energy: float, forces: FloatArray, stress: FloatArray | None = None) -> Outcome:
    """An evaluation, or NON_FINITE where atoms coincide."""
    finite = np.isfinite(energy) and np.isfinite(forces).all() and (stress is None or np.isfinite(stress).all())
    if not finite:
        return Failure(FailureKind.NON_FINITE, "Energy or forces are not finite numbers; do two atoms coincide?")
    return Evaluation(energy, forces, stress)
