"""Compiled components and slopes are those of torch, which finite differences vouch for."""

from __future__ import annotations

import pytest
import torch

from alflow.domain import Structure
from alflow.domain.learning_config import ModelConfig
from alflow.errors import InputError
from alflow.potentials import Committee
from alflow.potentials.descriptors import SymmetryFunctions
from alflow.potentials.slopes import CompiledComponents, Components, pure_components
from alflow.tensors import to_batch
from tests.potentials.committees import ETHANOL, WATER
from tests.potentials.test_kernels import BATCHES, cell, cluster, random_committee


def _compiled(committee: Committee, dtype: torch.dtype = torch.float32) -> CompiledComponents:
    functions, weights = committee.functions, committee.weights
    assert isinstance(functions, SymmetryFunctions)
    return CompiledComponents(
        functions, committee.elements, weights.center, weights.projection, committee.model.repulsion, dtype
    )


def _pure(committee: Committee, structures: list[Structure], dtype: torch.dtype = torch.float32) -> Components:
    weights, view = committee.weights, (committee.functions, committee.elements)
    batch = to_batch(structures)
    return pure_components(batch, view, weights.center, weights.projection, committee.model.repulsion, dtype)


def _in_one_order(found: Components) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Neighbors, vectors and slopes of every atom, sorted by neighbor and vector: their order is nobody's business."""
    n_atoms, n_slots = found.neighbors.shape
    order = torch.arange(n_slots).expand(n_atoms, -1)
    for key in (*found.vectors.double().round(decimals=4).unbind(dim=2), found.neighbors):
        order = order.gather(1, key.gather(1, order).argsort(dim=1, stable=True))
    slopes = found.slopes[..., : 3 * n_slots].reshape(n_atoms, -1, n_slots, 3)
    return (
        found.neighbors.gather(1, order),
        found.vectors.gather(1, order[..., None].expand(-1, -1, 3)),
        slopes.gather(2, order[:, None, :, None].expand(-1, slopes.shape[1], -1, 3)),
    )


def _assert_same(found: Components, expected: Components) -> None:
    """Equal to rounding: a slope is a sum of some hundred terms, the largest of them about as large as any slope."""
    for name in ("place", "extents"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    assert found.counts == expected.counts
    for name in ("values", "repulsion", "push", "push_virials"):
        value, other = getattr(found, name), getattr(expected, name)
        scale = max(1.0, float(other.abs().max()))
        torch.testing.assert_close(value, other, rtol=0, atol=1e-12 * scale, msg=name)
    ours, theirs = _in_one_order(found), _in_one_order(expected)
    assert torch.equal(ours[0], theirs[0])
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-6, atol=1e-6)
    assert found.slopes.dtype == expected.slopes.dtype
    tolerance = 1e-13 if found.slopes.dtype == torch.float64 else 2e-6
    scale = max(1.0, float(theirs[2].abs().max()))
    torch.testing.assert_close(ours[2], theirs[2], rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])
@pytest.mark.parametrize("name", BATCHES)
def test_compiled_slopes_are_those_of_torch(name: str, dtype: torch.dtype) -> None:
    committee = random_committee()
    found = _compiled(committee, dtype).of(to_batch(BATCHES[name]))
    _assert_same(found, _pure(committee, BATCHES[name], dtype))


@pytest.mark.parametrize(
    "form",
    [
        {"components": 5},
        {"components": 37, "angular_degree": 4, "angular_functions": 2},
        {"angular_degree": 0, "angular_functions": 1, "components": 16},
        {"cutoff_ang": 5.1, "angular_cutoff_ang": 2.3, "components": 17},
        {"cutoff_ang": 1.6, "angular_cutoff_ang": 1.5, "repulsion": False},
    ],
    ids=str,
)
def test_slopes_of_every_size_are_those_of_torch(form: dict[str, object]) -> None:
    committee, structures = random_committee(**form), [cell(5, 6), cluster(9, 2), ETHANOL]
    _assert_same(_compiled(committee).of(to_batch(structures)), _pure(committee, structures))


def test_the_default_form_has_slopes_to_single_precision() -> None:
    settings = {name: value for name, value in ModelConfig().model_dump().items() if name not in ("members", "hidden")}
    committee, structures = random_committee(**settings), [ETHANOL, cluster(20, 100, 3.0)]
    _assert_same(_compiled(committee).of(to_batch(structures)), _pure(committee, structures))


def test_a_batch_larger_than_a_block_is_its_structures_one_by_one() -> None:
    committee, structures = random_committee(), [cluster(23, 80 + k) for k in range(12)]
    _assert_same(_compiled(committee).of(to_batch(structures)), _pure(committee, structures))


def test_components_follow_their_slopes() -> None:
    compiled = _compiled(random_committee(), torch.float64)
    batch, step = to_batch([ETHANOL]), 1e-4
    found = compiled.of(batch)
    up, down = batch.positions.clone(), batch.positions.clone()
    up[0, 2, 1] += step
    down[0, 2, 1] -= step
    measured = (compiled.of(batch.with_positions(up)).values - compiled.of(batch.with_positions(down)).values) / (
        2.0 * step
    )
    n_slots = found.neighbors.shape[1]
    slopes = found.slopes[..., : 3 * n_slots].reshape(*found.values.shape, n_slots, 3)[..., 1]
    is_it = (found.neighbors == 2).to(torch.float64) * (found.place != 2)[:, None]
    expected = (slopes * is_it[:, None, :]).sum(dim=2) - slopes.sum(dim=2) * (found.place == 2)[:, None]
    # Central differences: third derivatives times step²/6, some 1e-8 relative to the largest slope.
    torch.testing.assert_close(measured, expected, rtol=0, atol=1e-6 * float(slopes.abs().max()))


def test_what_was_computed_before_changes_no_bit() -> None:
    committee, structures = random_committee(), [cell(6, 9), cell(4, 5)]
    used = _compiled(committee)
    used.of(to_batch([cell(20, 90, 2.3), WATER]))
    nearby = [structure.with_positions(structure.positions + 0.01) for structure in structures]
    used.of(to_batch(nearby))
    again, fresh = used.of(to_batch(structures)), _compiled(committee).of(to_batch(structures))
    for name in ("values", "slopes", "extents", "neighbors", "vectors", "repulsion", "push", "push_virials"):
        assert torch.equal(getattr(again, name), getattr(fresh, name)), name


def test_an_unknown_element_is_refused() -> None:
    with pytest.raises(InputError, match="trained on"):
        _compiled(random_committee()).of(to_batch([Structure.of("He", [[0.0, 0.0, 0.0]])]))
