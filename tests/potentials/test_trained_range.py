"""What a trained committee knows about its own limits, and committees on classical symmetry functions."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from alflow.domain.ase import as_calculator, to_atoms
from alflow.errors import InputError
from alflow.potentials import Committee, load_committee
from alflow.tensors import to_batch
from alflow.training import fit_committee, force_errors
from tests.potentials.committees import ETHANOL, QUICK, SMALL, ethanol_committee, molecule_labels, rattled


@cache
def _classical() -> Committee:
    model = SMALL.model_copy(update={"symmetry_functions": "classical"})
    return fit_committee(molecule_labels(12), [], model, QUICK, seed=1).committee


def test_training_structures_lie_inside_the_range_and_distorted_ones_outside() -> None:
    committee = ethanol_committee()
    known = to_batch([label.structure for label in molecule_labels(12)])
    # The range was taken in single precision.
    assert float(committee.extrapolation(known).frames.max()) < 1e-5
    distorted = to_batch(rattled(ETHANOL, 5, 0.3, seed=3))
    assert float(committee.extrapolation(distorted).frames.min()) > 0.5


def test_an_evaluation_says_how_far_it_extrapolates() -> None:
    stretched = rattled(ETHANOL, 1, 0.3, seed=3)[0]
    found = ethanol_committee().evaluate(stretched).diagnostics["extrapolation"]
    assert found == pytest.approx(float(ethanol_committee().extrapolation(to_batch([stretched])).frames[0]))
    atoms = to_atoms(stretched)
    atoms.calc = as_calculator(ethanol_committee())
    atoms.get_potential_energy()
    assert atoms.calc.results["extrapolation"] == pytest.approx(found)


def test_the_range_survives_the_disk_and_an_old_file_has_none(tmp_path: Path) -> None:
    path = tmp_path / "committee.safetensors"
    ethanol_committee().save(path)
    kept = load_committee(path).trained_range
    ours = ethanol_committee().trained_range
    assert kept is not None
    assert ours is not None
    assert torch.equal(kept.low, ours.low)
    old = replace(ethanol_committee(), trained_range=None)
    assert "extrapolation" not in old.evaluate(ETHANOL).diagnostics
    with pytest.raises(InputError, match="train it again"):
        old.extrapolation(to_batch([ETHANOL]))


def test_a_committee_learns_on_classical_symmetry_functions() -> None:
    held_out = molecule_labels(8, seed=5)
    typical = float(np.mean([np.abs(label.evaluation.forces).mean() for label in held_out]))
    # Twelve labels and fewer, coarser functions: a third of the forces is what it takes to call it learning.
    assert float(force_errors(_classical(), held_out).mean_absolute.mean()) < 0.35 * typical


def test_forces_on_classical_symmetry_functions_are_the_gradient_of_the_energy(tmp_path: Path) -> None:
    path = tmp_path / "classical.safetensors"
    _classical().save(path)
    committee = load_committee(path)
    assert committee.model.symmetry_functions == "classical"
    structure, step = rattled(ETHANOL, 1, 0.05, seed=2)[0], 1e-4
    forces = committee.predict(to_batch([structure])).forces[:, 0]
    for atom, axis in ((0, 0), (2, 1), (8, 2)):
        moved = []
        for sign in (1.0, -1.0):
            positions = np.array(structure.positions)
            positions[atom, axis] += sign * step
            moved.append(committee.predict(to_batch([structure.with_positions(positions)])).energies[:, 0])
        # Central differences: error about h² times the third derivative, 1e-6 eV/Å here.
        torch.testing.assert_close(-(moved[0] - moved[1]) / (2 * step), forces[:, atom, axis], rtol=0, atol=1e-5)


def test_components_are_the_same_from_the_compiled_kernels_and_from_torch() -> None:
    from_kernels = ethanol_committee()
    from_torch = replace(from_kernels)
    from_torch.__dict__["compiled"] = None
    for structure in rattled(ETHANOL, 2, 0.05, seed=4):
        ours, theirs = from_kernels.descriptors(structure), from_torch.descriptors(structure)
        # Sums over neighbors in another order.
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-11)
