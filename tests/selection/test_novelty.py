from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alflow.domain import Structure
from alflow.selection import Fingerprints, fingerprint, is_near_duplicate

RNG = np.random.default_rng(0)
MOLECULE = Structure.of("CCOHHH", RNG.normal(scale=1.5, size=(6, 3)))
CRYSTAL = Structure.of("NaNaClCl", RNG.uniform(0, 5, size=(4, 3)), [[5.6, 0, 0], [1.5, 5.2, 0], [0.4, -0.9, 6.0]])


@given(st.integers(0, 10**6))
def test_moving_rotating_mirroring_and_renumbering_change_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    orthogonal = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    order = rng.permutation(6)
    shift = rng.normal(scale=10.0, size=3)
    moved = Structure.of(MOLECULE.numbers[order], (MOLECULE.positions @ orthogonal + shift)[order])
    # Rounding of coordinates of some 30 Å.
    np.testing.assert_allclose(fingerprint(moved), fingerprint(MOLECULE), atol=1e-12)


@given(st.integers(0, 10**6))
def test_images_and_a_common_shift_change_nothing_in_a_crystal(seed: int) -> None:
    rng = np.random.default_rng(seed)
    images = rng.integers(-2, 3, size=(4, 3)) @ CRYSTAL.cell
    moved = CRYSTAL.with_positions(CRYSTAL.positions + images + rng.normal(size=3))
    np.testing.assert_allclose(fingerprint(moved), fingerprint(CRYSTAL), atol=1e-12)


def test_distances_in_a_skewed_cell_are_those_of_the_nearest_image() -> None:
    shifts = np.array(list(np.ndindex(7, 7, 7))) - 3
    i, j = np.triu_indices(4, k=1)
    difference = (CRYSTAL.positions[i] - CRYSTAL.positions[j])[:, None] + shifts @ CRYSTAL.cell
    exact = np.minimum(np.linalg.norm(difference, axis=-1).min(axis=1), 6.0)
    np.testing.assert_allclose(np.sort(fingerprint(CRYSTAL)[10:]), np.sort(exact), rtol=1e-12)


def test_a_frame_moved_less_than_the_tolerance_is_a_duplicate_and_one_moved_more_is_not() -> None:
    stretched = MOLECULE.positions.copy()
    direction = (stretched[0] - stretched[5]) / np.linalg.norm(stretched[0] - stretched[5])
    for size, expected in ((0.005, True), (0.2, False)):
        positions = stretched.copy()
        positions[0] += size * direction
        assert is_near_duplicate(MOLECULE, MOLECULE.with_positions(positions), 0.01) is expected


def test_other_atoms_charges_spins_or_periodicity_are_never_duplicates() -> None:
    hydrogen, helium = Structure.of("HH", [[0, 0, 0], [1, 0, 0]]), Structure.of(["He"] * 2, [[0, 0, 0], [1, 0, 0]])
    boxed = Structure.of("HH", [[0, 0, 0], [1, 0, 0]], [9, 9, 9])
    others = [
        helium,
        replace(hydrogen, charge=1, multiplicity=2),
        replace(hydrogen, multiplicity=3),
        boxed,
        Structure.of("HHH", [[0, 0, 0], [1, 0, 0], [2, 0, 0]]),
    ]
    assert not any(is_near_duplicate(hydrogen, other, 100.0) for other in others)
    known = fingerprints_of([*others, hydrogen])
    assert known.twin(fingerprint(hydrogen), 0.0) == "5"


def test_the_first_of_several_twins_is_found_among_structures_of_all_sizes() -> None:
    frames = [Structure.of("OHH", RNG.normal(size=(3, 3))) for _ in range(50)]
    known = fingerprints_of([MOLECULE, *frames, frames[7]])
    assert known.twin(fingerprint(frames[7]), 1e-9) == "8"
    assert Fingerprints().twin(fingerprint(frames[7]), 1.0) is None


def test_a_structure_that_was_forgotten_is_nobodys_twin_until_it_comes_again() -> None:
    known = fingerprints_of([MOLECULE, MOLECULE])
    known.discard("0")
    known.discard("never seen")
    assert known.twin(fingerprint(MOLECULE), 1e-9) == "1"
    known.discard("1")
    assert len(known) == 0
    assert known.twin(fingerprint(MOLECULE), 1.0) is None
    known.add("0", fingerprint(MOLECULE))
    assert known.twin(fingerprint(MOLECULE), 1e-9) == "0"


@pytest.mark.parametrize("tolerance", [0.0, 0.01, 0.05, 0.2])
def test_twins_are_those_that_a_look_at_every_distance_finds(tolerance: float) -> None:
    frames = [MOLECULE.with_positions(MOLECULE.positions + 0.05 * RNG.normal(size=(6, 3))) for _ in range(300)]
    marks = np.array([fingerprint(frame) for frame in frames])
    begin = 1 + 6 + 5
    known = fingerprints_of(frames[:200])
    for mark in marks[100:]:
        apart = np.sqrt(np.square(marks[:200, begin:] - mark[begin:]).mean(axis=1))
        hits = np.flatnonzero(apart <= tolerance)
        assert known.twin(mark, tolerance) == (str(hits[0]) if hits.size else None)


def test_twins_are_found_whatever_was_forgotten_while_the_others_grew_in_number() -> None:
    """Directions are chosen anew as more are known: of lone atoms, of all the same, of none that is left."""
    lone = fingerprints_of([Structure.of("H", [[0, 0, z]]) for z in range(40)])
    assert lone.twin(fingerprint(Structure.of("H", [[0, 0, 9]])), 0.0) == "0"
    lengths = [1.0] * 40 + [1.0 + k / 10 for k in range(40)]
    known = fingerprints_of([Structure.of("HH", [[0, 0, 0], [0, 0, length]]) for length in lengths[:40]])
    for number in range(16):
        known.discard(str(number))
    for number, length in enumerate(lengths[40:], start=40):
        known.add(str(number), fingerprint(Structure.of("HH", [[0, 0, 0], [0, 0, length]])))
    assert known.twin(fingerprint(Structure.of("HH", [[0, 0, 0], [0, 0, 1.001]])), 0.01) == "16"
    assert known.twin(fingerprint(Structure.of("HH", [[0, 0, 0], [0, 0, 3.701]])), 0.01) == "67"
    for number in range(16, 80):
        known.discard(str(number))
    for number in range(80, 140):
        known.add(str(number), fingerprint(Structure.of("HH", [[0, 0, 0], [0, 0, number / 10]])))
    assert known.twin(fingerprint(Structure.of("HH", [[0, 0, 0], [0, 0, 10.001]])), 0.01) == "100"


def fingerprints_of(structures: list[Structure]) -> Fingerprints:
    """Fingerprints under the number of each structure."""
    known = Fingerprints()
    for number, structure in enumerate(structures):
        known.add(str(number), fingerprint(structure))
    return known


def test_lone_atoms_of_one_kind_are_the_same() -> None:
    here, there = Structure.of("H", [[0, 0, 0]]), Structure.of("H", [[1, 2, 3]])
    assert is_near_duplicate(here, there, 0.0)
    assert not is_near_duplicate(here, Structure.of("O", [[0, 0, 0]]), 1.0)


def test_the_tolerance_is_a_root_mean_square() -> None:
    a, b = Structure.of("HH", [[0, 0, 0], [1, 0, 0]]), Structure.of("HH", [[0, 0, 0], [1.25, 0, 0]])
    assert is_near_duplicate(a, b, 0.25)
    assert not is_near_duplicate(a, b, 0.25 - 1e-9)
