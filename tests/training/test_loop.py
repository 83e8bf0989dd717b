"""What a training step sees is what the committee says, and the loop keeps the best weights it met."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from alflow.domain import Evaluation, Label
from alflow.domain.learning_config import TrainingConfig
from alflow.potentials import Committee
from alflow.tensors import to_batch
from alflow.training import fit_committee, force_errors
from alflow.training.examples import Examples, View, prepared
from alflow.training.loop import n_steps
from alflow.training.loss import frame_weights, losses, predictions
from alflow.training.optimizer import Optimizer, orthogonalized
from tests.potentials.committees import (
    QUICK,
    SMALL,
    WATER,
    argon_committee,
    crystal_labels,
    ethanol_committee,
    molecule_labels,
)


def _view(committee: Committee) -> View:
    weights, baseline = committee.weights, committee.atomic_energies.mean(dim=0)
    seen = committee.model, committee.functions, committee.elements
    return View(*seen, baseline, weights.center, weights.projection, torch.float64)


@pytest.mark.parametrize(
    ("committee", "labels"),
    [
        (ethanol_committee, lambda: molecule_labels(3, seed=8) + molecule_labels(2, seed=9, molecule=WATER)),
        (argon_committee, lambda: crystal_labels(3)),
    ],
    ids=["molecules of two sizes", "crystals with stress"],
)
def test_a_training_step_sees_the_forces_the_committee_gives(
    committee: Callable[[], Committee], labels: Callable[[], list[Label]]
) -> None:
    potential, given = committee(), labels()
    examples = prepared(given, _view(potential))
    _, forces, virials = predictions(potential.weights, examples)
    batch = to_batch([label.structure for label in given])
    found = potential.predict(batch, stress=True)
    # What is left of the labels plus the networks' share is the label plus the committee's error: repulsion cancels.
    truth = torch.zeros_like(batch.positions)
    for row, label in enumerate(given):
        truth[row, : len(label.structure)] = torch.tensor(label.evaluation.forces)
    ours = (forces - examples.forces[:, None]).transpose(0, 1).reshape(found.forces.shape)
    torch.testing.assert_close(ours, found.forces - truth, rtol=1e-9, atol=1e-9)
    assert (virials is None) is (potential is ethanol_committee())
    if virials is not None and found.stress is not None:
        stress = torch.tensor(np.stack([np.asarray(label.evaluation.stress) for label in given]))
        volumes = torch.linalg.det(batch.cells).abs()[:, None, None]
        ours = (virials - examples.virials[:, None]).transpose(0, 1) / volumes
        torch.testing.assert_close(ours, found.stress - stress, rtol=1e-9, atol=1e-10)


def test_the_loss_is_zero_for_labels_the_committee_makes_itself() -> None:
    committee = ethanol_committee()
    structures = [label.structure for label in molecule_labels(3, seed=8)]
    one = replace(committee, atomic_energies=committee.atomic_energies.mean(dim=0, keepdim=True).expand(4, -1))
    for member in range(4):
        energies, forces = (
            t[member].numpy()
            for t in (one.predict(to_batch(structures)).energies, one.predict(to_batch(structures)).forces)
        )
        labels = [
            Label(s, molecule_labels(1)[0].level, Evaluation(float(e), f))
            for s, e, f in zip(structures, energies, forces, strict=True)
        ]
        found = losses(one.weights, torch.zeros((3, 4), dtype=torch.float64), _examples(labels, one), TrainingConfig())
        assert float(found[:, member].max()) < 1e-12
        assert float(found.sum()) > 1e-6  # the other members see it otherwise


def _examples(labels: list[Label], committee: Committee) -> Examples:
    return prepared(labels, _view(committee))


def test_labels_beyond_the_memory_are_recomputed_with_the_same_result() -> None:
    labels = molecule_labels(25)
    short = QUICK.model_copy(update={"min_steps": 12, "epochs": 1})
    plenty = fit_committee(labels, labels[:3], SMALL, short, seed=0).committee
    tight = fit_committee(labels, labels[:3], SMALL, short.model_copy(update={"memory_gib": 1e-4}), seed=0).committee
    for name, tensor in plenty.weights.tensors().items():
        assert torch.equal(tensor, tight.weights.tensors()[name]), name


def test_the_best_weights_on_the_validation_labels_are_kept() -> None:
    # Three labels are learnt by heart: the held-out error falls, then rises again.
    labels, held_out = molecule_labels(3), molecule_labels(12, seed=7, amplitude=0.1)
    long = TrainingConfig(min_steps=600, learning_rate=0.1)
    judged = fit_committee(labels, held_out, SMALL, long, seed=0)
    unjudged = fit_committee(labels, [], SMALL, long, seed=0)
    assert judged.metrics["best_step"] < unjudged.metrics["best_step"] == 600.0
    best, last = (float(force_errors(fit.committee, held_out).mean_absolute.mean()) for fit in (judged, unjudged))
    assert best < last


@pytest.mark.parametrize(
    ("batches", "warm", "steps"),
    [(1, False, 50), (10, False, 100), (10, True, 25), (1, True, 12)],
)
def test_the_number_of_steps_follows_the_labels(batches: int, warm: bool, steps: int) -> None:
    assert n_steps(TrainingConfig(epochs=10, min_steps=50), batches, warm) == steps


def test_frame_weights_have_mean_one_and_leave_no_label_out() -> None:
    weights = frame_weights(4000, 0.5, 2, torch.Generator().manual_seed(0))
    assert weights.shape == (4000, 2)
    assert float(weights.min()) >= 0.5
    # Standard error of the mean of 4000 exponentials times one half: 0.008.
    assert float((weights.mean(dim=0) - 1.0).abs().max()) < 0.04


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (3, 2, 8, 5)])
def test_an_orthogonalized_step_moves_every_direction_about_equally(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moved = orthogonalized(matrices)
    singular = torch.linalg.svdvals(moved)
    # Jordan's iteration trades exactness for speed: singular values end between 0.7 and 1.2.
    assert float(singular.min()) > 0.6
    assert float(singular.max()) < 1.3
    assert torch.equal(orthogonalized(torch.zeros_like(matrices)), torch.zeros_like(matrices))


def test_the_optimizer_finds_the_minimum_of_a_bowl() -> None:
    target = torch.randn((1, 1, 5, 3), generator=torch.Generator().manual_seed(0))
    matrix, offset = torch.zeros_like(target).requires_grad_(), torch.zeros(4).requires_grad_()
    optimizer = Optimizer([matrix], [offset])
    for step in range(400):
        torch.autograd.backward((matrix - target).square().sum() + (offset - 2.0).square().sum())
        optimizer.step(0.1 * (1.0 - step / 400))
    torch.testing.assert_close(matrix.detach(), target, rtol=0, atol=0.02)
    torch.testing.assert_close(offset.detach(), torch.full((4,), 2.0), rtol=0, atol=0.02)


def test_labels_of_one_element_less_are_learnt_and_judged() -> None:
    small = QUICK.model_copy(update={"min_steps": 5, "epochs": 1})
    water = molecule_labels(3, seed=6, molecule=WATER)
    fit = fit_committee(molecule_labels(12), water, SMALL, small, seed=0)
    assert fit.metrics["n_validation"] == 3.0
    mixed = fit_committee([*molecule_labels(2), *molecule_labels(12, molecule=WATER)], [], SMALL, small, seed=0)
    assert mixed.metrics["finite"] == 1.0


def test_a_validation_label_with_an_unknown_element_is_left_out() -> None:
    small = QUICK.model_copy(update={"min_steps": 5, "epochs": 1})
    fit = fit_committee(molecule_labels(4, molecule=WATER), molecule_labels(2), SMALL, small, seed=0)
    assert fit.metrics["n_validation"] == 0.0


def test_what_is_known_of_the_symmetry_functions_is_told() -> None:
    small = QUICK.model_copy(update={"min_steps": 5, "epochs": 1})
    fit = fit_committee(molecule_labels(12), [], SMALL, small, seed=0)
    assert any(note.startswith("Around H, of ") for note in fit.notes)
