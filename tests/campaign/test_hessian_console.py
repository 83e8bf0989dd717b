"""``alflow hessian``: displaced structures are labels like any others, and nothing is computed twice."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest

from alflow.campaign.executors import InlineExecutor
from alflow.campaign.hessian_console import hessian, save
from alflow.campaign.label_console import read_level
from alflow.campaign.labelling import label_structures
from alflow.campaign.teacher import make_reference
from alflow.domain.ase import read_structures
from alflow.errors import ConfigError, InputError
from alflow.properties import displaced
from alflow.reference.config import Limits
from tests.postgresql import address

from .toys import rows

MINIMUM = [[0.0, 0.0, 0.0], [0.758081, 0.0, 0.635802], [-0.758081, 0.0, 0.635802]]  # of RHF/STO-3G
LEVEL = "functional: hf\nbasis: sto-3g\ndensity_fitting: false\npreset: tight\nproperties: []\n"


def prepare(folder: Path, level: str = LEVEL, positions: list[list[float]] = MINIMUM) -> tuple[Path, str, str]:
    ase.io.write(folder / "water.xyz", ase.Atoms("OHH", positions), format="extxyz")
    (folder / "level.yaml").write_text(level)
    return folder / "water.xyz", str(folder / "level.yaml"), address(folder / "labels.db")


def test_a_hessian_uses_the_labels_that_exist_and_a_second_call_computes_nothing(tmp_path: Path) -> None:
    file, level, database = prepare(tmp_path)
    (water,) = read_structures(file)
    before = displaced(water, 0.004)[:5]  # some of them exist, under another name
    reference = make_reference(read_level(level))
    label_structures(before, reference, Limits(), database, "others", 1, InlineExecutor)
    found = hessian(file, level, database, None, 1, 0.004, False)
    assert found is not None
    assert rows(database, "SELECT count(*) FROM labels") == [(19,)]
    computed = "SELECT count(*) FROM executions WHERE status = 'done'"
    assert rows(database, computed) == [(19,)]
    again = hessian(file, level, database, None, 1, 0.004, False)
    assert again is not None
    assert rows(database, computed) == [(19,)]
    assert np.array_equal(again.derivatives.hessian, found.derivatives.hessian)
    # 2170.04, 4140.00, 4391.07 and 7.24, 44.29, 29.97 with the masses of single isotopes and an infinitesimal step.
    np.testing.assert_allclose(found.modes.wavenumbers, [2170, 4140, 4391], atol=1.5)
    assert found.modes.intensities is not None
    np.testing.assert_allclose(found.modes.intensities, [7.24, 44.29, 29.97], rtol=2e-3)

    save(found, tmp_path / "all.json")
    save(found, tmp_path / "all.npz")
    text, arrays = json.loads((tmp_path / "all.json").read_text()), np.load(tmp_path / "all.npz")
    assert set(text) == set(arrays.files)
    for key, value in text.items():
        assert np.array_equal(value, arrays[key]), key
    assert text["wavenumbers_per_cm"] == found.modes.wavenumbers.tolist()
    with pytest.raises(ConfigError, match="cannot be written"):
        save(found, tmp_path / "nowhere" / "all.json")


def test_an_analytic_hessian_needs_one_label_and_says_so_of_a_slope(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    stretched = [[0.0, 0.0, 0.0], [0.80, 0.0, 0.64], [-0.76, 0.0, 0.64]]
    file, level, database = prepare(tmp_path, positions=stretched)
    reference = make_reference(read_level(level))
    label_structures(read_structures(file), reference, Limits(), database, "one", 1, InlineExecutor)
    with caplog.at_level(logging.WARNING, logger="alflow"):
        found = hessian(file, level, database, None, 1, 0.005, True)
    assert found is not None
    assert found.modes.intensities is None
    assert rows(database, "SELECT count(*) FROM labels") == [(1,)]
    assert "this is no stationary point" in caplog.text + "".join(capsys.readouterr())


def test_what_cannot_be_used_is_said_in_one_sentence(tmp_path: Path) -> None:
    file, level, database = prepare(tmp_path, "engine: lennard-jones\n")
    with pytest.raises(ConfigError, match="--analytic needs PySCF; this level's engine is lennard-jones"):
        hessian(file, level, database, None, 1, 0.005, True)
    with pytest.raises(ConfigError, match="does not exist"):
        hessian(tmp_path / "none.xyz", level, database, None, 1, 0.005, False)
    with pytest.raises(ConfigError, match="--cores 0"):
        hessian(file, level, database, None, 0, 0.005, False)
    ase.io.write(file, [ase.Atoms("He"), ase.Atoms("He")])
    with pytest.raises(ConfigError, match="holds 2 structures; expected one"):
        hessian(file, level, database, None, 1, 0.005, False)
    ase.io.write(file, ase.Atoms("Ar", cell=[9, 9, 9], pbc=True), format="extxyz")
    with pytest.raises(ConfigError, match="is periodic"):
        hessian(file, level, database, None, 1, 0.005, False)
    assert not Path(database).exists()


def test_a_displaced_structure_without_a_label_is_named(tmp_path: Path) -> None:
    file, level, database = prepare(tmp_path, "functional: hf\nbasis: sto-3g\nspin_policy: reject\nmax_attempts: 1\n")
    ase.io.write(file, ase.Atoms("HH", [[0, 0, 0], [0, 0, 2.0]]))
    with pytest.raises(InputError, match=r"without which there is no Hessian; the first: .*break its spin symmetry"):
        hessian(file, level, database, None, 1, 0.005, False)
