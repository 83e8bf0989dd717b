"""Train a committee on labels."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np
import torch

from alflow.domain import Label
from alflow.domain.elements import SYMBOLS
from alflow.domain.learning_config import ModelConfig, TrainingConfig
from alflow.errors import InputError
from alflow.potentials.baseline import composition_counts, fit_atomic_energies
from alflow.potentials.committee import Committee, symmetry_functions
from alflow.potentials.extrapolation import DescriptorRange
from alflow.potentials.hdnnp import NetworkWeights
from alflow.tensors import to_batch
from alflow.training.examples import Examples, View, prepared
from alflow.training.loop import Trained, n_steps, train
from alflow.training.loss import frame_weights
from alflow.training.metrics import error_summary, force_errors
from alflow.training.normalization import fit_projection

__all__ = ["Fit", "fit_committee"]

_OUTGROWN = 1.5
"""A view of the structures fixed by fewer labels than the training set has, divided by this, is fixed anew."""

_SHIFTED_EV = 1.0
"""Atomic energies that move further tell of labels of another kind; training then begins anew."""

_BYTES = 4
"""Size of a float32 number."""

_LINEAR_SPREAD = 1e-3
_OUTPUT_SPREAD = 0.3
_INNER_BIAS_SPREAD = 0.1


@dataclass(frozen=True, eq=False)
class Fit:
    """A trained committee and how well it does.

    Attributes:
        committee: The committee, in float64.
        metrics: Errors on training and validation labels, the steps, the time taken in all and per step; unit in the
            key. ``finite`` is 1.0 when every weight and every prediction is a finite number. Validation errors are
            absent when there are no validation labels.
        notes: What was found about the symmetry functions of each element, a sentence each; empty when the view of the
            structures was taken over.
    """

    committee: Committee
    metrics: Mapping[str, float]
    notes: tuple[str, ...] = ()


def fit_committee(
    train_labels: Sequence[Label],
    validation: Sequence[Label],
    model: ModelConfig,
    training: TrainingConfig,
    seed: int,
    start: Committee | None = None,
) -> Fit:
    """Train a committee on labels.

    Members differ by their initial weights and by the weights they give the labels. The same labels, configuration,
    seed and start always give the same committee on the same kind of machine.

    Args:
        train_labels: Labels to learn, all at one level of theory; four are enough to begin with. Structures may
            differ in size and composition.
        validation: Labels that choose the best weights and measure the error; may be empty.
        model: Form of the networks.
        training: How to train.
        seed: Seed of all randomness.
        start: Committee to go on from, as far as it still fits the data: its view of the structures is kept until the
            labels have outgrown it, and its weights with it.

    Raises:
        InputError: No training labels.
    """
    if not train_labels:
        raise InputError("Training needs at least one label; found none. Label some structures first.")
    began = time.perf_counter()
    generator = torch.Generator().manual_seed(seed)
    elements = tuple(sorted({int(number) for label in train_labels for number in label.structure.numbers}))
    baseline = _baseline(train_labels, elements)
    warm = start if start is not None and _still_fits(start, model, elements, baseline, len(train_labels)) else None
    view, notes = _view(train_labels, elements, baseline, model, warm, generator)
    known = [label for label in validation if set(label.structure.numbers.tolist()) <= set(elements)]
    unit, batches, seen, room = _batches(train_labels, view, training, training.memory_gib * 2**30, generator)
    _, judges, _, _ = _batches(known, view, training, room, None, unit)
    initial = _continued(warm, view, unit) if warm else _initial(view, generator)
    shares = frame_weights(len(train_labels), training.bootstrap, model.members, generator)
    shares_of_batches = torch.split(shares, training.batch_labels)
    steps = n_steps(training, len(batches), warm is not None)
    prepared_at = time.perf_counter()
    trained = train(initial, batches, shares_of_batches, judges, training, steps, generator)
    trained_at = time.perf_counter()
    committee = _committee(trained, view, unit, seen, warm.view_labels if warm else len(train_labels))
    committee = _leveled(committee, train_labels)
    metrics = _metrics(committee, train_labels, known)
    metrics |= {
        "steps": float(steps),
        "best_step": float(trained.steps),
        "warm_start": float(warm is not None),
        "step_seconds": (trained_at - prepared_at) / steps,
        "fit_seconds": time.perf_counter() - began,
    }
    return Fit(committee, metrics, notes)


def _baseline(labels: Sequence[Label], elements: tuple[int, ...]) -> torch.Tensor:
    numbers = to_batch([label.structure for label in labels]).numbers.numpy()
    energies = np.array([label.evaluation.energy for label in labels])
    return torch.as_tensor(fit_atomic_energies(composition_counts(numbers, elements), energies))


def _still_fits(
    start: Committee, model: ModelConfig, elements: tuple[int, ...], baseline: torch.Tensor, n_labels: int
) -> bool:
    """Whether an earlier committee is of the same kind and the data have not outgrown it."""
    if start.elements != elements or start.model != model or n_labels >= _OUTGROWN * start.view_labels:
        return False
    return float((start.atomic_energies.mean(dim=0) - baseline).abs().max()) < _SHIFTED_EV


@torch.no_grad()
def _view(
    labels: Sequence[Label],
    elements: tuple[int, ...],
    baseline: torch.Tensor,
    model: ModelConfig,
    warm: Committee | None,
    generator: torch.Generator,
) -> tuple[View, tuple[str, ...]]:
    functions = symmetry_functions(model, len(elements))
    if warm is not None:
        weights = warm.weights.to(torch.float64)
        return View(model, functions, elements, baseline, weights.center, weights.projection), ()
    structures = [label.structure for label in labels]
    center, projection, reports = fit_projection(structures, functions, elements, model, generator)
    found = (report.message(SYMBOLS[number]) for number, report in zip(elements, reports, strict=True))
    notes = tuple(message for message in found if message)
    return View(model, functions, elements, baseline, center, projection), notes


@torch.no_grad()
def _batches(
    labels: Sequence[Label],
    view: View,
    training: TrainingConfig,
    room: float,
    generator: torch.Generator | None,
    unit: float | None = None,
) -> tuple[float, list[Callable[[], Examples]], DescriptorRange, float]:
    """Deal labels into steps; keep their derivatives while there is memory, recompute those of the rest.

    Returns:
        The root mean square force, eV/Å, in whose unit the networks work; what gives each step its labels; the range of
        the components; and the memory that is left of ``room``, bytes.
    """
    order = torch.randperm(len(labels), generator=generator).tolist() if generator else range(len(labels))
    dealt = [labels[i] for i in order]
    stored: list[Examples | None] = []
    pieces = [dealt[i : i + training.batch_labels] for i in range(0, len(dealt), training.batch_labels)]
    squares, n_components = 0.0, 0
    seen = DescriptorRange.empty(len(view.elements), view.projection.shape[2])
    for piece in pieces:
        examples = prepared(piece, view)
        squares += float(examples.forces.double().square().sum())
        n_components += 3 * len(examples.place)
        seen = seen.including(examples.components, examples.kinds)
        size = _BYTES * examples.slopes.numel()
        fits = size <= room
        room -= size if fits else 0
        stored.append(examples if fits else None)
    if unit is None:
        unit = math.sqrt(squares / max(1, n_components)) or 1.0
    given: list[Callable[[], Examples]] = [
        partial(_recomputed, piece, view, unit) if examples is None else partial(_kept, _in_units(examples, unit))
        for piece, examples in zip(pieces, stored, strict=True)
    ]
    return unit, given, seen, room


def _kept(examples: Examples) -> Examples:
    return examples


@torch.no_grad()
def _recomputed(labels: Sequence[Label], view: View, unit: float) -> Examples:
    return _in_units(prepared(labels, view), unit)


def _in_units(examples: Examples, unit: float) -> Examples:
    return replace(
        examples,
        energies=examples.energies / unit,
        forces=examples.forces / unit,
        virials=examples.virials / unit,
    )


def _initial(view: View, generator: torch.Generator) -> Trained:
    """Weights drawn at random: hidden layers that bend over the length scale, small outputs."""
    model, n_elements = view.model, len(view.elements)
    n_components = view.projection.shape[2]

    def draw(*shape: int, spread: float) -> torch.Tensor:
        return torch.randn((n_elements, model.members, *shape), generator=generator) * spread

    widths = (n_components, *model.hidden)
    hidden, bias = [], []
    for layer, (below, width) in enumerate(pairwise(widths)):
        hidden.append(draw(below, width, spread=1.0 / math.sqrt(below) if layer else 1.0 / model.length_scale))
        bias.append(draw(width, spread=_INNER_BIAS_SPREAD if layer else 1.0))
    weights = NetworkWeights(
        view.center.to(torch.float32),
        view.projection.to(torch.float32),
        tuple(hidden),
        tuple(bias),
        draw(widths[-1], spread=_OUTPUT_SPREAD / math.sqrt(widths[-1])),
        draw(n_components, spread=_LINEAR_SPREAD),
    )
    return Trained(weights, torch.zeros((n_elements, model.members)), 0)


def _continued(warm: Committee, view: View, unit: float) -> Trained:
    weights = warm.weights
    scaled = replace(weights, output=weights.output / unit, linear=weights.linear / unit).to(torch.float32)
    offsets = (warm.atomic_energies - view.atomic_energies).T / unit
    return Trained(scaled, offsets.to(torch.float32), 0)


def _committee(trained: Trained, view: View, unit: float, seen: DescriptorRange, view_labels: int) -> Committee:
    weights = trained.weights.to(torch.float64)
    weights = replace(
        weights,
        center=view.center,
        projection=view.projection,
        output=weights.output * unit,
        linear=weights.linear * unit,
    )
    offsets = trained.offsets.to(torch.float64).T * unit
    return Committee(view.model, view.elements, weights, view.atomic_energies + offsets, view_labels, seen)


def _leveled(committee: Committee, labels: Sequence[Label]) -> Committee:
    """The committee with the atomic energies of each member that fit the labels best, its networks as they are.

    An optimizer step moves them by more than an energy should be wrong; the best weights may lie anywhere on the way.
    """
    batch = to_batch([label.structure for label in labels])
    counts = composition_counts(batch.numbers.numpy(), committee.elements)
    energies = np.array([label.evaluation.energy for label in labels])
    predicted = torch.cat([committee.predict(to_batch([label.structure])).energies for label in labels], dim=1).numpy()
    shifts = np.stack([fit_atomic_energies(counts, energies - member) for member in predicted])
    return replace(committee, atomic_energies=committee.atomic_energies + torch.as_tensor(shifts))


def _metrics(committee: Committee, labels: Sequence[Label], validation: Sequence[Label]) -> dict[str, float]:
    metrics = error_summary(force_errors(committee, labels), "train")
    metrics |= error_summary(force_errors(committee, validation), "validation")
    finite = all(bool(tensor.isfinite().all()) for tensor in committee.weights.tensors().values())
    finite = finite and all(np.isfinite(value) for value in metrics.values())
    return metrics | {
        "finite": float(finite),
        "n_train": float(len(labels)),
        "n_validation": float(len(validation)),
    }
