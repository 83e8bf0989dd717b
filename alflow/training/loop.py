"""The training loop: all members in one pass, a fixed number of steps, the best weights kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from alflow.domain.learning_config import TrainingConfig
from alflow.potentials.hdnnp import NetworkWeights
from alflow.training.examples import Examples
from alflow.training.loss import losses
from alflow.training.optimizer import Optimizer

__all__ = ["Trained", "n_steps", "train"]

_RISE = 50
"""Steps over which the learning rate rises at the beginning."""

_CHECKS = 10
"""Times the validation loss is looked at; the last is at the end."""


@dataclass(frozen=True, eq=False)
class Trained:
    """Weights after training.

    Attributes:
        weights: The networks, float32, in units of the force scale.
        offsets: Correction to the energy of each element's atoms, same unit, shape (element, member).
        steps: Steps taken to these weights.
    """

    weights: NetworkWeights
    offsets: torch.Tensor
    steps: int


def n_steps(training: TrainingConfig, n_batches: int, warm: bool) -> int:
    """Number of optimizer steps of a training.

    Args:
        training: The configuration.
        n_batches: Steps of one epoch.
        warm: Whether it goes on from an earlier committee.
    """
    steps = max(training.min_steps, training.epochs * n_batches)
    return max(1, round(steps * training.warm_share)) if warm else steps


def train(
    start: Trained,
    batches: Sequence[Callable[[], Examples]],
    frame_weights: Sequence[torch.Tensor],
    validation: Sequence[Callable[[], Examples]],
    training: TrainingConfig,
    steps: int,
    generator: torch.Generator,
) -> Trained:
    """Minimise the loss of all members.

    The learning rate rises briefly, then falls to zero along a half cosine. Members share every pass, never a weight.

    Args:
        start: Weights to begin with.
        batches: What gives the labels of one step, in units of the force scale.
        frame_weights: Weight of each label of a batch for each member, shapes (structure, member).
        validation: What gives the labels that choose the best weights; may be empty, then the last are the best.
        training: Weights of the parts of the loss, learning rate.
        steps: Number of steps.
        generator: Deals the order of the batches.

    Returns:
        The weights with the lowest error on the validation labels: the sum of the roots of their losses.
    """
    weights, offsets = _leaves(start.weights), start.offsets.clone().requires_grad_()
    others = [*weights.bias, weights.output, weights.linear, offsets]
    optimizer = Optimizer(weights.hidden, others)
    per_batch = sum(len(w) for w in frame_weights) / len(frame_weights)
    best, lowest = start, math.inf
    check = max(1, steps // _CHECKS)
    order: list[int] = []
    for step in range(steps):
        order = order or torch.randperm(len(batches), generator=generator).tolist()
        place = order.pop()
        examples = batches[place]()
        scale = 3.0 * float(examples.sizes.mean()) * per_batch
        loss = (losses(weights, offsets, examples, training) * frame_weights[place]).sum() / scale
        torch.autograd.backward(loss)
        optimizer.step(_learning_rate(training.learning_rate, step, steps))
        done = step + 1
        if done == steps or (validation and done % check == 0):
            # Without validation labels the loss is 0 at the only check, after the last step.
            found = _validation_error(weights, offsets, validation, training)
            if found < lowest or (done == steps and math.isinf(lowest)):
                best, lowest = Trained(_detached(weights), offsets.detach().clone(), done), found
    return best


def _learning_rate(peak: float, step: int, steps: int) -> float:
    rise = min(1.0, (step + 1) / min(_RISE, max(1, steps // 4)))
    return peak * rise * 0.5 * (1.0 + math.cos(math.pi * step / steps))


@torch.no_grad()
def _validation_error(
    weights: NetworkWeights,
    offsets: torch.Tensor,
    validation: Sequence[Callable[[], Examples]],
    training: TrainingConfig,
) -> float:
    """Sum over labels and members of the root of the loss.

    A sum of squares would be decided by the one frame that one member gets wrong, and throw away half of the training.
    """
    return math.fsum(float(losses(weights, offsets, examples(), training).sqrt().sum()) for examples in validation)


def _leaves(weights: NetworkWeights) -> NetworkWeights:
    fixed = ("center", "projection")
    return NetworkWeights.of(
        {
            name: tensor if name in fixed else tensor.detach().clone().requires_grad_()
            for name, tensor in weights.tensors().items()
        }
    )


def _detached(weights: NetworkWeights) -> NetworkWeights:
    return NetworkWeights.of({name: tensor.detach().clone() for name, tensor in weights.tensors().items()})
