from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial import legendre, polynomial

from alflow.potentials.acsf import AngularFunction, ClassicalFunctions, RadialFunction, classical_functions
from alflow.potentials.descriptors import RadialBasis, SymmetryFunctions

CUTOFF, ANGULAR_CUTOFF = 5.0, 4.0
NARROW = (AngularFunction(0.05, 1, 1), AngularFunction(0.2, 4, -1))
WIDE = (AngularFunction(0.1, 1, -1), AngularFunction(0.02, 2, 1), AngularFunction(0.02, 3, -1))
FUNCTIONS = ClassicalFunctions(
    2, CUTOFF, ANGULAR_CUTOFF, (RadialFunction(0.3, 0.0), RadialFunction(2.0, 1.5)), NARROW, WIDE
)


def _surroundings(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    vectors = 1.6 * torch.randn((3, 7, 3), generator=generator, dtype=torch.float64)
    mask = torch.rand((3, 7), generator=generator) < 0.8
    species = torch.randint(0, 2, (3, 7), generator=generator)
    one_hot = torch.nn.functional.one_hot(species, 2).double() * mask[..., None]
    return vectors, mask, one_hot


def _cut(r: float, cutoff: float) -> float:
    return (1.0 - (r / cutoff) ** 2) ** 3 if r < cutoff else 0.0


def _naive(vectors: npt.NDArray[np.float64], species: list[int]) -> list[float]:
    """The features of one atom from the equations of the paper, one triple after the other."""
    features = []
    lengths = [float(np.linalg.norm(v)) for v in vectors]
    for element in range(2):
        for f in FUNCTIONS.radial:
            chosen = [r for r, e in zip(lengths, species, strict=True) if e == element]
            features.append(sum(math.exp(-f.eta * (r - f.shift) ** 2) * _cut(r, CUTOFF) for r in chosen))
    for pair in [(0, 0), (0, 1), (1, 1)]:
        for number, f in enumerate((*NARROW, *WIDE)):
            total = 0.0
            for j, k in itertools.combinations(range(len(vectors)), 2):
                if tuple(sorted((species[j], species[k]))) != pair:
                    continue
                apart = float(np.linalg.norm(vectors[k] - vectors[j]))
                cosine = float(vectors[j] @ vectors[k]) / (lengths[j] * lengths[k])
                term = 2.0 ** (1 - f.zeta) * (1 + f.sign * cosine) ** f.zeta
                term *= math.exp(-f.eta * (lengths[j] ** 2 + lengths[k] ** 2))
                term *= _cut(lengths[j], ANGULAR_CUTOFF) * _cut(lengths[k], ANGULAR_CUTOFF)
                if number < len(NARROW):
                    term *= math.exp(-f.eta * apart**2) * _cut(apart, ANGULAR_CUTOFF)
                total += term
            features.append(total)
    return features


class _Gaussian(RadialBasis):
    """One channel exp(−η r²) f_c(r): the radial part of a wide function."""

    eta = 0.07

    def evaluate(self, distances: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        inside = (mask & (distances < self.cutoff)).to(distances.dtype)
        gap = 1.0 - (distances / self.cutoff).square()
        value = (torch.exp(-self.eta * distances.square()) * gap**3 * inside)[..., None]
        return value, torch.zeros_like(value)


def test_the_values_are_those_of_the_paper_summed_one_by_one() -> None:
    vectors, mask, one_hot = _surroundings(0)
    features, _ = FUNCTIONS.forward(vectors, mask, one_hot)
    for atom in range(3):
        there = mask[atom]
        species = one_hot[atom, there].argmax(dim=-1).tolist()
        expected = _naive(vectors[atom, there].numpy(), species)
        # The same dozens of terms in another order.
        np.testing.assert_allclose(features[atom].numpy(), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("zeta", [1, 2, 3])
def test_a_wide_function_is_a_fixed_sum_of_moment_functions(zeta: int, sign: int) -> None:
    basis = _Gaussian(1, ANGULAR_CUTOFF, 0.0)
    moments = SymmetryFunctions(2, RadialBasis(2, CUTOFF, 1.0), basis, zeta)
    classical = ClassicalFunctions(2, CUTOFF, ANGULAR_CUTOFF, (), wide=(AngularFunction(basis.eta, zeta, sign),))
    vectors, mask, one_hot = _surroundings(zeta)
    found, _ = classical.forward(vectors, mask, one_hot)
    powers, _ = moments.forward(vectors, mask, one_hot)
    # 2^(1−ζ) (1 + λx)^ζ = Σ_l c_l P_l(x)
    weights = legendre.poly2leg(2.0 ** (1 - zeta) * polynomial.polypow([1.0, float(sign)], zeta))
    by_degree = powers[:, 4:].reshape(3, zeta + 1, 3)
    every_pair = torch.einsum("ald,l->ad", by_degree, torch.tensor(weights))
    # Each neighbor is its own partner at angle zero, Σ_l c_l = 2^(1−ζ) (1 + λ)^ζ, where the elements are the same.
    radial, _ = basis.evaluate(vectors.norm(dim=-1), mask)
    itself = torch.einsum("aje,aj->ae", one_hot, radial[..., 0].square()) * weights.sum()
    same, mixed = every_pair[:, [0, 2]], every_pair[:, 1]
    expected = torch.stack([0.5 * (same[:, 0] - itself[:, 0]), mixed, 0.5 * (same[:, 1] - itself[:, 1])], dim=1)
    assert float(found.abs().max()) > 0.1
    # Sums of some forty terms of order one, added and taken away again.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)


def test_the_backward_pass_is_autograd_for_every_member() -> None:
    vectors, mask, one_hot = _surroundings(1)
    vectors.requires_grad_()
    features, environment = FUNCTIONS.forward(vectors, mask, one_hot)
    cotangents = torch.randn((4, *features.shape), dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    found = FUNCTIONS.backward(cotangents, environment)
    for member in range(4):
        (truth,) = torch.autograd.grad((features * cotangents[member]).sum(), vectors, retain_graph=True)
        torch.testing.assert_close(found[member], truth, rtol=1e-11, atol=1e-12)


def test_the_backward_pass_is_the_finite_difference() -> None:
    functions = classical_functions(2, CUTOFF, ANGULAR_CUTOFF)
    vectors, mask, one_hot = _surroundings(4)
    _, environment = functions.forward(vectors, mask, one_hot)
    cotangent = torch.randn(
        (1, 3, functions.n_features), dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    found = functions.backward(cotangent, environment)[0]
    step = 1e-5
    for place in itertools.product(range(3), range(7), range(3)):
        energies = []
        for direction in (1.0, -1.0):
            moved = vectors.clone()
            moved[place] += direction * step
            energies.append(float((functions.forward(moved, mask, one_hot)[0] * cotangent[0]).sum()))
        # Central differences: third derivatives of order 10 times 1e-10, and rounding 1e-15 over 1e-5.
        assert float(found[place]) == pytest.approx((energies[0] - energies[1]) / (2 * step), abs=1e-8)


def test_groups_of_atoms_and_single_atoms_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, mask, one_hot = _surroundings(5)
    cotangents = torch.randn((2, 3, FUNCTIONS.n_features), dtype=torch.float64)
    whole, environment = FUNCTIONS.forward(vectors, mask, one_hot)
    pulled = FUNCTIONS.backward(cotangents, environment)
    one = torch.tensor([1])
    torch.testing.assert_close(FUNCTIONS.backward(cotangents[:, one], environment.select(one)), pulled[:, one])
    monkeypatch.setattr("alflow.potentials.acsf._NUMBERS_AT_ONCE", 1)
    torch.testing.assert_close(FUNCTIONS.forward(vectors, mask, one_hot)[0], whole, rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(FUNCTIONS.backward(cotangents, environment), pulled, rtol=1e-13, atol=1e-14)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_rotation_reflection_and_order_change_nothing(seed: int) -> None:
    vectors, mask, one_hot = _surroundings(seed)
    rng = np.random.default_rng(seed)
    turn = torch.tensor(np.linalg.qr(rng.normal(size=(3, 3)))[0])
    order = torch.tensor(rng.permutation(7))
    before, _ = FUNCTIONS.forward(vectors, mask, one_hot)
    after, _ = FUNCTIONS.forward((vectors @ turn.T)[:, order], mask[:, order], one_hot[:, order])
    torch.testing.assert_close(after, before, rtol=1e-11, atol=1e-12)


def test_a_neighbor_leaves_with_continuous_curvature() -> None:
    """G4 leaves through three cutoffs: two radii and the distance between the neighbors."""
    functions = classical_functions(1, 4.0, 4.0)
    partner = torch.tensor([0.0, 1.1, 0.0], dtype=torch.float64)

    def total(x: torch.Tensor) -> torch.Tensor:
        vectors = torch.stack([torch.stack([x, 0.1 * x, torch.zeros_like(x)]), partner])[None]
        ones = torch.ones((1, 2, 1), dtype=torch.float64)
        return functions.forward(vectors, ones[..., 0] > 0, ones)[0].sum()

    def curvature(x: float) -> float:
        return float(torch.autograd.functional.hessian(total, torch.tensor(x, dtype=torch.float64)))

    leave = 4.0 / math.sqrt(1.01)
    # f_c leaves zero as a cube: at 1e-5 Å its curvature is about 6 (2/r_c)³ 1e-5 per function.
    assert abs(curvature(leave - 1e-5) - curvature(leave + 1e-5)) < 1e-3
    assert abs(curvature(leave - 0.1)) > 1e-3


def test_neighbors_in_line_have_finite_second_derivatives() -> None:
    vectors = torch.tensor([[[1.0, 0.0, 0.0], [-1.2, 0.0, 0.0], [2.0, 0.0, 0.0]]], dtype=torch.float64)
    one_hot = torch.ones((1, 3, 1), dtype=torch.float64)
    functions = classical_functions(1, 5.0, 4.0)
    hessian = torch.autograd.functional.hessian(
        lambda v: functions.forward(v, one_hot[..., 0] > 0, one_hot)[0].sum(), vectors
    )
    assert bool(hessian.isfinite().all())


def test_an_empty_neighborhood_has_no_features_and_no_nan() -> None:
    vectors = torch.zeros((2, 2, 3), dtype=torch.float64)
    mask = torch.zeros((2, 2), dtype=torch.bool)
    features, environment = FUNCTIONS.forward(vectors, mask, torch.zeros((2, 2, 2), dtype=torch.float64))
    assert torch.equal(features, torch.zeros((2, FUNCTIONS.n_features), dtype=torch.float64))
    pulled = FUNCTIONS.backward(torch.ones((1, *features.shape), dtype=torch.float64), environment)
    assert torch.equal(pulled, torch.zeros_like(pulled))


def test_single_precision_stays_single_and_close() -> None:
    vectors, mask, one_hot = _surroundings(6)
    exact, _ = FUNCTIONS.forward(vectors, mask, one_hot)
    rounded, environment = FUNCTIONS.forward(vectors.float(), mask, one_hot.float())
    assert rounded.dtype == torch.float32
    assert FUNCTIONS.backward(torch.ones((1, *rounded.shape)), environment).dtype == torch.float32
    # Seven digits, dozens of terms.
    torch.testing.assert_close(rounded.double(), exact, rtol=2e-5, atol=1e-6)


def test_impossible_functions_are_refused() -> None:
    with pytest.raises(ValueError, match="zeta is a positive integer; found 0"):
        AngularFunction(0.1, 0, 1)
    with pytest.raises(ValueError, match=r"sign is \+1 or -1; found 0"):
        AngularFunction(0.1, 1, 0)
    with pytest.raises(ValueError, match="at most the radial one"):
        classical_functions(1, 4.0, 5.0)
