"""The networks of the committee, compiled: all layers of all members for the atoms of one element, forth and back.

Lanes run along the units of a layer, and four atoms share every weight that is loaded. From one atom to some hundreds
this is as fast as MKL's matrix products or faster, several times for a few atoms. Atoms are the rows of all arrays; the
units of all members stand side by side, each member's rounded up to whole panels of sixteen.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from alflow.potentials.kernels import Reals
from alflow.tensors.jit import compiled, inlined, inner
from alflow.tensors.lanes import WIDTH, exp, lane_sum, load, rounded, splat, splat_at, store

__all__ = ["PANEL", "evaluate_networks", "pack"]

PANEL: Final = 2 * WIDTH
"""Units handled together."""

Sizes = npt.NDArray[np.int64]


def pack(weights: Reals) -> Reals:
    """Reorder weights so that they are read from first to last.

    Args:
        weights: Shape (member, input, unit).

    Returns:
        Weights of sixteen units after another, zero where there is no unit, shape (member · panel · input, 16).
    """
    n_members, n_inputs, n_units = weights.shape
    width = rounded(n_units, PANEL)
    padded = np.zeros((n_members, n_inputs, width), dtype=weights.dtype)
    padded[:, :, :n_units] = weights
    parts = padded.reshape(n_members, n_inputs, width // PANEL, PANEL).swapaxes(1, 2)
    return np.ascontiguousarray(parts).reshape(-1, PANEL)


@compiled
def evaluate_networks(
    features: Reals, begin: int, end: int, sizes: Sizes, weights: Reals, vectors: Reals, gradients: Reals,
    energies: Reals,
) -> None:  # fmt: skip
    """Evaluate the networks of some atoms of one element.

    Args:
        features: Symmetry functions relative to the center, shape (feature, atom).
        begin: First atom.
        end: After the last atom.
        sizes: Number of features, then of units of each hidden layer.
        weights: Packed weights of all layers in the order of evaluation, forth and back, shape (row, 16).
        vectors: Biases of all layers, output weights, linear weights, and as many zeros as the widest layer of all
            members, one after another, each member's rounded up to whole panels, shape (1, number).
        gradients: Receives ∂E/∂G, eV, each member's features rounded up to whole panels, shape (atom rounded up to
            whole lanes, member · feature); rows without an atom hold anything.
        energies: Receives the energies, eV, shape (member, atom).
    """
    n_members, n_atoms, n_layers, n_features = len(energies), end - begin, len(sizes) - 1, sizes[0]
    n_rows, stride = rounded(n_atoms), rounded(n_features, PANEL)
    widest = 0
    for layer in range(n_layers):
        widest = max(widest, n_members * rounded(sizes[layer + 1], PANEL))
    inputs = np.zeros((n_rows, stride), features.dtype)
    units, slopes = np.empty((n_layers * n_rows, widest), features.dtype), np.empty((n_rows, widest), features.dtype)
    _copy_columns(features, begin, n_atoms, inputs)
    row, column = _forth(inputs, n_atoms, n_members, sizes, weights, vectors, units)
    last = (n_layers - 1) * n_rows
    linear = column + n_members * rounded(sizes[n_layers], PANEL)
    for a in range(n_atoms):
        for m in range(n_members):
            width = rounded(sizes[n_layers], PANEL)
            energies[m, a] = _linear_energy(inputs, a, vectors, linear + m * stride, stride) + _output_energy(
                units, last + a, m * width, width, vectors, column + m * width, slopes, a
            )
    nothing = linear + n_members * stride
    for layer in range(n_layers - 1, 0, -1):
        outputs = n_members * rounded(sizes[layer], PANEL)
        below = (layer - 1) * n_rows
        row = _product(
            slopes, 0, rounded(sizes[layer + 1], PANEL), n_members, sizes[layer + 1], n_atoms, weights, row, vectors,
            nothing, outputs, units, layer * n_rows,
        )  # fmt: skip
        for a in range(n_atoms):
            for k in range(0, outputs, WIDTH):
                slope, unit = load(units, layer * n_rows + a, k), load(units, below + a, k)
                store(slopes, a, k, slope - slope * unit * unit)
    _product(
        slopes, 0, rounded(sizes[1], PANEL), n_members, sizes[1], n_atoms, weights, row, vectors, linear,
        n_members * stride, gradients, 0,
    )  # fmt: skip


@inner
def _copy_columns(features: Reals, begin: int, n_atoms: int, inputs: Reals) -> None:
    for f in range(len(features)):
        for a in range(n_atoms):
            inputs[a, f] = features[f, begin + a]


@inner
def _forth(
    inputs: Reals, n_atoms: int, n_members: int, sizes: Sizes, weights: Reals, vectors: Reals, units: Reals
) -> tuple[int, int]:
    """All hidden layers; which rows of the weights and which of the vectors come next."""
    row, column, n_rows = 0, 0, len(inputs)
    for layer in range(len(sizes) - 1):
        outputs = n_members * rounded(sizes[layer + 1], PANEL)
        if layer == 0:
            row = _product(
                inputs, 0, inputs.shape[1], 1, sizes[0], n_atoms, weights, row, vectors, column, outputs, units, 0
            )
        else:
            row = _product(
                units, (layer - 1) * n_rows, rounded(sizes[layer], PANEL), n_members, sizes[layer], n_atoms, weights,
                row, vectors, column, outputs, units, layer * n_rows,
            )  # fmt: skip
        for a in range(layer * n_rows, layer * n_rows + n_atoms):
            for k in range(0, outputs, WIDTH):
                store(units, a, k, _tanh(load(units, a, k)))
        column += outputs
    return row, column


@inlined
def _tanh(x: Any) -> Any:
    """tanh x = 1 − 2/(e^2x + 1); its error is that of a number of size 1."""
    return 1.0 - 2.0 / (exp(x + x) + 1.0)


@inlined
def _linear_energy(inputs: Reals, atom: int, vectors: Reals, column: int, stride: int) -> float:
    total = splat(inputs.dtype.type(0.0))
    for k in range(0, stride, WIDTH):
        total = total + load(inputs, atom, k) * load(vectors, 0, column + k)
    return lane_sum(total)  # type: ignore[no-any-return]


@inlined
def _output_energy(
    units: Reals, row: int, first: int, width: int, vectors: Reals, column: int, slopes: Reals, atom: int
) -> float:
    """Energy of one member, and its slopes ∂E/∂(argument of tanh) of the last layer: d tanh = 1 − tanh²."""
    total = splat(units.dtype.type(0.0))
    for k in range(0, width, WIDTH):
        unit, weight = load(units, row, first + k), load(vectors, 0, column + k)
        total = total + unit * weight
        store(slopes, atom, first + k, weight - unit * unit * weight)
    return lane_sum(total)  # type: ignore[no-any-return]


@inner
def _product(
    inputs: Reals, row_in: int, stride: int, n_members: int, n_inputs: int, n_atoms: int, weights: Reals, row: int,
    vectors: Reals, column: int, n_outputs: int, outputs: Reals, row_out: int,
) -> int:  # fmt: skip
    """b + xᵀW of each member, which has ``n_inputs`` of its own every ``stride``; the row after the weights used."""
    n_panels = n_outputs // PANEL
    for panel in range(n_panels):
        first = panel // (n_panels // n_members) * stride
        bias, place = column + panel * PANEL, panel * PANEL
        for a in range(0, n_atoms, 4):
            if n_atoms - a > 2:
                _four_atoms(
                    inputs, row_in + a, first, weights, row, n_inputs, vectors, bias, outputs, row_out + a, place
                )
            else:
                _two_atoms(
                    inputs, row_in + a, first, weights, row, n_inputs, vectors, bias, outputs, row_out + a, place
                )
        row += n_inputs
    return row


@inlined
def _four_atoms(
    inputs: Reals, atom: int, first: int, weights: Reals, row: int, n_inputs: int, vectors: Reals, bias: int,
    outputs: Reals, out: int, place: int,
) -> None:  # fmt: skip
    a0, a1 = load(vectors, 0, bias), load(vectors, 0, bias + WIDTH)
    b0, b1, c0, c1, d0, d1 = a0, a1, a0, a1, a0, a1
    for k in range(n_inputs):
        w0, w1 = load(weights, row + k, 0), load(weights, row + k, WIDTH)
        x = splat_at(inputs, atom, first + k)
        a0, a1 = a0 + w0 * x, a1 + w1 * x
        x = splat_at(inputs, atom + 1, first + k)
        b0, b1 = b0 + w0 * x, b1 + w1 * x
        x = splat_at(inputs, atom + 2, first + k)
        c0, c1 = c0 + w0 * x, c1 + w1 * x
        x = splat_at(inputs, atom + 3, first + k)
        d0, d1 = d0 + w0 * x, d1 + w1 * x
    _store_pair(outputs, out, place, a0, a1)
    _store_pair(outputs, out + 1, place, b0, b1)
    _store_pair(outputs, out + 2, place, c0, c1)
    _store_pair(outputs, out + 3, place, d0, d1)


@inlined
def _two_atoms(
    inputs: Reals, atom: int, first: int, weights: Reals, row: int, n_inputs: int, vectors: Reals, bias: int,
    outputs: Reals, out: int, place: int,
) -> None:  # fmt: skip
    a0, a1 = load(vectors, 0, bias), load(vectors, 0, bias + WIDTH)
    b0, b1 = a0, a1
    for k in range(n_inputs):
        w0, w1 = load(weights, row + k, 0), load(weights, row + k, WIDTH)
        x = splat_at(inputs, atom, first + k)
        a0, a1 = a0 + w0 * x, a1 + w1 * x
        x = splat_at(inputs, atom + 1, first + k)
        b0, b1 = b0 + w0 * x, b1 + w1 * x
    _store_pair(outputs, out, place, a0, a1)
    _store_pair(outputs, out + 1, place, b0, b1)


@inlined
def _store_pair(array: Reals, row: int, column: int, a: Any, b: Any) -> None:
    store(array, row, column, a)
    store(array, row, column + WIDTH, b)
