"""How far a committee is from labels, and how far its members are from each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alflow.domain import Label
from alflow.domain.structure import FloatArray
from alflow.tensors import Potential, to_batch

__all__ = ["ForceErrors", "error_summary", "force_errors"]

_ATOMS_PER_CALL = 1024


@dataclass(frozen=True, eq=False)
class ForceErrors:
    """Errors of the committee's mean on each label, and the disagreement it reported.

    Attributes:
        mean_absolute: Mean absolute error of a force component, eV/Å, shape (label,).
        max_atom: Largest |F − F_label| over the atoms, eV/Å, shape (label,).
        disagreement: Disagreement of the frame, eV/Å, shape (label,).
        energy: Energy of the committee minus the label's, eV, shape (label,).
        squared: Mean squared error of a force component, eV²/Å², shape (label,).
        n_atoms: Atoms of each label, shape (label,).
    """

    mean_absolute: FloatArray
    max_atom: FloatArray
    disagreement: FloatArray
    energy: FloatArray
    squared: FloatArray
    n_atoms: FloatArray


def force_errors(committee: Potential, labels: Sequence[Label]) -> ForceErrors:
    """Evaluate a committee on labels.

    Args:
        committee: The potential under test.
        labels: What it should have said; may be empty.

    Raises:
        InputError: A label holds an element the committee was not trained on.
    """
    rows: list[tuple[float, ...]] = []
    start = 0
    while start < len(labels):
        stop = start + max(1, _ATOMS_PER_CALL // max(1, len(labels[start].structure)))
        piece = labels[start:stop]
        start = stop
        prediction = committee.predict(to_batch([label.structure for label in piece], committee.dtype))
        forces = prediction.mean_forces.double().cpu().numpy()
        energies = prediction.energy.double().cpu().numpy()
        disagreement = prediction.disagreement().double().cpu().numpy()
        for s, label in enumerate(piece):
            error = forces[s, : len(label.structure)] - label.evaluation.forces
            rows.append(
                (
                    float(np.abs(error).mean()),
                    float(np.linalg.norm(error, axis=1).max()),
                    float(disagreement[s]),
                    float(energies[s] - label.evaluation.energy),
                    float((error**2).mean()),
                    float(len(label.structure)),
                )
            )
    return ForceErrors(*np.array(rows, dtype=float).reshape(-1, 6).T)


def error_summary(errors: ForceErrors, name: str) -> dict[str, float]:
    """Reduce errors to a few numbers with the unit in the key; nothing for no labels.

    Args:
        errors: Errors of a set of labels.
        name: What the set is called; the keys begin with it.
    """
    if len(errors.energy) == 0:
        return {}
    per_atom = errors.energy / errors.n_atoms
    weights = errors.n_atoms / errors.n_atoms.sum()
    return {
        f"{name}_force_mae_ev_ang": float((errors.mean_absolute * weights).sum()),
        f"{name}_force_rmse_ev_ang": float(np.sqrt((errors.squared * weights).sum())),
        f"{name}_force_max_ev_ang": float(errors.max_atom.max()),
        f"{name}_energy_mae_ev_atom": float(np.abs(per_atom).mean()),
        f"{name}_energy_rmse_ev_atom": float(np.sqrt((per_atom**2).mean())),
        f"{name}_disagreement_ev_ang": float(errors.disagreement.mean()),
    }
