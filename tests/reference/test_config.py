"""Configurations and the checks before a campaign: one clear sentence for each mistake."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from alflow.domain import Structure
from alflow.errors import InputError, StructureError
from alflow.reference import (
    MorseMoleculeConfig,
    MuellerBrownConfig,
    PyscfConfig,
    PyscfReference,
    ReferenceConfig,
    check_reference,
    check_structure,
    make_reference,
)

WATER = Structure.of("OHH", [[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
ANY: TypeAdapter[ReferenceConfig] = TypeAdapter(ReferenceConfig)


@pytest.mark.parametrize("engine", ["pyscf", "morse", "morse-molecule", "mueller-brown", "lennard-jones"])
def test_the_key_engine_tells_the_configurations_apart(engine: str) -> None:
    geometry = {"elements": WATER.symbols, "positions_ang": WATER.positions.tolist()}
    extra = geometry if engine == "morse-molecule" else {}
    config = ANY.validate_python({"engine": engine, "time_limit_s": 12} | extra)
    assert config.engine == engine
    assert make_reference(config).level.engine == engine
    assert type(config).model_validate_json(config.model_dump_json()) == config


def test_limits_and_delay_are_no_part_of_the_level() -> None:
    slow = PyscfConfig(time_limit_s=1, memory_limit_mb=9000, threads=2, max_attempts=1, max_cycles=9)
    assert make_reference(slow).level == make_reference(PyscfConfig()).level
    assert make_reference(MuellerBrownConfig(delay_s=3)).level == make_reference(MuellerBrownConfig()).level


def test_the_reference_of_the_default_configuration_is_the_default_reference() -> None:
    assert make_reference(PyscfConfig()) == PyscfReference()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"grid_level": 0}, "greater than or equal to 1"),
        ({"functional": "scan", "grid_level": 2}, "functional scan needs grid_level 3 at least.*; found 2"),
        ({"funtional": "pbe"}, "Did you mean 'functional'"),
        ({"functional": "b3lyp-d3bj"}, "functional: b3lyp and dispersion: d3bj"),
        ({"functional": "wb97x-d3bj", "dispersion": "d3bj"}, "leave dispersion out"),
        ({"functional": "pbee"}, "unknown functional 'pbee'.* Did you mean 'pbe"),
        ({"functional": "wb97x-d"}, "unknown functional 'wb97x-d'.* Did you mean 'wb97x-d"),
        ({"functional": "wb97xd"}, "unknown functional"),
        ({"functional": "b97-d"}, "unknown functional"),
        ({"functional": "lda,vwn"}, "unknown functional"),
        ({"functional": "wb97m-v", "dispersion": "d3bj"}, "count it twice"),
        ({"functional": "wb97x", "dispersion": "d3bj"}, "mixes different fits; write wb97x-d3bj"),
        ({"functional": "svwn", "dispersion": "d4"}, "no published parameters of d4; it can have none"),
        ({"element_basis": {"o": "def2-tzvp"}}, "found 'o'.* Did you mean 'O'"),
        ({"auxiliary_basis": "def2-universal-jkfit", "density_fitting": False}, "needs density_fitting"),
        ({"smearing_ha": 0.01, "spin_policy": "reject"}, "leave one out"),
        ({"solvent_dielectric": 0.5}, "greater than 1"),
        ({"preset": "precise"}, "'fast', 'standard' or 'tight'"),
        ({"basis": "/etc/passwd"}, "name of a method"),
    ],
)
def test_a_misleading_setting_is_refused_when_it_is_read(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        PyscfConfig.model_validate(settings)


@pytest.mark.parametrize(
    ("settings", "structure", "sentence"),
    [
        ({"basis": "def2-svpp"}, WATER, "Unknown basis 'def2-svpp'.* Did you mean 'def2-svp"),
        ({"basis": "gth-szv"}, WATER, "pseudopotential"),
        ({"element_basis": {"O": "def2-svpp"}}, WATER, "Unknown basis 'def2-svpp'"),
        ({"auxiliary_basis": "def2-unversal-jkfit"}, WATER, "PySCF cannot compute .* auxiliary basis"),
        ({"basis": "6-31g*"}, Structure.of("IH", [[0, 0, 0], [0, 0, 1.6]]), "has no functions for I"),
        ({}, Structure.of("OH", [[0, 0, 0], [0, 0, 0.97]]), "9 electrons.*multiplicity 1; expected 2, 4"),
        ({}, Structure.of("He", [[0, 0, 0]], cell=[9.0, 9.0, 9.0]), "periodic"),
    ],
)
def test_the_check_of_a_reference_names_the_mistake(
    settings: dict[str, object], structure: Structure, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        check_reference(PyscfConfig.model_validate(settings), [structure])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"dispersion": "d3bj"},
        {"functional": "hf", "basis": "sto-3g"},
        {"functional": "r2scan", "dispersion": "d4"},
        {"functional": "wb97m-d3bj", "basis": "def2-tzvp"},
        {"functional": "wb97m_v"},
        {"element_basis": {"O": "def2-tzvp"}, "auxiliary_basis": "def2-universal-jkfit"},
        {"solvent_dielectric": 78.4, "spin_policy": "broken_symmetry"},
        {"functional": "b3lyp", "basis": "6-31g(d)"},
    ],
)
def test_a_sound_reference_passes(settings: dict[str, object]) -> None:
    check_reference(PyscfConfig.model_validate(settings), [WATER])


def test_a_morse_molecule_knows_its_geometry_and_checks_the_others_against_it() -> None:
    positions = tuple(tuple(xyz) for xyz in WATER.positions.tolist())
    config = MorseMoleculeConfig(elements=WATER.symbols, positions_ang=positions)
    check_reference(config, [WATER])
    with pytest.raises(StructureError, match=r"in this order; found \[1, 1, 8\]"):
        check_reference(config, [Structure.of("HHO", WATER.positions[::-1])])
    with pytest.raises(ValidationError, match="2 elements and 3 positions"):
        MorseMoleculeConfig(elements=("O", "H"), positions_ang=positions)


@pytest.mark.parametrize(
    ("structure", "sentence"),
    [
        (Structure.of("HH", [[0, 0, 0], [0, 0, 0.3]]), r"Atoms 0 \(H\) and 1 \(H\) of H2 are 0.300 Å apart.*0.35 Å"),
        (Structure.of("CC", [[0, 0, 0], [0, 0, 0.7]]), r"are 0.700 Å apart; expected at least 0.76 Å"),
        (Structure.of("CC", [[0, 0, 0], [3.6, 0, 0]], cell=[4.0, 9.0, 9.0]), r"are 0.400 Å apart"),
        (Structure.of("C", [[0, 0, 0]], cell=[0.5, 9.0, 9.0]), r"Atoms 0 \(C\) and 0 \(C\) of C are 0.500 Å"),
        (Structure.of("OHH", WATER.positions, charge=11), "-1 electrons"),
        (Structure.of("H", [[0, 0, 0]], multiplicity=4), "1 electrons, which cannot have multiplicity 4; expected 2"),
    ],
)
def test_an_impossible_structure_is_named_with_its_pair_or_its_electrons(structure: Structure, sentence: str) -> None:
    with pytest.raises(StructureError, match=sentence):
        check_structure(structure)


def test_a_real_molecule_passes_the_check() -> None:
    check_structure(WATER)
    check_structure(Structure.of("H", [[0, 0, 0]], multiplicity=2))
    check_structure(Structure.of("O", [[0, 0, 0]], multiplicity=3))


@pytest.mark.parametrize(
    ("settings", "grid", "gradient"),
    [
        ({}, 3, 5e-6),
        ({"preset": "fast"}, 2, 2e-5),
        ({"preset": "tight"}, 5, 2e-7),
        ({"preset": "fast", "functional": "r2scan"}, 3, 2e-5),
        ({"preset": "fast", "functional": "m06-2x"}, 3, 2e-5),
        ({"preset": "tight", "grid_level": 4, "gradient_tolerance_ha": 1e-6}, 4, 1e-6),
    ],
)
def test_a_preset_sets_what_is_not_set_and_a_meta_gga_gets_a_finer_grid(
    settings: dict[str, object], grid: int, gradient: float
) -> None:
    reference = make_reference(PyscfConfig.model_validate(settings))
    assert isinstance(reference, PyscfReference)
    assert (reference.grid_level, reference.gradient_tolerance_ha) == (grid, gradient)
