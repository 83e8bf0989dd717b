from __future__ import annotations

import numpy as np
import torch
from scipy.special import eval_legendre

from alflow.potentials.descriptors import RadialBasis, SymmetryFunctions
from alflow.potentials.harmonics import spherical_harmonics

FUNCTIONS = SymmetryFunctions(2, RadialBasis(6, 5.0, 1.0), RadialBasis(3, 4.0, 0.5), 4)


def _surroundings(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    vectors = 1.6 * torch.randn((3, 7, 3), generator=generator, dtype=torch.float64)
    mask = torch.rand((3, 7), generator=generator) < 0.8
    species = torch.randint(0, 2, (3, 7), generator=generator)
    one_hot = torch.nn.functional.one_hot(species, 2).double() * mask[..., None]
    return vectors, mask, one_hot


def test_harmonics_obey_the_addition_theorem() -> None:
    rng = np.random.default_rng(0)
    u, v = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in rng.normal(size=(2, 50, 3)))
    ones = torch.ones(50, dtype=torch.float64)
    a, _ = spherical_harmonics(torch.tensor(u), ones, 6)
    b, _ = spherical_harmonics(torch.tensor(v), ones, 6)
    cosine = (u * v).sum(axis=1)
    for degree in range(7):
        part = slice(degree**2, (degree + 1) ** 2)
        # P_l is a polynomial of degree 6 with coefficients up to 40: rounding stays below 1e-13.
        np.testing.assert_allclose((a * b)[:, part].sum(dim=1).numpy(), eval_legendre(degree, cosine), atol=1e-13)


def test_harmonics_gradients_are_autograd() -> None:
    vectors = torch.randn((20, 3), dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    distances = vectors.norm(dim=1)
    values, gradients = spherical_harmonics(vectors / distances[:, None], distances, 3)
    for column in range(16):
        (truth,) = torch.autograd.grad(values[:, column].sum(), vectors, retain_graph=True, allow_unused=True)
        if truth is None:
            truth = torch.zeros_like(gradients[..., column])
        torch.testing.assert_close(gradients[..., column], truth, rtol=0, atol=1e-12)


def test_moments_give_the_sum_over_triples() -> None:
    vectors, mask, one_hot = _surroundings(0)
    features, _ = FUNCTIONS.forward(vectors, mask, one_hot)
    r = vectors.norm(dim=-1)
    radial, _ = FUNCTIONS.angular.evaluate(r, mask)
    weighted = (one_hot[..., :, None] * radial[..., None, :]).reshape(3, 7, -1)
    unit = vectors / r[..., None]
    cosine = torch.einsum("ajx,akx->ajk", unit, unit)
    expected = []
    for degree in range(5):
        legendre = torch.tensor(eval_legendre(degree, cosine.numpy()))
        matrix = torch.einsum("ajc,ajk,akd->acd", weighted, legendre, weighted)
        rows, columns = torch.triu_indices(6, 6)
        expected.append(matrix[:, rows, columns])
    torch.testing.assert_close(features[:, 12:], torch.cat(expected, dim=1), rtol=1e-11, atol=1e-12)


def test_the_backward_pass_is_autograd_for_every_member() -> None:
    vectors, mask, one_hot = _surroundings(1)
    vectors.requires_grad_()
    features, environment = FUNCTIONS.forward(vectors, mask, one_hot)
    cotangents = torch.randn((4, *features.shape), dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    found = FUNCTIONS.backward(cotangents, environment)
    for member in range(4):
        (truth,) = torch.autograd.grad((features * cotangents[member]).sum(), vectors, retain_graph=True)
        torch.testing.assert_close(found[member], truth, rtol=1e-10, atol=1e-10)


def test_a_rotation_changes_nothing() -> None:
    vectors, mask, one_hot = _surroundings(3)
    turn = torch.tensor(np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0])
    before, _ = FUNCTIONS.forward(vectors, mask, one_hot)
    after, _ = FUNCTIONS.forward(vectors @ turn.T, mask, one_hot)
    torch.testing.assert_close(after, before, rtol=1e-11, atol=1e-12)


def test_everything_fades_with_two_continuous_derivatives_at_the_cutoff() -> None:
    basis = RadialBasis(5, 4.0, 1.0)
    r = torch.linspace(3.9, 4.1, 2001, dtype=torch.float64)
    values, slopes = basis.evaluate(r, torch.ones_like(r, dtype=torch.bool))
    curvature = (slopes[1:] - slopes[:-1]) / (r[1] - r[0])
    assert bool((values[r >= 4.0] == 0.0).all() and (slopes[r >= 4.0] == 0.0).all())
    # f_c leaves zero as a cube: one step of 1e-4 Å inside, the curvature is at most about 6·(2/r_c)³·1e-4.
    jump = curvature.diff(dim=0).abs().max()
    assert float(jump) < 1e-3
    assert float(curvature.abs().max()) > 1e-3


def test_an_empty_neighborhood_has_no_features_and_no_nan() -> None:
    vectors = torch.zeros((1, 2, 3), dtype=torch.float64)
    mask = torch.zeros((1, 2), dtype=torch.bool)
    features, environment = FUNCTIONS.forward(vectors, mask, torch.zeros((1, 2, 2), dtype=torch.float64))
    assert torch.equal(features, torch.zeros_like(features))
    pulled = FUNCTIONS.backward(torch.ones((1, 1, features.shape[1]), dtype=torch.float64), environment)
    assert torch.equal(pulled, torch.zeros_like(pulled))
