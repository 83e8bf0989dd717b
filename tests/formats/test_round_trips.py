"""What goes into a file comes out of it: bit for bit where docs/data.md says so, else within the bound it states."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from ase import Atoms
from ase.db import connect
from ase.io import read, write
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from alflow.domain import Evaluation, Label, Structure
from alflow.formats import Entry, open_source, write_labels

from .labels import LEVEL, content, labels

few = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a failing file shrinks for minutes
)
several = st.lists(labels(), min_size=1, max_size=4)
TOLD = {"campaign": "one two", "split": "train", "purpose": "flagged", "step": 7}


def through(written: list[Label], name: str) -> list[Entry]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        assert write_labels(path, [(label, TOLD) for label in written]) == len(written)
        assert [item.name for item in Path(folder).iterdir()] == [name], "no draft is left"
        source = open_source(path)
        entries = list(source)
        assert len(source) == len(entries)
        return entries


@few
@given(several)
def test_extended_xyz_keeps_every_bit(written: list[Label]) -> None:
    found = through(written, "labels.xyz")
    assert [content(entry) for entry in found] == [content(label) for label in written]
    assert found[0].told["split"] == "train"
    assert found[0].told["provenance"] == written[0].provenance


@few
@given(several)
def test_hdf5_keeps_every_bit(written: list[Label]) -> None:
    found = through(written, "labels.h5")
    assert [content(entry) for entry in found] == [content(label) for label in written]
    assert found[0].told == {**TOLD, "provenance": written[0].provenance}


@settings(few, max_examples=15)
@given(several)
def test_a_database_of_ase_keeps_every_bit(written: list[Label]) -> None:
    found = through(written, "labels.db")
    assert [content(entry) for entry in found] == [content(label) for label in written]
    assert found[0].told == {**TOLD, "provenance": written[0].provenance}


@few
@given(st.lists(labels(partly=False), min_size=1, max_size=4))
def test_deepmd_keeps_every_bit_but_the_last_of_the_stress(written: list[Label]) -> None:
    """The virial is −V times the stress; the way back divides again. Labels of one kind stand together."""
    found = {entry.structure.id: entry for entry in through(written, "deepmd")}
    for label in {label.structure.id: label for label in written}.values():
        entry = found[label.structure.id]
        stress, again = label.evaluation.stress, entry.evaluation.stress
        assert (stress is None) == (again is None)
        if stress is not None and again is not None:
            np.testing.assert_allclose(again, stress, rtol=1e-15, atol=1e-300)
        assert entry.structure == label.structure
    same = [content(label)[:3] for label in written]
    assert sorted(content(entry)[:3] for entry in through(written, "deepmd")) == sorted(same)
    assert sorted(str(entry.evaluation.diagnostics) for entry in found.values()) == sorted(
        str(dict(sorted(label.evaluation.diagnostics.items())))
        for label in {label.structure.id: label for label in written}.values()
    )


@few
@given(several)
def test_ase_reads_what_is_written_as_extended_xyz(written: list[Label]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "labels.extxyz"
        write_labels(path, [(label, {**TOLD, "reason": ""}) for label in written])
        for atoms, label in zip(read(path, index=":", format="extxyz"), written, strict=True):
            structure, evaluation = label.structure, label.evaluation
            np.testing.assert_array_equal(atoms.positions, structure.positions)
            np.testing.assert_array_equal(atoms.numbers, structure.numbers)
            np.testing.assert_array_equal(atoms.cell.array, structure.cell)
            np.testing.assert_array_equal(atoms.pbc, structure.pbc)
            assert (atoms.info["charge"], atoms.info["multiplicity"]) == (structure.charge, structure.multiplicity)
            assert atoms.get_potential_energy() == evaluation.energy
            np.testing.assert_array_equal(atoms.get_forces(), evaluation.forces)
            if evaluation.stress is not None:
                np.testing.assert_array_equal(atoms.get_stress(voigt=False), evaluation.stress)
            assert atoms.info["split"] == "train"
            assert atoms.info["level_id"] == label.level.id
            assert json.loads(atoms.info["level"]) == json.loads(label.level.to_json())
            assert json.loads(atoms.info["versions"]) == {"alflow": "0.1"}


@few
@given(several)
def test_what_ase_writes_as_extended_xyz_is_read_as_ase_reads_it(written: list[Label]) -> None:
    """Our reader and ASE's agree on every number of a file that ASE wrote."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "ase.xyz"
        write_labels(path, [(label, {}) for label in written])
        frames = read(path, index=":")
        for atoms in frames:
            atoms.info.pop("level_id", None)
        write(path, frames, format="extxyz")
        for atoms, entry in zip(read(path, index=":"), open_source(path), strict=True):
            np.testing.assert_array_equal(atoms.positions, entry.structure.positions)
            np.testing.assert_array_equal(atoms.cell.array, entry.structure.cell)
            assert atoms.get_potential_energy() == entry.evaluation.energy
            np.testing.assert_array_equal(atoms.get_forces(), entry.evaluation.forces)
            if entry.evaluation.stress is not None:
                np.testing.assert_array_equal(atoms.get_stress(voigt=False), entry.evaluation.stress)


