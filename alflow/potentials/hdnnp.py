"""High-dimensional neural-network potential: one network per element, all members evaluated together.

Every member m writes the energy as a sum over atoms (Behler and Parrinello, Phys. Rev. Lett. 98, 146401 (2007)). For an
atom of element e with symmetry functions G,

    x = P_e^T (G − c_e),    h₁ = tanh(W₁^T x + b₁),    hₖ = tanh(Wₖ^T hₖ₋₁ + bₖ),    E_m = v · x + w · h_K,

with weights W, b, v, w of its own for every member and element. P_e scales the symmetry functions and keeps their
principal components over the training set; it is the same for all members. The linear term carries the potential
where the bounded layers saturate. For evaluation P_e is multiplied into W₁ and v once, see :func:`fold`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

__all__ = ["FoldedWeights", "NetworkWeights", "fold", "layer_energies", "network_energies", "sorted_energies"]


@dataclass(frozen=True, eq=False)
class NetworkWeights:
    """The weights of all networks of a committee, stacked.

    Attributes:
        center: Mean symmetry functions c of each element, shape (element, feature).
        projection: Scaled principal components P of each element, shape (element, feature, component).
        hidden: Weights W of each layer, shapes (element, member, component, unit), (element, member, unit, unit), ….
        bias: Biases b of each layer, shapes (element, member, unit).
        output: Output weights w, eV, shape (element, member, unit).
        linear: Linear weights v, eV, shape (element, member, component).
    """

    center: torch.Tensor
    projection: torch.Tensor
    hidden: tuple[torch.Tensor, ...]
    bias: tuple[torch.Tensor, ...]
    output: torch.Tensor
    linear: torch.Tensor

    @property
    def n_members(self) -> int:
        """Number of members."""
        return self.output.shape[1]

    @property
    def n_elements(self) -> int:
        """Number of elements."""
        return self.center.shape[0]

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> NetworkWeights:
        """The same weights in another floating-point type or on another device."""
        return NetworkWeights.of({name: t.to(device=device, dtype=dtype) for name, t in self.tensors().items()})

    def tensors(self) -> dict[str, torch.Tensor]:
        """All weights by name; layers are numbered from 0."""
        return {
            "center": self.center,
            "projection": self.projection,
            **{f"hidden.{k}": tensor for k, tensor in enumerate(self.hidden)},
            **{f"bias.{k}": tensor for k, tensor in enumerate(self.bias)},
            "output": self.output,
            "linear": self.linear,
        }

    @classmethod
    def of(cls, tensors: Mapping[str, torch.Tensor]) -> NetworkWeights:
        """The weights :meth:`tensors` named.

        Raises:
            KeyError: One is missing.
        """
        n_layers = sum(name.startswith("hidden.") for name in tensors)
        return cls(
            tensors["center"],
            tensors["projection"],
            tuple(tensors[f"hidden.{k}"] for k in range(n_layers)),
            tuple(tensors[f"bias.{k}"] for k in range(n_layers)),
            tensors["output"],
            tensors["linear"],
        )


def layer_energies(
    x: torch.Tensor,
    first: torch.Tensor,
    hidden: Sequence[torch.Tensor],
    bias: Sequence[torch.Tensor],
    output: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Evaluate the networks of one element from what enters the first hidden layer, and go back to there.

    Args:
        x: Input of the networks, shape (atom, input).
        first: Weights of the first layer, all members side by side, shape (input, member · unit).
        hidden: Weights of the other layers, shapes (member, unit, unit).
        bias: Biases of all layers, shapes (member, unit).
        output: Output weights, shape (member, unit).

    Returns:
        Energies without the linear term, shape (member, atom), and their gradient with respect to the argument of the
        first layer's tanh, shape (member, atom, unit).
    """
    n_members, width = bias[0].shape
    units = [torch.tanh((x @ first).reshape(-1, n_members, width).transpose(0, 1) + bias[0][:, None, :])]
    for weights, offset in zip(hidden, bias[1:], strict=True):
        units.append(torch.tanh(torch.baddbmm(offset[:, None, :], units[-1], weights)))
    energies = torch.bmm(units[-1], output[:, :, None])[..., 0]
    slopes = (1.0 - units[-1].square()) * output[:, None, :]
    for weights, below in zip(reversed(hidden), reversed(units[:-1]), strict=True):
        slopes = torch.bmm(slopes, weights.transpose(1, 2)) * (1.0 - below.square())
    return energies, slopes


