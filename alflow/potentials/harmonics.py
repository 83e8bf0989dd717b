"""Real spherical harmonics as polynomials, with their gradients.

Y_lm is kept in Racah normalisation, Σ_m Y_lm(û) Y_lm(v̂) = P_l(û·v̂), so that a sum over m of a product of moments is a
sum of Legendre polynomials of the angle between two neighbors.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch

__all__ = ["spherical_harmonics"]

Polynomial = dict[tuple[int, int, int], float]


def spherical_harmonics(
    directions: torch.Tensor, distances: torch.Tensor, max_degree: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Evaluate all real spherical harmonics up to a degree, and their gradients.

    Args:
        directions: Unit vectors û, shape (…, 3).
        distances: Lengths r of the vectors, Å, shape (…).
        max_degree: Highest degree l.

    Returns:
        Y_lm(û), shape (…, (l+1)²), in the order (0,0), (1,−1), (1,0), (1,1), (2,−2) …; and ∂Y_lm/∂r⃗ with respect to
        the whole vector r⃗ = r û, 1/Å, shape (…, 3, (l+1)²).
    """
    exponents, coefficients = _table(max_degree)
    powers = torch.stack([directions**k for k in range(max_degree + 1)], dim=-1)
    factors, slopes = [], []
    for axis in range(3):
        order = torch.tensor([e[axis] for e in exponents], device=directions.device)
        power = powers[..., axis, :]
        factors.append(power[..., order])
        slopes.append(power[..., (order - 1).clamp(min=0)] * order.to(directions.dtype))
    table = torch.tensor(coefficients, dtype=directions.dtype, device=directions.device)
    x, y, z = factors
    values = (x * y * z) @ table
    raw = torch.stack([slopes[0] * y * z, x * slopes[1] * z, x * y * slopes[2]], dim=-2) @ table
    radial = (directions[..., :, None] * raw).sum(dim=-2, keepdim=True)
    gradients = (raw - directions[..., :, None] * radial) / distances[..., None, None]
    return values, gradients


@lru_cache(maxsize=16)
def _table(max_degree: int) -> tuple[tuple[tuple[int, int, int], ...], list[list[float]]]:
    """Exponents of all monomials, and the coefficients of each harmonic in them, shape (monomial, (l+1)²)."""
    harmonics = _polynomials(max_degree)
    exponents = tuple(sorted({key for polynomial in harmonics for key in polynomial}))
    return exponents, [[polynomial.get(key, 0.0) for polynomial in harmonics] for key in exponents]


def _polynomials(max_degree: int) -> list[Polynomial]:
    """Solid harmonics r^l Y_lm from the recursions in l (Legendre) and m (powers of x + iy)."""
    x, y, z = {(1, 0, 0): 1.0}, {(0, 1, 0): 1.0}, {(0, 0, 1): 1.0}
    square = {(2, 0, 0): 1.0, (0, 2, 0): 1.0, (0, 0, 2): 1.0}
    cosines: list[Polynomial] = [{(0, 0, 0): 1.0}]
    sines: list[Polynomial] = [{}]
    for m in range(max_degree):
        cosines.append(_sum(_product(x, cosines[m]), _product(y, sines[m]), -1.0))
        sines.append(_sum(_product(x, sines[m]), _product(y, cosines[m]), 1.0))
    legendre: dict[tuple[int, int], Polynomial] = {}
    for m in range(max_degree + 1):
        diagonal = float(math.prod(range(1, 2 * m, 2)))
        legendre[m, m] = {(0, 0, 0): diagonal}
        legendre[m + 1, m] = {(0, 0, 1): (2 * m + 1) * diagonal}
        for l in range(m + 2, max_degree + 1):  # noqa: E741 - the degree is called l everywhere
            up = _scaled(_product(z, legendre[l - 1, m]), (2 * l - 1) / (l - m))
            legendre[l, m] = _sum(up, _product(square, legendre[l - 2, m]), -(l + m - 1) / (l - m))
    harmonics = []
    for l in range(max_degree + 1):  # noqa: E741
        for m in range(-l, l + 1):
            order = abs(m)
            norm = math.sqrt(math.factorial(l - order) / math.factorial(l + order) * (2 if m else 1))
            azimuth = cosines[order] if m >= 0 else sines[order]
            harmonics.append(_scaled(_product(legendre[l, order], azimuth), norm))
    return harmonics


def _product(a: Polynomial, b: Polynomial) -> Polynomial:
    result: Polynomial = {}
    for (i, j, k), u in a.items():
        for (p, q, r), v in b.items():
            key = (i + p, j + q, k + r)
            result[key] = result.get(key, 0.0) + u * v
    return result


def _sum(a: Polynomial, b: Polynomial, factor: float) -> Polynomial:
    result = dict(a)
    for key, value in b.items():
        result[key] = result.get(key, 0.0) + factor * value
    return result


def _scaled(a: Polynomial, factor: float) -> Polynomial:
    return {key: factor * value for key, value in a.items()}
