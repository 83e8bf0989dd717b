"""Labels by ASE calculators: exact derivatives, settings in the level, failures and defects told apart."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any, ClassVar

import cloudpickle
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.calculator import CalculationFailed, Calculator, InputError, SCFError
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from pydantic import ValidationError

from alflow.domain import Evaluation, Failure, FailureKind, Structure
from alflow.domain.ase import from_atoms
from alflow.errors import ConfigError, StructureError
from alflow.reference import AseConfig, AseReference, LabelRequest, check_reference, make_reference, run_label
from tests.reference.differences import evaluation, numerical_forces, numerical_stress, strained

# The processes of labels cannot import a test module by its name, so what is defined here travels by value.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

EMT_PATH = "ase.calculators.emt:EMT"
COPPER_ATOMS = bulk("Cu", cubic=True)
COPPER_ATOMS.rattle(0.05, seed=1)
COPPER = from_atoms(COPPER_ATOMS)
WATER = from_atoms(molecule("H2O"))
CATION = Structure(WATER.numbers, WATER.positions, WATER.cell, WATER.pbc, 1, 2)


class Told(Calculator):
    """Answers what it was told as energy, or raises; ``free_energy`` is another number."""

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces"]
    runs: ClassVar[int] = 0

    def __init__(self, trouble: type[Exception] | None = None, **keywords: float) -> None:
        super().__init__()
        self.trouble, self.keywords = trouble, keywords

    def calculate(self, atoms: Any = None, properties: Any = (), system_changes: Any = ()) -> None:
        super().calculate(atoms, properties, system_changes)
        type(self).runs += 1
        if self.trouble is not None:
            raise self.trouble("too hot")
        Path("output.log").write_text(" ".join(properties))
        said = self.keywords.get("charge", atoms.get_initial_charges().sum())
        spin = self.keywords.get("mult", atoms.get_initial_magnetic_moments().sum())
        self.results = {"energy": 1.0, "free_energy": 10 * said + spin, "forces": np.zeros((len(atoms), 3))}


class Unlucky(Exception):
    """A failure of physics of a program that does not know ASE's exceptions."""


def told(**changes: Any) -> AseReference:
    return AseReference.of(Told, {"model": "told"}, **changes)


def test_forces_and_stress_of_copper_are_exact_derivatives() -> None:
    reference = AseReference(EMT_PATH)
    found = evaluation(reference, COPPER)
    # Measured: forces 1e-11, stress 1.4e-9, the truncation of this strain.
    np.testing.assert_allclose(found.forces, numerical_forces(reference, COPPER, 1e-3), atol=1e-7)
    assert found.stress is not None
    np.testing.assert_allclose(found.stress, numerical_stress(reference, COPPER, 1e-3), atol=1e-7)
    wide = evaluation(reference, strained(COPPER, np.eye(3) * 1.05)).stress
    assert wide is not None
    assert np.trace(wide) > 0, "positive under tension"


def test_voigt_order_and_sign_hold_in_a_sheared_cell_of_another_calculator() -> None:
    sheared = strained(COPPER, np.array([[1.0, 0.05, 0.02], [0.0, 1.0, -0.04], [0.0, 0.0, 1.03]]))
    arguments = {"sigma": 2.3, "epsilon": 0.4, "rc": 6.0, "smooth": True}
    reference = AseReference("ase.calculators.lj:LennardJones", arguments=arguments)
    stress = evaluation(reference, sheared).stress
    assert stress is not None
    assert np.abs(stress - np.diag(np.diag(stress))).max() > 1e-3, "all six components are told apart"
    np.testing.assert_allclose(stress, numerical_stress(reference, sheared, 2e-4), atol=1e-6)
    in_python = AseReference.of(lambda: LennardJones(**arguments), {"model": "lj"})
    assert evaluation(in_python, sheared).energy == evaluation(reference, sheared).energy


def test_a_molecule_has_no_stress_and_versions_are_provenance() -> None:
    found = evaluation(AseReference(EMT_PATH), WATER)
    assert found.stress is None
    assert "ase" in found.diagnostics["versions"]
    assert "ase" not in str(AseReference(EMT_PATH).level.settings["settings"])


def test_the_energy_is_the_one_the_forces_belong_to_and_everything_comes_from_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Told.runs = 0
    found = evaluation(told(charge_argument="charge", multiplicity_argument="mult"), CATION)
    assert (found.energy, found.diagnostics["extrapolated_energy_ev"]) == (12.0, 1.0)
    assert Told.runs == 1
    assert Path("output.log").read_text() == "energy forces"


def test_charge_and_spin_reach_a_calculator_that_reads_the_atoms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    reading = told(charge_argument="atoms", multiplicity_argument="atoms")
    assert evaluation(reading, CATION).energy == pytest.approx(11.0)


