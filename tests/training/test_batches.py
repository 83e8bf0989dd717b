"""Labels as a torch data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from alflow.domain import Evaluation, Label, Level, Structure
from alflow.errors import InputError
from alflow.store import FrameRecord, Holder, JobRecord, Store
from alflow.training import LabelBatches

LEVEL = Level("toy", {})


def label(number: int) -> Label:
    atoms = "OHH" if number % 2 else "CHHHH"
    structure = Structure.of(atoms, np.random.default_rng(number).normal(size=(len(atoms), 3)))
    return Label(structure, LEVEL, Evaluation(-number / 3, np.full((len(atoms), 3), float(number))))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.open(tmp_path / "store.db", create=True)
    lease = store.acquire(store.create_campaign("mixed", {}, seed=1).id, Holder.current())
    with store.transaction(lease) as tx:
        tx.add_level(LEVEL)
        for number in range(7):
            it, name = label(number), f"f{number}"
            seq = tx.append_event("label_done", {})
            frame = FrameRecord(name, lease.campaign_id, it.structure.id, "seed", "seed", event_seq=seq)
            tx.add_frame(frame, it.structure)
            tx.add_label(it)
            job = JobRecord(name, lease.campaign_id, name, *it.key, purpose="seed", state="done", event_seq=seq)
            tx.put_job(job)
    return store


def test_selected_labels_become_padded_batches_in_their_order(store: Store) -> None:
    selected = LabelBatches(store.select("n_atoms > 2").labels, size=3)
    for _ in range(2):  # epochs
        batches = list(DataLoader(selected, batch_size=None))
        assert [len(batch.energies) for batch in batches] == [3, 3, 1]
        energies = torch.cat([batch.energies for batch in batches])
        assert torch.equal(energies, torch.tensor([-number / 3 for number in range(7)], dtype=torch.float64))
        first = batches[0]
        assert first.forces.shape == first.structures.positions.shape == (3, 5, 3)
        assert first.structures.n_atoms.tolist() == [5, 3, 5]
        assert torch.equal(first.forces[1, :3], torch.ones(3, 3, dtype=torch.float64))
        assert not first.forces[1, 3:].any()
    (water,) = list(LabelBatches(store.select("formula = H2O").labels, dtype=torch.float32))
    assert water.forces.dtype == water.structures.positions.dtype == torch.float32
    store.close()


def test_what_cannot_be_done_is_said(store: Store) -> None:
    with pytest.raises(InputError, match="at least one label; found size=0"):
        LabelBatches(store.select().labels, size=0)
    selected = LabelBatches(store.select().labels)
    with pytest.raises(InputError, match="use num_workers=0"):
        list(DataLoader(selected, batch_size=None, num_workers=1, multiprocessing_context="fork"))
    store.close()
