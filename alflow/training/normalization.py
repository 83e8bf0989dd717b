"""The view the networks get of the symmetry functions, fixed from the training data.

Each symmetry function is divided by a power of its spread, then the principal components of values and of their
changes with the atoms' positions are kept, the faint ones among them made louder. Directions the training data never
visit are not thrown away: random combinations of them are appended, silent on the training data, so that members
disagree where something new appears. A function that repeats another is left out; one that is dead on the training data
is left to those combinations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from alflow.domain import Structure
from alflow.domain.learning_config import ModelConfig
from alflow.potentials.committee import Surroundings
from alflow.potentials.descriptors import Descriptors
from alflow.tensors import to_batch
from alflow.training.diagnostics import FunctionReport, examine_functions

__all__ = ["fit_projection"]

_POWER = 0.5
"""Exponent of the spread. 0 keeps raw magnitudes, 1 makes all functions equally important; measured on rMD17."""

_LOUDNESS = 0.25
"""Exponent of a component's spread, by which it is divided. 0 keeps the spreads, 1 makes all components alike.

The weights of loud and faint components move by about the same length in a step, so faint ones are learnt late; made
too loud, they are learnt by heart. docs/decisions/0012-louder-components.md has the measurement.
"""

_FAINTEST = 1e-6
"""Smallest share of the variance a component is credited with."""

_FLOOR = 1e-3
"""Smallest spread a function is credited with, relative to the root mean square spread."""

_SLOPE_WEIGHT_ANG2 = 0.01
"""Weight of squared slopes against squared values in the principal components: displacements of 0.1 Å."""

_SAMPLED_ATOMS = 48
"""Atoms of each element whose slopes enter the principal components."""

_PAIRS_AT_ONCE = 6000
"""Neighbor slots whose symmetry functions are evaluated together; bounds the memory."""

_NOVELTY_SHARE = 8
"""One component in this many watches directions the training data never visit."""


def fit_projection(
    structures: Sequence[Structure],
    functions: Descriptors,
    elements: tuple[int, ...],
    model: ModelConfig,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor, list[FunctionReport]]:
    """Fit centers and scaled principal components of the symmetry functions of each element.

    Symmetry functions are evaluated in float64, a few structures at a time.

    Args:
        structures: The training structures.
        functions: The symmetry functions.
        elements: Atomic numbers, ascending; each occurs in some structure.
        model: How many components to keep.
        generator: Source of the random directions.

    Returns:
        Centers, shape (element, feature); projections, shape (element, feature, component); and what was found about
        the functions of each element.
    """
    n_features = functions.n_features
    n_components = min(model.components, n_features)
    n_elements = len(elements)
    centers = torch.zeros((n_elements, n_features), dtype=torch.float64)
    projections = torch.zeros((n_elements, n_features, n_components), dtype=torch.float64)
    reports = []
    gathered = _gathered(structures, functions, elements)
    for e in range(n_elements):
        values, slopes = (torch.cat(parts.pop(0)) for parts in gathered)
        centers[e] = values.mean(dim=0)
        spread = values.std(dim=0, correction=0)
        # One atom, or atoms that are alike, have no spread of values; what their slopes span is still to be learnt.
        steepness = slopes.square().sum(dim=0) / max(1, len(slopes))
        spread = (spread.square() + _SLOPE_WEIGHT_ANG2 * steepness).sqrt()
        typical = float(spread.square().mean().sqrt())
        scale = spread.clamp(min=max(_FLOOR * typical, 1e-12)) ** (-_POWER)
        scale = scale / (spread * scale).square().sum().sqrt().clamp(min=1e-12)
        report = examine_functions(values, slopes)
        reports.append(report)
        directions = _components((values - centers[e]) * scale, slopes * scale, report, n_components, generator)
        projections[e, :, : directions.shape[1]] = scale[:, None] * directions
    return centers, projections, reports


def _gathered(
    structures: Sequence[Structure], functions: Descriptors, elements: tuple[int, ...]
) -> tuple[list[list[torch.Tensor]], list[list[torch.Tensor]]]:
    """G of all atoms, shape (atom, feature), and ∂G/∂r of evenly chosen ones, by element and in pieces."""
    values: list[list[torch.Tensor]] = [[] for _ in elements]
    slopes: list[list[torch.Tensor]] = [[] for _ in elements]
    totals = [sum(int((structure.numbers == number).sum()) for structure in structures) for number in elements]
    met = [0] * len(elements)
    for piece in _pieces(structures):
        seen = Surroundings.of(to_batch(piece), functions, elements)
        species = seen.species.reshape(-1)
        for e, total in enumerate(totals):
            atoms = (species == e).nonzero()[:, 0]
            step = max(1, -(-total // _SAMPLED_ATOMS))
            values[e].append(seen.features[atoms])
            slopes[e] += [_function_slopes(seen, functions, int(atom)) for atom in atoms[-met[e] % step :: step]]
            met[e] += len(atoms)
    return values, slopes


def _function_slopes(seen: Surroundings, functions: Descriptors, atom: int) -> torch.Tensor:
    """∂G/∂r of one atom, 1/Å, shape (neighbor · 3, feature)."""
    unit = torch.eye(functions.n_features, dtype=torch.float64)
    slopes = functions.slopes(unit, seen.environment.select(torch.tensor([atom])))
    near = seen.neighbors.mask.flatten(0, 1)[atom]
    return slopes[0].reshape(functions.n_features, -1, 3)[:, near].reshape(functions.n_features, -1).T


def _pieces(structures: Sequence[Structure]) -> Iterator[list[Structure]]:
    piece: list[Structure] = []
    size = 0
    for structure in structures:
        cost = len(structure) * (60 if structure.is_periodic else len(structure))
        if piece and size + cost > _PAIRS_AT_ONCE:
            yield piece
            piece, size = [], 0
        piece.append(structure)
        size += cost
    if piece:
        yield piece


def _components(
    values: torch.Tensor, slopes: torch.Tensor, report: FunctionReport, n_components: int, generator: torch.Generator
) -> torch.Tensor:
    """Orthogonal principal directions of the functions kept, then random directions of the rest.

    Returns:
        Shape (feature, component), with fewer components when there are not as many independent functions.
    """
    n_features, kept = values.shape[1], report.kept
    per_atom = slopes[:, kept].T @ slopes[:, kept] / max(1, len(slopes))
    covariance = values[:, kept].T @ values[:, kept] / len(values) + 3.0 * _SLOPE_WEIGHT_ANG2 * per_atom
    everything = torch.zeros((n_features, len(kept) + len(report.dead)), dtype=values.dtype)
    everything[list(report.dead), torch.arange(len(report.dead))] = 1.0
    variances, everything[kept, len(report.dead) :] = torch.linalg.eigh(covariance)
    gains = torch.cat([torch.ones(len(report.dead), dtype=values.dtype), _gains(variances)])
    if n_components >= everything.shape[1]:
        return everything * gains
    n_random = max(1, n_components // _NOVELTY_SHARE)
    split = everything.shape[1] - (n_components - n_random)
    rest, principal = everything[:, :split], everything[:, split:] * gains[split:]
    mixture = torch.randn((split, n_random), generator=generator, dtype=values.dtype)
    # Scaled so that a change in the rest is seen at its full length on average.
    watching: torch.Tensor = rest @ torch.linalg.qr(mixture).Q * (split / n_random) ** 0.5
    return torch.cat([principal, watching], dim=1)


def _gains(variances: torch.Tensor) -> torch.Tensor:
    """Factor of each component that makes faint ones louder than they are; the sum of all variances stays the same."""
    shares = (variances / variances.sum().clamp(min=1e-300)).clamp(min=_FAINTEST)
    gains = shares ** (-0.5 * _LOUDNESS)
    return gains * (shares.sum() / (shares * gains.square()).sum()).sqrt()
