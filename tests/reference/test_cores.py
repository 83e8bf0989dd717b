"""Inner electrons: functions for them, or the core potential that belongs to the basis set, or a refusal."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pyscf import gto
from pyscf.data.elements import charge
from pyscf.gto import basis as library
from pyscf.scf import atom_hf

from alflow.domain import Failure, FailureKind, Structure
from alflow.errors import ConfigError
from alflow.reference import PyscfConfig, PyscfReference, check_reference
from alflow.reference.cores import load_quietly, potential_of
from alflow.reference.method import core_potentials, without_checkpoint

from .differences import evaluation
from .hard_cases import diatomic

ELEMENTS = ("H", "C", "O", "Si", "Fe", "Br", "I", "Au")
NO_ORBITALS = ("ri", "fit", "ahlrichs", "weigend", "weigend+etb", "demon", "sapgraspsmall", "sapgrasplarge")
"""How names of sets end that are made for densities, or for a first guess of the potential."""

WATER = Structure.of("OHH", [[0.0, 0.0, 0.0], [0.96, 0.05, 0.0], [-0.24, 0.99, 0.1]])
MONOXIDE = Structure.of("CO", [[0.0, 0.0, 0.0], [0.0, 0.0, 1.25]])


def sharpest(functions: Any) -> float:
    """Largest exponent of an s function, Bohr⁻²."""
    rows = [row for shell in functions if shell[0] == 0 for row in shell[1:]]
    return max((row[0] for row in rows if not isinstance(row, int)), default=0.0)


def test_every_basis_set_pyscf_knows_has_its_inner_electrons_somewhere() -> None:
    """1.9 Z² is STO-3G's sharpest function; what stays below is no orbital basis without a potential.

    Sharper ones that need a potential nevertheless (small cores) are named in the tests below.
    """
    refused: dict[str, list[str]] = {}
    seen, potentials = set(), 0
    for alias, files in library.ALIAS.items():
        if files in seen or alias.endswith(NO_ORBITALS):
            continue
        seen.add(files)
        for symbol in ELEMENTS:
            functions = load_quietly(library.load, alias, symbol)
            if not functions:
                continue
            try:
                name = potential_of(alias, symbol)
            except ConfigError:
                refused.setdefault(alias, []).append(symbol)
                continue
            if name is None:
                assert sharpest(functions) > 1.9 * charge(symbol) ** 2, (alias, symbol)
            else:
                potentials += 1
                assert 0 <= library.load_ecp(name, symbol)[0] < charge(symbol), (alias, symbol)
    assert potentials > 200
    assert refused == {
        "minao": ["I", "Au"],
        "qavgvszps": ["C", "O", "Si", "Fe", "Br", "I", "Au"],
        "ccpvdzppnr": ["Au"],
        "ccpvtzppnr": ["Au"],
    }


@pytest.mark.parametrize(
    ("basis", "symbol", "core"),
    [
        ("def2-svp", "I", 28),
        *[(f"def2-mtzvp{p}", symbol, core) for p in ("", "p") for symbol, core in (("Rb", 28), ("I", 28), ("Rn", 60))],
        *[(f"bfd-v{x}z", symbol, core) for x in "dtq5" for symbol, core in (("H", 0), ("N", 2), ("I", 46))],
        *[(f"ccecp-{a}cc-pv{x}z", "O", 2) for a in ("", "aug-") for x in "dtq56"],
        *[("ccecp-cc-pvtz", "H", 0), ("ccECP_aug-cc-pVDZ", "Fe", 10), ("ccecp-he-cc-pvtz", "Si", 2)],
        *[("ccecp-reg-cc-pvtz", "Li", 0), ("ccecp-28-cc-pvtz", "In", 28), ("ccecp-36-cc-pvtz", "Sr", 36)],
        *[(f"{a}{x}z-pp", "Zn", 10) for a in ("cc-pv", "aug-cc-pv", "cc-pwcv") for x in "dtq5"],
        *[("cc-pwcv5z-pp", "Rn", 60), ("aug-cc-pvtz-pp", "Ag", 28), ("stuttgart", "O", 2)],
    ],
)
def test_a_basis_set_gets_the_potential_it_was_made_for(basis: str, symbol: str, core: int) -> None:
    name = potential_of(basis, symbol)
    assert name is not None
    assert library.load_ecp(name, symbol)[0] == core


@pytest.mark.parametrize(
    ("basis", "symbol"),
    [
        *[("def2-mtzvp", "Ce"), ("def2-mtzvpp", "U"), ("ma-def2-svp", "Lu"), ("cc-pvtz-pp-nr", "Ag")],
        *[("bfd-vtz", "Zn"), ("bfd-vdz", "Rn"), ("minao", "I"), ("qavg-vszps", "C"), ("gth-dzvp", "C")],
    ],
)
def test_outer_electrons_without_a_potential_are_refused(basis: str, symbol: str) -> None:
    """The first three have a potential that PySCF lacks; the file of the fourth says that it needs another one."""
    with pytest.raises(ConfigError, match=f"no functions for the inner electrons of {symbol}"):
        core_potentials({symbol: basis})


@pytest.mark.parametrize("basis", ["cc-pcvdz", "cc-pcvtz", "cc-pcvqz", "dyall-2zp", "iglo", "minao", "6-31g(d)"])
def test_sets_of_two_files_and_of_modules_hold_all_electrons(basis: str) -> None:
    assert core_potentials({"C": basis}) == {}


@pytest.mark.parametrize(
    ("basis", "symbol", "outer"),
    [
        *[("bfd-vtz", "C", 2), ("bfd-vtz", "Cl", 2), ("bfd-vtz", "I", 2), ("ccecp-cc-pvdz", "O", 2)],
        *[("ccecp-cc-pvdz", "Br", 2), ("ccecp-cc-pvdz", "K", 3), ("ccecp-he-cc-pvdz", "Si", 3), ("bfd-vtz", "H", 1)],
        *[("ccecp-reg-cc-pvdz", "Be", 2), ("ccecp-28-cc-pvdz", "Sr", 3), ("ccecp-36-cc-pvdz", "Sr", 1)],
        *[("def2-mtzvp", "I", 3), ("def2-mtzvpp", "I", 3), ("cc-pwcvdz-pp", "Zn", 3), ("aug-cc-pvdz-pp", "Cu", 3)],
    ],
)
def test_atoms_have_the_outer_orbitals_of_all_electron_ones(basis: str, symbol: str, outer: int) -> None:
    """A potential of another core, or of another element, would be off by a multiple.

    Nonrelativistic double zeta is what they are held against; up to 10 % and 0.015 Ha of it lie between.
    """
    ours = levels(symbol, basis, potential_of(basis, symbol))[:outer]
    np.testing.assert_allclose(ours, levels(symbol, "dzp", None)[:outer], rtol=0.1, atol=0.015)


def levels(symbol: str, basis: str, potential: str | None) -> Any:
    """Energies of a spherical atom's occupied shells, from the outermost, Ha."""
    ecp = {} if potential is None else {symbol: potential}
    atom = gto.M(atom=symbol, basis={symbol: basis}, ecp=ecp, spin=None, verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # PySCF's atoms call a function PySCF has deprecated
        field = (atom_hf.AtomHF1e if atom.nelectron == 1 else atom_hf.AtomSphAverageRHF)(atom)
    without_checkpoint(field)
    field.kernel()
    return np.unique(np.asarray(field.mo_energy)[np.asarray(field.mo_occ) > 0].round(6))[::-1]


LABELLED = PyscfReference(functional="hf", properties=())


@pytest.mark.parametrize(
    ("basis", "of_hydrogen", "structure", "electrons"),
    [
        pytest.param("cc-pcvdz", "cc-pvdz", WATER, 10, id="two files"),
        pytest.param("cc-pcvdz", "cc-pvdz", Structure.of("NN", [[0, 0, 0], [0, 0, 1.12]]), 14, id="two files, N2"),
        pytest.param("aug-cc-pvdz-pp", "cc-pvdz", Structure.of("Zn", [[0, 0, 0]]), 20, id="two files and a potential"),
        pytest.param("def2-mtzvp", "def2-mtzvp", diatomic("I", "H", 1.61), 26, id="def2-m"),
        pytest.param("bfd-vdz", "bfd-vdz", WATER, 8, id="bfd"),
    ],
)
def test_a_label_has_the_electrons_that_are_in_no_core(
    basis: str, of_hydrogen: str, structure: Structure, electrons: int
) -> None:
    own = {} if basis == of_hydrogen else {"H": of_hydrogen}
    check_reference(PyscfConfig(functional="hf", basis=basis, element_basis=own), [structure])
    outcome = evaluation(replace(LABELLED, basis=basis, element_basis=tuple(own.items())), structure)
    assert outcome.diagnostics["n_electrons"] == electrons
    assert np.abs(outcome.forces).max() < 10.0, "near its geometry of least energy"


def test_forces_with_a_potential_are_those_of_all_electrons() -> None:
    """CO at 1.25 Å, pulled together with 13 eV/Å; potentials, meant for the length of the bond, differ by 3 %."""
    all_electron, outer = (
        evaluation(PyscfReference(functional="hf", basis=basis, properties=()), MONOXIDE)
        for basis in ("cc-pvdz", "ccecp-cc-pvdz")
    )
    assert all_electron.forces[0, 2] > 10.0
    np.testing.assert_allclose(outer.forces, all_electron.forces, atol=0.5)


def test_a_refusal_comes_before_the_campaign_and_in_place_of_the_label() -> None:
    with pytest.raises(ConfigError, match="inner electrons of C, and PySCF has no core potential"):
        check_reference(PyscfConfig(basis="qavg-vszps"), [MONOXIDE])
    outcome = PyscfReference(basis="qavg-vszps").evaluate(MONOXIDE)
    assert isinstance(outcome, Failure)
    assert outcome.kind is FailureKind.REJECTED
    assert "inner electrons" in outcome.message
