"""Forces are the derivative of the energy: for every functional, every dispersion, and what else a level may have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from alflow.domain import Structure
from alflow.domain.structure import FloatArray
from alflow.reference import PyscfReference
from alflow.reference.functionals import FUNCTIONALS
from alflow.reference.scf import Field, _mean_field, _molecule, converge, differentiate
from alflow.units import EV_ANG_PER_HARTREE_BOHR, EV_PER_HARTREE

from .differences import evaluation, slope

WATER = Structure.of("OHH", [[0.0, 0.0, 0.0], [0.96, 0.05, 0.0], [-0.24, 0.99, 0.1]])
CATION = Structure.of("OHH", WATER.positions, charge=1, multiplicity=2)
IMIDOGEN = Structure.of("NH", [[0.02, -0.03, 0.01], [0.37, 0.55, 0.78]], multiplicity=3)
"""Two atoms where the time goes with the square of the grid; stretched by a tenth and askew."""
IODIDE = Structure.of("IH", [[0, 0, 0], [0.2, 0.3, 1.6]])
PAIR = Structure.of(
    "CHHHHAr",
    [
        [0.0, 0.0, 0.0],
        [0.63, 0.63, 0.6],
        [-0.63, -0.6, 0.63],
        [-0.6, 0.63, -0.63],
        [0.63, -0.63, -0.63],
        [0.3, 0.2, 3.4],
    ],
)
"""Methane and argon, as close as they come."""
TIGHT = PyscfReference(
    "pbe", "6-31g", grid_level=1, energy_tolerance_ha=1e-11, gradient_tolerance_ha=1e-7, properties=()
)


SHORT, LONG = 1e-4, 2e-3
"""Ways of the differences, Å: of two energies, where the third derivative leaves 1e-8 eV/Å, and of four, which are for
functionals whose energy is not smooth."""
LESS_SMOOTH = {"wb97": 1e-5, "r2scan0": 5e-6, "pw6b95": 5e-6}
"""What libxc's code leaves with these, eV/Å: 3e-6, 1.6e-6 and 1.1e-6 were found, for the last two over both ways."""


def uphill(energy: Callable[[float], float]) -> float:
    """Slope from two energies."""
    return (energy(SHORT) - energy(-SHORT)) / (2 * SHORT)


def along(structure: Structure, seed: int = 7) -> FloatArray:
    """A random direction of all coordinates, of unit length."""
    direction = np.random.default_rng(seed).normal(size=structure.positions.shape)
    return np.asarray(direction / np.linalg.norm(direction))


def field(reference: PyscfReference, structure: Structure) -> Field:
    found = converge(reference, structure)
    assert isinstance(found, Field), found
    return found


def energy(reference: PyscfReference, structure: Structure) -> float:
    found = field(reference, structure).mean_field
    return EV_PER_HARTREE * float(found.e_tot if reference.smearing_ha is None else found.e_free)


@pytest.mark.parametrize(
    ("reference", "structure"),
    [
        pytest.param(replace(TIGHT, grid_level=2), WATER, id="density fitting"),
        pytest.param(replace(TIGHT, density_fitting=False), WATER, id="exact integrals"),
        pytest.param(replace(TIGHT, functional="hf", basis="6-31g*", cartesian=True), WATER, id="cartesian"),
        pytest.param(replace(TIGHT, functional="pbe0", dispersion="d4"), CATION, id="d4"),
        pytest.param(replace(TIGHT, solvent_dielectric=78.4), WATER, id="solvent"),
        pytest.param(replace(TIGHT, solvent_dielectric=78.4), CATION, id="unrestricted in a solvent"),
        pytest.param(
            replace(TIGHT, element_basis=(("O", "6-31g*"),), auxiliary_basis="def2-universal-jkfit"),
            WATER,
            id="bases of elements",
        ),
        pytest.param(replace(TIGHT, smearing_ha=0.02), CATION, id="smeared"),
        pytest.param(replace(TIGHT, basis="def2-svp", grid_level=2), IODIDE, id="core potential"),
    ],
)
def test_forces_of_a_label_are_the_exact_derivative_of_its_energy(
    reference: PyscfReference, structure: Structure
) -> None:
    found, direction = evaluation(reference, structure), along(structure)
    assert found.energy == pytest.approx(energy(reference, structure), abs=1e-9)

    def moved(shift: float) -> float:
        return energy(reference, structure.with_positions(structure.positions + shift * direction))

    # Without the response of the grid the difference would be 1e-3 to 1e-2 eV/Å.
    error = (found.forces * direction).sum() + uphill(moved)
    print(f"error of the forces along a random direction: {abs(error):.1e} eV/Å")
    assert abs(error) < 1e-6
    assert np.abs(found.forces.sum(axis=0)).max() < 1e-6


@pytest.mark.parametrize("name", FUNCTIONALS)
def test_every_functional_has_exact_forces_where_spin_is_polarized(name: str) -> None:
    """On the water cation (with VV10 on NH), whose orbitals respond and whose two spins differ. A coarse grid serves:
    its response belongs to the derivative, and shows best where it is large."""
    reference = replace(TIGHT, functional=name)
    structure = IMIDOGEN if reference.method.vv10 else CATION
    direction = along(structure)
    forces = -differentiate(reference, field(reference, structure).mean_field) * EV_ANG_PER_HARTREE_BOHR

    def moved(shift: float) -> float:
        return energy(reference, structure.with_positions(structure.positions + shift * direction))

    rough = reference.method.roughness
    error = (forces * direction).sum() + (slope(moved, LONG) if rough else uphill(moved))
    print(f"error of the forces along a random direction: {abs(error):.1e} eV/Å")
    assert abs(error) < (rough or LESS_SMOOTH.get(name, 1e-6))


@pytest.mark.parametrize(
    ("name", "dispersion"),
    [
        (name, dispersion)
        for name, found in FUNCTIONALS.items()
        for dispersion in (*found.dispersions, *([None] if found.built_in_dispersion else []))
    ],
)
def test_every_dispersion_has_exact_forces_where_there_is_some(name: str, dispersion: str | None) -> None:
    """Methane and argon. A correction looks at positions alone, so that no field is needed."""
    reference, direction = replace(TIGHT, functional=name, dispersion=dispersion), along(PAIR)

    def term(shift: float) -> tuple[float, FloatArray]:
        moved = PAIR.with_positions(PAIR.positions + shift * direction)
        mean_field = _mean_field(reference, _molecule(reference, moved))
        force = -np.asarray(mean_field.nuc_grad_method().get_dispersion()) * EV_ANG_PER_HARTREE_BOHR
        return float(mean_field.get_dispersion()) * EV_PER_HARTREE, force

    value, force = term(0.0)
    error = (force * direction).sum() + slope(lambda shift: term(shift)[0], 1e-2)
    print(f"{1e3 * value:.1f} meV, on argon {1e3 * np.linalg.norm(force[-1]):.2f} meV/Å; error {abs(error):.1e} eV/Å")
    assert np.linalg.norm(force[-1]) > 5e-4
    assert abs(error) < 1e-6
