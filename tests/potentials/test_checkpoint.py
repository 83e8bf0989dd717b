from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from alflow.domain.identity import digest_of_bytes
from alflow.errors import CheckpointError
from alflow.potentials import load_committee
from alflow.tensors import to_batch
from tests.potentials.committees import ETHANOL, ethanol_committee


def _rewritten(path: Path, **changes: object) -> None:
    """Save the committee with another description."""
    ethanol_committee().save(path)
    tensors = load_file(path)
    description = {"format": "alflow-committee", "version": 2, "elements": [1, 6, 8], "view_labels": 12}
    description |= {"model": ethanol_committee().model.model_dump(mode="json")} | changes
    save_file(tensors, path, {"alflow": json.dumps(description)})


def test_a_committee_survives_the_disk_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "committee.safetensors"
    sha256 = ethanol_committee().save(path)
    assert sha256 == digest_of_bytes(path.read_bytes())
    loaded = load_committee(path, sha256)
    assert loaded.model == ethanol_committee().model
    assert loaded.elements == (1, 6, 8)
    assert loaded.view_labels == ethanol_committee().view_labels
    before, after = (c.predict(to_batch([ETHANOL])) for c in (ethanol_committee(), loaded))
    assert torch.equal(before.energies, after.energies)
    assert torch.equal(before.forces, after.forces)
    assert [p.name for p in tmp_path.iterdir()] == [path.name], "no draft is left behind"


def test_saving_twice_gives_the_same_file(tmp_path: Path) -> None:
    assert ethanol_committee().save(tmp_path / "a") == ethanol_committee().save(tmp_path / "b")


def test_a_committee_loads_in_single_precision(tmp_path: Path) -> None:
    ethanol_committee().save(tmp_path / "c")
    loaded = load_committee(tmp_path / "c", dtype=torch.float32)
    assert loaded.dtype == torch.float32
    assert loaded.atomic_energies.dtype == torch.float64


@pytest.mark.parametrize("place", [20, 600, -1])
def test_one_altered_byte_is_refused(tmp_path: Path, place: int) -> None:
    path = tmp_path / "committee.safetensors"
    sha256 = ethanol_committee().save(path)
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match="altered or damaged"):
        load_committee(path, sha256)


def test_a_truncated_file_is_refused_without_a_hash(tmp_path: Path) -> None:
    path = tmp_path / "committee.safetensors"
    ethanol_committee().save(path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(CheckpointError, match="damaged"):
        load_committee(path)


def test_an_unknown_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "committee.safetensors"
    _rewritten(path, version=3)
    with pytest.raises(CheckpointError, match=r"version 3; this alflow reads 'alflow-committee' up to version 2"):
        load_committee(path)


def test_an_unknown_model_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "committee.safetensors"
    _rewritten(path, model={"hiden": 3})
    with pytest.raises(CheckpointError, match="hidden"):
        load_committee(path)


def test_someone_elses_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="not one of alflow's"):
        load_committee(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.safetensors cannot be read"):
        load_committee(tmp_path / "nowhere.safetensors")
