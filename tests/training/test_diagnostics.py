from __future__ import annotations

import numpy as np
import pytest
import torch

from alflow.domain.learning_config import ModelConfig
from alflow.potentials.committee import Surroundings, symmetry_functions
from alflow.tensors import to_batch
from alflow.training.diagnostics import examine_functions
from tests.potentials.committees import WATER, rattled


def _random(n_atoms: int, n_functions: int, seed: int = 0) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(seed).normal(size=(n_atoms, n_functions)))


def test_independent_functions_are_all_kept_and_nothing_is_said() -> None:
    report = examine_functions(_random(30, 12))
    assert report.kept.tolist() == list(range(12))
    assert report.reasons == {}
    assert report.message("C") is None


def test_the_range_is_the_smallest_and_the_largest_value() -> None:
    values = _random(30, 5)
    report = examine_functions(values)
    np.testing.assert_array_equal(report.low.numpy(), values.numpy().min(axis=0))
    np.testing.assert_array_equal(report.high.numpy(), values.numpy().max(axis=0))


def test_dead_and_repeated_functions_are_found_whatever_their_size() -> None:
    values = _random(40, 6)
    values[:, 1] = 0.0
    values[:, 2] = 4.2e5
    values[:, 4] = -1e-4 * values[:, 0] + 7.0
    values[:, 5] = 300.0 * values[:, 0]
    report = examine_functions(values)
    assert report.kept.tolist() == [0, 3]
    assert report.dead == (1, 2)
    assert report.duplicates == ((4, 0), (5, 0))
    assert list(report.reasons) == [1, 2, 4, 5]
    assert report.message("C") == (
        "Around C, of 6 symmetry functions 2 repeat another and are left out, 2 never change over the training set and "
        "are only watched for a change."
    )


def test_functions_that_are_nearly_alike_are_kept() -> None:
    values = _random(40, 2)
    values[:, 1] = values[:, 0] + 1e-4 * values[:, 1]
    # 1 − ρ is about 5e-9 here: little, but the difference may be what tells two structures apart.
    assert examine_functions(values).kept.tolist() == [0, 1]


def test_few_atoms_prove_no_duplicates() -> None:
    values = _random(2, 8)
    assert examine_functions(values).kept.tolist() == list(range(8))


def test_a_single_atom_keeps_everything() -> None:
    assert examine_functions(_random(1, 4)).kept.tolist() == [0, 1, 2, 3]
    assert examine_functions(torch.zeros((20, 4), dtype=torch.float64)).kept.tolist() == [0, 1, 2, 3]


def test_slopes_save_a_function_that_is_constant_but_not_flat() -> None:
    values = _random(12, 3)
    values[:, 1:] = 1.0
    slopes = torch.zeros((9, 3), dtype=torch.float64)
    slopes[4, :2] = 0.5
    assert examine_functions(values).dead == (1, 2)
    assert examine_functions(values, slopes).dead == (2,)


def test_no_atoms_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one atom"):
        examine_functions(torch.zeros((0, 3), dtype=torch.float64))


def test_in_water_what_is_left_out_is_what_must_be() -> None:
    model = ModelConfig(
        radial_functions=4, angular_functions=2, angular_degree=2, cutoff_ang=3.0, angular_cutoff_ang=3.0
    )
    functions = symmetry_functions(model, 2)
    seen = Surroundings.of(to_batch(rattled(WATER, 50, 0.05, 0)), functions, (1, 8))
    species = seen.species.reshape(-1)
    oxygen = examine_functions(seen.features[species == 1])
    # An oxygen has no oxygen beside it: 4 radial functions, and 3 degrees of each of the 7 of 10 pairs of channels
    # that contain one.
    assert set(oxygen.dead) >= {4, 5, 6, 7}
    assert len(oxygen.dead) == 4 + 3 * 7
    assert oxygen.duplicates == ()
    # A hydrogen has one neighbor of each element: with itself it makes an angle of zero, where all degrees agree. The
    # three pairs of channels of one element tell the same at every degree.
    hydrogen = examine_functions(seen.features[species == 0])
    assert len(hydrogen.duplicates) == 2 * 3 * 2
    first_degree = range(8, 18)
    assert {kept for _, kept in hydrogen.duplicates} <= set(first_degree)


def test_what_is_left_out_is_determined_by_what_is_kept() -> None:
    functions = symmetry_functions(ModelConfig(), 2)
    seen = Surroundings.of(to_batch(rattled(WATER, 80, 0.05, 1)), functions, (1, 8))
    values = seen.features[seen.species.reshape(-1) == 0]
    report = examine_functions(values)
    assert report.duplicates
    for dropped, kept in report.duplicates:
        assert kept in report.kept.tolist()
        correlation = np.corrcoef(values[:, dropped], values[:, kept])[0, 1]
        assert abs(correlation) > 1.0 - 1e-9
