"""Fit a committee to labels."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from alflow.domain import Label
from alflow.domain.learning_config import ModelConfig, TrainingConfig
from alflow.errors import InputError
from alflow.potentials.baseline import composition_counts, fit_atomic_energies
from alflow.potentials.committee import Committee, symmetry_functions
from alflow.potentials.descriptors import SymmetryFunctions
from alflow.potentials.hdnnp import NetworkWeights
from alflow.tensors import to_batch
from alflow.training.design import Chunk, HiddenLayer, chunks_of, output_weights, project
from alflow.training.metrics import error_summary, force_errors
from alflow.training.normalization import fit_projection
from alflow.training.ridge import choose_ridge, enough_to_judge, frame_weights, solve_members

__all__ = ["Fit", "fit_committee"]

_OUTGROWN = 1.5
"""A view of the structures fixed by fewer labels than the training set has, divided by this, is fixed anew."""


@dataclass(frozen=True, eq=False)
class Fit:
    """A trained committee and how well it does.

    Attributes:
        committee: The committee, in float64.
        metrics: Errors on training and validation labels, the penalty chosen and the time taken; unit in the key.
            ``finite`` is 1.0 when every weight and every prediction is a finite number. Validation errors are absent
            when there are no validation labels.
    """

    committee: Committee
    metrics: Mapping[str, float]


@torch.no_grad()
def fit_committee(
    train: Sequence[Label],
    validation: Sequence[Label],
    model: ModelConfig,
    training: TrainingConfig,
    seed: int,
    start: Committee | None = None,
) -> Fit:
    """Fit a committee to labels.

    Members differ by their hidden layers, drawn at random, and by the weights they give the labels. The same labels,
    configuration, seed and start always give the same committee.

    Args:
        train: Labels to learn, all at one level of theory; four are enough to begin with. Structures may differ in
            size and composition.
        validation: Labels to measure the error on; may be empty.
        model: Form of the networks.
        training: How to fit.
        seed: Seed of all randomness.
        start: Committee to go on from: its view of the structures and its hidden layers are kept where they still fit
            the data, and only the output weights are solved again, for all labels.

    Raises:
        InputError: No training labels.
    """
    if not train:
        raise InputError("Training needs at least one label; found none. Label some structures first.")
    began = time.perf_counter()
    elements = tuple(sorted({int(number) for label in train for number in label.structure.numbers}))
    batch = to_batch([label.structure for label in train])
    counts = composition_counts(batch.numbers.numpy(), elements)
    energies = np.array([label.evaluation.energy for label in train])
    atomic_energies = fit_atomic_energies(counts, energies)
    functions = symmetry_functions(model, len(elements))
    chunks = chunks_of(train, functions, elements, atomic_energies, model)
    generator = torch.Generator().manual_seed(seed)
    kept = _kept_view(start, model, elements, len(train))
    view = kept or _new_view(chunks, functions, elements, model, generator)
    ridge = training.ridge
    if ridge is None:
        judged = [project(chunk, functions, view.center, view.projection) for chunk in enough_to_judge(chunks)]
        ridge = choose_ridge(judged, view.layers, training, generator)
    weights = [frame_weights(len(train), training.bootstrap, generator) for _ in view.layers]
    projected = (project(chunk, functions, view.center, view.projection) for chunk in chunks)
    solutions = solve_members(projected, view.layers, weights, ridge, training, generator)
    solved = [output_weights(solution, layer) for solution, layer in zip(solutions, view.layers, strict=True)]
    committee = _assemble(model, elements, view, solved, torch.as_tensor(atomic_energies))
    metrics = _metrics(committee, train, validation)
    metrics |= {"ridge": ridge, "warm_start": float(kept is not None), "fit_seconds": time.perf_counter() - began}
    return Fit(committee, metrics)


@dataclass(frozen=True, eq=False)
class _View:
    """Everything fixed before the output weights are solved for."""

    center: torch.Tensor
    projection: torch.Tensor
    layers: list[HiddenLayer]
    n_labels: int


def _kept_view(start: Committee | None, model: ModelConfig, elements: tuple[int, ...], n_labels: int) -> _View | None:
    """The view of an earlier committee, unless it is another kind of network or the data have outgrown it."""
    if start is None or start.elements != elements or start.model != model:
        return None
    if n_labels >= _OUTGROWN * start.view_labels:
        return None
    weights = start.weights.to(torch.float64)
    layers = [HiddenLayer(weights.hidden[:, :, m], weights.bias[:, m]) for m in range(start.n_members)]
    return _View(weights.center, weights.projection, layers, start.view_labels)


def _new_view(
    chunks: Sequence[Chunk],
    functions: SymmetryFunctions,
    elements: tuple[int, ...],
    model: ModelConfig,
    generator: torch.Generator,
) -> _View:
    seen = [chunk.seen for chunk in chunks]
    center, projection = fit_projection(seen, functions, len(elements), model, generator)
    shape = (len(elements), projection.shape[2], model.hidden)
    layers = [
        HiddenLayer(
            torch.randn(shape, generator=generator, dtype=torch.float64) / model.length_scale,
            torch.randn((shape[0], shape[2]), generator=generator, dtype=torch.float64),
        )
        for _ in range(model.members)
    ]
    return _View(center, projection, layers, sum(chunk.batch.n_structures for chunk in chunks))


def _assemble(
    model: ModelConfig,
    elements: tuple[int, ...],
    view: _View,
    solved: Sequence[tuple[torch.Tensor, torch.Tensor, torch.Tensor]],
    atomic_energies: torch.Tensor,
) -> Committee:
    weights = NetworkWeights(
        center=view.center,
        projection=view.projection,
        hidden=torch.stack([layer.weights for layer in view.layers], dim=2),
        bias=torch.stack([layer.bias for layer in view.layers], dim=1),
        output=torch.stack([output for output, _, _ in solved], dim=1),
        linear=torch.stack([linear for _, linear, _ in solved], dim=1),
    )
    offsets = torch.stack([offset for _, _, offset in solved])
    return Committee(model, elements, weights, atomic_energies[None, :] + offsets, view.n_labels)


def _metrics(committee: Committee, train: Sequence[Label], validation: Sequence[Label]) -> dict[str, float]:
    metrics = error_summary(force_errors(committee, train), "train")
    metrics |= error_summary(force_errors(committee, validation), "validation")
    finite = all(bool(tensor.isfinite().all()) for tensor in committee.weights.tensors().values())
    finite = finite and all(np.isfinite(value) for value in metrics.values())
    return metrics | {
        "finite": float(finite),
        "n_train": float(len(train)),
        "n_validation": float(len(validation)),
    }