@dataclass(frozen=True, eq=False)
class FoldedWeights:
    """The weights of a committee as evaluation wants them: projection and first layer in one matrix.

    The product of a gradient with (P W₁)ᵀ takes it straight back to the symmetry functions, which for several members
    costs half of going through the components.

    Attributes:
        center: c, shape (element, feature).
        first: P W₁ of all members side by side, shape (element, feature, member · unit).
        back: Its transpose for each member, shape (element, member, unit, feature).
        hidden: Weights of the other layers of each element, shapes (member, unit, unit).
        bias: Biases of all layers of each element, shapes (member, unit).
        output: Output weights, shape (element, member, unit).
        linear: P v, shape (element, member, feature).
    """

    center: torch.Tensor
    first: torch.Tensor
    back: torch.Tensor
    hidden: tuple[tuple[torch.Tensor, ...], ...]
    bias: tuple[tuple[torch.Tensor, ...], ...]
    output: torch.Tensor
    linear: torch.Tensor


def fold(weights: NetworkWeights) -> FoldedWeights:
    """Prepare weights for evaluation."""
    n_elements, n_features = weights.center.shape
    first = torch.einsum("efc,emcu->efmu", weights.projection, weights.hidden[0])
    return FoldedWeights(
        weights.center,
        first.reshape(n_elements, n_features, -1).contiguous(),
        first.permute(0, 2, 3, 1).contiguous(),
        tuple(tuple(layer[e].contiguous() for layer in weights.hidden[1:]) for e in range(n_elements)),
        tuple(tuple(layer[e].contiguous() for layer in weights.bias) for e in range(n_elements)),
        weights.output,
        torch.einsum("efc,emc->emf", weights.projection, weights.linear).contiguous(),
    )


def sorted_energies(
    weights: FoldedWeights, features: torch.Tensor, counts: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Evaluate :func:`network_energies` for atoms that are sorted by element, with weights prepared once.

    Args:
        weights: The networks.
        features: Symmetry functions G of atoms sorted by element, shape (atom, feature).
        counts: Number of atoms of each element.

    Returns:
        Atomic energies, eV, shape (member, atom), and ∂E/∂G, eV, shape (member, atom, feature).
    """
    energies, gradients = [], []
    for e, x in enumerate(torch.split(features, list(counts))):
        centered = x - weights.center[e]
        energy, slopes = layer_energies(
            centered, weights.first[e], weights.hidden[e], weights.bias[e], weights.output[e]
        )
        energies.append(torch.addmm(energy, weights.linear[e], centered.T))
        gradients.append(torch.baddbmm(weights.linear[e][:, None, :], slopes, weights.back[e]))
    return torch.cat(energies, dim=1), torch.cat(gradients, dim=1)


def network_energies(
    weights: NetworkWeights, features: torch.Tensor, elements: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Evaluate all members' atomic energies and their gradients with respect to the symmetry functions.

    Args:
        weights: The networks.
        features: Symmetry functions G, shape (atom, feature).
        elements: Index of each atom's element, −1 where there is no atom, shape (atom,).

    Returns:
        Atomic energies, eV, shape (member, atom), and ∂E/∂G, eV, shape (member, atom, feature); zero where there is
        no atom.
    """
    order = torch.argsort(elements, stable=True)
    counts = [int(count) for count in torch.bincount(elements + 1, minlength=weights.n_elements + 1)]
    atoms = order[counts[0] :]
    energies, gradients = sorted_energies(fold(weights), features[atoms], counts[1:])
    n_members, n_atoms = weights.n_members, len(elements)
    return (
        energies.new_zeros((n_members, n_atoms)).index_copy(1, atoms, energies),
        gradients.new_zeros((n_members, *features.shape)).index_copy(1, atoms, gradients),
    )
