"""What is wrong in a file is said with its name and the frame, and nothing of it is guessed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from alflow.domain import Evaluation, Label, Level, Structure
from alflow.errors import FormatError
from alflow.formats import ReadSettings, open_source, write_labels
from alflow.units import ANG_PER_BOHR, EV_PER_HARTREE, EV_PER_KCAL_MOL

GOOD = "2\nProperties=species:S:1:pos:R:3:forces:R:3 energy=-1.5\nH 0 0 0 0 0 1\nH 0 0 0.74 0 0 -1\n"


def text(change: Callable[[str], str]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / "some.xyz"
        path.write_text(GOOD + change(GOOD))
        return path

    return write


def archive(**changes: object) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        arrays = {"nuclear_charges": [1, 1], "coords": np.zeros((3, 2, 3)), "energies": np.zeros(3)}
        arrays |= {"forces": np.zeros((3, 2, 3))} | changes
        arrays["coords"] = np.array(arrays["coords"]) + np.arange(2)[None, :, None]
        np.savez(folder / "some.npz", **{name: array for name, array in arrays.items() if array is not None})
        return folder / "some.npz"

    return write


def system(missing: str = "", **changes: object) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / "some" / "set.000").mkdir(parents=True)
        words = {"type.raw": "0 1", "type_map.raw": "O H"} | {k.replace("_raw", ".raw"): v for k, v in changes.items()}
        arrays = {"coord": (2, 6), "force": (2, 6), "energy": (2,), "box": (2, 9)}
        for name, shape in arrays.items():
            if name != missing:
                shape = changes.get(name, shape)
                np.save(folder / "some" / "set.000" / f"{name}.npy", np.ones(shape))
        for name, content in words.items():
            if name not in (missing, *arrays):
                (folder / "some" / name).write_text(str(content))
        return folder / "some"

    return write


def other(name: str, content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return write


NAN = np.zeros((3, 2, 3))
NAN[1, 0, 2] = np.nan
WRONG = [
    (
        text(lambda s: s.replace("energy=-1.5", "REF_energy=-1")),
        r"some\.xyz, frame 1: there is no energy .* REF_energy",
    ),
    (text(lambda s: s.replace("forces:R", "dft_force:R")), r"frame 1: there are no forces .* dft_force.*--forces-key"),
    (text(lambda s: s.replace("energy=-1.5", "energy=nan")), "frame 1: the energy must be a finite number"),
    (text(lambda s: s.replace("0 0 1\n", "0 0 inf\n")), "frame 1: the force on atom 0 is not finite"),
    (text(lambda s: s.replace("0 0 1\n", "0 0 x\n")), "frame 1: forces must be numbers"),
    (text(lambda s: s.replace("0 0 1\n", "0 0\n")), "frame 1: atom 0 has 6 columns; Properties names 7"),
    (text(lambda s: s.replace("H 0 0 0.74", "Xx 0 0 0.74")), "frame 1: .*Xx"),
    (text(lambda s: s.replace("energy", 'pbc="T T F" energy')), "frame 1: .*three independent cell vectors"),
    (text(lambda s: s.replace("energy", "charge=0.5 energy")), "frame 1: charge must be a whole number"),
    (text(lambda s: s[:-20]), "frame 1: "),
    (text(lambda s: "two\n"), "frame 1: expected the number of atoms"),
    (text(lambda s: "²\n"), "frame 1: expected the number of atoms"),
    (text(lambda s: "9" * 20 + s), "frame 1: expected the number of atoms"),
    (text(lambda s: "999999999\n"), "frame 1: the file ends within the frame of 999999999 atoms"),
    (
        text(lambda s: s.replace("energy", "level_id=x energy")),
        "frame 1: the level of theory in the file cannot",
    ),
    (archive(forces=NAN), r"some\.npz, frame 1: the force on atom 0 is not finite"),
    (archive(forces=np.zeros((3, 3, 3))), r"forces of 3 frames of 2 atoms have shape \(3, 2, 3\); found \(3, 3, 3\)"),
    (archive(forces=None), "has no forces or F"),
    (archive(energies=np.zeros(2)), r"shape \(2, 2, 3\)"),
    (archive(energies=np.array(["a", "b", "c"])), "energies must be numbers"),
    (system("force"), r"set\.000 has no force\.npy"),
    (system("box"), r"set\.000 has no box\.npy"),
    (system("type_map.raw"), r"no type_map\.raw, and numbers say nothing of elements"),
    (system(type_raw="0 7"), r"type\.raw must hold one number from 0 to 1"),
    (system(coord=(2, 9)), r"coord\.npy: 2 frames need the shape \(2, 6\); found \(2, 9\)"),
    (other("some.npz", b"no archive"), r"some\.npz cannot be read: expected an archive"),
    (other("some.db", b"SQLite is something else"), r"some\.db cannot be read as a database of ASE"),
    (other("some.h5", b"no HDF5"), r"some\.h5 cannot be read as HDF5"),
    (other("some.txt", b""), "the name does not tell the format"),
    (other("some.xyz", b"\xff\xfe\x00"), "this is no text"),
]


@pytest.mark.parametrize(("write", "said"), WRONG, ids=[said[:40] for _, said in WRONG])
def test_a_file_that_is_wrong_is_refused(tmp_path: Path, write: Callable[[Path], Path], said: str) -> None:
    with pytest.raises(FormatError, match=said):
        list(open_source(write(tmp_path)))


@pytest.mark.parametrize("name", ["some.h5", "some.db", "some", "some.npz"])
def test_bytes_that_are_not_what_was_written_are_refused_or_make_no_difference(tmp_path: Path, name: str) -> None:
    """Whatever the libraries below make of it, nothing else is raised."""
    water = Structure.of("OHH", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    path = tmp_path / name
    if name == "some.npz":
        archive()(tmp_path)
    else:
        write_labels(path, [(Label(water, Level("toy", {}), Evaluation(-1.0, np.zeros((3, 3)))), {})])
    dice = np.random.default_rng(0)
    refused = 0
    for file in [part for part in path.rglob("*") if part.is_file()] if path.is_dir() else [path]:
        good = file.read_bytes()
        for _ in range(40):
            bad, run = bytearray(good), 1 + len(good) // 30
            begin = dice.integers(len(good)) if good else 0
            bad[begin : begin + run] = dice.bytes(len(bad[begin : begin + run]))
            file.write_bytes(bad)
            try:
                list(open_source(path))
            except FormatError:
                refused += 1
        file.write_bytes(good)
    assert refused > 0


def test_units_are_those_of_the_format_or_those_that_are_said(tmp_path: Path) -> None:
    (first, *_) = open_source(archive(energies=np.full(3, 2.0), forces=np.ones((3, 2, 3)))(tmp_path))
    assert first.evaluation.energy == 2.0 * EV_PER_KCAL_MOL
    np.testing.assert_array_equal(first.evaluation.forces, np.full((2, 3), EV_PER_KCAL_MOL))
    atomic = ReadSettings(energy_unit="Ha", length_unit="Bohr")
    (first, *_) = open_source(tmp_path / "some.npz", settings=atomic)
    assert first.evaluation.energy == 2.0 * EV_PER_HARTREE
    np.testing.assert_array_equal(first.structure.positions[1], np.full(3, ANG_PER_BOHR))
    np.testing.assert_allclose(first.evaluation.forces, EV_PER_HARTREE / ANG_PER_BOHR, rtol=1e-15)
    (first, *_) = open_source(tmp_path / "some.npz", settings=ReadSettings(force_unit="eV/Ang"))
    np.testing.assert_array_equal(first.evaluation.forces, np.ones((2, 3)))
    with pytest.raises(FormatError, match=r"'kcal' is no unit of energies.*Did you mean 'kcal/mol'"):
        open_source(tmp_path / "some.npz", settings=ReadSettings(energy_unit="kcal"))


def test_names_in_extended_xyz_can_be_said(tmp_path: Path) -> None:
    path = tmp_path / "some.xyz"
    lattice = 'Lattice="4 0 0 0 4 0 0 0 4" dft_stress="1 2 3 0.4 0.5 0.6" '
    path.write_text(GOOD.replace("energy", f"{lattice}dft_energy").replace("forces:R", "dft_forces:R"))
    names = ReadSettings(
        energy_key="dft_energy", forces_key="dft_forces", stress_key="dft_stress", stress_unit="GPa", multiplicity=3
    )
    (entry,) = open_source(path, settings=names)
    assert (entry.evaluation.energy, entry.structure.multiplicity) == (-1.5, 3)
    assert entry.evaluation.stress is not None
    expected = np.array([[1, 0.6, 0.5], [0.6, 2, 0.4], [0.5, 0.4, 3]]) / 160.2176634
    np.testing.assert_allclose(entry.evaluation.stress, expected, rtol=1e-14)


def test_a_virial_in_extended_xyz_becomes_a_stress(tmp_path: Path) -> None:
    path = tmp_path / "some.xyz"
    path.write_text(GOOD.replace("energy", 'Lattice="4 0 0 0 4 0 0 0 4" virial="64 0 0 0 64 0 0 0 64" energy'))
    (entry,) = open_source(path)
    np.testing.assert_allclose(entry.evaluation.stress, -np.eye(3), rtol=1e-15)


def test_a_database_of_ase_that_cannot_be_written_is_no_defect(tmp_path: Path) -> None:
    water = Structure.of("OHH", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    labels = [(Label(water, Level("toy", {}), Evaluation(-1.0, np.zeros((3, 3)))), {})]
    with pytest.raises(OSError, match="unable to open"):
        write_labels(tmp_path / "no such folder" / "some.db", labels)


def test_a_device_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.xyz")
    with pytest.raises(FormatError, match="is in the way"):
        write_labels(tmp_path / "pipe.xyz", [])
