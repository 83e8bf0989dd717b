"""Energies and forces that others have published."""

from __future__ import annotations

import numpy as np
import pytest

from alflow.domain import Structure
from alflow.reference import PyscfConfig, PyscfReference, make_reference
from alflow.units import ANG_PER_BOHR, EV_PER_HARTREE

from .differences import evaluation

EV_PER_KCAL_MOL = 0.0433641

ETHANOL_ANG = [
    [0.06783209, 0.46966327, 0.21332665],
    [-1.26611318, 0.03810736, -0.30567321],
    [1.08731193, -0.46663204, 0.14131699],
    [0.38190809, 1.45834623, -0.25199645],
    [0.14230676, 0.75476245, 1.224974],
    [-1.65106512, -0.81816289, 0.16759261],
    [-2.01688218, 0.83683063, -0.16802527],
    [-1.1089758, -0.13480368, -1.34583359],
    [1.27124024, -0.74209074, -0.76947799],
]
ETHANOL_KCAL_MOL = -97082.38717602966
ETHANOL_KCAL_MOL_ANG = [
    [23.3994735, 29.12579384, -24.96433868],
    [5.72378743, 43.10380884, 9.00241543],
    [19.93708356, -26.56135741, 0.21825985],
    [-6.20294096, -8.48443812, -8.91166098],
    [-17.70995748, 9.30671964, 52.87296549],
    [-13.08813101, -43.29226545, 20.92981736],
    [-1.63109922, 4.1138065, -4.05842154],
    [-6.62222831, -9.26866308, -37.08654019],
    [-3.80598751, 1.95659524, -8.00249792],
]


def test_the_hartree_fock_energy_of_water_is_the_published_one() -> None:
    # Geometry (Bohr) and energy of the Crawford group's programming project 3, RHF/STO-3G.
    bohr = [[0, -0.143225816552, 0], [1.638036840407, 1.136548822547, 0], [-1.638036840407, 1.136548822547, 0]]
    water = Structure.of("OHH", np.array(bohr) * ANG_PER_BOHR)
    reference = PyscfReference(functional="hf", basis="sto-3g", density_fitting=False)
    # Converged to 1e-9 Ha, 3e-8 eV.
    assert evaluation(reference, water).energy == pytest.approx(-74.942079928192 * EV_PER_HARTREE, abs=1e-7)


def hydride(symbol: str, bond_bohr: float, directions: list[tuple[float, float, float]]) -> Structure:
    """An atom with hydrogens at one distance."""
    positions = [np.zeros(3), *(bond_bohr * np.array(d) / np.linalg.norm(d) for d in directions)]
    return Structure.of([symbol, *"H" * len(directions)], np.array(positions) * ANG_PER_BOHR)


def around_axis(count: int, angle_degrees: float) -> list[tuple[float, float, float]]:
    """Directions that all enclose one angle with each other, evenly around an axis."""
    sine = np.sin(np.radians(angle_degrees) / 2) / np.sin(np.pi / count)
    turns = 2 * np.pi * np.arange(count) / count
    return [(sine * np.cos(t), sine * np.sin(t), np.sqrt(1 - sine**2)) for t in turns]


TETRAHEDRON: list[tuple[float, float, float]] = [(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)]


@pytest.mark.parametrize(
    ("structure", "energies"),
    [
        pytest.param(hydride("C", 2.050, TETRAHEDRON), (-39.727, -40.140, -40.195, -40.202), id="CH4"),
        pytest.param(hydride("N", 1.913, around_axis(3, 106.7)), (-55.454, -56.102, -56.184, -56.195), id="NH3"),
        pytest.param(hydride("O", 1.809, around_axis(2, 104.52)), (-74.963, -75.907, -76.011, -76.023), id="H2O"),
        pytest.param(hydride("F", 1.733, [(0, 0, 1)]), (-98.571, -99.887, -100.003, -100.011), id="HF"),
    ],
)
def test_hartree_fock_energies_of_hydrides_are_the_published_ones(
    structure: Structure, energies: tuple[float, ...]
) -> None:
    """Szabo and Ostlund, Modern Quantum Chemistry (1989), table 3.13, Hartree with three decimals, Cartesian d."""
    for basis, published in zip(("sto-3g", "4-31g", "6-31g*", "6-31g**"), energies, strict=True):
        reference = PyscfReference(functional="hf", basis=basis, cartesian=True, density_fitting=False)
        found = evaluation(reference, structure).energy / EV_PER_HARTREE
        assert found == pytest.approx(published, abs=6e-4), basis  # half of the last digit


@pytest.mark.slow
def test_energy_and_forces_of_ethanol_are_those_of_revised_md17() -> None:
    """Frame 0 of test split 1 (Christensen and von Lilienfeld, Mach. Learn.: Sci. Technol. 1, 045018 (2020), CC0).

    PBE/def2-SVP by ORCA with a fitted Coulomb energy, as ours has it.
    """
    label = evaluation(make_reference(PyscfConfig()), Structure.of("CCOHHHHHH", ETHANOL_ANG))
    assert label.energy == pytest.approx(ETHANOL_KCAL_MOL * EV_PER_KCAL_MOL, abs=2e-3)
    difference = label.forces - np.array(ETHANOL_KCAL_MOL_ANG) * EV_PER_KCAL_MOL
    assert np.abs(difference).max() < 3e-3  # the noise of a grid of level 3 is 0.002 eV/Å
