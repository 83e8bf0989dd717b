"""A map of the data set: structures that look alike to the potential lie side by side.

Every structure is the mean over its atoms of what the committee's networks see of them (or, without a committee, of
its symmetry functions, element by element); the map shows the two directions in which the structures differ most
(principal components).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from alflow.domain import Structure
from alflow.domain.learning_config import ModelConfig
from alflow.domain.structure import FloatArray, IntArray
from alflow.potentials import Committee
from alflow.potentials.committee import Surroundings, symmetry_functions
from alflow.tensors import to_batch

__all__ = ["Atlas", "chosen", "describe", "project"]

ATOMS_PER_CALL = 512


@dataclass(frozen=True, eq=False)
class Atlas:
    """Structures on a map.

    Attributes:
        structures: Those that are shown.
        places: First two principal components, shape (structure, 2).
        explained: Share of the variance along each of the two.
        n_all: How many structures there are.
        seen_by: What the structures were described with.
        parts: Part of the data set each belongs to, ``given up`` for those without a label.
        frame_ids: Frame each label was asked for.
        energy: Energy per atom relative to the lowest of the composition, eV; NaN where there is no label.
        error: Mean absolute force error of the active committee, eV/Å; NaN where it is not known.
        disagreement: Disagreement when it was seen, eV/Å; NaN for starting frames.
        generation: Generation that saw it; 0 for starting frames.
    """

    structures: tuple[Structure, ...]
    places: FloatArray
    explained: tuple[float, float]
    n_all: int
    seen_by: str
    parts: tuple[str, ...]
    frame_ids: tuple[str, ...]
    energy: FloatArray
    error: FloatArray
    disagreement: FloatArray
    generation: IntArray


def chosen(n: int, most: int, seed: int = 0) -> list[int]:
    """All of ``n`` places, or ``most`` of them drawn at random without preference, ascending."""
    if n <= most:
        return list(range(n))
    return sorted(int(place) for place in np.random.default_rng(seed).choice(n, most, replace=False))


def describe(structures: Sequence[Structure], committee: Committee | None) -> FloatArray:
    """What the potential sees of each structure, averaged over atoms.

    Args:
        structures: At least one.
        committee: The potential; None for the default symmetry functions, averaged element by element.

    Returns:
        Shape (structure, feature).

    Raises:
        InputError: An element the committee was not trained on.
    """
    elements = tuple(sorted({int(number) for structure in structures for number in structure.numbers}))
    functions = symmetry_functions(ModelConfig(), len(elements))
    rows: list[FloatArray] = []
    start = 0
    while start < len(structures):
        stop = start + max(1, ATOMS_PER_CALL // len(structures[start]))
        batch = to_batch(structures[start:stop])
        with torch.no_grad():
            if committee is not None:
                features = committee.batch_descriptors(batch).to(torch.float64)
                means = [_mean(features, batch.mask)]
            else:
                seen = Surroundings.of(batch, functions, elements)
                features = seen.features.reshape(*seen.species.shape, -1)
                means = [_mean(features, seen.species == e) for e in range(len(elements))]
        rows.extend(torch.cat(means, dim=1).numpy())
        start = stop
    return np.stack(rows)


def _mean(features: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
    """Mean over some atoms of each structure, zero where there are none, shape (structure, feature)."""
    share = which.to(features.dtype)
    return (features * share[..., None]).sum(dim=1) / share.sum(dim=1, keepdim=True).clamp(min=1.0)


def project(features: FloatArray) -> tuple[FloatArray, tuple[float, float]]:
    """Principal components of the features.

    Returns:
        The first two, shape (structure, 2), the larger side of each positive; and the share of the variance along each.

    Examples:
        >>> places, explained = project(np.array([[0.0, 1.0], [2.0, 1.0], [7.0, 1.0]]))
        >>> places[:, 0].round(6).tolist(), explained
        ([-3.0, -1.0, 4.0], (1.0, 0.0))
    """
    centered = features - features.mean(axis=0)
    left, values, _ = np.linalg.svd(centered, full_matrices=False)
    places = np.zeros((len(features), 2))
    kept = min(2, len(values))
    places[:, :kept] = left[:, :kept] * values[:kept]
    extreme = np.abs(places).argmax(axis=0)
    places *= np.where(places[extreme, [0, 1]] < 0, -1.0, 1.0)
    total = float((values**2).sum())
    shares = [float(value**2 / total) if total > 0 else 0.0 for value in values[:2]] + [0.0, 0.0]
    return places, (shares[0], shares[1])
