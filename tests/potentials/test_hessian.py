from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from alflow.domain import Structure
from alflow.errors import InputError
from alflow.potentials import Committee
from alflow.potentials.hessian import committee_energies, hessian, member_hessians
from alflow.tensors import to_batch
from tests.potentials.committees import ETHANOL, WATER, argon_committee, crystal, ethanol_committee, rattled

# Two hydrogens so close that the nuclear repulsion acts, which has a second derivative of its own.
CROWDED = WATER.with_positions(np.array([[0.0, 0.0, 0.0], [0.55, 0.0, 0.0], [0.1, 0.75, 0.2]]))
CASES = {
    "molecule": (ethanol_committee, rattled(ETHANOL, 1, 0.05, 3)[0]),
    "repulsion": (ethanol_committee, CROWDED),
    "crystal": (argon_committee, crystal(50)),
    "cell of one atom and a half": (
        argon_committee,
        Structure.of(["Ar", "Ar"], [[0, 0, 0], [2.0, 1.7, 1.6]], [[3.6, 0, 0], [0.7, 3.5, 0], [-0.5, 0.8, 3.4]]),
    ),
    "slab": (
        argon_committee,
        Structure.of(
            ["Ar", "Ar"], [[0, 0, 0], [1.6, 1.5, 2.2]], [[3.4, 0, 0], [0.5, 3.5, 0], [0, 0, 12]], [True, True, False]
        ),
    ),
}


def _slopes(committee: Committee, structure: Structure, place: int, step: float) -> npt.NDArray[np.float64]:
    """Forces of every member, eV/Å, shape (member, 3 · atom), with one coordinate moved."""
    positions = structure.positions.copy()
    positions.reshape(-1)[place] += step
    forces = committee.predict(to_batch([structure.with_positions(positions)])).forces[:, 0]
    return np.asarray(forces.reshape(committee.n_members, -1).numpy())


def _numerical(committee: Committee, structure: Structure) -> npt.NDArray[np.float64]:
    """Hessians of every member from forces at four points, shape (member, 3 · atom, 3 · atom)."""
    columns, step = [], 1e-3
    for place in range(3 * len(structure)):
        near, far = (
            _slopes(committee, structure, place, n * step) - _slopes(committee, structure, place, -n * step)
            for n in (1, 2)
        )
        columns.append(-(8.0 * near - far) / (12.0 * step))
    return np.stack(columns, axis=2)


@pytest.mark.parametrize("case", CASES, ids=list(CASES))
def test_second_derivatives_are_differences_of_forces(case: str) -> None:
    committee, structure = CASES[case][0](), CASES[case][1]
    exact = member_hessians(committee, structure)
    scale = np.abs(exact).max()
    assert scale > 0.1
    # Four points leave fifth derivatives of the forces (up to 1e6 relative, repulsion most) times 1e-12 / 30.
    np.testing.assert_allclose(exact, _numerical(committee, structure), rtol=0, atol=1e-6 * scale)
    np.testing.assert_allclose(hessian(committee, structure), exact.mean(axis=0), rtol=0, atol=1e-12 * scale)


@pytest.mark.parametrize("case", CASES, ids=list(CASES))
def test_the_hessian_is_symmetric_and_knows_no_place_in_space(case: str) -> None:
    committee, structure = CASES[case][0](), CASES[case][1]
    found = hessian(committee, structure)
    size = len(structure)
    assert found.shape == (3 * size, 3 * size)
    # Rounding: sixteen digits, some hundred terms.
    tolerance = 1e-12 * np.abs(found).max()
    np.testing.assert_allclose(found, found.T, rtol=0, atol=tolerance)
    np.testing.assert_allclose(found.reshape(3 * size, size, 3).sum(axis=1), 0.0, rtol=0, atol=tolerance)


def test_the_differentiable_energy_is_the_predicted_one() -> None:
    committee = ethanol_committee()
    batch = to_batch([ETHANOL, WATER, CROWDED])
    predicted = committee.predict(batch)
    positions = batch.positions.clone().requires_grad_()
    energies = committee_energies(committee, batch.with_positions(positions))
    torch.testing.assert_close(energies.detach(), predicted.energies, rtol=1e-12, atol=1e-10)
    for member in range(committee.n_members):
        (gradient,) = torch.autograd.grad(energies[member].sum(), positions, retain_graph=True)
        torch.testing.assert_close(-gradient, predicted.forces[member], rtol=1e-10, atol=1e-10)


def test_a_committee_in_single_precision_has_a_hessian_in_double() -> None:
    exact = hessian(ethanol_committee(), WATER)
    rounded = hessian(ethanol_committee().to(torch.float32), WATER)
    # Only the weights are rounded, to seven digits.
    np.testing.assert_allclose(rounded, exact, rtol=0, atol=1e-4 * np.abs(exact).max())
    np.testing.assert_allclose(rounded, rounded.T, rtol=0, atol=1e-12 * np.abs(exact).max())


@pytest.mark.parametrize("cell", [None, [4.0, 4.2, 3.9]], ids=["alone", "with its own images"])
def test_one_atom_that_moves_alone_meets_no_resistance(cell: list[float] | None) -> None:
    found = hessian(argon_committee(), Structure.of("Ar", [[0.3, 0.0, 0.1]], cell))
    np.testing.assert_allclose(found, np.zeros((3, 3)), rtol=0, atol=1e-12)


def test_a_hessian_can_be_asked_for_where_gradients_are_off() -> None:
    with torch.no_grad():
        quiet = hessian(ethanol_committee(), WATER)
    np.testing.assert_array_equal(quiet, hessian(ethanol_committee(), WATER))


def test_an_unknown_element_is_named() -> None:
    with pytest.raises(InputError, match="found Ar"):
        hessian(ethanol_committee(), Structure.of("Ar", [[0, 0, 0]]))
