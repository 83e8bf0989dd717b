"""From positions to symmetry functions and back to forces, block by block, compiled.

A block is a few hundred atoms sorted by element: its symmetry functions, and the gradients of all members with respect
to them, stay in the cache, and memory grows with the number of atoms only through the pair list and the forces. A
tile is eight atoms of one element. Of a pair only direction, distance and its logarithm are kept between the two
passes; radial functions and harmonics are cheaper to evaluate twice than to store. The way back carries all members'
gradients through the geometry at once and adds them to the forces: no derivative of a symmetry function is ever stored.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from alflow.potentials.kernels import (
    Doubles,
    Indices,
    Reals,
    add_moments,
    invariants,
    layout,
    n_sums,
    pull_invariants,
    pull_neighbors,
)
from alflow.potentials.products import PANEL, evaluate_networks
from alflow.tensors.jit import compiled, inlined, inner
from alflow.tensors.lanes import WIDTH, lane_sum, load, log, narrow, rounded, row_sums, sqrt, store, turn

__all__ = ["collect", "describe_block", "repel", "respond_block"]


@inner
def _gather(
    atom: int, positions: Doubles, starts: Indices, other: Indices, shift: Indices, offsets: Doubles, species: Indices,
    limits2: Doubles, n_elements: int, bounds: Indices, ids: Indices, inside: Doubles, outside: Doubles, who: Indices,
    contacts: Doubles, n_contacts: int,
) -> int:  # fmt: skip
    """Collect the neighbors of one atom by group, in the order of the list, which is sorted by element.

    Groups are the elements inside the angular cutoff, then the elements between the two cutoffs. Each is filled up to
    whole lanes with neighbors at the cutoff, where all functions vanish. Pairs that nearly touch are noted apart.
    """
    angular2, cutoff2, contact2 = limits2[0], limits2[1], limits2[2]
    x, y, z = positions[atom, 0], positions[atom, 1], positions[atom, 2]
    p, end, first, k, far = starts[atom], starts[atom + 1], bounds[0], 0, 0
    for e in range(n_elements):
        while p < end and species[other[p]] == e:
            j, o = other[p], shift[p]
            dx = positions[j, 0] - x + offsets[o, 0]
            dy = positions[j, 1] - y + offsets[o, 1]
            dz = positions[j, 2] - z + offsets[o, 2]
            r2 = dx * dx + dy * dy + dz * dz
            if r2 < contact2:
                contacts[n_contacts, 0], contacts[n_contacts, 1] = atom, j
                contacts[n_contacts, 2], contacts[n_contacts, 3], contacts[n_contacts, 4] = dx, dy, dz
                n_contacts += 1
            # Written always, kept only when near: a branch would be mispredicted every third time.
            ids[first + k] = j
            inside[0, k], inside[1, k], inside[2, k], inside[3, k] = dx, dy, dz, r2
            who[far] = j
            outside[0, far], outside[1, far], outside[2, far], outside[3, far] = dx, dy, dz, r2
            k += 1 if r2 < angular2 else 0
            far += 1 if (r2 >= angular2) and (r2 < cutoff2) else 0
            p += 1
        k = _fill(atom, k, cutoff2, first, ids, inside)
        bounds[e + 1] = first + k
        bounds[n_elements + e + 1] = far
    begin = 0
    for e in range(n_elements):
        far = bounds[n_elements + e + 1]
        for q in range(begin, far):
            ids[first + k] = who[q]
            for axis in range(4):
                inside[axis, k] = outside[axis, q]
            k += 1
        k = _fill(atom, k, cutoff2, first, ids, inside)
        bounds[n_elements + e + 1] = first + k
        begin = far
    return n_contacts


@inlined
def _fill(atom: int, k: int, cutoff2: float, first: int, ids: Indices, inside: Doubles) -> int:
    """Fill a group up to whole lanes."""
    end = rounded(k)
    for q in range(k, end):
        ids[first + q] = atom
        inside[0, q], inside[1, q], inside[2, q], inside[3, q] = np.sqrt(cutoff2), 0.0, 0.0, cutoff2
    return end


@inner
def _measure(first: int, end: int, inside: Doubles, geometry: Reals) -> None:
    """Direction, distance and its logarithm of the neighbors of one atom, in the floating-point type of the weights."""
    for k in range(0, end - first, WIDTH):
        r2 = load(inside, 3, k)
        r = sqrt(r2)
        inverse = 1.0 / r
        for axis in range(3):
            store(geometry, axis, first + k, narrow(load(inside, axis, k) * inverse, geometry))
        store(geometry, 3, first + k, narrow(r, geometry))
        # Two atoms on one point have no direction and no logarithm: 0 · ∞ makes it NaN, as everything else here.
        store(geometry, 4, first + k, narrow(log(r2) * 0.5 + inverse * 0.0, geometry))


@compiled
def describe_block(
    atoms: Indices, runs: Indices, positions: Doubles, pairs: tuple[Any, ...], species: Indices, limits2: Doubles,
    form: tuple[Any, ...], center: Reals, bounds: Indices, geometry: Reals, ids: Indices, contacts: Doubles,
    sums: Reals, features: Reals,
) -> int:  # fmt: skip
    """Evaluate the symmetry functions of a block of atoms and keep what the way back needs.

    Args:
        atoms: Which atoms, sorted by element, shape (atom,).
        runs: Where each element begins among them, shape (element + 1,).
        positions: All positions, Å, shape (all atoms, 3).
        pairs: The pair list: starts, other atom, index of the shift, shifts in Å; sorted by element for each atom.
        species: Element index of all atoms.
        limits2: Squares of the angular cutoff, the cutoff and the largest reach of the repulsion, Å², shape (3,).
        form: Radial bases, coefficients of the harmonics, and the numbers of elements, of radial and angular functions,
            and the highest degree.
        center: What is subtracted from the symmetry functions, shape (element, feature).
        bounds: Receives where each group of neighbors begins, shape (atom, 2 · element + 1).
        geometry: Receives direction, distance and its logarithm of each neighbor, shape (5, neighbor).
        ids: Receives the neighbors' indices.
        contacts: Receives pairs that nearly touch: both atoms and the vector, shape (pair, 5).
        sums: Receives radial sums and moments of every tile, shape (tile, sum, 8).
        features: Receives G − c, shape (feature, atom rounded up to whole lanes and one more).

    Returns:
        Number of pairs that nearly touch.
    """
    basis, table, sizes = form
    starts, other, shift, offsets = pairs
    n_elements = sizes[0]
    longest = 0
    for a in range(len(atoms)):
        longest = max(longest, starts[atoms[a] + 1] - starts[atoms[a]])
    inside, outside = np.empty((4, longest + 2 * n_elements * WIDTH)), np.empty((4, longest + 1))
    who = np.empty(longest + 1, np.int32)
    work = np.zeros((layout(sizes)[3], WIDTH), geometry.dtype)
    by_atom = np.zeros((WIDTH, n_sums(sizes)), geometry.dtype)
    n_contacts, tile, first = 0, 0, 0
    for e in range(n_elements):
        for begin in range(runs[e], runs[e + 1], WIDTH):
            for a in range(begin, min(begin + WIDTH, runs[e + 1])):
                bounds[a, 0] = first
                n_contacts = _gather(
                    atoms[a], positions, starts, other, shift, offsets, species, limits2, n_elements, bounds[a], ids,
                    inside, outside, who, contacts, n_contacts,
                )  # fmt: skip
                _measure(first, bounds[a, 2 * n_elements], inside, geometry)
                first = bounds[a, 2 * n_elements]
                _density(bounds[a], geometry, basis, table, sizes, work, a - begin, by_atom)
            for row in range(0, n_sums(sizes), WIDTH):
                turn(by_atom, 0, row, sums[tile], row, 0)
            invariants(e, sums[tile], sizes, center, begin, features)
            tile += 1
    return n_contacts


@inner
def _density(
    bounds: Indices, geometry: Reals, basis: Reals, table: Reals, sizes: Any, work: Reals, lane: int, by_atom: Reals
) -> None:
    """Radial sums and moments of one atom: one row of ``by_atom``."""
    n_elements, sums = sizes[0], layout(sizes)[2]
    work[sums:] = 0.0
    for g in range(2 * n_elements):
        for k in range(bounds[g], bounds[g + 1], WIDTH):
            add_moments(g < n_elements, g % n_elements, k, geometry, basis, table, sizes, work)
    for row in range(0, n_sums(sizes), WIDTH):
        store(by_atom, lane, row, row_sums(work, sums + row, 0))


@compiled
def respond_block(
    atoms: Indices, runs: Indices, form: tuple[Any, ...], networks: tuple[Any, ...], bounds: Indices, geometry: Reals,
    ids: Indices, sums: Reals, features: Reals, room: Reals, structure_of: Indices, energies: Doubles, forces: Reals,
    virials: Doubles,
) -> None:  # fmt: skip
    """Add the energies of a block of atoms, and the forces that follow from their gradients.

    F_k = Σ_j g_kj − Σ_i g_ik with g_ij = ∂E_m/∂r_ij; virial Σ_ij r_ij ⊗ g_ij.

    Args:
        atoms, runs, form, bounds, geometry, ids, sums, features: As :func:`describe_block` was given and left them.
        networks: Sizes of the layers, and of each element weights and vectors, as
            :func:`alflow.potentials.products.evaluate_networks` wants them.
        room: Room for the gradients with respect to the symmetry functions, one-dimensional.
        structure_of: Structure of each atom, shape (all atoms,).
        energies: Energies so far, eV, shape (member, structure).
        forces: Forces so far, eV/Å, shape (all atoms, member · 3 rounded up to whole lanes).
        virials: Virials so far, eV, shape (structure, member · 9); empty when nobody asked.
    """
    layers, weights, vectors = networks
    n_members, tile = len(energies), 0
    for e in range(len(runs) - 1):
        begin, end = runs[e], runs[e + 1]
        if begin == end:
            continue
        atomic = np.empty((n_members, end - begin), geometry.dtype)
        stride, n_rows = n_members * rounded(layers[0], PANEL), rounded(end - begin)
        gradients = room[: n_rows * stride].reshape(n_rows, stride)
        evaluate_networks(features, begin, end, layers, weights[e], vectors[e : e + 1], gradients, atomic)
        for m in range(n_members):
            for a in range(end - begin):
                energies[m, structure_of[atoms[begin + a]]] += atomic[m, a]
        tile = _pull_run(
            begin, end, tile, atoms, form, bounds, geometry, ids, sums, gradients, n_members, forces, structure_of,
            virials,
        )  # fmt: skip


@compiled
def _pull_run(
    first: int, last: int, tile: int, atoms: Indices, form: tuple[Any, ...], bounds: Indices, geometry: Reals,
    ids: Indices, sums: Reals, gradients: Reals, n_members: int, forces: Reals, structure_of: Indices,
    virials: Doubles,
) -> int:  # fmt: skip
    """Add the forces of one element's atoms; the tile after their last."""
    basis, table, sizes = form
    n_elements, n_radial, n_angular, degree = sizes
    n_channels, kind, width = n_elements * n_angular, geometry.dtype, forces.shape[1]
    work = np.zeros((layout(sizes)[3], WIDTH), kind)
    dense = np.zeros((n_channels * rounded(n_channels, 4), WIDTH), kind)
    size = n_elements * n_radial + rounded(n_channels, 4) * (degree + 1) ** 2
    n_pulled = rounded(n_members * size + 3)
    pulled, by_atom = np.zeros((n_pulled, WIDTH), kind), np.zeros((WIDTH, n_pulled), kind)
    stride = gradients.shape[1] // n_members  # of one member
    cotangents = np.zeros((stride, WIDTH), kind)
    gradient, own = np.zeros((width, WIDTH), kind), np.zeros((width, WIDTH), kind)
    by_neighbor = np.zeros((WIDTH, width), kind)
    for begin in range(first, last, WIDTH):
        for m in range(n_members):
            for f in range(0, stride, WIDTH):
                turn(gradients, begin - first, m * stride + f, cotangents, f, 0)
            pull_invariants(cotangents, sums[tile], sizes, dense, pulled[m * size :])
        for row in range(0, n_pulled, WIDTH):
            turn(pulled, row, 0, by_atom, 0, row)
        tile += 1
        for a in range(begin, min(begin + WIDTH, last)):
            own[:] = 0.0
            for g in range(2 * n_elements):
                near, e = g < n_elements, g % n_elements
                for k in range(bounds[a, g], bounds[a, g + 1], WIDTH):
                    pull_neighbors(
                        near, e, k, a - begin, geometry, basis, table, sizes, work, n_members, by_atom, gradient
                    )
                    _scatter(k, ids, gradient, by_neighbor, own, forces)
                    if virials.size > 0:
                        _add_virial(geometry, k, gradient, structure_of[atoms[a]], virials)
            for row in range(0, width, WIDTH):
                store(forces, atoms[a], row, load(forces, atoms[a], row) + row_sums(own, row, 0))
    return tile


