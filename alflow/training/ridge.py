"""Solve for the output weights: regularised least squares, with the penalty chosen by cross-validation over frames.

With rows Φ, targets y and frame weights ω the output weights of a member are

    w = (Φᵀ Ω Φ + λ t 1)⁻¹ Φᵀ Ω y,        t = mean |Φ_row|²,

the mean of a Gaussian process whose kernel is the hidden layer's (Rahimi and Recht, NIPS 2007). It has one minimum, no
learning rate and no stopping rule, so the same labels and seed always give the same potential.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import torch

from alflow.domain.learning_config import TrainingConfig
from alflow.training.design import Chunk, HiddenLayer, design_rows

__all__ = ["choose_ridge", "enough_to_judge", "frame_weights", "solve_members"]

_CANDIDATES: Final = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9)
_DEFAULT: Final = 1e-6
_CROSS_VALIDATED_ROWS: Final = 4000
_CROSS_VALIDATED_MEMBERS: Final = 2


def frame_weights(n_frames: int, strength: float, generator: torch.Generator) -> torch.Tensor:
    """Weight of each frame in one member's fit: a Bayesian bootstrap (Rubin, Ann. Stat. 9, 130 (1981)), tempered.

    ω = (1 − s) + s·Exp(1), with mean 1. Unlike a resampling with replacement no label is ever left out.

    Args:
        n_frames: Number of labels.
        strength: s; 0 gives every frame weight 1.
        generator: Source of randomness.
    """
    exponential = -torch.log1p(-torch.rand(n_frames, generator=generator, dtype=torch.float64))
    return (1.0 - strength) + strength * exponential


def solve_members(
    chunks: Iterable[Chunk],
    layers: Sequence[HiddenLayer],
    weights: Sequence[torch.Tensor],
    ridge: float,
    training: TrainingConfig,
    generator: torch.Generator,
) -> list[torch.Tensor]:
    """Fit every member's output weights to all labels.

    The penalty pulls the weights not to zero but to a random point, drawn with the width the fitted weights show:
    σ² = wᵀw/γ, where γ is the number of weights the labels determine (MacKay, Neural Comput. 4, 415 (1992)), times
    ``training.prior_spread``. Labels overrule it wherever they have a say; elsewhere members keep their own opinion
    and disagree (randomised priors, Osband et al., NeurIPS 2018).

    Args:
        chunks: The labels, projected; each is needed only once and may be forgotten, so memory stays bounded.
        layers: The members' hidden layers.
        weights: Weight of each label for each member, in the order of the chunks.
        ridge: λ.
        training: Weights of energies and stress.
        generator: Source of the random points.

    Returns:
        Output weights of each member in the column order of :func:`alflow.training.design.design_rows`.
    """
    n_columns = layers[0].n_columns
    grams = [torch.zeros((n_columns, n_columns), dtype=torch.float64) for _ in layers]
    moments = [torch.zeros((n_columns, 1), dtype=torch.float64) for _ in layers]
    n_rows, first = 0, 0
    for chunk in chunks:
        for member, layer in enumerate(layers):
            rows, targets, owners = design_rows(chunk, layer, training)
            scale = weights[member][first + owners].sqrt()
            rows *= scale[:, None]
            grams[member].addmm_(rows.T, rows)
            moments[member].addmm_(rows.T, (targets * scale)[:, None])
        n_rows += len(rows)
        first += chunk.batch.n_structures
    return [
        _solution(gram, moment, ridge, n_rows, training.prior_spread, generator)
        for gram, moment in zip(grams, moments, strict=True)
    ]


def _solution(
    gram: torch.Tensor, moment: torch.Tensor, ridge: float, n_rows: int, spread: float, generator: torch.Generator
) -> torch.Tensor:
    factor, penalty = _factor(gram, ridge, n_rows)
    fitted = torch.cholesky_solve(moment, factor)
    determined = len(gram) - penalty * float(torch.cholesky_inverse(factor).diagonal().sum())
    width = (fitted.square().sum() / max(determined, 1.0)).sqrt()
    prior = torch.randn((len(gram), 1), generator=generator, dtype=torch.float64) * width * spread
    return (fitted + torch.cholesky_solve(penalty * prior, factor))[:, 0]


def choose_ridge(
    chunks: Sequence[Chunk], layers: Sequence[HiddenLayer], training: TrainingConfig, generator: torch.Generator
) -> float:
    """Choose the penalty that predicts left-out frames best, judged by the mean of two members.

    Frames are left out whole: two components of one frame are not independent.

    Args:
        chunks: Labels, projected; a few thousand rows are enough, see :func:`enough_to_judge`.
        layers: Hidden layers of the members.
        training: Number of folds, and weights.
        generator: Deals the frames into folds.
    """
    n_frames = sum(chunk.batch.n_structures for chunk in chunks)
    folds = min(training.folds, n_frames)
    if folds < 2:
        return _DEFAULT
    dealt = torch.randperm(n_frames, generator=generator) % folds
    residuals = torch.zeros(len(_CANDIDATES), dtype=torch.float64)
    members = []
    for layer in layers[:_CROSS_VALIDATED_MEMBERS]:
        rows, targets, owners = _stacked(chunks, layer, training)
        members.append((rows, targets, owners, rows.T @ rows, rows.T @ targets))
    for fold in range(folds):
        predictions: list[list[torch.Tensor]] = [[] for _ in _CANDIDATES]
        for rows, targets, owners, gram, moment in members:
            left_out = dealt[owners] == fold
            unseen, n_known = rows[left_out], int((~left_out).sum())
            known_gram = gram - unseen.T @ unseen
            known_moment = moment - unseen.T @ targets[left_out]
            for place, ridge in enumerate(_CANDIDATES):
                factor, _ = _factor(known_gram, ridge, n_known)
                predictions[place].append(unseen @ torch.cholesky_solve(known_moment[:, None], factor)[:, 0])
        for place, predicted in enumerate(predictions):
            residuals[place] += (torch.stack(predicted).mean(dim=0) - targets[left_out]).abs().sum()
    return _CANDIDATES[int(residuals.nan_to_num(torch.inf).argmin())]


def _factor(gram: torch.Tensor, ridge: float, n_rows: int) -> tuple[torch.Tensor, float]:
    """Cholesky factor of the penalised normal matrix, and the penalty: λ times the mean squared length of a row."""
    penalty = ridge * float(gram.diagonal().sum()) / max(1, n_rows)
    factor, failed = torch.linalg.cholesky_ex(gram + penalty * torch.eye(len(gram), dtype=gram.dtype))
    if int(failed):
        factor = torch.full_like(factor, torch.nan)  # a half-made factor would give finite nonsense
    return factor, penalty


def enough_to_judge(chunks: Sequence[Chunk]) -> list[Chunk]:
    """The first chunks, until they hold enough rows to choose the penalty by."""
    used: list[Chunk] = []
    n_rows = 0
    for chunk in chunks:
        used.append(chunk)
        n_rows += 3 * int(chunk.batch.mask.sum())
        if n_rows >= _CROSS_VALIDATED_ROWS:
            break
    return used


def _stacked(
    chunks: Sequence[Chunk], layer: HiddenLayer, training: TrainingConfig
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    parts, first = [], 0
    for chunk in chunks:
        rows, targets, owners = design_rows(chunk, layer, training)
        parts.append((rows, targets, owners + first))
        first += chunk.batch.n_structures
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts]), torch.cat([p[2] for p in parts])
