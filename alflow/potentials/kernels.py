"""The inner loops of the compiled potential: the same symmetry functions as :mod:`alflow.potentials.descriptors`.

Eight neighbors of an atom are the lanes of the SIMD arithmetic up to the moments A_c,lm; for the invariants, which
have no neighbors any more, eight atoms are. All small results go to the rows of one work array, which stays in the
first-level cache; :func:`layout` says where. Nothing is known at compile time but the floating-point type: numbers of
elements, functions, members and the degree are arguments.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from alflow.tensors.jit import inlined, inner, shared
from alflow.tensors.lanes import exp, keep_positive, load, rounded, splat, splat_at, store

__all__ = [
    "Doubles",
    "Indices",
    "Reals",
    "Sizes",
    "add_moments",
    "invariants",
    "layout",
    "n_sums",
    "pull_invariants",
    "pull_neighbors",
]

Reals = npt.NDArray[np.floating[Any]]
Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int32]
Sizes = tuple[int, int, int, int]
"""Numbers of elements, of radial and of angular functions, and the highest degree."""


@inner
def radial_functions(r: Any, ln_r: Any, basis: Reals, kind: int, size: int, work: Reals, first: int) -> None:
    """Radial functions R_n at eight distances, and then their slopes, in the rows of ``work``.

    Gaussians one width apart follow from each other, exp(−(z−1)²/2) = exp(−z²/2) · exp(z − ½); every eighth is
    evaluated afresh, before one that has underflowed could be missed.
    """
    cutoff, power, inverse_width, origin = basis[kind, 0], basis[kind, 1], basis[kind, 2], basis[kind, 3]
    reduced = r / cutoff
    gap = keep_positive(1.0 - reduced * reduced)
    cut = gap * gap * gap
    cut_slope = gap * gap * reduced * (-6.0 / cutoff)
    inverse = 1.0 / r
    damping = ln_r * power
    z = ln_r * inverse_width - origin
    shrink = splat(basis[kind, 4])
    for begin in range(0, size, 8):
        gaussian, ratio = exp(z * z * (-0.5) - damping), exp(z - 0.5)
        for n in range(begin, min(begin + 8, size)):
            value = gaussian * cut
            store(work, first + n, 0, value)
            store(work, first + size + n, 0, gaussian * cut_slope - value * (z * inverse_width + power) * inverse)
            gaussian, ratio, z = gaussian * ratio, ratio * shrink, z - 1.0


@inner
def harmonics(x: Any, y: Any, z: Any, degree: int, table: Reals, work: Reals, first: int) -> None:
    """Y_lm of eight directions, and ∂/∂x, ∂/∂y, ∂/∂z of their polynomials, one after another in the rows.

    Y_lm = N_lm Q_lm(z) · Re or Im (x + iy)^m with Q_lm = d^m P_l/dz^m; so ∂Q_lm/∂z = Q_l,m+1.
    """
    width = degree + 1
    n_harmonics = rounded(width * width, 4)
    cosine, sine = first + 4 * n_harmonics, first + 4 * n_harmonics + width
    legendre = sine + width
    cosine_m, sine_m = splat(table[0, 0, 0]), splat(table[0, 0, 0]) * 0.0
    for m in range(width):
        store(work, cosine + m, 0, cosine_m)
        store(work, sine + m, 0, sine_m)
        cosine_m, sine_m = x * cosine_m - y * sine_m, x * sine_m + y * cosine_m
        below = splat(table[3, m, m])
        store(work, legendre + m * width + m, 0, below)
        here = z * (below * (2.0 * m + 1.0))
        for l in range(m + 1, width):  # noqa: E741 - the degree is called l everywhere
            store(work, legendre + l * width + m, 0, here)
            if l + 1 < width:
                below, here = here, z * here * table[1, l + 1, m] - below * table[2, l + 1, m]
    for l in range(width):  # noqa: E741
        for m in range(l + 1):
            plus, minus = first + l * l + l + m, first + l * l + l - m
            q = load(work, legendre + l * width + m, 0) * table[0, l, m]
            c, s = load(work, cosine + m, 0), load(work, sine + m, 0)
            slope = load(work, legendre + l * width + m + 1, 0) * table[0, l, m] if m < l else q * 0.0
            store(work, plus, 0, q * c)
            store(work, 3 * n_harmonics + plus, 0, slope * c)
            if m == 0:
                store(work, n_harmonics + plus, 0, q * 0.0)
                store(work, 2 * n_harmonics + plus, 0, q * 0.0)
            else:
                c, below = load(work, cosine + m - 1, 0) * (1.0 * m), load(work, sine + m - 1, 0) * (1.0 * m)
                store(work, minus, 0, q * s)
                store(work, 3 * n_harmonics + minus, 0, slope * s)
                store(work, n_harmonics + plus, 0, q * c)
                store(work, n_harmonics + minus, 0, q * below)
                store(work, 2 * n_harmonics + plus, 0, q * below * (-1.0))
                store(work, 2 * n_harmonics + minus, 0, q * c)


@shared
def n_sums(sizes: Sizes) -> int:
    """Number of radial sums and moments of an atom, rounded up to whole lanes."""
    n_elements, n_radial, n_angular, degree = sizes
    return rounded(n_elements * (n_radial + n_angular * (degree + 1) ** 2))


@shared
def layout(sizes: Sizes) -> tuple[int, int, int, int]:
    """Where the parts of the work array begin.

    First R_n and R'_n of the radial functions, then those of the angular ones, the harmonics with their gradients, and
    the sums over neighbors.

    Returns:
        First row of the angular functions, of the harmonics and of the sums, and the number of rows.
    """
    _, n_radial, n_angular, degree = sizes
    angles = 2 * (n_radial + n_angular)
    sums = angles + 4 * rounded((degree + 1) ** 2, 4) + (degree + 1) * (degree + 3)
    return 2 * n_radial, angles, sums, sums + n_sums(sizes)


@inner
def add_moments(
    near: bool, e: int, k: int, geometry: Reals, basis: Reals, table: Reals, sizes: Sizes, work: Reals
) -> None:
    """Add eight neighbors of element ``e`` to the radial sums, and if they are near to the moments, of their atom."""
    n_elements, n_radial, n_angular, degree = sizes
    angular, angles, sums, _ = layout(sizes)
    n_harmonics = (degree + 1) ** 2
    r, ln_r = load(geometry, 3, k), load(geometry, 4, k)
    radial_functions(r, ln_r, basis, 0, n_radial, work, 0)
    for n in range(n_radial):
        row = sums + e * n_radial + n
        store(work, row, 0, load(work, row, 0) + load(work, n, 0))
    if near:
        radial_functions(r, ln_r, basis, 1, n_angular, work, angular)
        harmonics(load(geometry, 0, k), load(geometry, 1, k), load(geometry, 2, k), degree, table, work, angles)
        for n in range(n_angular):
            value = load(work, angular + n, 0)
            first = sums + n_elements * n_radial + (e * n_angular + n) * n_harmonics
            for q in range(n_harmonics):
                store(work, first + q, 0, load(work, first + q, 0) + value * load(work, angles + q, 0))


@inner
def invariants(e: int, sums: Reals, sizes: Sizes, center: Reals, column: int, features: Reals) -> None:
    """Radial sums and power spectrum of eight atoms of element ``e``, relative to a center; degree by degree.

    G_cc'l = Σ_m A_c,lm A_c',lm for c ≤ c'.
    """
    n_elements, n_radial, n_angular, degree = sizes
    n_channels, n_harmonics = n_elements * n_angular, (degree + 1) ** 2
    moments = n_elements * n_radial
    for row in range(moments):
        store(features, row, column, load(sums, row, 0) - splat_at(center, e, row))
    row = moments
    for l in range(degree + 1):  # noqa: E741
        for c in range(n_channels):
            first = moments + c * n_harmonics
            for d in range(c, n_channels):
                second = moments + d * n_harmonics
                total = load(sums, first + l * l, 0) * load(sums, second + l * l, 0)
                for q in range(l * l + 1, (l + 1) * (l + 1)):
                    total = total + load(sums, first + q, 0) * load(sums, second + q, 0)
                store(features, row, column, total - splat_at(center, e, row))
                row += 1


@inner
def pull_invariants(cotangents: Reals, sums: Reals, sizes: Sizes, dense: Reals, pulled: Reals) -> None:
    """Carry the gradient of one member from the invariants to the sums of eight atoms.

    ∂E/∂A_c,lm = Σ_c' (1 + δ_cc') ∂E/∂G_cc'l A_c',lm.

    Args:
        cotangents: ∂E/∂G of these atoms, shape (feature, 8).
        sums: Their radial sums and moments, shape (sum, 8).
        sizes: Numbers of functions.
        dense: Room for one symmetric matrix over channels, shape (channel rounded up to four, times channel; 8); the
            rows behind the last channel hold finite numbers.
        pulled: Receives the gradient, with room for channels rounded up to four, shape (…, 8).
    """
    n_elements, n_radial, n_angular, degree = sizes
    n_channels, n_harmonics, moments = n_elements * n_angular, (degree + 1) ** 2, n_elements * n_radial
    for row in range(moments):
        store(pulled, row, 0, load(cotangents, row, 0))
    row = moments
    for l in range(degree + 1):  # noqa: E741
        for c in range(n_channels):
            value = load(cotangents, row, 0)
            store(dense, c * n_channels + c, 0, value + value)
            row += 1
            for d in range(c + 1, n_channels):
                value = load(cotangents, row, 0)
                store(dense, c * n_channels + d, 0, value)
                store(dense, d * n_channels + c, 0, value)
                row += 1
        for c in range(0, n_channels, 4):
            first, q, end = moments + c * n_harmonics, l * l, (l + 1) * (l + 1)
            while q + 3 <= end:
                _three_harmonics(dense, c * n_channels, n_channels, sums, moments + q, n_harmonics, pulled, first + q)
                q += 3
            while q < end:
                _one_harmonic(dense, c * n_channels, n_channels, sums, moments + q, n_harmonics, pulled, first + q)
                q += 1


@inlined
def _one_harmonic(
    dense: Reals, row: int, n_channels: int, sums: Reals, first: int, n_harmonics: int, pulled: Reals, out: int
) -> None:
    """Four rows of the matrix times the moments of one harmonic: together, because loads are what limits it."""
    zero = splat(dense.dtype.type(0.0))
    a, b, c, d = zero, zero, zero, zero
    for k in range(n_channels):
        moment = load(sums, first + k * n_harmonics, 0)
        a = a + load(dense, row + k, 0) * moment
        b = b + load(dense, row + n_channels + k, 0) * moment
        c = c + load(dense, row + 2 * n_channels + k, 0) * moment
        d = d + load(dense, row + 3 * n_channels + k, 0) * moment
    _store_four(pulled, out, n_harmonics, a, b, c, d)


@inlined
def _three_harmonics(
    dense: Reals, row: int, n_channels: int, sums: Reals, first: int, n_harmonics: int, pulled: Reals, out: int
) -> None:
    """The same for three harmonics: twelve sums that do not wait for each other."""
    zero = splat(dense.dtype.type(0.0))
    a0, b0, c0, d0, a1, b1, c1, d1 = zero, zero, zero, zero, zero, zero, zero, zero
    a2, b2, c2, d2 = zero, zero, zero, zero
    for k in range(n_channels):
        place = first + k * n_harmonics
        x, y, z = load(sums, place, 0), load(sums, place + 1, 0), load(sums, place + 2, 0)
        value = load(dense, row + k, 0)
        a0, a1, a2 = a0 + value * x, a1 + value * y, a2 + value * z
        value = load(dense, row + n_channels + k, 0)
        b0, b1, b2 = b0 + value * x, b1 + value * y, b2 + value * z
        value = load(dense, row + 2 * n_channels + k, 0)
        c0, c1, c2 = c0 + value * x, c1 + value * y, c2 + value * z
        value = load(dense, row + 3 * n_channels + k, 0)
        d0, d1, d2 = d0 + value * x, d1 + value * y, d2 + value * z
    _store_four(pulled, out, n_harmonics, a0, b0, c0, d0)
    _store_four(pulled, out + 1, n_harmonics, a1, b1, c1, d1)
    _store_four(pulled, out + 2, n_harmonics, a2, b2, c2, d2)


@inlined
def _store_four(array: Reals, row: int, step: int, a: Any, b: Any, c: Any, d: Any) -> None:
    store(array, row, 0, a)
    store(array, row + step, 0, b)
    store(array, row + 2 * step, 0, c)
    store(array, row + 3 * step, 0, d)


@inlined
def _dot4(work: Reals, row: int, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Product of four lanes with four rows."""
    upper = a * load(work, row, 0) + b * load(work, row + 1, 0)
    return upper + (c * load(work, row + 2, 0) + d * load(work, row + 3, 0))


