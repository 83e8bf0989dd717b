"""What the networks see of every atom, and how it changes with the positions, for training: compiled on one CPU core.

For a fixed projection P of the symmetry functions G the components of an atom are x = Pᵀ (G − c). Their slopes
∂x/∂r_ij are what :func:`alflow.potentials.blocks.respond_block` would do for one member per component, whose gradient
∂E/∂G is a column of P. A few components are carried to the neighbors at a time, so that what is in between stays in the
cache. Where there is no kernel, :func:`pure_components` does the same with torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from alflow.potentials.blocks import repel
from alflow.potentials.committee import Surroundings, repulsion_of
from alflow.potentials.describing import Block, CompiledDescriptors, Plan, Scene
from alflow.potentials.descriptors import Descriptors, SymmetryFunctions
from alflow.potentials.kernels import Doubles, Indices, Reals, layout, pull_invariants, pull_neighbors
from alflow.potentials.repulsion import repulsion_terms
from alflow.tensors import Batch
from alflow.tensors.derivatives import forces_from_pairs
from alflow.tensors.jit import compiled, inner
from alflow.tensors.lanes import WIDTH, rounded, splat_at, store, turn

__all__ = ["CompiledComponents", "Components", "pure_components"]

_GROUP: Final = 16
"""Components carried to the neighbors together: radial functions and harmonics are evaluated once for all of them."""

_ATOMS_AT_ONCE: Final = 16
"""Atoms whose slopes torch computes together: few enough to stay in the cache."""

Longs = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Components:
    """What the networks see of a batch. Atoms of all structures are sorted by element.

    Attributes:
        place: Row of each atom in the table of all (structure, atom) places, int64, shape (atom,).
        counts: Atoms of each element.
        values: x, float64, shape (atom, component).
        slopes: ∂x/∂r_ij, 1/Å, shape (atom, component, neighbor · 3), with zeros behind up to whole lanes.
        extents: Number of coordinates in each atom's slopes that can differ from zero, int64, shape (atom,).
        neighbors: Row of each neighbor in the table of places, int64, shape (atom, neighbor); the atom itself in the
            slots that are left over.
        vectors: r_ij, Å, shape (atom, neighbor, 3); zero in the slots that are left over.
        repulsion: Energy of the repulsion, eV, float64, shape (structure,); zero unless it was asked for.
        push: Its forces, eV/Å, float64, shape (place, 3).
        push_virials: Its stress times volume, eV, float64, shape (structure, 3, 3).
    """

    place: torch.Tensor
    counts: tuple[int, ...]
    values: torch.Tensor
    slopes: torch.Tensor
    extents: torch.Tensor
    neighbors: torch.Tensor
    vectors: torch.Tensor
    repulsion: torch.Tensor
    push: torch.Tensor
    push_virials: torch.Tensor


class CompiledComponents:
    """A projection of the symmetry functions laid out for the kernels, and each thread's pair list.

    Symmetry functions and components are evaluated in float64: what is left of G − c after the projection can be small.
    Slopes are carried to the neighbors in the floating-point type they are wanted in.
    """

    def __init__(
        self,
        functions: SymmetryFunctions,
        elements: tuple[int, ...],
        center: torch.Tensor,
        projection: torch.Tensor,
        repulsion: bool,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Lay out the projection.

        Args:
            functions: The symmetry functions.
            elements: Atomic numbers, ascending.
            center: Mean symmetry functions of each element, shape (element, feature).
            projection: Their scaled principal components, shape (element, feature, component).
            repulsion: Whether overlapping atoms repel each other.
            dtype: Floating-point type of slopes and vectors.
        """
        self.dtype = dtype
        self.projection: Doubles = projection.to(torch.float64).contiguous().numpy()
        self.directions: Reals = projection.to(dtype).transpose(1, 2).contiguous().numpy()
        self.terms = repulsion_terms(elements) if repulsion else None
        shift: Doubles = center.to(torch.float64).contiguous().numpy()
        self.descriptors = CompiledDescriptors(functions, elements, shift, repulsion, 0)
        basis, table, sizes = self.descriptors.form
        self.form = (basis.astype(self.directions.dtype), table.astype(self.directions.dtype), sizes)

    def of(self, batch: Batch) -> Components:
        """Evaluate components and slopes, and the repulsion with them.

        Args:
            batch: The structures, on the CPU.

        Raises:
            InputError: An element that is not among those of the projection.
        """
        scene = self.descriptors.laid_out(batch)
        plan = scene.plan
        place, rows = _by_element(plan)
        near = np.zeros(len(plan.species), dtype=np.int64)
        count_near(scene.positions, scene.rows, self.descriptors.limits2[1], near)
        n_slots, n_components = max(1, int(near.max(initial=0))), self.projection.shape[2]
        slopes = torch.zeros((len(place), n_components, rounded(3 * n_slots)), dtype=self.dtype)
        vectors = torch.zeros((len(place), n_slots, 3), dtype=self.dtype)
        neighbors = np.repeat(place[:, None], n_slots, axis=1)
        values, extents = np.empty((len(place), n_components)), np.zeros(len(place), dtype=np.int64)
        n_structures = len(plan.numbers)
        energy, push, virials = np.zeros(n_structures), np.zeros((len(plan.species), 3)), np.zeros((n_structures, 9))
        for block in plan.blocks:
            features, n_contacts = self.descriptors.describe(scene, block)
            if self.terms is not None:
                repel(
                    scene.room.contacts, n_contacts, plan.species, self.terms, plan.structure_of, energy, push, virials
                )
            where = rows[block.atoms]
            self._project(block, features, where, values)
            self._pull(scene, block, where, (slopes.numpy(), extents, neighbors, vectors.numpy()))
        tensor = torch.from_numpy(virials).reshape(-1, 3, 3)
        return Components(
            torch.from_numpy(place), tuple(plan.counts.sum(axis=0).tolist()), torch.from_numpy(values), slopes,
            torch.from_numpy(extents), torch.from_numpy(neighbors), vectors, torch.from_numpy(energy),
            torch.from_numpy(push), 0.5 * (tensor + tensor.transpose(1, 2)),
        )  # fmt: skip

    def _project(self, block: Block, features: Reals, where: Longs, values: Doubles) -> None:
        for e, projection in enumerate(self.projection):
            begin, end = block.runs[e], block.runs[e + 1]
            values[where[begin:end]] = features[:, begin:end].T @ projection

    def _pull(self, scene: Scene, block: Block, where: Longs, out: tuple[Any, ...]) -> None:
        room, kind = scene.room, self.directions.dtype
        n_lanes, n_tiles = room.bounds[len(block.atoms) - 1, -1], int((-(-np.diff(block.runs) // WIDTH)).sum())
        geometry, sums = room.geometry[:, :n_lanes].astype(kind), room.sums[:n_tiles].astype(kind)
        # Rounded like the distances, so that whatever fills a group of neighbors up is still not inside.
        limit = float(kind.type(np.sqrt(self.descriptors.limits2[1])))
        pull_components(
            block.runs, self.form, room.bounds, geometry, room.ids, sums, self.directions, limit, where, *out
        )


def _by_element(plan: Plan) -> tuple[Longs, Longs]:
    """Places of all atoms sorted by element, and the row of each place among them."""
    real = np.flatnonzero(plan.species >= 0)
    place = real[np.argsort(plan.species[real], kind="stable")]
    rows = np.full(len(plan.species), -1, dtype=np.int64)
    rows[place] = np.arange(len(place))
    return place, rows


@compiled
def count_near(positions: Doubles, pairs: tuple[Any, ...], cutoff2: float, near: Longs) -> None:
    """Count the neighbors of every atom inside the cutoff."""
    starts, other, shift, offsets = pairs
    for a in range(len(near)):
        for p in range(starts[a], starts[a + 1]):
            r2 = 0.0
            for axis in range(3):
                d = positions[other[p], axis] - positions[a, axis] + offsets[shift[p], axis]
                r2 += d * d
            # One too many leaves a slot empty; one too few would be written behind the end.
            near[a] += 1 if r2 < cutoff2 * (1.0 + 1e-12) else 0


@compiled
def pull_components(
    runs: Indices, form: tuple[Any, ...], bounds: Indices, geometry: Reals, ids: Indices, sums: Reals,
    directions: Reals, limit: float, rows: Longs, slopes: Reals, extents: Longs, neighbors: Longs, vectors: Reals,
) -> None:  # fmt: skip
    """Carry the components of a block of atoms to their neighbors.

    Args:
        runs, form, bounds, geometry, ids, sums: As :func:`alflow.potentials.blocks.describe_block` was given and left
            them.
        directions: ∂x/∂G of each element's atoms, shape (element, component, feature).
        limit: The cutoff, Å; what fills a group of neighbors up to whole lanes lies on it.
        rows: Where the results of each atom go, shape (atom,).
        slopes: Receives ∂x/∂r_ij, 1/Å, shape (row, component, neighbor · 3 and more).
        extents: Receives the number of coordinates of each atom, shape (row,).
        neighbors: Receives the neighbors, shape (row, neighbor).
        vectors: Receives r_ij, Å, shape (row, neighbor, 3).
    """
    basis, table, sizes = form
    n_elements, n_radial, n_angular, degree = sizes
    n_channels, kind, n_components = n_elements * n_angular, geometry.dtype, directions.shape[1]
    work = np.zeros((layout(sizes)[3], WIDTH), kind)
    dense = np.zeros((n_channels * rounded(n_channels, 4), WIDTH), kind)
    size = n_elements * n_radial + rounded(n_channels, 4) * (degree + 1) ** 2
    n_pulled = rounded(_GROUP * size + 3)
    pulled, by_atom = np.zeros((n_pulled, WIDTH), kind), np.zeros((WIDTH, n_pulled), kind)
    cotangents = np.zeros((directions.shape[2], WIDTH), kind)
    gradient, by_neighbor = np.zeros((3 * _GROUP, WIDTH), kind), np.zeros((WIDTH, 3 * _GROUP), kind)
    tile = 0
    for e in range(n_elements):
        for begin in range(runs[e], runs[e + 1], WIDTH):
            end = min(begin + WIDTH, runs[e + 1])
            for a in range(begin, end):
                r = rows[a]
                extents[r] = 3 * _list_neighbors(bounds[a], geometry, ids, limit, neighbors[r], vectors[r])
            for first in range(0, n_components, _GROUP):
                some = min(_GROUP, n_components - first)
                for m in range(some):
                    for f in range(len(cotangents)):
                        store(cotangents, f, 0, splat_at(directions[e], first + m, f))
                    pull_invariants(cotangents, sums[tile], sizes, dense, pulled[m * size :])
                for row in range(0, rounded(some * size + 3), WIDTH):
                    turn(pulled, row, 0, by_atom, 0, row)
                for a in range(begin, end):
                    out = slopes[rows[a], first : first + some]
                    slot = 0
                    for g in range(2 * n_elements):
                        for k in range(bounds[a, g], bounds[a, g + 1], WIDTH):
                            pull_neighbors(
                                g < n_elements, g % n_elements, k, a - begin, geometry, basis, table, sizes, work,
                                some, by_atom, gradient,
                            )  # fmt: skip
                            slot = _keep(k, geometry, limit, gradient, by_neighbor, slot, out)
            tile += 1


@inner
def _list_neighbors(
    bounds: Indices, geometry: Reals, ids: Indices, limit: float, neighbors: Longs, vectors: Reals
) -> int:
    """List the neighbors of one atom without what fills their groups up; how many there are."""
    slot = 0
    for k in range(bounds[0], bounds[len(bounds) - 1]):
        r = geometry[3, k]
        if r < limit:
            neighbors[slot] = ids[k]
            for axis in range(3):
                vectors[slot, axis] = r * geometry[axis, k]
            slot += 1
    return slot


@inner
def _keep(k: int, geometry: Reals, limit: float, gradient: Reals, by_neighbor: Reals, slot: int, slopes: Reals) -> int:
    """Write what eight neighbors get from some components, shape (component, neighbor · 3); the slot after theirs."""
    for row in range(0, 3 * len(slopes), WIDTH):
        turn(gradient, row, 0, by_neighbor, 0, row)
    for lane in range(WIDTH):
        if geometry[3, k + lane] < limit:
            for m in range(len(slopes)):
                for axis in range(3):
                    slopes[m, 3 * slot + axis] = by_neighbor[lane, 3 * m + axis]
            slot += 1
    return slot


def pure_components(
    batch: Batch,
    view: tuple[Descriptors, tuple[int, ...]],
    center: torch.Tensor,
    projection: torch.Tensor,
    repulsion: bool,
    dtype: torch.dtype = torch.float32,
) -> Components:
    """Evaluate like :meth:`CompiledComponents.of` with nothing but torch, for any descriptors.

    Args:
        batch: The structures, in float64.
        view: Symmetry functions and atomic numbers, ascending.
        center: Mean symmetry functions of each element, shape (element, feature).
        projection: Their scaled principal components, shape (element, feature, component).
        repulsion: Whether overlapping atoms repel each other.
        dtype: Floating-point type of slopes and vectors.

    Raises:
        InputError: An element that is not among those of the view.
    """
    functions, elements = view
    seen = Surroundings.of(batch, functions, elements)
    n_structures, n_atoms = batch.numbers.shape
    species = seen.species.reshape(-1)
    real = (species >= 0).nonzero()[:, 0]
    place = real[torch.argsort(species[real], stable=True)]
    owner = place // n_atoms
    slots, mask = _near_slots(seen, place, functions.cutoff)
    values, slopes = _pure_slopes(seen, functions, center, projection, place, slots)
    neighbors = seen.neighbors.index.flatten(0, 1)[place].gather(1, slots) + (owner * n_atoms)[:, None]
    vectors = seen.vectors.flatten(0, 1)[place].gather(1, slots[..., None].expand(-1, -1, 3))
    energy, push = torch.zeros(n_structures, dtype=torch.float64), torch.zeros_like(seen.vectors)
    if repulsion:
        energy, push = repulsion_of(batch, seen)
    virials = torch.einsum("sajx,sajy->sxy", seen.vectors, push)
    return Components(
        place=place,
        counts=tuple(int((species == e).sum()) for e in range(len(elements))),
        values=values,
        slopes=torch.nn.functional.pad(slopes.to(dtype), (0, -slopes.shape[2] % WIDTH)).contiguous(),
        extents=3 * mask.sum(dim=1),
        neighbors=torch.where(mask, neighbors, place[:, None]),
        vectors=torch.where(mask[..., None], vectors, 0.0).to(dtype),
        repulsion=energy,
        push=forces_from_pairs(push[None], seen.neighbors)[0].reshape(-1, 3),
        push_virials=0.5 * (virials + virials.transpose(1, 2)),
    )


def _near_slots(seen: Surroundings, place: torch.Tensor, cutoff: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Slots that hold a neighbor inside the cutoff, moved to the front; and which of them are real."""
    vectors = seen.vectors.flatten(0, 1)[place]
    near = seen.neighbors.mask.flatten(0, 1)[place] & (vectors.square().sum(dim=-1) < cutoff**2)
    n_slots = max(1, int(near.sum(dim=1).max()))
    slots = (~near).to(torch.int8).argsort(dim=1, stable=True)[:, :n_slots]
    return slots, near.gather(1, slots)


def _pure_slopes(
    seen: Surroundings,
    functions: Descriptors,
    center: torch.Tensor,
    projection: torch.Tensor,
    place: torch.Tensor,
    slots: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Components of the atoms at some places, and their slopes, shape (atom, component, neighbor · 3)."""
    values, slopes = [], []
    kinds = seen.species.reshape(-1)[place]
    for e, directions in enumerate(projection):
        atoms = kinds == e
        for few, near in zip(
            torch.split(place[atoms], _ATOMS_AT_ONCE), torch.split(slots[atoms], _ATOMS_AT_ONCE), strict=True
        ):
            values.append((seen.features[few] - center[e]) @ directions)
            found = functions.slopes(directions, seen.environment.select(few))
            found = found.reshape(*found.shape[:2], -1, 3)
            index = near[:, None, :, None].expand(-1, found.shape[1], -1, 3)
            slopes.append(found.gather(2, index).flatten(2))
    return torch.cat(values), torch.cat(slopes)