@inlined
def _scatter(k: int, ids: Indices, gradient: Reals, by_neighbor: Reals, own: Reals, forces: Reals) -> None:
    """Push eight neighbors, and remember the pull on their atom."""
    for row in range(0, len(gradient), WIDTH):
        turn(gradient, row, 0, by_neighbor, 0, row)
    for row in range(len(gradient)):
        store(own, row, 0, load(own, row, 0) + load(gradient, row, 0))
    for lane in range(WIDTH):
        j = ids[k + lane]
        for row in range(0, len(gradient), WIDTH):
            store(forces, j, row, load(forces, j, row) - load(by_neighbor, lane, row))


@inner
def _add_virial(geometry: Reals, k: int, gradient: Reals, structure: int, virials: Doubles) -> None:
    r = load(geometry, 3, k)
    for row in range(virials.shape[1] // 3):
        for axis in range(3):
            virials[structure, 3 * row + axis] += lane_sum(load(gradient, row, 0) * r * load(geometry, axis, k))


@compiled
def collect(
    positions: Doubles, numbers: Any, lost: Any, forces: Reals, push: Doubles, repulsion: Doubles, energies: Doubles,
    out: Reals,
) -> None:  # fmt: skip
    """Put energies and forces together, with NaN for structures that have an atom nowhere.

    Args:
        positions: All positions, Å, shape (all atoms, 3).
        numbers: Atomic numbers, shape (structure, atom).
        lost: Structures of which this is known already, shape (structure,); receives the others.
        forces: Forces, eV/Å, shape (all atoms, member · 3 and more).
        push: Forces of the repulsion, eV/Å, shape (all atoms, 3), or empty.
        repulsion: Energies of the repulsion, eV, shape (structure,).
        energies: Energies of the networks, eV, shape (member, structure); receives the whole.
        out: Receives the forces, shape (member, all atoms, 3).
    """
    n_structures, n_atoms = numbers.shape
    for s in range(n_structures):
        for a in range(s * n_atoms, (s + 1) * n_atoms):
            for axis in range(3):
                lost[s] |= not np.isfinite(positions[a, axis])
        for m in range(len(energies)):
            energies[m, s] = np.nan if lost[s] else energies[m, s] + repulsion[s]
            for a in range(n_atoms):
                i = s * n_atoms + a
                broken = lost[s] and numbers[s, a] > 0
                for axis in range(3):
                    force = forces[i, 3 * m + axis]
                    if len(push) > 0:
                        force += push[i, axis]
                    out[m, i, axis] = np.nan if broken else force


@compiled
def repel(
    contacts: Doubles, n_contacts: int, species: Indices, terms: Doubles, structure_of: Indices, energies: Doubles,
    forces: Doubles, virials: Doubles,
) -> None:  # fmt: skip
    """Add the repulsion of pairs that nearly touch, as :func:`alflow.potentials.repulsion.repulsion` has it.

    Args:
        contacts: Both atoms and the vector between them, each pair from both sides, shape (pair, 5).
        n_contacts: How many pairs there are.
        species: Element index of all atoms.
        terms: For each pair of elements reach, screening length, half the Coulomb strength, and in pairs the amplitudes
            and decays of the screening, shape (element, element, 3 + 2 · terms).
        structure_of: Structure of each atom.
        energies: Energies so far, eV, shape (structure,).
        forces: Forces so far, eV/Å, shape (all atoms, 3).
        virials: Virials so far, eV, shape (structure, 9).
    """
    for p in range(n_contacts):
        i, j = int(contacts[p, 0]), int(contacts[p, 1])
        vector = contacts[p, 2:5]
        term = terms[species[i], species[j]]
        reach, length = term[0], term[1]
        r = np.sqrt(vector[0] * vector[0] + vector[1] * vector[1] + vector[2] * vector[2])
        if r >= reach:
            continue
        screening, screening_slope = 0.0, 0.0
        for k in range(3, len(term), 2):
            part = term[k] * np.exp(-term[k + 1] * r / length)
            screening += part
            screening_slope -= term[k + 1] / length * part
        reduced = r / reach
        gap = 1.0 - reduced * reduced
        switch, switch_slope = gap * gap * gap, -6.0 * reduced / reach * gap * gap
        energy = term[2] / r * screening * switch
        slope = term[2] / r * (screening_slope * switch + screening * switch_slope) - energy / r
        structure = structure_of[i]
        energies[structure] += energy
        for a in range(3):
            pull = slope / r * vector[a]
            forces[i, a] += pull
            forces[j, a] -= pull
            for b in range(3):
                virials[structure, 3 * a + b] += pull * vector[b]
