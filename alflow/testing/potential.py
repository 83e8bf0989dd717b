"""The contract of a learned potential, as checks that raise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from alflow.domain import Structure
from alflow.tensors import Batch, Potential, Prediction, to_batch

__all__ = ["check_potential"]

_STEP_ANG = 1e-4
_STRAIN = 1e-5


def check_potential(
    potential: Potential, structures: Sequence[Structure], *, seed: int = 0, extensive: bool = True
) -> None:
    """Check that a potential is one: invariant, consistent, and the gradient of itself.

    Checked in the potential's own floating-point type: shapes; energies unchanged and forces turned by a rotation;
    both unchanged by a translation; atoms may be reordered; a structure in a batch is the structure alone, so padding
    changes nothing; no net force; two copies far apart have twice the energy (molecules); forces are −∂E/∂r and stress
    is ∂E/∂ε / V by central differences (float64 only: float32 energies have too few digits).

    Args:
        potential: The potential under test; one float64 instance gives the strictest check.
        structures: What to test on; at least one, best of different sizes.
        seed: Seed of the random rotation, order and choice of coordinates.
        extensive: Whether energies of far fragments must add up; False for a potential with a total charge or a
            long-range term.

    Raises:
        AssertionError: A property is violated; the message names it and gives the largest deviation.
    """
    rng = np.random.default_rng(seed)
    alone = [_predict(potential, [structure]) for structure in structures]
    for structure, prediction in zip(structures, alone, strict=True):
        _check_shapes(potential, structure, prediction)
        _check_invariance(potential, structure, prediction, rng)
        if extensive and not structure.is_periodic:
            _check_extensivity(potential, structure, prediction)
        if potential.dtype == torch.float64:
            _check_forces(potential, structure, prediction, rng)
            if structure.is_periodic:
                _check_stress(potential, structure, prediction)
    together = _predict(potential, structures)
    for row, (structure, prediction) in enumerate(zip(structures, alone, strict=True)):
        n_atoms = len(structure)
        where = f"{structure.formula} in a batch of {len(structures)} and alone"
        _same(potential, together.energies[:, row], prediction.energies[:, 0], f"energies of {where}")
        _same(potential, together.forces[:, row, :n_atoms], prediction.forces[:, 0], f"forces of {where}")
        padding = together.forces[:, row, n_atoms:]
        if padding.numel() and float(padding.abs().max()) != 0.0:
            raise AssertionError(
                f"Forces where there is no atom are zero; found {float(padding.abs().max()):.3g} eV/Å."
            )


def _predict(potential: Potential, structures: Sequence[Structure]) -> Prediction:
    return potential.predict(
        to_batch(structures, potential.dtype), stress=any(structure.is_periodic for structure in structures)
    )


def _same(potential: Potential, found: torch.Tensor, expected: torch.Tensor, what: str) -> None:
    """Equal up to rounding: 1e-9 in float64, 1e-3 in float32, relative to the largest number (at least 1)."""
    tolerance = 1e-9 if potential.dtype == torch.float64 else 1e-3
    scale = max(1.0, float(expected.abs().max()))
    deviation = float((found - expected).abs().max())
    if not deviation <= tolerance * scale:
        raise AssertionError(f"The {what} must agree; they differ by {deviation:.3g} (largest value {scale:.3g}).")


def _check_shapes(potential: Potential, structure: Structure, prediction: Prediction) -> None:
    expected = (potential.n_members, 1, len(structure), 3)
    if tuple(prediction.forces.shape) != expected or tuple(prediction.energies.shape) != expected[:2]:
        raise AssertionError(
            f"Forces of {structure.formula} have shape {expected} and energies {expected[:2]}; "
            f"found {tuple(prediction.forces.shape)} and {tuple(prediction.energies.shape)}."
        )
    if not bool(prediction.energies.isfinite().all() and prediction.forces.isfinite().all()):
        raise AssertionError(f"Energy and forces of {structure.formula} are finite numbers; found others.")
    net = prediction.forces.sum(dim=2)
    _same(potential, net, torch.zeros_like(net), f"net force on {structure.formula} and zero")


def _check_invariance(
    potential: Potential, structure: Structure, prediction: Prediction, rng: np.random.Generator
) -> None:
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    moved = Structure(
        structure.numbers,
        structure.positions @ turn.T + rng.normal(size=3),
        structure.cell @ turn.T,
        structure.pbc,
        structure.charge,
        structure.multiplicity,
    )
    found = _predict(potential, [moved])
    matrix = torch.as_tensor(turn, dtype=prediction.forces.dtype)
    _same(potential, found.energies, prediction.energies, f"energies of {structure.formula} before and after moving")
    _same(potential, found.forces, prediction.forces @ matrix.T, f"forces on {structure.formula} turned with it")
    order = rng.permutation(len(structure))
    shuffled = Structure(
        structure.numbers[order],
        structure.positions[order],
        structure.cell,
        structure.pbc,
        structure.charge,
        structure.multiplicity,
    )
    found = _predict(potential, [shuffled])
    _same(potential, found.energies, prediction.energies, f"energies of {structure.formula} in another order")
    _same(potential, found.forces, prediction.forces[:, :, order], f"forces on {structure.formula} in another order")


def _check_extensivity(potential: Potential, structure: Structure, prediction: Prediction) -> None:
    away = structure.positions + np.array([1000.0, 0.0, 0.0])
    both = Structure(
        np.concatenate([structure.numbers] * 2),
        np.concatenate([structure.positions, away]),
        structure.cell,
        structure.pbc,
    )
    found = _predict(potential, [both])
    _same(potential, found.energies, 2 * prediction.energies, f"energies of two {structure.formula} far apart and 2 E")


def _check_forces(potential: Potential, structure: Structure, prediction: Prediction, rng: np.random.Generator) -> None:
    batch = to_batch([structure] * 4, torch.float64)
    scale = max(1.0, float(prediction.forces.abs().max()))
    for _ in range(6):
        atom, axis = int(rng.integers(len(structure))), int(rng.integers(3))
        positions = batch.positions.clone()
        positions[:, atom, axis] += _STEP_ANG * torch.tensor([-2.0, -1.0, 1.0, 2.0], dtype=torch.float64)
        e = potential.predict(batch.with_positions(positions)).energies
        slope = (e[:, 0] - 8 * e[:, 1] + 8 * e[:, 2] - e[:, 3]) / (12 * _STEP_ANG)
        deviation = float((slope + prediction.forces[:, 0, atom, axis]).abs().max())
        # Energies of thousands of eV carry a rounding error of 1e-12 eV; divided by the step this is 1e-7 eV/Å.
        tolerance = 1e-6 * scale + 1e-11 * float(e.abs().max())
        if not deviation <= tolerance:
            raise AssertionError(
                f"The force on atom {atom} of {structure.formula} must be the negative slope of the energy; "
                f"it differs from central differences by {deviation:.3g} eV/Å (allowed {tolerance:.1g})."
            )


def _check_stress(potential: Potential, structure: Structure, prediction: Prediction) -> None:
    if prediction.stress is None:
        raise AssertionError("predict(batch, stress=True) must return a stress; found None.")
    volume = abs(float(np.linalg.det(structure.cell)))
    scale = max(1e-2, float(prediction.stress.abs().max()))
    for i in range(3):
        for j in range(i, 3):
            strain = np.zeros((3, 3))
            strain[i, j] += 0.5
            strain[j, i] += 0.5
            ends = [_strained(structure, np.eye(3) + sign * _STRAIN * strain) for sign in (-1.0, 1.0)]
            e = potential.predict(_stack(ends)).energies
            slope = (e[:, 1] - e[:, 0]) / (2 * _STRAIN * volume)
            deviation = float((slope - prediction.stress[:, 0, i, j]).abs().max())
            tolerance = 1e-5 * scale + 1e-9 * float(e.abs().max()) / volume
            if not deviation <= tolerance:
                raise AssertionError(
                    f"Stress component ({i}, {j}) of {structure.formula} must be the strain derivative of the energy "
                    f"per volume; it differs by {deviation:.3g} eV/Å³ (allowed {tolerance:.1g})."
                )


def _strained(structure: Structure, matrix: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> Structure:
    return Structure(structure.numbers, structure.positions @ matrix.T, structure.cell @ matrix.T, structure.pbc)


def _stack(structures: Sequence[Structure]) -> Batch:
    return to_batch(structures, torch.float64)
