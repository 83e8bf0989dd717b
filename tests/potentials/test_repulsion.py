from __future__ import annotations

import numpy as np
import torch
from ase.units import Bohr, Hartree

from alflow.potentials.repulsion import repulsion


def _energy(first: int, second: int, r: float) -> float:
    vectors = torch.tensor([[[r, 0.0, 0.0]]], dtype=torch.float64)
    energy, _ = repulsion(vectors, torch.tensor([[True]]), torch.tensor([first]), torch.tensor([[second]]))
    return 2.0 * float(energy[0])


def test_the_nuclei_repel_like_bare_charges_when_they_meet() -> None:
    r = 1e-4
    # Screening takes about 3.2 r/a ≈ 0.3 % off at this distance.
    assert np.isclose(_energy(6, 8, r), Hartree * Bohr * 48.0 / r, rtol=1e-2)


def test_bonded_atoms_do_not_feel_it() -> None:
    assert _energy(8, 1, 0.9572) == 0.0
    assert _energy(6, 1, 1.09) == 0.0
    assert _energy(1, 1, 0.74) == 0.0


def test_its_gradient_is_autograd() -> None:
    vectors = (
        0.3 * torch.randn((5, 4, 3), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ).requires_grad_()
    mask = torch.ones((5, 4), dtype=torch.bool)
    numbers, others = torch.tensor([1, 6, 8, 1, 7]), torch.tensor([[1, 6, 8, 18]]).expand(5, 4)
    energy, gradient = repulsion(vectors, mask, numbers, others)
    (truth,) = torch.autograd.grad(energy.sum(), vectors)
    torch.testing.assert_close(gradient, truth, rtol=1e-11, atol=1e-11)
