"""Energies and forces that must not move when PySCF, libxc or a dispersion library is upgraded.

The version of PySCF is no part of a level of theory (docs/decisions/0008). So if an upgrade changes one of these
numbers, labels of before and after would be mixed under one id: find out what has changed, and raise ``PROCEDURE`` in
``alflow/reference/pyscf.py`` (or ``periodic.py``) together with the numbers here.
"""

from __future__ import annotations

import numpy as np
import pytest

from alflow.domain import Reference, Structure
from alflow.reference import PyscfPeriodicReference, PyscfReference

from .differences import evaluation

WATER = Structure.of("OHH", [[0.0, 0.0, 0.0], [0.96, 0.05, 0.0], [-0.24, 0.99, 0.1]])
CATION = Structure.of("OHH", WATER.positions, charge=1, multiplicity=2)
HYDROGEN = Structure.of("HH", [[0.0, 0.0, 0.0], [0.1, 0.2, 0.8]])
IODIDE = Structure.of("IH", [[0.0, 0.0, 0.0], [0.2, 0.3, 1.6]])
SILICON = Structure.of(
    "SiSi",
    [[0.0, 0.0, 0.0], [1.4, 1.3, 1.36]],
    [[0.0, 2.715, 2.715], [2.715, 0.0, 2.715], [2.715, 2.715, 0.0]],
    [True] * 3,
)
TIGHT = {"energy_tolerance_ha": 1e-11, "gradient_tolerance_ha": 1e-7}


def molecular(functional: str, **settings: object) -> PyscfReference:
    """A level that is converged well, so that the way to the field does not matter."""
    return PyscfReference(functional, **{"properties": (), **TIGHT, **settings})  # type: ignore[arg-type]


CASES = {
    "hf": (molecular("hf", basis="cc-pvdz", density_fitting=False), WATER),
    "pbe": (molecular("pbe"), WATER),
    "pbe-d3bj": (molecular("pbe", basis="6-31g*", dispersion="d3bj", grid_level=2), WATER),
    "b3lyp-d4": (molecular("b3lyp", basis="6-31g*", dispersion="d4", grid_level=2), CATION),
    "wb97x-d3bj": (molecular("wb97x-d3bj", grid_level=2), CATION),
    "r2scan": (molecular("r2scan", grid_level=2), CATION),
    "wb97m-v": (molecular("wb97m-v", basis="sto-3g", grid_level=1), HYDROGEN),
    "solvent": (molecular("pbe", basis="6-31g*", solvent_dielectric=78.4, grid_level=2), WATER),
    "core potential": (molecular("pbe", grid_level=2), IODIDE),
    "cell": (PyscfPeriodicReference(route="fft", ke_cutoff_ha=30.0, precision=1e-6, stress=False, **TIGHT), SILICON),
}
PINNED = {
    "hf": (-2068.64061003, 5.16935353),
    "pbe": (-2075.42806108, 3.11816979),
    "pbe-d3bj": (-2076.74078934, 3.03805084),
    "b3lyp-d4": (-2066.78814221, 3.52138765),
    "wb97x-d3bj": (-2065.76479469, 3.40940472),
    "r2scan": (-2064.47166521, 3.36442192),
    "wb97m-v": (-30.97383864, 5.29877259),
    "solvent": (-2077.01111072, 2.98186241),
    "core potential": (-8116.58956632, 0.18985870),
    "cell": (-192.66766278, 3.81639819),
}
"""Energy, eV, and norm of all forces, eV/Å."""


@pytest.mark.parametrize("name", CASES)
def test_an_upgrade_that_moves_a_label_does_not_pass_unnoticed(name: str) -> None:
    reference: Reference
    reference, structure = CASES[name]
    found = evaluation(reference, structure)
    told = found.energy, float(np.linalg.norm(found.forces))
    print(f'"{name}": ({told[0]:.8f}, {told[1]:.8f}),')
    # Threads and processors move the last digits: 1e-9 eV.
    assert told == pytest.approx(PINNED[name], rel=0, abs=1e-6)
