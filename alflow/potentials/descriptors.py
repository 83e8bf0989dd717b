"""Symmetry functions: what an atom sees of its neighborhood, unchanged by rotation and by the order of the atoms.

Radial functions (Behler's G2 with Gaussians evenly spaced in ln r), for every neighbor element e:

    G_en = Σ_{j∈e} R_n(r_ij),    R_n(r) = r^−q exp(−(ln r − μ_n)²/2w²) f_c(r),    f_c(r) = (1 − (r/r_c)²)³.

Angular functions from the moments of the neighbor density (the power spectrum, Bartók et al., Phys. Rev. B 87,
184115 (2013)), for every pair of channels c = (e, n):

    A_c,lm = Σ_{j∈e} R_n(r_ij) Y_lm(r̂_ij),    G_cc'l = Σ_m A_c,lm A_c',lm = Σ_jk R_n(r_ij) R_n'(r_ik) P_l(cos θ_jik).

Sums of these with binomial coefficients are exactly Behler's G5 functions (1 ± cos θ)^ζ for integer ζ ≤ l, up to
the terms j = k, at a cost linear in the number of neighbors. Value, slope and curvature of f_c vanish at r_c, so
forces and their derivatives stay continuous when an atom leaves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Protocol

import torch

from alflow.potentials.harmonics import spherical_harmonics

__all__ = ["Descriptors", "Environment", "RadialBasis", "SymmetryFunctions"]

NEAREST_ANG = 0.9
"""Center of the innermost Gaussian, Å; closer pairs are the repulsion's business."""


