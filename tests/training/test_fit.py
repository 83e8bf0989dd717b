from __future__ import annotations

import numpy as np
import pytest
import torch

from alflow.domain import Evaluation, Label, Structure
from alflow.domain.learning_config import ModelConfig, TrainingConfig
from alflow.errors import InputError
from alflow.potentials import Committee
from alflow.tensors import to_batch
from alflow.training import fit_committee, force_errors
from tests.potentials.committees import (
    ETHANOL,
    QUICK,
    SMALL,
    WATER,
    argon_committee,
    crystal_labels,
    molecule_labels,
    rattled,
)


def _shifted(labels: list[Label], offset: float) -> list[Label]:
    return [Label(x.structure, x.level, Evaluation(x.evaluation.energy + offset, x.evaluation.forces)) for x in labels]


def _force_mae(committee: Committee, labels: list[Label]) -> float:
    return float(force_errors(committee, labels).mean_absolute.mean())


def test_a_committee_learns_a_molecule_from_thirty_labels_with_default_settings() -> None:
    held_out = molecule_labels(20, seed=99)
    fit = fit_committee(molecule_labels(30), held_out, ModelConfig(), TrainingConfig(), seed=0)
    typical = float(np.mean([np.abs(label.evaluation.forces).mean() for label in held_out]))
    assert fit.metrics["finite"] == 1.0
    # Forces of about 1.5 eV/Å, predicted to a few per cent.
    assert fit.metrics["validation_force_mae_ev_ang"] < 0.06 * typical
    assert fit.metrics["validation_energy_mae_ev_atom"] < 0.005
    assert fit.metrics["n_train"] == 30.0


def test_the_mean_of_the_members_is_better_than_a_member() -> None:
    held_out = molecule_labels(20, seed=99)
    committee = fit_committee(molecule_labels(15), [], SMALL, QUICK, seed=0).committee
    forces = committee.predict(to_batch([label.structure for label in held_out])).forces
    truth = torch.tensor(np.stack([label.evaluation.forces for label in held_out]))
    alone = (forces - truth).abs().mean(dim=(1, 2, 3))
    assert float((forces.mean(dim=0) - truth).abs().mean()) < float(alone.mean())


@pytest.mark.parametrize(
    ("n_train", "n_validation", "training"),
    [(1, 0, TrainingConfig()), (2, 1, QUICK), (4, 0, QUICK), (4, 1, QUICK)],
)
def test_a_campaign_can_begin_with_a_handful_of_labels(
    n_train: int, n_validation: int, training: TrainingConfig
) -> None:
    fit = fit_committee(molecule_labels(n_train), molecule_labels(n_validation, seed=5), SMALL, training, seed=0)
    assert fit.metrics["finite"] == 1.0
    assert ("validation_force_mae_ev_ang" in fit.metrics) is (n_validation > 0)
    assert all(np.isfinite(value) for value in fit.metrics.values())


def test_no_labels_is_an_error() -> None:
    with pytest.raises(InputError, match="at least one label"):
        fit_committee([], [], SMALL, QUICK, seed=0)


def test_the_same_seed_gives_the_same_committee_and_another_seed_another() -> None:
    labels = molecule_labels(6)
    first, again, other = (fit_committee(labels, [], SMALL, QUICK, seed=s).committee for s in (3, 3, 4))
    for name, tensor in first.weights.tensors().items():
        assert torch.equal(tensor, again.weights.tensors()[name]), name
    assert not torch.equal(first.weights.hidden[0], other.weights.hidden[0])


def test_a_constant_added_to_all_energies_changes_no_force() -> None:
    labels = molecule_labels(8)
    plain = fit_committee(labels, [], SMALL, QUICK, seed=0).committee
    raised = fit_committee(_shifted(labels, -4000.0), [], SMALL, QUICK, seed=0).committee
    batch = to_batch(rattled(ETHANOL, 5, 0.05, 7))
    a, b = plain.predict(batch), raised.predict(batch)
    # The baseline is fitted in float64, where thousands of eV leave 1e-12 relative; training in float32 amplifies the
    # last digit of its targets over hundreds of steps.
    torch.testing.assert_close(b.forces, a.forces, rtol=0, atol=0.01)
    torch.testing.assert_close(b.energies + 4000.0, a.energies, rtol=0, atol=0.01)