@pytest.mark.parametrize(("argument", "missing"), [({}, "charge 1"), ({"charge_argument": "q"}, "multiplicity 2")])
def test_a_charge_or_spin_that_would_be_lost_is_refused(argument: dict[str, str], missing: str) -> None:
    with pytest.raises(StructureError, match=f"{missing}, and nothing tells the calculator"):
        told(**argument).check(CATION)
    found = told(**argument).evaluate(CATION)
    assert isinstance(found, Failure)
    assert found.kind is FailureKind.REJECTED


def test_atoms_that_overlap_never_reach_a_calculator() -> None:
    """Some programs give numbers for anything, and a walker that broke down would teach them to the committee."""
    crushed = Structure.of("ArAr", [[0, 0, 0], [0.9, 0, 0]])
    found = told().evaluate(crushed)
    assert isinstance(found, Failure)
    assert found.kind is FailureKind.REJECTED
    assert "are 0.900 Å apart" in found.message


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        (SCFError, FailureKind.SCF_FAIL),
        (CalculationFailed, FailureKind.SCF_FAIL),
        (InputError, FailureKind.REJECTED),
        (FloatingPointError, FailureKind.SCF_FAIL),
        (KeyError, FailureKind.BUG),
    ],
)
def test_failures_of_physics_are_values_and_defects_are_defects(
    trouble: type[Exception], kind: FailureKind, tmp_path: Path, scratch: Path
) -> None:
    reference = AseReference.of(
        lambda: Told(trouble), {"trouble": trouble.__name__}, failures=("builtins:FloatingPointError",)
    )
    found = run_label(LabelRequest(reference, WATER, "label-t-a1", tmp_path / "spool", time_limit_s=60)).outcome
    assert isinstance(found, Failure)
    assert (found.kind, "too hot" in found.message) == (kind, True)


def test_a_calculator_writes_into_the_scratch_folder_of_its_label(tmp_path: Path, scratch: Path) -> None:
    before = set(Path.cwd().iterdir())
    found = run_label(LabelRequest(told(), WATER, "label-w-a1", tmp_path / "spool", time_limit_s=60)).outcome
    assert isinstance(found, Evaluation), found
    assert set(Path.cwd().iterdir()) == before  # and the fixture looks into the scratch folder


def test_where_it_runs_is_no_part_of_the_level_and_everything_else_is() -> None:
    plain = AseConfig(calculator=EMT_PATH)
    same = AseConfig(calculator=EMT_PATH, site_arguments={"directory": "here"}, threads=2)
    assert make_reference(same).level == make_reference(plain).level
    others = [
        AseConfig(calculator=EMT_PATH, arguments={"asap_cutoff": True}),
        AseConfig(calculator=EMT_PATH, level_settings={"version": "3.29"}),
        AseConfig(calculator=EMT_PATH, charge_argument="charge"),
    ]
    assert len({make_reference(config).level.id for config in (plain, *others)}) == 4


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"calculator": "ase.calculators.emtt:EMT"}, "no module 'ase.calculators.emtt'. Did you mean 'emt'"),
        ({"calculator": "ase.calculators.emt:EMTT"}, "ase.calculators.emt has no 'EMTT'. Did you mean 'EMT'"),
        ({"calculator": "no_such_program:Calculator"}, "no module 'no_such_program'. Is the package installed"),
        ({"calculator": "ase.calculators.tip3p:TIP3P", "arguments": {"rcc": 1}}, "TIP3P cannot be made .*'rcc'"),
        ({"calculator": "fractions:Fraction"}, "makes a Fraction, which is no ASE calculator"),
        ({"calculator": EMT_PATH, "failures": ["ase.calculators.emt:EMT"]}, "emt:EMT is no exception"),
    ],
)
def test_a_calculator_that_cannot_be_made_is_told_before_anything_runs(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        check_reference(AseConfig.model_validate(settings), [COPPER])


def test_an_import_path_needs_a_colon() -> None:
    with pytest.raises(
        ValidationError, match=r"found 'ase.calculators.emt.EMT'. Did you mean 'ase.calculators.emt:EMT'"
    ):
        AseConfig(calculator="ase.calculators.emt.EMT")


def test_a_factory_that_cannot_be_sent_to_a_process_is_refused_at_once() -> None:
    lock = threading.Lock()

    def factory() -> EMT:
        with lock:
            return EMT()

    with pytest.raises(ConfigError, match=r"cannot be sent to the process .*lock.*inside the function"):
        AseReference.of(factory, {"model": "emt"})


def test_a_factory_without_a_level_and_a_level_without_json_are_refused() -> None:
    with pytest.raises(ConfigError, match="level_settings must name everything"):
        AseReference.of(EMT, {})
    with pytest.raises(ConfigError, match=r"arguments must be JSON values.*AseReference\.of"):
        AseReference(EMT_PATH, arguments={"kpts": {1, 2}})
    with pytest.raises(ConfigError, match="one of the two"):
        AseReference(EMT_PATH, EMT)
