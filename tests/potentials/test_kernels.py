"""The compiled path gives the numbers of the pure one, which autograd and finite differences vouch for."""

from __future__ import annotations

import itertools
import pickle
import threading

import numpy as np
import pytest
import torch

from alflow.domain import Structure
from alflow.domain.learning_config import ModelConfig
from alflow.potentials import Committee
from alflow.potentials.committee import symmetry_functions
from alflow.potentials.hdnnp import NetworkWeights
from alflow.tensors import Batch, Prediction, to_batch
from tests.potentials.committees import ETHANOL, WATER, rattled

TRICLINIC = np.array([[3.3, 0.0, 0.0], [1.1, 3.0, 0.0], [-0.6, 0.8, 3.7]])


def random_committee(
    elements: tuple[int, ...] = (1, 6, 8), dtype: torch.dtype = torch.float64, seed: int = 0, **form: object
) -> Committee:
    """A committee with random weights: rougher than any trained one, so errors show."""
    settings: dict[str, object] = {
        "members": 3,
        "hidden": (9, 5),
        "components": 12,
        "radial_functions": 7,
        "angular_functions": 3,
        "angular_degree": 3,
        "angular_cutoff_ang": 4.0,
    }
    model = ModelConfig.model_validate(settings | form)
    n_features = symmetry_functions(model, len(elements)).n_features
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    n_elements, members = len(elements), model.members
    widths = (model.components, *model.hidden)
    weights = NetworkWeights(
        draw(n_elements, n_features) * 0.3,
        draw(n_elements, n_features, model.components) / n_features**0.5,
        tuple(draw(n_elements, members, a, b) / a**0.5 for a, b in itertools.pairwise(widths)),
        tuple(draw(n_elements, members, width) for width in model.hidden),
        draw(n_elements, members, widths[-1]),
        draw(n_elements, members, model.components) * 0.3,
    )
    return Committee(model, elements, weights.to(dtype), draw(members, n_elements), 1)


def cluster(n_atoms: int, seed: int, size: float = 2.5, numbers: tuple[int, ...] = (1, 6, 8)) -> Structure:
    """Atoms anywhere in a box, none closer than 0.7 Å: some pairs repel."""
    rng = np.random.default_rng(seed)
    points: list[np.ndarray] = []
    while len(points) < n_atoms:
        point = rng.uniform(-size, size, 3)
        if all(np.linalg.norm(point - other) > 0.7 for other in points):
            points.append(point)
    return Structure.of(rng.choice(numbers, n_atoms), np.array(points))


def cell(n_atoms: int, seed: int, scale: float = 1.0, pbc: object = True) -> Structure:
    """The same in a triclinic cell, which for scale 1 is smaller than the cutoff."""
    atoms = cluster(n_atoms, seed, 2.0 * scale)
    return Structure.of(atoms.numbers, atoms.positions, TRICLINIC * scale, pbc=pbc)


def assert_same(found: Prediction, expected: Prediction, dtype: torch.dtype) -> None:
    """Equal to rounding.

    A force is a sum of some hundred terms; symmetry functions of crowded atoms are large and cancel in the networks.
    Two orders of summation then differ by some hundred units in the last place of the largest force.
    """
    tolerance = 1e-12 if dtype == torch.float64 else 1e-4
    assert found.energies.dtype == torch.float64
    assert found.forces.dtype == dtype
    scale = max(1.0, float(expected.energies.abs().max()))
    torch.testing.assert_close(found.energies, expected.energies, rtol=0, atol=tolerance * scale)
    scale = max(1.0, float(expected.forces.abs().max()))
    torch.testing.assert_close(found.forces, expected.forces, rtol=0, atol=tolerance * scale)
    assert (found.stress is None) == (expected.stress is None)
    if found.stress is not None and expected.stress is not None:
        scale = max(1.0, float(expected.stress.abs().max()))
        torch.testing.assert_close(found.stress, expected.stress, rtol=0, atol=tolerance * scale)


BATCHES = {
    "one molecule": [ETHANOL],
    "mixed sizes": [cluster(13, 0), WATER, cluster(1, 1), ETHANOL, cluster(2, 3, 1.0)],
    "small cell": [cell(4, 5)],
    "cells": [cell(5, 6), cell(11, 7, 1.9), cell(3, 8)],
    "slab": [cell(6, 9, pbc=[True, True, False])],
    "wire": [cell(6, 10, pbc=[False, False, True])],
    "molecule beside cell": [WATER, cell(7, 11, 1.5)],
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])
@pytest.mark.parametrize("name", BATCHES)
def test_the_compiled_path_is_the_pure_one(name: str, dtype: torch.dtype) -> None:
    committee = random_committee(dtype=dtype)
    batch = to_batch(BATCHES[name])
    assert_same(committee.predict(batch, stress=True), committee.predict_pure(batch, stress=True), dtype)
    assert committee.predict(batch).stress is None


