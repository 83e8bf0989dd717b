"""The view the networks get of the symmetry functions, fixed from the training data.

Each symmetry function is divided by a power of its spread, then the principal components of values and of their
changes with the atoms' positions are kept, the faint ones among them made louder. Directions the training data never
visit are not thrown away: random combinations of them are appended, silent on the training data, so that members
disagree where something new appears. A function that repeats another is left out; one that is dead on the training data
is left to those combinations.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from alflow.domain.learning_config import ModelConfig
from alflow.potentials.committee import Surroundings
from alflow.potentials.descriptors import Descriptors
from alflow.training.diagnostics import FunctionReport, examine_functions

__all__ = ["fit_projection"]

_POWER = 0.5
"""Exponent of the spread. 0 keeps raw magnitudes, 1 makes all functions equally important; measured on rMD17."""

_LOUDNESS = 0.25
"""Exponent of a component's spread, by which it is divided. 0 keeps the spreads, 1 makes all components alike.

The weights of loud and faint components move by about the same length in a step, so faint ones are learnt late; made
too loud, they are learnt by heart. docs/decisions/0011-louder-components.md has the measurement.
"""

_FAINTEST = 1e-6
"""Smallest share of the variance a component is credited with."""

_FLOOR = 1e-3
"""Smallest spread a function is credited with, relative to the root mean square spread."""

_SLOPE_WEIGHT_ANG2 = 0.01
"""Weight of squared slopes against squared values in the principal components: displacements of 0.1 Å."""

_SAMPLED_ATOMS = 48
"""Atoms of each element whose slopes enter the principal components."""

_NOVELTY_SHARE = 8
"""One component in this many watches directions the training data never visit."""


def fit_projection(
    seen: Sequence[Surroundings],
    functions: Descriptors,
    n_elements: int,
    model: ModelConfig,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor, list[FunctionReport]]:
    """Fit centers and scaled principal components of the symmetry functions of each element.

    Args:
        seen: The training structures, in float64.
        functions: The symmetry functions.
        n_elements: Number of elements.
        model: How many components to keep.
        generator: Source of the random directions.

    Returns:
        Centers, shape (element, feature); projections, shape (element, feature, component); and what was found about
        the functions of each element.
    """
    n_features = functions.n_features
    n_components = min(model.components, n_features)
    centers = torch.zeros((n_elements, n_features), dtype=torch.float64)
    projections = torch.zeros((n_elements, n_features, n_components), dtype=torch.float64)
    reports = []
    for e in range(n_elements):
        values = torch.cat([s.features[s.species.reshape(-1) == e] for s in seen])
        centers[e] = values.mean(dim=0)
        spread = values.std(dim=0, correction=0)
        slopes = _sampled_slopes(seen, functions, e)
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


def _sampled_slopes(seen: Sequence[Surroundings], functions: Descriptors, element: int) -> torch.Tensor:
    """∂G/∂r of evenly chosen atoms of an element, 1/Å, shape (atom · neighbor · 3, feature)."""
    places = [(s, int(a)) for s in seen for a in (s.species.reshape(-1) == element).nonzero()[:, 0]]
    step = max(1, -(-len(places) // _SAMPLED_ATOMS))
    unit = torch.eye(functions.n_features, dtype=torch.float64)
    rows = []
    for surroundings, atom in places[::step]:
        slopes = functions.slopes(unit, surroundings.environment.select(torch.tensor([atom])))
        near = surroundings.neighbors.mask.flatten(0, 1)[atom]
        rows.append(slopes[0].reshape(functions.n_features, -1, 3)[:, near].reshape(functions.n_features, -1).T)
    return torch.cat(rows)


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
