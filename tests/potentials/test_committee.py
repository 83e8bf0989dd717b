from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alflow.domain import Structure
from alflow.errors import InputError
from alflow.potentials import Committee
from alflow.potentials.committee import Surroundings
from alflow.potentials.hdnnp import network_energies
from alflow.tensors import to_batch
from alflow.tensors.neighbors import find_neighbors, neighbor_vectors
from alflow.testing import check_potential
from tests.potentials.committees import (
    ETHANOL,
    WATER,
    argon_committee,
    crystal,
    ethanol_committee,
    fitted_committee,
    rattled,
)


def _energies_by_autograd(committee: Committee, structure: Structure) -> tuple[torch.Tensor, torch.Tensor]:
    """The slow truth: no hand-written derivative, no repulsion, one backward pass per member."""
    batch = to_batch([structure])
    positions = batch.positions.clone().requires_grad_()
    seen = Surroundings.of(batch.with_positions(positions), committee.functions, committee.elements)
    energies, _ = network_energies(committee.weights, seen.features, seen.species.reshape(-1))
    forces = [-torch.autograd.grad(e.sum(), positions, retain_graph=True)[0] for e in energies]
    return energies.detach().sum(dim=1), torch.stack(forces)


def test_the_committee_satisfies_the_contract_of_a_potential() -> None:
    molecules = [*rattled(ETHANOL, 2, 0.1, 0), WATER, Structure.of("CO", [[0, 0, 0], [1.2, 0, 0]])]
    check_potential(ethanol_committee(), molecules)
    check_potential(ethanol_committee().to(torch.float32), molecules)


def test_the_committee_satisfies_the_contract_in_periodic_cells() -> None:
    check_potential(argon_committee(), [crystal(5), crystal(6)])


@pytest.mark.parametrize("committee", [ethanol_committee, argon_committee])
def test_forces_are_autograd_for_every_member(committee: object) -> None:
    potential = ethanol_committee() if committee is ethanol_committee else argon_committee()
    structure = rattled(ETHANOL, 1, 0.08, 4)[0] if committee is ethanol_committee else crystal(7)
    _, forces = _energies_by_autograd(potential, structure)
    found = potential.predict(to_batch([structure])).forces
    # Nothing in these structures is close enough to repel, so the networks are all there is.
    torch.testing.assert_close(found, forces, rtol=0, atol=1e-10 * float(forces.abs().max()))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), amplitude=st.floats(0.0, 0.3))
def test_energy_is_invariant_and_forces_turn_along(seed: int, amplitude: float) -> None:
    rng = np.random.default_rng(seed)
    structure = rattled(ETHANOL, 1, amplitude, seed)[0]
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    order = rng.permutation(len(structure))
    moved = Structure.of(structure.numbers[order], (structure.positions @ turn.T + 5 * rng.normal(size=3))[order])
    first = ethanol_committee().predict(to_batch([structure]))
    second = ethanol_committee().predict(to_batch([moved]))
    scale = max(1.0, float(first.forces.abs().max()))
    torch.testing.assert_close(second.energies, first.energies, rtol=1e-11, atol=1e-9)
    expected = (first.forces @ torch.tensor(turn).T)[:, :, order]
    torch.testing.assert_close(second.forces, expected, rtol=0, atol=1e-9 * scale)
    torch.testing.assert_close(second.disagreement(), first.disagreement(), rtol=0, atol=1e-9 * scale)


def test_a_cell_smaller_than_the_cutoff_is_its_supercell() -> None:
    cell = np.array([[3.6, 0.0, 0.0], [0.4, 3.4, 0.0], [0.0, 0.3, 3.8]])
    small = Structure.of(["Ar"] * 2, [[0.1, 0.0, 0.2], [1.9, 1.8, 1.7]], cell)
    shifts = [np.array([i, j, k]) @ cell for i in (0, 1) for j in (0, 1) for k in (0, 1)]
    large = Structure.of(["Ar"] * 16, np.concatenate([small.positions + s for s in shifts]), 2 * cell)
    a = argon_committee().predict(to_batch([small]), stress=True)
    b = argon_committee().predict(to_batch([large]), stress=True)
    torch.testing.assert_close(b.energies, 8 * a.energies, rtol=1e-11, atol=1e-10)
    torch.testing.assert_close(b.forces[:, :, :2], a.forces, rtol=0, atol=1e-11)
    assert a.stress is not None
    assert b.stress is not None
    torch.testing.assert_close(b.stress, a.stress, rtol=0, atol=1e-12)


def test_fragments_beyond_the_cutoff_add_up() -> None:
    away = WATER.positions + np.array([0.0, 0.0, 12.0])
    both = Structure.of([*ETHANOL.numbers, *WATER.numbers], np.concatenate([ETHANOL.positions, away]))
    whole = ethanol_committee().predict(to_batch([both]))
    parts = ethanol_committee().predict(to_batch([ETHANOL, WATER]))
    torch.testing.assert_close(whole.energies[:, 0], parts.energies.sum(dim=1), rtol=1e-12, atol=1e-10)
    torch.testing.assert_close(whole.forces[:, 0, :9], parts.forces[:, 0], rtol=0, atol=1e-11)


