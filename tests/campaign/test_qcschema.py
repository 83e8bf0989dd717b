"""Labels as QCSchema, read by qcelemental's own models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from qcelemental.models import AtomicResult

from alflow.campaign.executors import InlineExecutor
from alflow.campaign.export import export_labels
from alflow.campaign.labelling import label_structures
from alflow.campaign.qcschema import to_qcschema
from alflow.domain import Evaluation, Label, Reference, Structure
from alflow.errors import ConfigError
from alflow.reference import CasscfReference, LennardJones, PyscfReference, TbliteReference, TdaReference
from alflow.reference.config import Limits
from alflow.reference.functionals import FUNCTIONALS
from tests.postgresql import address

HYDROXYL = Structure.of("OH", [[0.0, 0.0, 0.0], [0.0, 0.0, 0.97]], charge=-1)
BOHR_PER_ANG = 1.0 / 0.529177210544
HARTREE_EV = 27.211386245981


def test_a_pyscf_label_is_a_valid_result_with_the_gradient_in_atomic_units(tmp_path: Path) -> None:
    reference, database = PyscfReference(functional="hf", basis="sto-3g"), address(tmp_path / "labels.db")
    label_structures([HYDROXYL], reference, Limits(), database, "labels", 1, InlineExecutor)
    assert export_labels(database, None, tmp_path / "out.jsonl") == 1
    (line,) = (tmp_path / "out.jsonl").read_text().splitlines()
    result = AtomicResult.parse_obj(json.loads(line))
    expected = reference.evaluate(HYDROXYL)
    assert isinstance(expected, Evaluation)
    np.testing.assert_allclose(result.molecule.geometry, HYDROXYL.positions * BOHR_PER_ANG, atol=1e-10)
    assert (result.molecule.molecular_charge, result.molecule.molecular_multiplicity) == (-1, 1)
    assert (result.model.method, result.model.basis) == ("hf", "sto-3g")
    assert result.properties.return_energy == pytest.approx(expected.energy / HARTREE_EV, abs=1e-10)
    np.testing.assert_allclose(result.return_result, -expected.forces / (HARTREE_EV * BOHR_PER_ANG), atol=1e-10)
    told = expected.diagnostics  # of an ion: about its center of charge, and there about the origin
    dipole = (np.array(told["dipole_e_ang"]) - np.array(told["dipole_origin_ang"])) * BOHR_PER_ANG
    np.testing.assert_allclose(result.properties.scf_dipole_moment, dipole, atol=1e-10)
    assert result.extras["level_id"] == reference.level.id


PAIR = Structure.of("HH", [[0.0, 0.0, 0.0], [0.0, 0.0, 0.74]])
IMMONIUM = CasscfReference(("C 2p", "N 2p"), 2, 2, ground=PyscfReference("hf", "6-31g*", density_fitting=False))


@pytest.mark.parametrize(
    ("reference", "method", "basis"),
    [
        *((PyscfReference(name), name, "def2-svp") for name in FUNCTIONALS),
        (PyscfReference("pbe", "sto-3g", dispersion="d4"), "pbe-d4", "sto-3g"),
        (PyscfReference("CAM_B3LYP", dispersion="d3bj"), "cam-b3lyp-d3bj", "def2-svp"),
        (TdaReference(PyscfReference("pbe0", density_fitting=False)), "tda-pbe0", "def2-svp"),
        (TdaReference(PyscfReference("hf", "6-31g", density_fitting=False)), "cis", "6-31g"),
        (IMMONIUM, "casscf", "6-31g*"),
        (TbliteReference("gfn1-xtb"), "gfn1-xtb", None),
        (LennardJones(), "lennard-jones", None),
    ],
)
def test_the_method_has_the_name_that_a_reader_knows(reference: Reference, method: str, basis: str | None) -> None:
    label = Label(PAIR, reference.level, Evaluation(-1.0, np.zeros((2, 3))))
    assert to_qcschema(label, {})["model"] == {"method": method, "basis": basis}


def test_a_cell_cannot_be_said(tmp_path: Path) -> None:
    cell = Structure.of(["Ar"], [[0, 0, 0]], cell=np.eye(3) * 5.0, pbc=True)
    database = address(tmp_path / "labels.db")
    label_structures([cell], LennardJones(cutoff_ang=5.0), Limits(), database, "labels", 1, InlineExecutor)
    with pytest.raises(ConfigError, match=r"Ar is periodic; QCSchema .* Export to extended XYZ"):
        export_labels(database, None, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()
