"""Which of a committee's elements each atom is."""

from __future__ import annotations

import torch

from alflow.domain.elements import SYMBOLS
from alflow.errors import InputError

__all__ = ["species_of"]


def species_of(numbers: torch.Tensor, elements: tuple[int, ...]) -> torch.Tensor:
    """Index of each atom's element among the committee's, −1 where there is no atom.

    Args:
        numbers: Atomic numbers, 0 where there is no atom.
        elements: The atomic numbers the committee was trained on.

    Raises:
        InputError: An element that is not among them.
    """
    table = torch.full((len(SYMBOLS),), -2, dtype=torch.int64, device=numbers.device)
    table[0] = -1
    table[list(elements)] = torch.arange(len(elements), device=numbers.device)
    species = table[numbers]
    if bool((species == -2).any()):
        unknown = sorted(set(numbers[species == -2].tolist()))
        names = ", ".join(SYMBOLS[number] for number in unknown)
        known = ", ".join(SYMBOLS[number] for number in elements)
        raise InputError(
            f"This committee was trained on {known}; found {names}. Add labels that contain {names} and train again."
        )
    return species