@pytest.mark.parametrize("distance", [5.0, 4.0])
def test_forces_are_continuous_as_an_atom_crosses_the_cutoff(distance: float) -> None:
    """At 5 Å the radial functions end, at 4 Å the angular ones."""
    steps = distance + np.linspace(-2e-3, 2e-3, 41)
    structures = [Structure.of("OHHH", np.vstack([WATER.positions, [[0.0, 0.0, -z]]])) for z in steps]
    forces = ethanol_committee().predict(to_batch(structures)).forces
    change = forces.diff(dim=1).abs().max()
    second = forces.diff(dim=1).diff(dim=1).abs().max()
    # A jump would stand out at any step; a continuous force changes by |dF/dr| · 1e-4 Å, and its slope even less.
    assert float(change) < 1e-3 * float(forces.abs().max())
    assert float(second) < 1e-5 * float(forces.abs().max())


def test_members_share_nothing_but_the_view() -> None:
    prediction = ethanol_committee().predict(to_batch(rattled(ETHANOL, 4, 0.25, 9)))
    assert len({round(float(e), 9) for e in prediction.energies[:, 0]}) == 4
    assert float(prediction.disagreement().min()) > 0.0


def test_disagreement_grows_away_from_the_training_data() -> None:
    near = ethanol_committee().predict(to_batch(rattled(ETHANOL, 10, 0.04, 20))).disagreement().mean()
    far = ethanol_committee().predict(to_batch(rattled(ETHANOL, 10, 0.25, 21))).disagreement().mean()
    assert float(far) > 2.0 * float(near)


def test_repulsion_dominates_where_atoms_overlap() -> None:
    positions = WATER.positions.copy()
    for distance in (0.05, 0.1, 0.2):
        positions[1] = [distance, 0.0, 0.0]
        forces = ethanol_committee().predict(to_batch([WATER.with_positions(positions)])).forces[:, 0]
        assert bool((forces[:, 1, 0] > 10.0).all()), "every member pushes the hydrogen out"
        assert bool((forces[:, 0, 0] < -10.0).all()), "every member pushes the oxygen back"


def test_an_unseen_element_is_an_error_that_names_it() -> None:
    with pytest.raises(InputError, match=r"trained on H, C, O; found N\. Add labels that contain N"):
        ethanol_committee().predict(to_batch([Structure.of("N", [[0.0, 0.0, 0.0]])]))


def test_float32_agrees_with_float64() -> None:
    structures = rattled(ETHANOL, 8, 0.08, 2)
    exact = ethanol_committee().predict(to_batch(structures))
    fast = ethanol_committee().to(torch.float32).predict(to_batch(structures, torch.float32))
    assert fast.forces.dtype == torch.float32
    assert fast.energies.dtype == torch.float64
    # Six digits of forces of up to 10 eV/Å; features are sums of about a hundred terms.
    torch.testing.assert_close(fast.forces.double(), exact.forces, rtol=0, atol=2e-4 * float(exact.forces.abs().max()))
    torch.testing.assert_close(fast.energies, exact.energies, rtol=0, atol=1e-3)


def test_evaluate_reports_the_mean_and_the_spread() -> None:
    prediction = ethanol_committee().predict(to_batch([ETHANOL]))
    evaluation = ethanol_committee().evaluate(ETHANOL)
    assert evaluation.energy == pytest.approx(float(prediction.energies.mean()), abs=1e-10)
    np.testing.assert_allclose(evaluation.forces, prediction.forces.mean(dim=0)[0].numpy(), atol=1e-12)
    assert evaluation.diagnostics["disagreement_ev_ang"] == pytest.approx(float(prediction.disagreement()[0]))
    assert evaluation.diagnostics["energy_std_ev"] == pytest.approx(float(prediction.energies[:, 0].std()))
    np.testing.assert_allclose(evaluation.diagnostics["forces_std_ev_ang"], prediction.forces[:, 0].std(dim=0).numpy())
    assert evaluation.stress is None
    assert argon_committee().evaluate(crystal(1)).stress is not None


def test_descriptors_turn_with_nothing() -> None:
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    before = ethanol_committee().descriptors(ETHANOL)
    after = ethanol_committee().descriptors(ETHANOL.with_positions(ETHANOL.positions @ turn.T))
    np.testing.assert_allclose(after, before, atol=1e-10)
    assert before.shape == (9, 32)


def test_the_neighbor_table_of_a_molecule_is_never_built() -> None:
    batch = to_batch([ETHANOL])
    neighbors = find_neighbors(batch, 5.0)
    assert neighbors.is_dense
    assert neighbor_vectors(batch, neighbors).shape == (1, 9, 9, 3)


def test_a_molecule_far_from_the_origin_keeps_its_forces_in_single_precision() -> None:
    """Absolute coordinates of a kilometer of ångströms would eat all the digits of float32."""
    committee = fitted_committee().to(torch.float32)
    here = committee.predict(to_batch([WATER])).forces
    there = committee.predict(to_batch([WATER.with_positions(WATER.positions + 1e5)])).forces
    # float64 holds 1e5 Å to 1.5e-11 Å; what is left is the rounding of float32 forces of some eV/Å
    torch.testing.assert_close(there, here, atol=1e-4, rtol=1e-4)
