"""Basis sets have one spelling each; which names are one is told by PySCF's own table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import pytest
from pyscf.data.elements import ELEMENTS
from pyscf.gto import basis as library
from pyscf.pbc.gto.pseudo import load as load_pseudopotential

from alflow.domain import Level, Reference
from alflow.reference import (
    CasscfReference,
    PyscfConfig,
    PyscfPeriodicConfig,
    PyscfPeriodicReference,
    PyscfReference,
    TdaReference,
    make_reference,
)
from alflow.reference.basis_names import basis_name
from alflow.reference.periodic import PSEUDOPOTENTIALS

KNOWN = sorted(name for name in library.ALIAS if "_" not in name)
SPELLED = [
    *("sto-3g", "3-21g", "6-31g", "6-31g*", "6-31g**", "6-31+g*", "6-311++g**", "lanl2dz", "pc-1", "aug-pcseg-2"),
    *("def2-svp", "def2-svpd", "def2-tzvp", "def2-tzvppd", "def2-mtzvpp", "def2-qzvp", "ma-def2-tzvp"),
    *("cc-pvdz", "cc-pvtz", "aug-cc-pvdz", "cc-pcvtz", "aug-cc-pwcvqz", "cc-pvdz-pp", "cc-pvtz-dk", "cc-pvtz-jkfit"),
    *("def2-universal-jkfit", "def2-universal-jfit", "def2-tzvp-ri", "aug-cc-pvdz-ri", "gth-szv", "gth-dzvp"),
    *("gth-szv-molopt", "gth-szv-molopt-sr", "gth-dzvp-molopt-sr", *sorted(set(PSEUDOPOTENTIALS.values()))),
]


def content(name: str, symbol: str) -> object:
    """What PySCF makes of a name for an element; None if it has nothing."""
    try:
        return library.load(name, symbol)
    except (library.BasisNotFoundError, KeyError, RuntimeError):
        return None


@pytest.mark.parametrize("name", SPELLED)
def test_what_was_well_spelled_stays_as_it_is(name: str) -> None:
    """Or the labels that databases hold at these levels would not be found again."""
    assert basis_name(name) == name


@pytest.mark.parametrize("name", SPELLED)
def test_hyphens_and_capitals_make_no_other_basis_set(name: str) -> None:
    for other in (name.upper(), name.replace("-", ""), name.replace("-", "_"), f" {name} "):
        assert basis_name(other) == name


def file_of(name: str) -> object:
    """Where PySCF has a basis set."""
    return library.ALIAS[library._format_basis_name(name)]


def test_a_name_means_the_same_before_and_after() -> None:
    for name in KNOWN:
        assert file_of(basis_name(name)) == library.ALIAS[name], f"{name} became {basis_name(name)}"
        assert basis_name(basis_name(name)) == basis_name(name)


FAMILIES = ("321", "431", "631", "def2", "madef2", "ccp", "augccp", "heavyaugcc", "pc", "augpc", "sto", "lanl")
"""How the names begin whose spelling is known."""


def test_the_names_that_pyscf_takes_for_one_are_spelled_as_one() -> None:
    """Those of the families; elsewhere PySCF has a few synonyms, such as weigend, which stay levels of their own."""
    one: dict[object, set[str]] = defaultdict(set)
    for name in KNOWN:
        if name.startswith(FAMILIES):
            one[library.ALIAS[name]].add(basis_name(name))
    assert len(one) > 150
    assert [names for names in one.values() if len(names) > 1] == []


@pytest.mark.parametrize(
    ("written", "starred"), [("6-31g(d)", "6-31g*"), ("6-31g(d,p)", "6-31g**"), ("6-311g(d,p)", "6-311g**")]
)
def test_polarization_in_brackets_is_the_same_as_in_stars(written: str, starred: str) -> None:
    assert basis_name(written) == starred
    for symbol in ELEMENTS[1:19]:
        first, second = content(written, symbol), content(starred, symbol)
        if first is not None and second is not None:
            assert sorted(map(str, first)) == sorted(map(str, second)), symbol


def test_one_level_of_theory_has_one_id_however_it_is_written() -> None:
    plain = PyscfReference(basis="6-31g*", element_basis=(("O", "def2-tzvp"),), auxiliary_basis="def2-universal-jkfit")
    others = [
        PyscfReference(basis="6-31G(d)", element_basis=(("O", "def2TZVP"),), auxiliary_basis="def2-SVP-JKFIT"),
        PyscfReference(
            basis="6-31gs",
            element_basis=(("O", "def2-tzvp"), ("H", "6-31g(d)")),
            auxiliary_basis="def2universaljkfit",
        ),
        make_reference(
            PyscfConfig(
                basis="6-31G (d)",
                element_basis={"O": "DEF2_TZVP", "C": "631g*"},
                auxiliary_basis="def2-universal-jkfit",
            )
        ),
    ]
    assert {other.level.id for other in others} == {plain.level.id}
    assert PyscfReference(element_basis=(("H", "def2svp"),)).element_basis == ()
    cells = [
        make_reference(PyscfPeriodicConfig(basis=basis, pseudopotential=potential))
        for basis, potential in [
            ("gth-szv-molopt-sr", "gth-pbe"),
            ("GTH-SZV-MOLOPT-SR", "GTH_PBE"),
            ("gthszvmoloptsr", None),
        ]
    ]
    assert len({cell.level.id for cell in cells}) == 1


def test_the_pseudopotential_that_is_spelled_is_the_one_that_was_meant() -> None:
    for name in set(PSEUDOPOTENTIALS.values()):
        # Boron, for PySCF has no other element for PBEsol.
        assert load_pseudopotential(name.replace("-", ""), "B") == load_pseudopotential(basis_name(name), "B")


@pytest.mark.parametrize(
    ("reference", "beginning"),
    [
        (PyscfReference("b3lyp", "6-31g*", cartesian=True, dispersion="d4"), "1dac099d97d643bd"),
        (
            PyscfReference(
                "wb97x-d3bj",
                "def2-tzvp",
                element_basis=(("O", "aug-cc-pvdz"),),
                auxiliary_basis="def2-universal-jkfit",
            ),
            "3c2b7e3169905889",
        ),
        (TdaReference(), "f86936a21b4c512b"),
        (CasscfReference(("H 1s",), 2, 2), "991ff575419579aa"),
        (PyscfPeriodicReference(), "d5fff0a37233f9d0"),
        (
            PyscfPeriodicReference("pbesol", "gth-dzvp-molopt-sr", kpoints=(2, 2, 2), smearing_ha=0.01),
            "5b42b0cae7002884",
        ),
    ],
)
def test_the_spelling_changed_no_id_of_before(reference: Reference, beginning: str) -> None:
    level = reference.level
    assert Level(level.engine, second_procedure(level.engine, level.settings)).id[:16] == beginning


def second_procedure(engine: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they were when the spelling was settled: molecules have had another procedure since (0036)."""
    if "ground" in settings:
        return {**settings, "ground": second_procedure("pyscf", settings["ground"])}
    if engine != "pyscf":
        return dict(settings)
    return {**settings, "procedure": 2, **({"nonlocal_grid_level": 1} if "grid_level" in settings else {})}
