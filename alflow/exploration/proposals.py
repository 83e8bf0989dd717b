"""Starting structures around one geometry, without any potential: thermal displacements in a model Hessian."""

from __future__ import annotations

from typing import Final

import numpy as np

from alflow.domain import Structure
from alflow.domain.structure import FloatArray
from alflow.errors import StructureError
from alflow.exploration.contacts import contact_closeness
from alflow.exploration.model_hessian import model_hessian
from alflow.exploration.noise import Stream, generator
from alflow.units import BOLTZMANN_EV_K

__all__ = ["rattle"]

_LARGEST_MODE_DISPLACEMENT_ANG: Final = 0.2
"""One standard deviation of a mode moves no atom farther than this: beyond, a straight line along a torsion would
stretch the bonds it should only turn."""

_DRAWS_PER_FRAME: Final = 200


def rattle(
    structure: Structure,
    n: int,
    seed: int,
    temperature: float = 500.0,
    amplitude: float = 0.05,
    contact_factor: float = 0.6,
) -> list[Structure]:
    """Propose structures around a geometry, displaced about as heat would displace them.

    A molecule is displaced along the eigenvectors eₖ of a model Hessian (``model_hessian``), overall motion
    excluded, by Σ qₖ eₖ with qₖ normal of variance k_B T/λₖ: the classical harmonic distribution, in which bonds move
    little and torsions much. Soft modes are capped so that one standard deviation moves no atom by more than 0.2 Å.
    Periodic structures get independent normal displacements of every coordinate. Draws with too short a contact are
    thrown away and drawn again.

    Args:
        structure: The geometry to start from.
        n: Number of structures.
        seed: The user's seed; the same seed gives the same structures, and a larger n only appends to them.
        temperature: T of the displacements of a molecule, K.
        amplitude: Standard deviation of each coordinate of a periodic structure, Å.
        contact_factor: Shortest allowed distance as a multiple of the sum of two covalent radii.

    Returns:
        The structures, n of them. A lone atom cannot be displaced and is returned as it is.

    Raises:
        ValueError: A negative temperature, amplitude or n.
        StructureError: Nearly every draw has a short contact: the geometry itself is squeezed or the temperature is
            too high for harmonic displacements.

    Examples:
        >>> hydrogen = Structure.of("HH", [[0, 0, 0], [0.74, 0, 0]])
        >>> [len(s) for s in rattle(hydrogen, n=2, seed=0)]
        [2, 2]
    """
    if n < 0 or temperature < 0 or amplitude < 0:
        raise ValueError(f"n, temperature and amplitude are at least 0; found {n}, {temperature} and {amplitude}.")
    modes = _periodic_modes(structure, amplitude) if structure.is_periodic else _molecular_modes(structure, temperature)
    kept: list[Structure] = []
    for frame in range(n):
        draws = generator(Stream.RATTLE, seed, frame)
        for _ in range(_DRAWS_PER_FRAME):
            displacement = (modes @ draws.standard_normal(modes.shape[1])).reshape(-1, 3)
            proposal = structure.with_positions(structure.positions + displacement)
            if contact_closeness(proposal, contact_factor) < 1.0:
                kept.append(proposal)
                break
        else:
            raise StructureError(
                f"No displacement of {structure.formula} without atoms closer than {contact_factor} times the sum of "
                f"their covalent radii was found in {_DRAWS_PER_FRAME} draws; check the geometry, or lower the "
                f"temperature ({temperature} K) or amplitude ({amplitude} Å)."
            )
    return kept


def _periodic_modes(structure: Structure, amplitude: float) -> FloatArray:
    """Independent coordinates, all with the same standard deviation."""
    return amplitude * np.eye(3 * len(structure))


def _molecular_modes(structure: Structure, temperature: float) -> FloatArray:
    """Normal modes, each scaled to one thermal standard deviation, shape (coordinate, mode)."""
    # An orthonormal basis of all internal motions: no soft mode can then be mistaken for a rotation.
    internal = _internal_motion(structure)
    curvatures, coefficients = np.linalg.eigh(internal.T @ model_hessian(structure) @ internal)
    vectors = internal @ coefficients
    reach = np.linalg.norm(vectors.reshape(len(structure), 3, vectors.shape[1]), axis=1).max(axis=0, initial=0.0)
    cap = _LARGEST_MODE_DISPLACEMENT_ANG / np.maximum(reach, 1e-12)
    thermal = np.sqrt(BOLTZMANN_EV_K * temperature / np.maximum(curvatures, 1e-12))
    return np.asarray(vectors * np.minimum(thermal, cap), dtype=np.float64)


def _internal_motion(structure: Structure) -> FloatArray:
    """Orthonormal basis of all displacements that are neither translation nor rotation, shape (coordinate, mode)."""
    centered = structure.positions - structure.positions.mean(axis=0)
    axes = np.eye(3)
    translations = np.tile(axes, (len(structure), 1))
    rotations = np.stack([np.cross(axis, centered).ravel() for axis in axes], axis=1)
    basis, sizes, _ = np.linalg.svd(np.concatenate([translations, rotations], axis=1))
    n_overall = int((sizes > 1e-6 * sizes[0]).sum())
    return np.asarray(basis[:, n_overall:], dtype=np.float64)