def test_ase_reads_its_own_database(tmp_path: Path) -> None:
    cell = silicon()
    stress = np.array([[1.0, 0.1, 0.2], [0.1, 2.0, 0.3], [0.2, 0.3, 3.0]]) / 7
    label = Label(cell, LEVEL, Evaluation(-10.0 / 3, np.full((2, 3), 1 / 3), stress, {"gap_ev": 0.6}))
    write_labels(tmp_path / "out.db", [(label, TOLD)])
    with connect(tmp_path / "out.db") as database:
        (row,) = database.select()
        atoms = row.toatoms()
        assert (row.energy, row.split, row.total_charge) == (-10.0 / 3, "train", 0)
        assert row.data["alflow"]["diagnostics"] == {"gap_ev": 0.6}
    np.testing.assert_array_equal(atoms.get_forces(), label.evaluation.forces)
    np.testing.assert_array_equal(atoms.get_stress(voigt=False), stress)
    np.testing.assert_array_equal(atoms.positions, cell.positions)


def silicon() -> Structure:
    return Structure.of(["Si", "Si"], [[0, 0, 0], [1.3575, 1.3575, 1.3575]], np.eye(3) * 5.43)


def test_a_folder_of_deepmd_has_the_files_and_shapes_of_its_documentation(tmp_path: Path) -> None:
    water = Structure.of("OHH", [[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]], charge=1, multiplicity=2)
    stress = np.diag([0.1, 0.2, 0.3])
    crystal = Label(silicon(), LEVEL, Evaluation(-1.0, np.zeros((2, 3)), stress))
    molecule = Label(water, LEVEL, Evaluation(-2.0, np.ones((3, 3))))
    write_labels(tmp_path / "deepmd", [(crystal, {}), (molecule, {}), (crystal, {})])
    first, second = sorted((tmp_path / "deepmd").iterdir())
    assert (first.name, second.name) == ("H2O-001", "Si2-000")
    assert (first / "type.raw").read_text() == "1\n0\n0\n"
    assert (first / "type_map.raw").read_text() == "H\nO\n"
    assert (first / "nopbc").exists()
    assert not (second / "nopbc").exists()
    shapes = {path.stem: np.load(path).shape for path in sorted((second / "set.000").glob("*.npy"))}
    assert shapes == {"box": (2, 9), "coord": (2, 6), "energy": (2,), "force": (2, 6), "virial": (2, 9)}
    assert np.load(second / "set.000" / "coord.npy").dtype == np.float64
    assert sorted(path.stem for path in (first / "set.000").glob("*.npy")) == ["coord", "energy", "force"]
    virial = np.load(second / "set.000" / "virial.npy")[0].reshape(3, 3)
    np.testing.assert_allclose(virial, -stress * 5.43**3, rtol=1e-14)


def test_the_virial_of_deepmd_has_the_sign_of_compression(tmp_path: Path) -> None:
    """W = −dE/dε: a crystal that wants to grow has a positive virial and, under compression, a negative stress."""
    atoms = Atoms("Ar", cell=np.eye(3) * 3.0, pbc=True)
    strained = [1.0 / float(Atoms(atoms, cell=atoms.cell * (1 + e)).get_volume()) ** 2 for e in (-1e-5, 1e-5)]
    slope = (strained[1] - strained[0]) / 2e-5  # dE/dε of all three directions together, E = 1/V²
    virial = np.eye(3) * (-slope / 3)
    folder = tmp_path / "argon"
    (folder / "set.000").mkdir(parents=True)
    (folder / "type.raw").write_text("0\n")
    (folder / "type_map.raw").write_text("Ar\n")
    arrays = {"coord": np.zeros((1, 3)), "box": np.eye(3).reshape(1, 9) * 3.0, "energy": np.array([27.0**-2])}
    arrays |= {"force": np.zeros((1, 3)), "virial": virial.reshape(1, 9)}
    for name, array in arrays.items():
        np.save(folder / "set.000" / f"{name}.npy", array.astype(np.float32))
    (entry,) = open_source(folder)
    assert entry.evaluation.stress is not None
    pressure = 2.0 / 27.0**3  # −dE/dV
    np.testing.assert_allclose(entry.evaluation.stress, -pressure * np.eye(3), rtol=1e-5)


@pytest.mark.parametrize("name", ["again.xyz", "again.h5", "again.db", "again"])
def test_a_file_is_replaced_whole_or_stays(tmp_path: Path, name: str) -> None:
    label = Label(silicon(), LEVEL, Evaluation(-1.0, np.zeros((2, 3))))
    path = tmp_path / name
    write_labels(path, [(label, {})])

    def broken() -> list[tuple[Label, dict[str, str]]]:
        yield label, {}
        raise RuntimeError("the database went away")

    with pytest.raises(RuntimeError):
        write_labels(path, broken())
    assert len(list(open_source(path))) == 1
    write_labels(path, [(label, {}), (label, {})])
    assert len(list(open_source(path))) == 2
    assert [item.name for item in tmp_path.iterdir()] == [name]
