"""High-dimensional neural-network potential: one network per element, all members evaluated together.

Every member m writes the energy as a sum over atoms (Behler and Parrinello, Phys. Rev. Lett. 98, 146401 (2007)). For an
atom of element e with symmetry functions G,

    x = P_e^T (G − c_e),    E_m = v_em · x + w_em · tanh(W_em^T x + b_em).

P_e scales the symmetry functions and keeps their principal components over the training set; it is the same for all
members, so a committee costs little more than one network. The linear term carries the potential where the bounded
hidden layer saturates.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

__all__ = ["NetworkWeights", "network_energies"]


@dataclass(frozen=True, eq=False)
class NetworkWeights:
    """The weights of all networks of a committee, stacked.

    Attributes:
        center: Mean symmetry functions c of each element, shape (element, feature).
        projection: Scaled principal components P of each element, shape (element, feature, component).
        hidden: Hidden weights W, shape (element, component, member, unit).
        bias: Hidden biases b, shape (element, member, unit).
        output: Output weights w, eV, shape (element, member, unit).
        linear: Linear weights v, eV, shape (element, member, component).
    """

    center: torch.Tensor
    projection: torch.Tensor
    hidden: torch.Tensor
    bias: torch.Tensor
    output: torch.Tensor
    linear: torch.Tensor

    @property
    def n_members(self) -> int:
        """Number of members."""
        return self.bias.shape[1]

    def to(self, dtype: torch.dtype) -> NetworkWeights:
        """The same weights in another floating-point type."""
        return NetworkWeights(*(tensor.to(dtype) for tensor in self.tensors().values()))

    def tensors(self) -> dict[str, torch.Tensor]:
        """All weights by name."""
        return {
            "center": self.center,
            "projection": self.projection,
            "hidden": self.hidden,
            "bias": self.bias,
            "output": self.output,
            "linear": self.linear,
        }


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
    n_members = weights.n_members
    energies = features.new_zeros((n_members, features.shape[0]))
    gradients = features.new_zeros((n_members, *features.shape))
    for e in range(weights.center.shape[0]):
        atoms = (elements == e).nonzero()[:, 0]
        if len(atoms) == 0:
            continue
        x = (features[atoms] - weights.center[e]) @ weights.projection[e]
        n_components, n_units = x.shape[1], weights.bias.shape[2]
        hidden = weights.hidden[e]
        pre = (x @ hidden.reshape(n_components, -1)).reshape(-1, n_members, n_units)
        units = torch.tanh(pre + weights.bias[e])
        energies[:, atoms] = (units * weights.output[e]).sum(dim=-1).T + weights.linear[e] @ x.T
        slopes = ((1.0 - units.square()) * weights.output[e]).transpose(0, 1)
        inner = torch.bmm(slopes, hidden.permute(1, 2, 0)) + weights.linear[e][:, None, :]
        gradients[:, atoms] = inner @ weights.projection[e].T
    return energies, gradients
