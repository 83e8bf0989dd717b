"""What a hard-to-please caller does to the compiled path: every case once broke it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from alflow.domain import Structure
from alflow.tensors import to_batch
from alflow.tensors.verlet import VerletList
from tests.potentials.committees import ETHANOL, WATER, crystal, rattled
from tests.potentials.test_kernels import random_committee


def test_a_batch_whose_arrays_do_not_fit_is_an_error_and_not_a_crash() -> None:
    committee, batch = random_committee(), to_batch(rattled(ETHANOL, 2, 0.05, seed=1))
    for positions in (batch.positions[:, :5], batch.positions[:1], batch.positions.transpose(1, 2)):
        with pytest.raises(ValueError, match=r"positions of shape \(2, 9, 3\)"):
            committee.predict(batch.with_positions(positions))


def test_an_atom_of_a_large_molecule_may_fly_away() -> None:
    rng = np.random.default_rng(0)
    positions = rng.uniform(0.0, 25.0, size=(205, 3))
    committee = random_committee((1,))
    for height in (50.0, 3e6):
        positions[0, 0] = height
        structure = Structure.of(["H"] * 205, positions)
        ours, pure = (ask(to_batch([structure])).forces for ask in (committee.predict, committee.predict_pure))
        # At 10⁶ Å the last digit of a position is 10⁻¹⁰ Å.
        torch.testing.assert_close(ours, pure, rtol=1e-6, atol=1e-6)


def test_a_list_that_could_not_be_made_is_not_taken_for_one() -> None:
    good = crystal(seed=1)
    numbers, pbc = np.stack([good.numbers] * 2), np.stack([good.pbc] * 2)
    positions, cells = np.stack([good.positions] * 2), np.stack([good.cell] * 2)
    flat = cells.copy()
    flat[0, 2] = flat[0, 1]
    verlet = VerletList(4.0)
    with pytest.raises(RuntimeError):
        verlet.pairs(numbers, positions, flat, pbc)
    kept = verlet.pairs(numbers, positions, cells, pbc)
    fresh = VerletList(4.0).pairs(numbers, positions, cells, pbc)
    assert np.array_equal(kept.starts, fresh.starts)
    assert np.array_equal(kept.other, fresh.other)


def test_a_single_member_says_so_when_its_forces_are_not_numbers() -> None:
    on_top = Structure.of("OHH", [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.9, 0.0, 0.0]])
    found = random_committee(members=1).predict(to_batch([on_top]))
    assert bool(found.forces.isnan().any())
    assert bool(found.disagreement().isnan().all())


def test_molecules_have_no_stress_whatever_their_forces_and_cell() -> None:
    on_top = Structure.of("OHH", [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.9, 0.0, 0.0]])
    committee = random_committee()
    found = committee.predict(to_batch([on_top, WATER]), stress=True)
    assert found.stress is not None
    assert not bool(found.stress.any())
    batch = to_batch([WATER])
    batch.cells[:] = torch.nan
    assert bool(committee.predict(batch).forces.isfinite().all())


def test_an_empty_batch_has_an_empty_answer() -> None:
    none = to_batch([WATER]).select(torch.zeros(1, dtype=torch.bool))
    found = random_committee().predict(none, stress=True)
    assert found.forces.shape == (3, 0, 3, 3)
    assert found.stress is not None
    assert found.stress.shape == (3, 0, 3, 3)


def test_the_shares_of_the_atoms_add_up_to_the_stress() -> None:
    committee, structure = random_committee((18,)), crystal(seed=2)
    batch = to_batch([structure])
    stress = committee.predict(batch, stress=True).stress
    assert stress is not None
    total = committee.atomic_virials(batch).sum(dim=2)
    total = 0.5 * (total + total.transpose(-1, -2))
    torch.testing.assert_close(total / abs(np.linalg.det(structure.cell)), stress, rtol=1e-9, atol=1e-12)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_committee_on_the_gpu_gives_the_same_numbers() -> None:
    committee, batch = random_committee(), to_batch(rattled(ETHANOL, 3, 0.05, seed=1))
    there = committee.to(device="cuda").predict(batch.to(device="cuda"))
    here = committee.predict(batch)
    torch.testing.assert_close(there.forces.cpu(), here.forces, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(there.energies.cpu(), here.energies, rtol=1e-9, atol=1e-9)