@pytest.mark.parametrize(
    "form",
    [
        {"members": 1, "hidden": (3,)},
        {"members": 8, "hidden": (17, 16, 5)},
        {"angular_degree": 0, "angular_functions": 1},
        {"angular_degree": 1, "angular_functions": 2},
        {"angular_degree": 8, "angular_functions": 2, "members": 2},
        {"angular_degree": 5, "angular_functions": 6, "members": 2},
        {"radial_functions": 33, "members": 2},
        {"cutoff_ang": 1.6, "angular_cutoff_ang": 1.5},
        {"cutoff_ang": 3.0, "angular_cutoff_ang": 3.0, "repulsion": False},
        {"cutoff_ang": 9.0, "angular_cutoff_ang": 2.5},
    ],
    ids=str,
)
def test_every_size_is_the_pure_one(form: dict[str, object]) -> None:
    committee = random_committee(**form)
    for structures in ([ETHANOL, cluster(9, 20)], [cell(5, 21), cell(8, 22, 1.4)]):
        batch = to_batch(structures)
        assert_same(committee.predict(batch, True), committee.predict_pure(batch, True), torch.float64)


@pytest.mark.parametrize("elements", [(18,), (1, 6, 7, 8, 9, 16)])
def test_every_number_of_elements_is_the_pure_one(elements: tuple[int, ...]) -> None:
    committee = random_committee(elements)
    batch = to_batch([cluster(12, 30, numbers=elements), cluster(5, 31, numbers=elements)])
    assert_same(committee.predict(batch), committee.predict_pure(batch), torch.float64)


def test_heavy_atoms_repel_beyond_a_short_cutoff() -> None:
    """Two cesium atoms repel up to 3.66 Å, whatever the networks see."""
    committee = random_committee((55,), cutoff_ang=2.0, angular_cutoff_ang=2.0)
    pair = Structure.of(["Cs", "Cs"], [[0.0, 0.0, 0.0], [2.5, 0.0, 0.0]])
    for structure in (pair, Structure.of(pair.numbers, pair.positions, 9.0 * np.eye(3))):
        batch = to_batch([structure])
        prediction = committee.predict(batch)
        assert float(prediction.forces[0, 0, 1, 0]) > 0.1
        assert_same(prediction, committee.predict_pure(batch), torch.float64)


def test_more_atoms_than_a_block_are_the_pure_ones() -> None:
    """Blocks and tiles end anywhere; networks of many atoms take another way than those of a few."""
    committee = random_committee(members=2)
    structure = cell(301, 40, 5.2)
    batch = to_batch([structure, ETHANOL])
    assert_same(committee.predict(batch, True), committee.predict_pure(batch, True), torch.float64)


def test_a_large_molecule_has_a_list_too() -> None:
    committee = random_committee(members=2)
    batch = to_batch([cluster(230, 41, 7.0), WATER])
    assert_same(committee.predict(batch), committee.predict_pure(batch), torch.float64)


@pytest.mark.parametrize("structure", [cluster(8, 50), cell(5, 51)], ids=["molecule", "cell"])
def test_forces_are_the_slope_of_the_energy(structure: Structure) -> None:
    committee = random_committee()
    forces = committee.predict(to_batch([structure])).forces[:, 0]
    step = 1e-4
    moves = np.eye(3 * len(structure)).reshape(-1, len(structure), 3) * step
    ends = [structure.with_positions(structure.positions + sign * move) for move in moves for sign in (-2, -1, 1, 2)]
    e = committee.predict(to_batch(ends)).energies.reshape(3, -1, 4)
    slopes = (e[..., 0] - 8 * e[..., 1] + 8 * e[..., 2] - e[..., 3]) / (12 * step)
    # The fifth derivative of the stiffest repulsion, times the fourth power of the step; and rounding of the energies.
    torch.testing.assert_close(
        -slopes.reshape(forces.shape), forces, rtol=0, atol=2e-8 * max(1.0, float(forces.abs().max()))
    )


