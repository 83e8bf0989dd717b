from __future__ import annotations

import numpy as np
import pytest
import torch

from alflow.domain import Structure
from alflow.potentials.committee import Surroundings
from alflow.potentials.extrapolation import DescriptorRange, Extrapolation, extrapolation
from alflow.tensors import to_batch
from tests.potentials.committees import ETHANOL, ethanol_committee, rattled

TRAINED = rattled(ETHANOL, 100, 0.06, 0)


def _descriptors(structures: list[Structure], dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """What the networks see, shape (structure, atom, component), and the species, shape (structure, atom)."""
    committee = ethanol_committee().to(dtype)
    seen = Surroundings.of(to_batch(structures, dtype), committee.functions, committee.elements)
    components = np.concatenate([committee.descriptors(s) for s in structures if len(s) == seen.species.shape[1]])
    return torch.tensor(components).to(dtype).reshape(*seen.species.shape, -1), seen.species


def _trained(dtype: torch.dtype = torch.float64) -> DescriptorRange:
    descriptors, species = _descriptors(TRAINED, dtype)
    return DescriptorRange.empty(3, descriptors.shape[-1]).including(descriptors, species)


def _measured(structures: list[Structure], dtype: torch.dtype = torch.float64) -> Extrapolation:
    return extrapolation(_trained(dtype), *_descriptors(structures, dtype))


def _stretched(factor: float) -> Structure:
    """Ethanol with a longer O-H bond."""
    positions = ETHANOL.positions.copy()
    positions[8] = positions[2] + factor * (positions[8] - positions[2])
    return ETHANOL.with_positions(positions)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_training_structures_do_not_extrapolate(dtype: torch.dtype) -> None:
    found = _measured(TRAINED, dtype)
    assert float(found.frames.max()) == 0.0
    assert not bool(found.beyond(0.0).any())


def test_excursions_grow_with_the_amplitude() -> None:
    medians = [float(_measured(rattled(ETHANOL, 20, a, 7)).frames.median()) for a in (0.06, 0.12, 0.2)]
    assert medians[0] < 0.2 < 0.5 < medians[1] < medians[2]


def test_the_atoms_near_a_stretched_bond_are_the_ones_that_extrapolate() -> None:
    atoms = _measured([_stretched(1.6)]).atoms[0]
    assert int(atoms.argmax()) in (2, 8)
    assert float(atoms.max()) > 1.0
    # The methyl hydrogens on the far side hardly see it.
    assert float(atoms[[3, 4, 5]].max()) < 0.2 * float(atoms.max())


def test_a_frame_is_as_bad_as_its_worst_atom() -> None:
    found = _measured([ETHANOL, _stretched(1.3), _stretched(1.8)])
    assert found.atoms.shape == (3, 9)
    torch.testing.assert_close(found.frames, found.atoms.amax(dim=1))
    assert found.beyond(float(found.frames[1])).tolist() == [False, False, True]


def test_a_range_filled_in_pieces_is_the_range_of_all() -> None:
    descriptors, species = _descriptors(TRAINED, torch.float64)
    whole = _trained()
    pieces = DescriptorRange.empty(3, descriptors.shape[-1])
    for part in (slice(60, 100), slice(0, 60)):
        pieces = pieces.including(descriptors[part], species[part])
    assert torch.equal(pieces.low, whole.low)
    assert torch.equal(pieces.high, whole.high)


def test_padding_and_molecules_of_other_sizes_do_not_count() -> None:
    box = DescriptorRange(torch.zeros((1, 2)), torch.ones((1, 2)))
    descriptors = torch.full((2, 3, 2), 0.5)
    descriptors[1, 1:] = 50.0
    found = extrapolation(box, descriptors, torch.tensor([[0, 0, 0], [0, -1, -1]]))
    assert torch.equal(found.atoms, torch.zeros((2, 3)))


def test_a_direction_the_data_hardly_visit_is_measured_by_the_others() -> None:
    box = DescriptorRange(torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 1e-9]]))
    little = extrapolation(box, torch.tensor([[[0.5, 1e-3]]]), torch.tensor([[0]]))
    # w̄ = √(1/2), of which a tenth; in single precision.
    assert float(little.frames[0]) == pytest.approx(1e-3 / (0.1 * 0.5**0.5), rel=1e-5)


def test_without_any_spread_everything_else_is_infinitely_far() -> None:
    lone = DescriptorRange.empty(2, 1, torch.float32).including(torch.tensor([[0.3]]), torch.tensor([0]))
    species = torch.tensor([[0, 0, 1]])
    found = extrapolation(lone, torch.tensor([[[0.3], [0.4], [0.0]]]), species)
    assert found.atoms[0].tolist() == [0.0, float("inf"), float("inf")]


def test_what_is_no_number_is_beyond_every_tolerance() -> None:
    box = DescriptorRange(torch.zeros((1, 2)), torch.ones((1, 2)))
    found = extrapolation(box, torch.tensor([[[0.5, torch.nan]]]), torch.tensor([[0]]))
    assert bool(found.beyond(1e9)[0])
