"""Classical symmetry functions: explicit sums over pairs and triples of neighbors.

The functions of Behler, J. Chem. Phys. 134, 074106 (2011), for every neighbor element and pair of elements:

    G2 = Σ_j exp(−η (r_ij − r_s)²) f_c(r_ij)                                                                  (Eq. 6)
    G4 = 2^(1−ζ) Σ_j<k (1 + λ cos θ_jik)^ζ exp(−η (r_ij² + r_ik² + r_jk²)) f_c(r_ij) f_c(r_ik) f_c(r_jk)      (Eq. 8)
    G5 = 2^(1−ζ) Σ_j<k (1 + λ cos θ_jik)^ζ exp(−η (r_ij² + r_ik²)) f_c(r_ij) f_c(r_ik)                        (Eq. 9)

Every triple counts once. The cutoff is that of the house, f_c(r) = (1 − (r/r_c)²)³, not a cosine: its curvature too
vanishes at r_c, so second derivatives are continuous; as a polynomial in r² it needs no root of r_jk; and with it the
wide functions G5 are exactly sums of the moment functions of :mod:`alflow.potentials.descriptors`. They are the
reference those are tested against, and there for a user who asks for them; the cost grows with the square of the number
of neighbors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Final

import torch

__all__ = ["AngularFunction", "ClassicalEnvironment", "ClassicalFunctions", "RadialFunction", "classical_functions"]

_NUMBERS_AT_ONCE: Final = 500_000
"""Numbers per intermediate tensor; atoms are taken in groups that stay below it."""

_INNERMOST_ANG: Final = 0.9
"""Center of the innermost radial function of the default set, Å."""


@dataclass(frozen=True)
class RadialFunction:
    """A Gaussian of the distance.

    Attributes:
        eta: Sharpness η, 1/Å².
        shift: Center r_s, Å.
    """

    eta: float
    shift: float


@dataclass(frozen=True)
class AngularFunction:
    """A power of 1 ± cos θ times Gaussians of the distances.

    Attributes:
        eta: Sharpness η, 1/Å².
        zeta: Power ζ, a positive integer: larger looks at a narrower range of angles.
        sign: λ, +1 (largest at 0°) or −1 (largest at 180°).

    Raises:
        ValueError: ζ is no positive integer, or λ neither +1 nor −1.
    """

    eta: float
    zeta: int
    sign: int

    def __post_init__(self) -> None:
        if self.zeta < 1 or int(self.zeta) != self.zeta:
            raise ValueError(f"zeta is a positive integer; found {self.zeta}.")
        if self.sign not in (-1, 1):
            raise ValueError(f"sign is +1 or -1; found {self.sign}.")


@dataclass(frozen=True, eq=False)
class ClassicalEnvironment:
    """What the backward pass needs: the geometry. ``atom`` runs over all (structure, atom) pairs of a batch, flattened.

    Attributes:
        vectors: Vector to each neighbor, Å, harmless where there is none, shape (atom, neighbor, 3).
        mask: True where there is a neighbor, shape (atom, neighbor).
        elements: One-hot element of each neighbor, zero where there is none, shape (atom, neighbor, element).
    """

    vectors: torch.Tensor
    mask: torch.Tensor
    elements: torch.Tensor

    def select(self, atoms: torch.Tensor) -> ClassicalEnvironment:
        """The environment of some of the atoms, by index."""
        return ClassicalEnvironment(*(getattr(self, field.name)[atoms] for field in fields(self)))


@dataclass(frozen=True, eq=False)
class _Triples:
    """All pairs j < k of neighbors inside the angular cutoff, of a few atoms.

    Attributes:
        slots: Slots of the neighbors inside the cutoff, first, shape (atom, near).
        first: Which of these is j, shape (triple,).
        second: Which of these is k, shape (triple,).
        a: Vector to j, Å, shape (atom, triple, 3).
        b: Vector to k, Å, shape (atom, triple, 3).
        kind: Index of the pair of elements, shape (atom, triple).
        real: 1 where both neighbors exist, else 0, shape (atom, triple).
    """

    slots: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    a: torch.Tensor
    b: torch.Tensor
    kind: torch.Tensor
    real: torch.Tensor


@dataclass(frozen=True)
class ClassicalFunctions:
    """Behler's symmetry functions of an atom, for every neighbor element and every pair of elements.

    Same interface as :class:`alflow.potentials.descriptors.SymmetryFunctions`. The features are the radial functions
    of each neighbor element, then, for each pair of elements (e ≤ e', row by row), the narrow and the wide functions.

    Attributes:
        n_elements: Number of neighbor elements told apart.
        cutoff: Radius of the radial functions, Å.
        angular_cutoff: Radius of the angular functions, Å; at most ``cutoff``.
        radial: The functions G2.
        narrow: The functions G4, in which the two neighbors are near each other too.
        wide: The functions G5, blind to the distance between the two neighbors.

    Raises:
        ValueError: The angular cutoff is beyond the radial one.

    Examples:
        >>> functions = classical_functions(2, 6.0, 4.0)
        >>> functions.n_features  # 2 elements × 8, 3 pairs × (2 η × 2 λ × 3 ζ)
        52
    """

    n_elements: int
    cutoff: float
    angular_cutoff: float
    radial: tuple[RadialFunction, ...]
    narrow: tuple[AngularFunction, ...] = ()
    wide: tuple[AngularFunction, ...] = ()

    def __post_init__(self) -> None:
        if self.angular_cutoff > self.cutoff:
            raise ValueError(
                f"The angular cutoff ({self.angular_cutoff} Å) is at most the radial one ({self.cutoff} Å): the list "
                "of neighbors ends there."
            )

    @property
    def n_angular(self) -> int:
        """Number of angular functions per pair of elements."""
        return len(self.narrow) + len(self.wide)

    @property
    def n_features(self) -> int:
        """Number of symmetry functions of an atom."""
        kinds = self.n_elements * (self.n_elements + 1) // 2
        return self.n_elements * len(self.radial) + kinds * self.n_angular

    @cached_property
    def _kinds(self) -> torch.Tensor:
        """Index of each pair of elements, shape (element, element)."""
        rows, columns = torch.triu_indices(self.n_elements, self.n_elements)
        kinds = torch.zeros((self.n_elements, self.n_elements), dtype=torch.int64)
        kinds[rows, columns] = kinds[columns, rows] = torch.arange(len(rows))
        return kinds

    def forward(
        self, vectors: torch.Tensor, mask: torch.Tensor, elements: torch.Tensor
    ) -> tuple[torch.Tensor, ClassicalEnvironment]:
        """Evaluate the symmetry functions of all atoms.

        Args:
            vectors: Vector to each neighbor, Å, shape (atom, neighbor, 3).
            mask: True where there is a neighbor, shape (atom, neighbor).
            elements: One-hot element of each neighbor, zero where there is none, shape (atom, neighbor, element).

        Returns:
            G, shape (atom, feature), differentiable twice, and what :meth:`backward` needs.
        """
        safe = torch.where(mask[..., None], vectors, torch.ones_like(vectors))
        environment = ClassicalEnvironment(safe, mask, elements)
        radial, _ = self._radial(environment)
        features = [torch.matmul(elements.transpose(1, 2), radial).reshape(len(vectors), -1)]
        if self.n_angular:
            groups = [self._angular_sums(environment.select(group)) for group in self._groups(environment, 1)]
            n_kinds = self.n_elements * (self.n_elements + 1) // 2
            features.append(torch.cat(groups) if groups else radial.new_zeros((0, n_kinds * self.n_angular)))
        return torch.cat(features, dim=1), environment

    def backward(self, cotangents: torch.Tensor, environment: ClassicalEnvironment) -> torch.Tensor:
        """Pull gradients with respect to the symmetry functions back to the pair vectors, for all members at once.

        Args:
            cotangents: ∂E_m/∂G, shape (member, atom, feature).
            environment: What :meth:`forward` returned.

        Returns:
            ∂E_m/∂r_ij, shape (member, atom, neighbor, 3).
        """
        n_members, n_atoms, _ = cotangents.shape
        n_radial = self.n_elements * len(self.radial)
        _, slopes = self._radial(environment)
        by_element = cotangents[..., :n_radial].reshape(n_members, n_atoms, self.n_elements, len(self.radial))
        along = (torch.matmul(environment.elements, by_element) * slopes).sum(dim=-1)
        distances = environment.vectors.square().sum(dim=-1).sqrt()
        gradient = (along / distances)[..., None] * environment.vectors
        if not self.n_angular:
            return gradient
        angular = cotangents[..., n_radial:].reshape(n_members, n_atoms, -1, self.n_angular)
        pulled = [
            self._angular_pull(angular[:, group], environment.select(group))
            for group in self._groups(environment, n_members)
        ]
        return gradient + torch.cat(pulled, dim=1) if pulled else gradient

    def slopes(self, directions: torch.Tensor, environment: ClassicalEnvironment) -> torch.Tensor:
        """Derivatives of many linear combinations of the symmetry functions, for training.

        Args:
            directions: Coefficients of each combination x, shape (feature, combination).
            environment: What :meth:`forward` returned.

        Returns:
            ∂x/∂r_ij, shape (atom, combination, neighbor · 3).
        """
        n_atoms = len(environment.mask)
        pulled = self.backward(directions.T[:, None, :].expand(-1, n_atoms, -1), environment)
        return pulled.transpose(0, 1).reshape(n_atoms, directions.shape[1], -1)

    def _groups(self, environment: ClassicalEnvironment, n_members: int) -> Iterator[torch.Tensor]:
        """Atoms in groups whose triples fit into memory."""
        n_atoms, n_slots = environment.mask.shape
        per_atom = max(1, n_slots * (n_slots - 1) // 2) * max(self.n_angular, 3) * n_members
        step = max(1, _NUMBERS_AT_ONCE // per_atom)
        for first in range(0, n_atoms, step):
            yield torch.arange(first, min(first + step, n_atoms), device=environment.mask.device)

    def _radial(self, environment: ClassicalEnvironment) -> tuple[torch.Tensor, torch.Tensor]:
        """G2 of each neighbor and its slope, 1/Å, shape (atom, neighbor, function)."""
        eta = environment.vectors.new_tensor([function.eta for function in self.radial])
        shift = environment.vectors.new_tensor([function.shift for function in self.radial])
        r = environment.vectors.square().sum(dim=-1, keepdim=True).sqrt()
        gap = (1.0 - (r / self.cutoff).square()).clamp(min=0.0) * environment.mask[..., None]
        gaussian = torch.exp(-eta * (r - shift).square())
        slope = -gaussian * gap.square() * (2.0 * eta * (r - shift) * gap + 6.0 * r / self.cutoff**2)
        return gaussian * gap**3, slope

    def _triples(self, environment: ClassicalEnvironment) -> _Triples:
        """Pairs of neighbors; those inside the angular cutoff are moved to the front first, the rest is left out."""
        near = environment.mask & (environment.vectors.square().sum(dim=-1) < self.angular_cutoff**2)
        n_near = int(near.sum(dim=1).max()) if len(near) else 0
        slots = (~near).to(torch.int8).argsort(dim=1, stable=True)[:, :n_near]
        vectors = environment.vectors.gather(1, slots[..., None].expand(-1, -1, 3))
        species = environment.elements.argmax(dim=-1).gather(1, slots)
        kept = near.gather(1, slots)
        first, second = torch.triu_indices(n_near, n_near, 1, device=near.device)
        kind = self._kinds.to(near.device)[species[:, first], species[:, second]]
        real = (kept[:, first] & kept[:, second]).to(vectors.dtype)
        return _Triples(slots, first, second, vectors[:, first], vectors[:, second], kind, real)

    def _angular_sums(self, environment: ClassicalEnvironment) -> torch.Tensor:
        """G4 and G5 summed over triples, shape (atom, pair of elements · function)."""
        triples = self._triples(environment)
        values, _ = self._angular(triples)
        n_kinds = self.n_elements * (self.n_elements + 1) // 2
        sums = values.new_zeros((len(values), n_kinds, self.n_angular))
        index = triples.kind[..., None].expand(-1, -1, self.n_angular)
        return sums.scatter_add(1, index, values).reshape(len(values), -1)

    def _angular_pull(self, cotangents: torch.Tensor, environment: ClassicalEnvironment) -> torch.Tensor:
        """Gradient on every pair vector for ∂E_m/∂G of shape (member, atom, pair of elements, function)."""
        triples = self._triples(environment)
        _, slopes = self._angular(triples)
        n_members, n_atoms = cotangents.shape[:2]
        rows = torch.arange(n_atoms, device=triples.kind.device)[:, None]
        weights = cotangents[:, rows, triples.kind]
        by_a, by_b, by_dot = ((weights * slope).sum(dim=-1)[..., None] for slope in slopes)
        # ∂/∂a of a function of a·a, b·b and a·b.
        on_first = 2.0 * by_a * triples.a + by_dot * triples.b
        on_second = 2.0 * by_b * triples.b + by_dot * triples.a
        gradient = environment.vectors.new_zeros((n_members, *environment.vectors.shape))
        for side, pull in ((triples.first, on_first), (triples.second, on_second)):
            index = triples.slots[:, side][None, :, :, None].expand(n_members, -1, -1, 3)
            gradient = gradient.scatter_add(2, index, pull)
        return gradient

    def _angular(self, triples: _Triples) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """G4 and G5 of each triple and their derivatives by a·a, b·b and a·b, shape (atom, triple, function)."""
        aa, bb = triples.a.square().sum(dim=-1), triples.b.square().sum(dim=-1)
        dot = (triples.a * triples.b).sum(dim=-1)
        length = (aa * bb).sqrt()
        cosine = dot / length
        functions = (*self.narrow, *self.wide)
        parts: list[tuple[torch.Tensor, ...]] = []
        place: dict[tuple[float, bool], int] = {}
        for number, f in enumerate(functions):
            key = (f.eta, number < len(self.narrow))
            if key not in place:
                place[key] = len(parts)
                parts.append(self._distances(aa, bb, aa + bb - 2.0 * dot, triples.real, *key))
        columns: list[tuple[torch.Tensor, ...]] = []
        for number, f in enumerate(functions):
            value, by_a, by_b, by_far = parts[place[f.eta, number < len(self.narrow)]]
            opening = 1.0 + f.sign * cosine
            lower = 2.0 ** (1 - f.zeta) * opening ** (f.zeta - 1)
            angle, turn = lower * opening, f.zeta * f.sign * lower * value
            far = angle * by_far
            columns.append(
                (
                    angle * value,
                    angle * by_a + far - turn * cosine / (2.0 * aa),
                    angle * by_b + far - turn * cosine / (2.0 * bb),
                    turn / length - 2.0 * far,
                )
            )
        values, on_a, on_b, on_dot = (torch.stack(column, dim=-1) for column in zip(*columns, strict=True))
        return values, (on_a, on_b, on_dot)

    def _distances(
        self, aa: torch.Tensor, bb: torch.Tensor, far: torch.Tensor, real: torch.Tensor, eta: float, narrow: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """What a function knows of distances, and its derivatives by r_ij², r_ik² and r_jk², shape (atom, triple)."""
        steepness = -3.0 / self.angular_cutoff**2
        gap_a, gap_b, gap_far = ((1.0 - square / self.angular_cutoff**2).clamp(min=0.0) for square in (aa, bb, far))
        damping = torch.exp(-eta * (aa + bb + far if narrow else aa + bb)) * real
        third = gap_far**3 if narrow else torch.ones_like(gap_far)
        value = damping * gap_a**3 * gap_b**3 * third
        by_a = steepness * damping * gap_a.square() * gap_b**3 * third - eta * value
        by_b = steepness * damping * gap_a**3 * gap_b.square() * third - eta * value
        if not narrow:
            return value, by_a, by_b, torch.zeros_like(value)
        return value, by_a, by_b, steepness * damping * gap_a**3 * gap_b**3 * gap_far.square() - eta * value


def classical_functions(n_elements: int, cutoff: float, angular_cutoff: float) -> ClassicalFunctions:
    """A set of the size commonly used: 8 radial functions per element, 12 narrow angular ones per pair of elements.

    The radial Gaussians are evenly spaced and as wide as their distance (Gastegger et al., J. Chem. Phys. 148, 241709
    (2018)); the angular functions are all combinations of two widths, λ = ±1 and ζ = 1, 2, 4.

    Args:
        n_elements: Number of neighbor elements told apart.
        cutoff: Radius of the radial functions, Å.
        angular_cutoff: Radius of the angular functions, Å.
    """
    n_radial = 8
    step = (cutoff - _INNERMOST_ANG) / n_radial
    radial = tuple(RadialFunction(0.5 / step**2, _INNERMOST_ANG + n * step) for n in range(n_radial))
    widths = (0.5 / angular_cutoff**2, 4.0 / angular_cutoff**2)
    narrow = tuple(AngularFunction(eta, zeta, sign) for eta in widths for sign in (1, -1) for zeta in (1, 2, 4))
    return ClassicalFunctions(n_elements, cutoff, angular_cutoff, radial, narrow)