@inner
def pull_neighbors(
    near: bool, e: int, k: int, lane: int, geometry: Reals, basis: Reals, table: Reals, sizes: Sizes, work: Reals,
    n_members: int, pulled: Reals, gradient: Reals,
) -> None:  # fmt: skip
    """Carry all members' gradients from the sums of one atom to eight of its neighbors of element ``e``.

    With S_lm = Σ_n R_n ∂E/∂A_nlm and T_lm = Σ_n R'_n ∂E/∂A_nlm the gradient ∂E/∂r_ij has T·Y and the radial sums'
    part along the direction u, and (1 − u uᵀ) Σ_lm S_lm ∇Y_lm / r across it. Shape of ``gradient``: (member · 3, 8).
    """
    n_elements, n_radial, n_angular, degree = sizes
    angular, angles, _, _ = layout(sizes)
    n_harmonics, block = (degree + 1) ** 2, rounded((degree + 1) ** 2, 4)
    x, y, z = load(geometry, 0, k), load(geometry, 1, k), load(geometry, 2, k)
    r, ln_r = load(geometry, 3, k), load(geometry, 4, k)
    radial_functions(r, ln_r, basis, 0, n_radial, work, 0)
    if near:
        radial_functions(r, ln_r, basis, 1, n_angular, work, angular)
        harmonics(x, y, z, degree, table, work, angles)
    inverse = 1.0 / r
    zero = splat(basis.dtype.type(0.0))
    for m in range(n_members):
        member = m * (n_elements * n_radial + rounded(n_elements * n_angular, 4) * n_harmonics)
        along = zero
        for n in range(n_radial):
            along = along + load(work, n_radial + n, 0) * splat_at(pulled, lane, member + e * n_radial + n)
        qx, qy, qz = zero, zero, zero
        if near:
            first = member + n_elements * n_radial + e * n_angular * n_harmonics
            for q in range(0, n_harmonics, 4):
                v0, v1, v2, v3, s0, s1, s2, s3 = zero, zero, zero, zero, zero, zero, zero, zero
                for n in range(n_angular):
                    value, slope = load(work, angular + n, 0), load(work, angular + n_angular + n, 0)
                    row = first + n * n_harmonics + q
                    a, b = splat_at(pulled, lane, row), splat_at(pulled, lane, row + 1)
                    c, d = splat_at(pulled, lane, row + 2), splat_at(pulled, lane, row + 3)
                    v0, v1, v2, v3 = v0 + value * a, v1 + value * b, v2 + value * c, v3 + value * d
                    s0, s1, s2, s3 = s0 + slope * a, s1 + slope * b, s2 + slope * c, s3 + slope * d
                along = along + _dot4(work, angles + q, s0, s1, s2, s3)
                qx = qx + _dot4(work, angles + block + q, v0, v1, v2, v3)
                qy = qy + _dot4(work, angles + 2 * block + q, v0, v1, v2, v3)
                qz = qz + _dot4(work, angles + 3 * block + q, v0, v1, v2, v3)
            along = along - (qx * x + qy * y + qz * z) * inverse
        store(gradient, 3 * m, 0, along * x + qx * inverse)
        store(gradient, 3 * m + 1, 0, along * y + qy * inverse)
        store(gradient, 3 * m + 2, 0, along * z + qz * inverse)