class Descriptors(Protocol):
    """What turns the neighborhood of an atom into numbers, and gradients of these back into gradients on pairs.

    An environment is whatever :meth:`forward` wants to hand on to the others; its ``select(atoms)`` gives that of some
    of the atoms. Argument shapes are those of :class:`SymmetryFunctions`.
    """

    @property
    def n_features(self) -> int:
        """Number of descriptors of an atom."""
        ...

    @property
    def cutoff(self) -> float:
        """Distance beyond which no neighbor is seen, Å."""
        ...

    def forward(self, vectors: torch.Tensor, mask: torch.Tensor, elements: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """Descriptors of all atoms, and their environment."""
        ...

    def backward(self, cotangents: torch.Tensor, environment: Any) -> torch.Tensor:
        """Gradient on every pair vector, for all members at once."""
        ...

    def slopes(self, directions: torch.Tensor, environment: Any) -> torch.Tensor:
        """Derivatives of many linear combinations of the descriptors."""
        ...


@dataclass(frozen=True)
class RadialBasis:
    """Gaussians in ln r, damped by a power and cut off smoothly.

    Attributes:
        size: Number of functions.
        cutoff: Radius beyond which all are exactly zero, Å.
        power: Exponent q of the damping r^−q: far neighbors matter less.
    """

    size: int
    cutoff: float
    power: float

    def evaluate(self, distances: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Values and slopes (1/Å) at distances (Å), shape (…, size); zero where the mask is False."""
        width = math.log(self.cutoff / NEAREST_ANG) / self.size
        steps = torch.arange(self.size, dtype=distances.dtype, device=distances.device)
        inside = (mask & (distances < self.cutoff)).to(distances.dtype)
        r = distances[..., None]
        offset = torch.log(r) - (math.log(NEAREST_ANG) + width * steps)
        gaussian = torch.exp(-0.5 * (offset / width).square()) * (distances ** (-self.power) * inside)[..., None]
        reduced = r / self.cutoff
        gap = 1.0 - reduced.square()
        value = gaussian * gap**3
        slope = -value * (offset / width**2 + self.power) / r - gaussian * gap.square() * (6.0 / self.cutoff) * reduced
        return value, slope


@dataclass(frozen=True, eq=False)
class Environment:
    """Everything the backward pass needs again: geometry, basis values and moments of one batch.

    ``atom`` runs over all (structure, atom) pairs of the batch, flattened.

    Attributes:
        directions: Unit vectors to the neighbors, shape (atom, neighbor, 3).
        elements: One-hot element of each neighbor, zero where there is none, shape (atom, neighbor, element).
        radial_slope: R'_n of the radial functions, shape (atom, neighbor, n).
        angular_value: R_n of the angular functions, shape (atom, neighbor, n).
        angular_slope: R'_n of the angular functions, shape (atom, neighbor, n).
        harmonics: Y_lm, shape (atom, neighbor, lm).
        harmonics_gradient: ∂Y_lm/∂r⃗, shape (atom, neighbor, 3, lm).
        moments: A_c,lm, shape (atom, channel, lm).
    """

    directions: torch.Tensor
    elements: torch.Tensor
    radial_slope: torch.Tensor
    angular_value: torch.Tensor
    angular_slope: torch.Tensor
    harmonics: torch.Tensor
    harmonics_gradient: torch.Tensor
    moments: torch.Tensor

    def select(self, atoms: torch.Tensor) -> Environment:
        """The environment of some of the atoms, by index."""
        return Environment(*(getattr(self, field.name)[atoms] for field in fields(self)))


@dataclass(frozen=True)
class SymmetryFunctions:
    """The element-resolved symmetry functions of an atom.

    Attributes:
        n_elements: Number of neighbor elements told apart.
        radial: Radial basis of the two-body functions.
        angular: Radial basis of the three-body functions.
        max_degree: Highest degree l of the three-body functions.
    """

    n_elements: int
    radial: RadialBasis
    angular: RadialBasis
    max_degree: int

    @property
    def cutoff(self) -> float:
        """Distance beyond which no neighbor is seen, Å."""
        return self.radial.cutoff

    @property
    def n_channels(self) -> int:
        """Number of channels c = (element, n) of the moments."""
        return self.n_elements * self.angular.size

    @property
    def n_features(self) -> int:
        """Number of symmetry functions of an atom."""
        pairs = self.n_channels * (self.n_channels + 1) // 2
        return self.n_elements * self.radial.size + pairs * (self.max_degree + 1)

    @cached_property
    def _triangle(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Flat index of each channel pair c ≤ c' in the full matrix, and the way back for every (c, c')."""
        rows, columns = torch.triu_indices(self.n_channels, self.n_channels)
        back = torch.zeros((self.n_channels, self.n_channels), dtype=torch.int64)
        back[rows, columns] = back[columns, rows] = torch.arange(len(rows))
        return rows * self.n_channels + columns, back.reshape(-1)

    def forward(
        self, vectors: torch.Tensor, mask: torch.Tensor, elements: torch.Tensor
    ) -> tuple[torch.Tensor, Environment]:
        """Evaluate the symmetry functions of all atoms.

        Args:
            vectors: Vector to each neighbor, Å, shape (atom, neighbor, 3).
            mask: True where there is a neighbor, shape (atom, neighbor).
            elements: One-hot element of each neighbor, zero where there is none, shape (atom, neighbor, element).

        Returns:
            G, shape (atom, feature), and what :meth:`backward` needs.
        """
        # A slot without a neighbor gets a harmless unit vector: zero length would make NaN of 0·∞.
        safe = torch.where(mask[..., None], vectors, torch.ones_like(vectors))
        distances = safe.square().sum(dim=-1).sqrt()
        directions = safe / distances[..., None]
        radial_value, radial_slope = self.radial.evaluate(distances, mask)
        value, slope = self.angular.evaluate(distances, mask)
        harmonics, gradient = spherical_harmonics(directions, distances, self.max_degree)
        n_atoms, n_slots, n_harmonics = harmonics.shape
        by_element = elements.transpose(1, 2)
        products = (value[..., :, None] * harmonics[..., None, :]).reshape(n_atoms, n_slots, -1)
        moments = torch.bmm(by_element, products).reshape(n_atoms, self.n_channels, n_harmonics)
        features = [torch.bmm(by_element, radial_value).reshape(n_atoms, -1)]
        pick = self._triangle[0].to(vectors.device)
        for degree in range(self.max_degree + 1):
            part = moments[..., degree**2 : (degree + 1) ** 2]
            features.append(torch.bmm(part, part.transpose(1, 2)).reshape(n_atoms, -1)[:, pick])
        environment = Environment(directions, elements, radial_slope, value, slope, harmonics, gradient, moments)
        return torch.cat(features, dim=1), environment

    def backward(self, cotangents: torch.Tensor, environment: Environment) -> torch.Tensor:
        """Pull gradients with respect to the symmetry functions back to the pair vectors, for all members at once.

        Args:
            cotangents: ∂E_m/∂G, shape (member, atom, feature).
            environment: What :meth:`forward` returned.

        Returns:
            ∂E_m/∂r_ij, shape (member, atom, neighbor, 3).
        """
        n_members, n_atoms, _ = cotangents.shape
        n_radial = self.n_elements * self.radial.size
        one_hot = environment.elements
        radial = cotangents[..., :n_radial].reshape(n_members, n_atoms, self.n_elements, self.radial.size)
        per_pair = torch.matmul(one_hot, radial)
        along = (per_pair * environment.radial_slope).sum(dim=-1)
        moments = self._moment_gradient(cotangents[..., n_radial:], environment.moments)
        moments = moments.reshape(n_members, n_atoms, self.n_elements, -1)
        per_pair = torch.matmul(one_hot, moments)
        n_harmonics = environment.harmonics.shape[-1]
        per_pair = per_pair.reshape(*per_pair.shape[:3], self.angular.size, n_harmonics)
        by_radius = torch.matmul(per_pair, environment.harmonics[..., None])[..., 0]
        along = along + (by_radius * environment.angular_slope).sum(dim=-1)
        by_direction = torch.matmul(environment.angular_value[..., None, :], per_pair)
        across = torch.matmul(by_direction, environment.harmonics_gradient.transpose(-1, -2))[..., 0, :]
        return along[..., None] * environment.directions + across

    def slopes(self, directions: torch.Tensor, environment: Environment) -> torch.Tensor:
        """Derivatives of many linear combinations of the symmetry functions, for training.

        The same as :meth:`backward` with every combination as a member, arranged for hundreds of them: the derivatives
        of the moments with respect to the pair vectors are set up once and multiplied as matrices.

        Args:
            directions: Coefficients of each combination x, shape (feature, combination).
            environment: What :meth:`forward` returned.

        Returns:
            ∂x/∂r_ij, shape (atom, combination, neighbor · 3).
        """
        one_hot = environment.elements
        n_atoms, n_slots, _ = one_hot.shape
        n_radial = self.n_elements * self.radial.size
        along = environment.directions
        radial = torch.einsum("aje,ajn,ajx->aenjx", one_hot, environment.radial_slope, along)
        slopes = torch.matmul(directions[:n_radial].T, radial.reshape(n_atoms, n_radial, n_slots * 3))
        gradient = environment.harmonics_gradient.transpose(-1, -2)
        per_pair = torch.einsum("ajn,ajh,ajx->ajnhx", environment.angular_slope, environment.harmonics, along)
        per_pair = per_pair + environment.angular_value[..., None, None] * gradient[:, :, None]
        per_pair = torch.einsum("aje,ajnhx->aenhjx", one_hot, per_pair)
        moments = self._moment_slopes(directions[n_radial:], environment.moments)
        return slopes + torch.bmm(moments, per_pair.reshape(n_atoms, -1, n_slots * 3))

    def _moment_slopes(self, directions: torch.Tensor, moments: torch.Tensor) -> torch.Tensor:
        """∂x/∂A_c,lm of every combination, shape (atom, combination, channel · lm)."""
        n_atoms, n_combinations = len(moments), directions.shape[1]
        n_pairs = self.n_channels * (self.n_channels + 1) // 2
        back = self._triangle[1].to(directions.device)
        twice = 1.0 + torch.eye(self.n_channels, dtype=directions.dtype, device=directions.device).reshape(-1, 1)
        parts = []
        for degree in range(self.max_degree + 1):
            matrix = directions[degree * n_pairs : (degree + 1) * n_pairs][back] * twice
            matrix = matrix.T.reshape(-1, self.n_channels)
            columns = moments[..., degree**2 : (degree + 1) ** 2].transpose(0, 1).reshape(self.n_channels, -1)
            parts.append((matrix @ columns).reshape(n_combinations, self.n_channels, n_atoms, -1))
        return torch.cat(parts, dim=-1).permute(2, 0, 1, 3).reshape(n_atoms, n_combinations, -1)

    def _moment_gradient(self, cotangents: torch.Tensor, moments: torch.Tensor) -> torch.Tensor:
        """∂E_m/∂A_c,lm = Σ_c' (1 + δ_cc') ∂E_m/∂G_cc'l A_c',lm, shape (member, atom, channel, lm)."""
        n_members, n_atoms, _ = cotangents.shape
        n_pairs = self.n_channels * (self.n_channels + 1) // 2
        back = self._triangle[1].to(cotangents.device)
        twice = 1.0 + torch.eye(self.n_channels, dtype=cotangents.dtype, device=cotangents.device)
        parts = []
        for degree in range(self.max_degree + 1):
            matrix = cotangents[..., degree * n_pairs : (degree + 1) * n_pairs][..., back]
            matrix = matrix.reshape(n_members, n_atoms, self.n_channels, self.n_channels) * twice
            parts.append(torch.matmul(matrix, moments[..., degree**2 : (degree + 1) ** 2]))
        return torch.cat(parts, dim=-1)
