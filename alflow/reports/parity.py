"""A committee against labels: what it should have said, and what it says."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alflow.domain import Evaluation, Label, Structure
from alflow.domain.structure import FloatArray
from alflow.reports.calibration import Verdicts, verdicts
from alflow.selection import ErrorEstimate, estimate_error
from alflow.store import Split
from alflow.tensors import Potential, to_batch

__all__ = ["SPLITS", "Parity", "compare", "drawn", "relative_energies"]

SPLITS: tuple[Split, ...] = ("train", "validation", "audit")
ATOMS_PER_CALL = 1024


@dataclass(frozen=True, eq=False)
class Parity:
    """A committee's energies and forces beside those of labels.

    Attributes:
        structure_ids: The structures.
        parts: Which part of the data set each belongs to.
        n_atoms: Atoms, shape (label,).
        energy: Energy per atom of the label, relative to the lowest of its composition, eV, shape (label,).
        predicted_energy: The committee's on the same scale, eV, shape (label,).
        forces: All force components of the labels, eV/Å, shape (component,).
        predicted_forces: The committee's, eV/Å, shape (component,).
        of_label: Which label each component belongs to, shape (component,).
        mean_error: Mean absolute error of a force component of each label, eV/Å, shape (label,).
        max_error: Largest |F − F_label| over the atoms, eV/Å, shape (label,).
        disagreement: Disagreement of each frame, eV/Å, shape (label,).
    """

    structure_ids: tuple[str, ...]
    parts: tuple[str, ...]
    n_atoms: FloatArray
    energy: FloatArray
    predicted_energy: FloatArray
    forces: FloatArray
    predicted_forces: FloatArray
    of_label: FloatArray
    mean_error: FloatArray
    max_error: FloatArray
    disagreement: FloatArray

    def of(self, part: str) -> FloatArray:
        """Which labels belong to a part, bool, shape (label,)."""
        return np.array([name == part for name in self.parts], dtype=bool)

    def force_error(self, part: str) -> ErrorEstimate | None:
        """Mean over a part's labels of the mean absolute error of a force component, eV/Å; None without labels."""
        errors = self.mean_error[self.of(part)]
        return estimate_error(errors) if len(errors) else None

    def verdicts(self, part: str, target: float | None) -> Verdicts:
        """Disagreement against true error of a part's labels, see :func:`alflow.reports.calibration.verdicts`."""
        chosen = self.of(part)
        return verdicts(self.disagreement[chosen], self.max_error[chosen], self.mean_error[chosen], target)

    def summary(self, part: str) -> dict[str, float]:
        """Errors of a part by name; unit in the key. Empty without labels."""
        chosen = self.of(part)
        if not chosen.any():
            return {}
        energy = self.predicted_energy[chosen] - self.energy[chosen]
        force = (self.predicted_forces - self.forces)[chosen[self.of_label]]
        return {
            "labels": float(chosen.sum()),
            "force_mae_ev_ang": float(self.mean_error[chosen].mean()),
            "force_rmse_ev_ang": float(np.sqrt((force**2).mean())),
            "force_max_ev_ang": float(self.max_error[chosen].max()),
            "energy_mae_ev_atom": float(np.abs(energy).mean()),
            "energy_rmse_ev_atom": float(np.sqrt((energy**2).mean())),
            "energy_offset_ev_atom": float(energy.mean()),
        }


def compare(committee: Potential, labels: Sequence[tuple[Structure, Evaluation]], parts: Sequence[str]) -> Parity:
    """Evaluate a committee on labels, in batches.

    Args:
        committee: The potential.
        labels: Structures with what the reference says about them.
        parts: Which part of the data set each belongs to.

    Raises:
        InputError: A structure holds an element the committee was not trained on.
    """
    energies: list[float] = []
    forces: list[FloatArray] = []
    disagreements: list[float] = []
    start = 0
    while start < len(labels):
        stop = start + max(1, ATOMS_PER_CALL // len(labels[start][0]))
        structures = [structure for structure, _ in labels[start:stop]]
        prediction = committee.predict(to_batch(structures, committee.dtype))
        mean = prediction.mean_forces.double().cpu().numpy()
        forces.extend(mean[s, : len(structure)] for s, structure in enumerate(structures))
        energies.extend(prediction.energy.double().cpu().numpy())
        disagreements.extend(prediction.disagreement().double().cpu().numpy())
        start = stop
    n_atoms = np.array([len(structure) for structure, _ in labels], dtype=float)
    energy = np.array([known.energy for _, known in labels]) / n_atoms
    zero = _lowest(labels)
    errors = [found - known.forces for found, (_, known) in zip(forces, labels, strict=True)]
    return Parity(
        structure_ids=tuple(structure.id for structure, _ in labels),
        parts=tuple(parts),
        n_atoms=n_atoms,
        energy=energy - zero,
        predicted_energy=np.array(energies) / n_atoms - zero,
        forces=_flat([known.forces for _, known in labels]),
        predicted_forces=_flat(forces),
        of_label=np.repeat(np.arange(len(labels)), [3 * len(structure) for structure, _ in labels]),
        mean_error=np.array([np.abs(error).mean() for error in errors]),
        max_error=np.array([np.linalg.norm(error, axis=1).max() for error in errors]),
        disagreement=np.array(disagreements),
    )


def drawn(parts: Sequence[str], most: int, seed: int = 0) -> list[int]:
    """Which labels to look at: all that were not learnt from, and as many of the others, at random, as there is room.

    Args:
        parts: Which part each label belongs to.
        most: How many to look at.
        seed: Seed of the draw.

    Returns:
        Their places, ascending.

    Examples:
        >>> drawn(["audit", "train", "train"], 2) in ([0, 1], [0, 2])
        True
    """
    held_out = [place for place, part in enumerate(parts) if part != "train"]
    others = [place for place, part in enumerate(parts) if part == "train"]
    dice = np.random.default_rng(seed)
    if len(held_out) > most:
        held_out = [int(place) for place in dice.choice(held_out, most, replace=False)]
    room = most - len(held_out)
    if len(others) > room:
        others = [int(place) for place in dice.choice(others, room, replace=False)]
    return sorted([*held_out, *others])


def relative_energies(labels: Sequence[Label]) -> FloatArray:
    """Energy per atom of each label above the lowest of its composition, eV, shape (label,)."""
    rows = [(label.structure, label.evaluation) for label in labels]
    return np.array([known.energy / len(structure) for structure, known in rows]) - _lowest(rows)


def _lowest(labels: Sequence[tuple[Structure, Evaluation]]) -> FloatArray:
    found: dict[str, float] = defaultdict(lambda: np.inf)
    for structure, known in labels:
        found[structure.formula] = min(found[structure.formula], known.energy / len(structure))
    return np.array([found[structure.formula] for structure, _ in labels])


def _flat(arrays: Sequence[FloatArray]) -> FloatArray:
    return np.concatenate([np.asarray(array).reshape(-1) for array in arrays]) if arrays else np.zeros(0)
