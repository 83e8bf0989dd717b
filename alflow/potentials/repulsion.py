"""Screened nuclear repulsion between atoms that overlap, where no reference calculation will ever be trusted.

The universal potential of Ziegler, Biersack and Littmark (The Stopping and Range of Ions in Solids, 1985), switched off
smoothly inside the sum of the covalent radii:

    E = ½ Σ_ij  k Z_i Z_j / r_ij · φ(r_ij / a_ij) · (1 − (r_ij/s_ij)²)³,     s_ij = 0.75 (ρ_i + ρ_j).

It is part of the potential, so the networks learn only what it leaves.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch

from alflow.domain.elements import COVALENT_RADII_ANG
from alflow.domain.structure import FloatArray
from alflow.units import ANG_PER_BOHR, EV_PER_HARTREE

__all__ = ["longest_reach", "repulsion", "repulsion_terms"]

_COULOMB_EV_ANG: Final = EV_PER_HARTREE * ANG_PER_BOHR
_REACH: Final = 0.75
_AMPLITUDES: Final = (0.18175, 0.50986, 0.28022, 0.02817)
_DECAYS: Final = (3.19980, 0.94229, 0.40290, 0.20162)


def repulsion(
    vectors: torch.Tensor, mask: torch.Tensor, numbers: torch.Tensor, neighbor_numbers: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Evaluate the repulsion energy of every atom and its gradient on every pair.

    Args:
        vectors: Vector to each neighbor, Å, shape (atom, neighbor, 3).
        mask: True where there is a neighbor, shape (atom, neighbor).
        numbers: Atomic numbers, shape (atom,).
        neighbor_numbers: Atomic number of each neighbor, shape (atom, neighbor).

    Returns:
        Half of the energy of all pairs of each atom, eV, shape (atom,); and its gradient with respect to each pair
        vector, eV/Å, shape (atom, neighbor, 3).
    """
    radii = torch.tensor(COVALENT_RADII_ANG, dtype=vectors.dtype, device=vectors.device)
    reach = _REACH * (radii[numbers][:, None] + radii[neighbor_numbers])
    squares = vectors.square().sum(dim=-1)
    near = mask & (squares < reach.square())
    safe = torch.where(near[..., None], vectors, torch.ones_like(vectors))
    distances = safe.square().sum(dim=-1).sqrt()
    charge = numbers.to(vectors.dtype)
    other = neighbor_numbers.to(vectors.dtype)
    scale = 0.88534 * ANG_PER_BOHR / (charge[:, None] ** 0.23 + other**0.23)
    screening = torch.zeros_like(distances)
    screening_slope = torch.zeros_like(distances)
    for amplitude, decay in zip(_AMPLITUDES, _DECAYS, strict=True):
        term = amplitude * torch.exp(-decay * distances / scale)
        screening = screening + term
        screening_slope = screening_slope - decay / scale * term
    reduced = distances / reach
    gap = (1.0 - reduced.square()).clamp(min=0.0)
    switch, switch_slope = gap**3, -6.0 * reduced / reach * gap.square()
    strength = 0.5 * _COULOMB_EV_ANG * charge[:, None] * other / distances * near.to(vectors.dtype)
    energy = strength * screening * switch
    slope = strength * (screening_slope * switch + screening * switch_slope) - energy / distances
    return energy.sum(dim=-1), (slope / distances)[..., None] * safe


def longest_reach(elements: tuple[int, ...]) -> float:
    """Distance beyond which no pair of these elements repels, Å."""
    return 2.0 * _REACH * max(COVALENT_RADII_ANG[number] for number in elements)


def repulsion_terms(elements: tuple[int, ...]) -> FloatArray:
    """What the repulsion of each pair of elements is made of, for the compiled path.

    Returns:
        Reach s_ij (Å), screening length a_ij (Å), ½ k Z_i Z_j (eV·Å), and amplitude and decay of each term of φ, shape
        (element, element, 3 + 2 · terms).
    """
    charges = np.array(elements, dtype=np.float64)
    radii = np.array([COVALENT_RADII_ANG[number] for number in elements])
    terms = np.zeros((len(elements), len(elements), 3 + 2 * len(_AMPLITUDES)))
    terms[..., 0] = _REACH * (radii[:, None] + radii)
    terms[..., 1] = 0.88534 * ANG_PER_BOHR / (charges[:, None] ** 0.23 + charges**0.23)
    terms[..., 2] = 0.5 * _COULOMB_EV_ANG * charges[:, None] * charges
    terms[..., 3::2], terms[..., 4::2] = _AMPLITUDES, _DECAYS
    return terms