def test_structures_of_different_composition_are_learnt_together() -> None:
    offset = {1: -13.6, 6: -1030.0, 8: -2040.0}
    mixed = []
    for label in molecule_labels(10) + molecule_labels(10, molecule=WATER):
        mixed += _shifted([label], sum(offset[int(n)] for n in label.structure.numbers))
    fit = fit_committee(mixed, [], SMALL, QUICK, seed=0)
    fresh = molecule_labels(10, seed=50, molecule=WATER)
    errors = force_errors(fit.committee, _shifted(fresh, 2 * offset[1] + offset[8]))
    assert float(errors.mean_absolute.mean()) < 0.15
    assert float(np.abs(errors.energy).mean()) < 0.1


def test_a_warm_start_keeps_the_view_and_forgets_nothing() -> None:
    old, new = molecule_labels(20), molecule_labels(8, seed=11, amplitude=0.1)
    first = fit_committee(old, [], SMALL, QUICK, seed=0)
    second = fit_committee([*old, *new], [], SMALL, QUICK, seed=1, start=first.committee)
    assert second.metrics["warm_start"] == 1.0
    assert second.metrics["steps"] < first.metrics["steps"]
    assert torch.equal(second.committee.weights.projection, first.committee.weights.projection)
    assert _force_mae(second.committee, new) < 0.7 * _force_mae(first.committee, new)
    assert _force_mae(second.committee, old) < 1.5 * _force_mae(first.committee, old)


def test_a_view_fixed_by_too_few_labels_is_fixed_anew() -> None:
    first = fit_committee(molecule_labels(4), [], SMALL, QUICK, seed=0).committee
    second = fit_committee(molecule_labels(12), [], SMALL, QUICK, seed=0, start=first)
    assert second.metrics["warm_start"] == 0.0
    assert second.committee.view_labels == 12


def test_a_new_element_starts_cold() -> None:
    first = fit_committee(molecule_labels(6, molecule=WATER), [], SMALL, QUICK, seed=0).committee
    second = fit_committee(molecule_labels(6), [], SMALL, QUICK, seed=0, start=first)
    assert second.metrics["warm_start"] == 0.0
    assert second.committee.elements == (1, 6, 8)


def test_members_that_see_the_same_labels_equally_differ_less() -> None:
    batch = to_batch(rattled(ETHANOL, 10, 0.06, 30))
    spread = []
    for bootstrap in (0.0, 1.0):
        training = QUICK.model_copy(update={"bootstrap": bootstrap})
        committee = fit_committee(molecule_labels(20), [], SMALL, training, seed=0).committee
        spread.append(float(committee.predict(batch).disagreement().mean()))
    assert 0.0 < spread[0] < spread[1]


def test_stress_is_learnt_where_it_is_labelled() -> None:
    label = crystal_labels(14)[13]
    found = argon_committee().evaluate(label.structure)
    assert found.stress is not None
    assert label.evaluation.stress is not None
    scale = np.abs(label.evaluation.stress).max()
    assert np.abs(found.stress - label.evaluation.stress).max() < 0.35 * scale


def test_weights_that_are_not_finite_are_reported() -> None:
    labels = molecule_labels(3)
    label = labels[0]
    squeezed = label.structure.with_positions(label.structure.positions * 1e-120)
    broken = Label(squeezed, label.level, Evaluation(0.0, np.zeros((9, 3))))
    fit = fit_committee([broken, *labels], [], SMALL, QUICK, seed=0)
    assert fit.metrics["finite"] == 0.0


def test_force_errors_measure_the_mean_of_the_members() -> None:
    labels = molecule_labels(3, seed=42)
    committee = fit_committee(molecule_labels(6), [], SMALL, QUICK, seed=0).committee
    errors = force_errors(committee, labels)
    evaluations = [committee.evaluate(label.structure) for label in labels]
    difference = [e.forces - label.evaluation.forces for e, label in zip(evaluations, labels, strict=True)]
    np.testing.assert_allclose(errors.mean_absolute, [np.abs(d).mean() for d in difference], rtol=1e-9)
    np.testing.assert_allclose(errors.max_atom, [np.linalg.norm(d, axis=1).max() for d in difference], rtol=1e-9)
    np.testing.assert_allclose(
        errors.disagreement, [e.diagnostics["disagreement_ev_ang"] for e in evaluations], rtol=1e-9
    )
    assert force_errors(committee, []).mean_absolute.shape == (0,)


def test_labels_of_one_structure_only_give_a_committee_that_does_not_fail() -> None:
    atom = Structure.of("He", [[0.0, 0.0, 0.0]])
    label = Label(atom, molecule_labels(1)[0].level, Evaluation(-78.9, np.zeros((1, 3))))
    fit = fit_committee([label], [], SMALL, TrainingConfig(), seed=0)
    assert fit.committee.evaluate(atom).energy == pytest.approx(-78.9, abs=1e-6)
