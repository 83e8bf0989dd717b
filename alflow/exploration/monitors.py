"""What is watched at every step, and where physics ends.

Every criterion is one number per walker that must stay below one limit; NaN is below nothing, so whatever cannot be
compared has crossed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import chdtri

from alflow.domain import Structure
from alflow.domain.elements import COVALENT_RADII_ANG
from alflow.domain.structure import FloatArray
from alflow.exploration.integrators import DynamicsState, kinetic_energy
from alflow.exploration.outcome import Reason
from alflow.exploration.settings import SegmentSettings
from alflow.exploration.walker import n_degrees_of_freedom
from alflow.tensors import Batch
from alflow.units import BOLTZMANN_EV_K

__all__ = ["Contacts", "Reading", "describe", "limits_of", "read", "reason_of", "watch_contacts"]

_TAIL_PROBABILITY: Final = 1e-9
_FAR_ANG2: Final = 1e12
"""Squared distance given to pairs that do not count: finite, so that no comparison ever meets inf · 0."""


class Reading(IntEnum):
    """Row of a reading in the table (reading, walker)."""

    DISAGREEMENT = 0
    CEILING = 1
    ENERGY = 2
    KINETIC = 3
    CLOSENESS = 4
    DETACHMENT = 5


_GUARDS: Final = (
    (Reading.CLOSENESS, Reason.SHORT_CONTACT),
    (Reading.DETACHMENT, Reason.DETACHED_ATOM),
    (Reading.KINETIC, Reason.TEMPERATURE),
    (Reading.ENERGY, Reason.ENERGY),
    (Reading.CEILING, Reason.CEILING),
    (Reading.DISAGREEMENT, Reason.DISAGREEMENT),
)


@dataclass(frozen=True, eq=False)
class Contacts:
    """What is needed to watch distances in a batch, computed once.

    Attributes:
        shortest2: Square of the shortest allowed distance, Å², shape (structure, atom, atom); 0 for no pair.
        far: Large where there is no pair, else 0, Å², shape (structure, atom, atom).
        mask: True where there is an atom, shape (structure, atom).
        cells: Periodic cell vectors, zero rows elsewhere, Å, shape (structure, 3, 3); None when nothing repeats.
        inverse_cells: Their pseudo-inverse, 1/Å, shape (structure, 3, 3).
    """

    shortest2: torch.Tensor
    far: torch.Tensor
    mask: torch.Tensor
    cells: torch.Tensor | None
    inverse_cells: torch.Tensor | None

    def select(self, index: torch.Tensor) -> Contacts:
        """Some of the structures."""
        cells = None if self.cells is None else self.cells[index]
        inverse = None if self.inverse_cells is None else self.inverse_cells[index]
        return Contacts(self.shortest2[index], self.far[index], self.mask[index], cells, inverse)


def watch_contacts(batch: Batch, contact_factor: float) -> Contacts:
    """Prepare to watch the distances of a batch.

    Args:
        batch: The structures, float64.
        contact_factor: Shortest allowed distance as a multiple of the sum of two covalent radii.
    """
    radii = torch.tensor(COVALENT_RADII_ANG, dtype=torch.float64, device=batch.numbers.device)[batch.numbers]
    present = batch.mask
    pairs = present[:, :, None] & present[:, None, :]
    pairs = pairs & ~torch.eye(present.shape[1], dtype=torch.bool, device=present.device)
    shortest = contact_factor * (radii[:, :, None] + radii[:, None, :])
    zero = torch.zeros_like(shortest)
    cells = batch.cells.to(torch.float64) * batch.pbc[:, :, None] if batch.is_periodic else None
    return Contacts(
        shortest2=torch.where(pairs, shortest.square(), zero),
        far=torch.where(pairs, zero, torch.full_like(zero, _FAR_ANG2)),
        mask=present,
        cells=cells,
        inverse_cells=None if cells is None else torch.linalg.pinv(cells),
    )


def squared_distances(positions: torch.Tensor, contacts: Contacts) -> torch.Tensor:
    """Squared distance of every pair, Å², shape (structure, atom, atom); very large where there is no pair.

    Periodic directions use the image that rounding the fractional difference gives, which is the nearest one for all
    distances below half the cell's smallest height: enough for contacts.
    """
    if contacts.cells is None or contacts.inverse_cells is None:
        # Without the matrix product, whose cancellation would lose short distances.
        plain = torch.cdist(positions, positions, compute_mode="donot_use_mm_for_euclid_dist")
        return plain.square() + contacts.far
    difference = positions[:, :, None, :] - positions[:, None, :, :]
    fractional = torch.einsum("sijx,sxc->sijc", difference, contacts.inverse_cells)
    difference = difference - torch.einsum("sijc,scx->sijx", fractional.round(), contacts.cells)
    return difference.square().sum(dim=-1) + contacts.far


def limits_of(structures: list[Structure], energies: FloatArray, settings: SegmentSettings) -> FloatArray:
    """Set the limit of every reading for every walker.

    Args:
        structures: Where the walkers start.
        energies: Mean energy at the start, eV, shape (walker,).
        settings: The settings of the segment.

    Returns:
        Limits, shape (reading, walker); infinite where only a non-finite number crosses.
    """
    limits = np.full((len(Reading), len(structures)), np.inf)
    limits[Reading.DISAGREEMENT] = settings.threshold
    limits[Reading.CEILING] = settings.threshold * settings.ceiling
    limits[Reading.CLOSENESS] = 1.0
    sizes = np.array([len(s) for s in structures])
    limits[Reading.ENERGY] = np.asarray(energies) + settings.energy_rise_per_atom * sizes
    half_kt = 0.5 * BOLTZMANN_EV_K * settings.temperature
    for column, structure in enumerate(structures):
        dof = n_degrees_of_freedom(len(structure), settings.remove_drift)
        if dof > 0:
            rare = float(chdtri(dof, _TAIL_PROBABILITY))
            limits[Reading.KINETIC, column] = settings.temperature_factor * half_kt * rare
        if settings.detachment is not None and len(structure) > 1 and not structure.is_periodic:
            limits[Reading.DETACHMENT, column] = settings.detachment**2
    return limits


def read(state: DynamicsState, contacts: Contacts) -> FloatArray:
    """Take all readings of a step, shape (reading, walker), with one transfer from the device.

    A force that is not finite shows in the kinetic energy of the same step, through the closing half kick.
    """
    with torch.no_grad():
        distances2 = squared_distances(state.positions, contacts)
        disagreement = state.prediction.disagreement().to(torch.float64)
        nearest2 = distances2.amin(dim=2) * contacts.mask
        readings = torch.stack(
            (
                disagreement,
                disagreement,
                state.energies,
                kinetic_energy(state),
                (contacts.shortest2 / distances2).flatten(1).amax(dim=1),
                nearest2.amax(dim=1),
            )
        )
    return np.asarray(readings.cpu().numpy(), dtype=np.float64)


def reason_of(readings: FloatArray, below: npt.NDArray[np.bool_]) -> Reason:
    """Name the first reason why one walker has crossed.

    Args:
        readings: Its readings, shape (reading,).
        below: Which of them are below their limit, shape (reading,).
    """
    if not np.isfinite(readings).all():
        # Two atoms on one point give an infinite closeness: that is a contact, not a broken number.
        others = np.delete(readings, Reading.CLOSENESS)
        if np.isnan(readings[Reading.CLOSENESS]) or not np.isfinite(others).all():
            return Reason.NON_FINITE
    for reading, reason in _GUARDS:
        if not below[reading]:
            return reason
    raise ValueError("This walker has crossed nothing; a reason can be given only for one that has.")


def describe(reason: Reason, readings: FloatArray, limits: FloatArray, n_atoms: int) -> str:
    """Say in a sentence what one walker has crossed, with numbers.

    Args:
        reason: What it was.
        readings: Its readings, shape (reading,).
        limits: Their limits, shape (reading,).
        n_atoms: Its number of atoms.
    """
    if reason is Reason.NON_FINITE:
        names = [r.name.lower() for r in Reading if not np.isfinite(readings[r])]
        return f"Not a finite number: {', '.join(names)}."
    if reason is Reason.SHORT_CONTACT:
        share = 1.0 / np.sqrt(readings[Reading.CLOSENESS])
        return f"Two atoms are at {share:.3f} times their shortest allowed distance."
    if reason is Reason.DETACHED_ATOM:
        far, allowed = np.sqrt(readings[Reading.DETACHMENT]), np.sqrt(limits[Reading.DETACHMENT])
        return f"An atom is {far:.2f} Å from every other, above {allowed:.2f} Å."
    if reason is Reason.TEMPERATURE:
        per_kelvin = 2.0 / (3 * n_atoms * BOLTZMANN_EV_K)
        found, allowed = readings[Reading.KINETIC] * per_kelvin, limits[Reading.KINETIC] * per_kelvin
        return f"Kinetic temperature of {found:.0f} K, above {allowed:.0f} K (3N degrees of freedom)."
    if reason is Reason.ENERGY:
        excess = readings[Reading.ENERGY] - limits[Reading.ENERGY]
        return f"Committee energy {excess / n_atoms:.3f} eV per atom above the limit."
    row = Reading.CEILING if reason is Reason.CEILING else Reading.DISAGREEMENT
    return f"Disagreement of {readings[row]:.3f} eV/Å, at or above {limits[row]:.3f} eV/Å."