def test_stress_is_the_slope_of_the_energy_with_strain() -> None:
    committee, structure = random_committee(), cell(5, 52)
    stress = committee.predict(to_batch([structure]), stress=True).stress
    assert stress is not None
    volume, step = abs(np.linalg.det(structure.cell)), 1e-5
    for i, j in ((0, 0), (1, 2), (0, 1)):
        strain = np.zeros((3, 3))
        strain[i, j] += 0.5 * step
        strain[j, i] += 0.5 * step
        strained = [
            Structure.of(structure.numbers, structure.positions @ matrix.T, structure.cell @ matrix.T)
            for matrix in (np.eye(3) - strain, np.eye(3) + strain)
        ]
        e = committee.predict(to_batch(strained)).energies
        slope = (e[:, 1] - e[:, 0]) / (2 * step * volume)
        # Third derivatives times the step squared, and rounding of energies of some hundred eV over the step.
        torch.testing.assert_close(slope, stress[:, 0, i, j], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("path", [Committee.predict, Committee.predict_pure], ids=["compiled", "pure"])
@pytest.mark.parametrize("structures", [[ETHANOL, WATER], [cell(6, 60), cell(4, 61)]], ids=["molecules", "cells"])
def test_a_position_that_is_no_number_spoils_its_structure_alone(
    value: float, path: object, structures: list[Structure]
) -> None:
    assert path in (Committee.predict, Committee.predict_pure)
    predict = Committee.predict if path is Committee.predict else Committee.predict_pure
    committee, batch = random_committee(), to_batch(structures)
    healthy = predict(committee, batch, True)
    positions = batch.positions.clone()
    positions[0, 2, 1] = value
    found = predict(committee, batch.with_positions(positions), True)
    n_atoms = len(structures[0])
    assert bool(found.energies[:, 0].isnan().all())
    assert bool(found.forces[:, 0, :n_atoms].isnan().all())
    assert float(found.forces[:, 0, n_atoms:].abs().sum()) == 0.0
    assert bool(found.disagreement()[0].isnan())
    assert bool(found.force_std()[0].isnan())
    torch.testing.assert_close(found.energies[:, 1], healthy.energies[:, 1], rtol=1e-13, atol=1e-12)
    torch.testing.assert_close(found.forces[:, 1], healthy.forces[:, 1], rtol=0, atol=1e-11)
    again = predict(committee, batch, True)
    assert torch.equal(again.energies, healthy.energies), "and nothing is remembered of it"


def test_two_atoms_on_one_point_are_no_number() -> None:
    positions = ETHANOL.positions.copy()
    positions[4] = positions[3]
    prediction = random_committee().predict(to_batch([ETHANOL.with_positions(positions), WATER]))
    assert not bool(prediction.energies[:, 0].isfinite().any())
    assert bool(prediction.energies[:, 1].isfinite().all())


@pytest.mark.parametrize("distance", [1e3, 1e8, 1e150])
def test_an_atom_absurdly_far_away_is_alone(distance: float) -> None:
    committee = random_committee()
    far = np.vstack([ETHANOL.positions, [[distance, 0.0, -distance]]])
    both = committee.predict(to_batch([Structure.of([*ETHANOL.numbers, 1], far)]))
    alone = committee.predict(to_batch([ETHANOL, Structure.of("H", [[0.0, 0.0, 0.0]])]))
    torch.testing.assert_close(both.energies[:, 0], alone.energies.sum(dim=1), rtol=1e-13, atol=1e-12)
    torch.testing.assert_close(both.forces[:, 0, :9], alone.forces[:, 0], rtol=0, atol=1e-12)


def test_an_atom_far_above_a_slab_is_alone_and_one_beyond_all_cells_is_nowhere() -> None:
    committee = random_committee()
    slab = cell(6, 62, pbc=[True, True, False])

    def with_one_more(position: list[float]) -> Structure:
        positions = np.vstack([slab.positions, [position]])
        return Structure.of([*slab.numbers, 1], positions, slab.cell, pbc=slab.pbc)

    near, far, nowhere = (
        committee.predict(to_batch([with_one_more(p)])).energies
        for p in ([0.0, 0.0, 30.0], [0.0, 0.0, 3e6], [1e9, 0.0, 0.0])
    )
    torch.testing.assert_close(far, near, rtol=0, atol=1e-8)
    assert bool(nowhere.isnan().all())


def test_a_rotation_turns_the_forces_and_an_exchange_of_atoms_exchanges_them() -> None:
    committee, structure = random_committee(), cluster(14, 70)
    rng = np.random.default_rng(0)
    turn, order = np.linalg.qr(rng.normal(size=(3, 3)))[0], rng.permutation(14)
    moved = Structure.of(structure.numbers[order], (structure.positions @ turn.T)[order])
    first, second = (committee.predict(to_batch([s])) for s in (structure, moved))
    scale = max(1.0, float(first.forces.abs().max()))
    torch.testing.assert_close(second.energies, first.energies, rtol=1e-12, atol=1e-11)
    expected = (first.forces @ torch.tensor(turn).T)[:, :, order]
    torch.testing.assert_close(second.forces, expected, rtol=0, atol=1e-11 * scale)


def test_a_batch_is_its_structures_one_by_one() -> None:
    committee, structures = random_committee(), [cluster(5 + k, 80 + k) for k in range(9)]
    together = committee.predict(to_batch(structures))
    for row, structure in enumerate(structures):
        alone = committee.predict(to_batch([structure]))
        scale = max(1.0, float(alone.forces.abs().max()))
        torch.testing.assert_close(together.energies[:, row], alone.energies[:, 0], rtol=1e-13, atol=1e-12)
        found = together.forces[:, row, : len(structure)]
        torch.testing.assert_close(found, alone.forces[:, 0], rtol=0, atol=1e-13 * scale)


def _walk(batch: Batch, steps: int, size: float) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    frames = [batch]
    for _ in range(steps):
        move = size * torch.randn(batch.positions.shape, generator=generator, dtype=torch.float64)
        frames.append(batch.with_positions(frames[-1].positions + move * batch.mask[..., None]))
    return frames


def test_a_list_that_is_kept_changes_no_bit() -> None:
    structures = [cell(20, 90, 2.3), cell(17, 91, 2.1), ETHANOL]
    keeper = random_committee()
    frames = _walk(to_batch(structures), 30, 0.04)
    wrapped = frames[-1].positions.clone()
    wrapped[0, 3] += frames[-1].cells[0, 1]
    frames += [frames[-1].with_positions(wrapped), frames[5]]
    for frame in frames:
        kept, fresh = keeper.predict(frame, True), random_committee().predict(frame, True)
        assert torch.equal(kept.energies, fresh.energies)
        assert torch.equal(kept.forces, fresh.forces)
        assert kept.stress is not None
        assert fresh.stress is not None
        assert torch.equal(kept.stress, fresh.stress)
    assert keeper.compiled is not None
    rebuilt = keeper.compiled.descriptors.desk.verlet.rebuilt
    assert 2 < rebuilt < len(frames), "some lists were kept and some were not"


def test_a_new_cell_is_noticed() -> None:
    committee, structure = random_committee(), cell(6, 92, 1.5)
    committee.predict(to_batch([structure]))
    squeezed = Structure.of(structure.numbers, structure.positions, structure.cell * 0.97)
    found, fresh = (c.predict(to_batch([squeezed])) for c in (committee, random_committee()))
    assert torch.equal(found.energies, fresh.energies)


def test_threads_do_not_share_a_list() -> None:
    committee = random_committee()
    batches = [to_batch([cell(20 + k, 95 + k, 2.3)]) for k in range(4)]
    expected = [random_committee().predict(batch).forces for batch in batches]
    wrong = []

    def work(k: int) -> None:
        wrong.extend(k for _ in range(20) if not torch.equal(committee.predict(batches[k]).forces, expected[k]))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_committee_that_was_used_can_be_sent_elsewhere() -> None:
    committee, batch = random_committee(), to_batch([cell(5, 99)])
    before = committee.predict(batch)
    after = pickle.loads(pickle.dumps(committee)).predict(batch)
    assert torch.equal(before.forces, after.forces)


def test_what_is_to_be_differentiated_goes_the_pure_way() -> None:
    committee, batch = random_committee(), to_batch([WATER])
    moving = batch.with_positions(batch.positions.clone().requires_grad_())
    prediction = committee.predict(moving)
    (slope,) = torch.autograd.grad(prediction.energies[0, 0], moving.positions)
    torch.testing.assert_close(-slope[0], committee.predict(batch).forces[0, 0], rtol=0, atol=1e-11)


def test_single_precision_forces_are_double_ones_to_six_digits() -> None:
    structures = [*rattled(ETHANOL, 3, 0.1, 1), cluster(20, 100, 3.0)]
    double, single = (
        random_committee(dtype=dtype).predict(to_batch(structures)) for dtype in (torch.float64, torch.float32)
    )
    scale = float(double.forces.abs().max())
    assert float((single.forces - double.forces).abs().max()) < 1e-5 * scale
    assert float((single.energies - double.energies).abs().max()) < 1e-6 * float(double.energies.abs().max())
