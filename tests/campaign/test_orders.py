"""Training data grows from order to order, and each label is read from the database once."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from alflow.campaign.launch import run_campaign
from alflow.campaign.orders import Orders, dataset_digest
from alflow.domain import Label
from alflow.store import Store
from tests.postgresql import address

from .toys import toy


def test_what_was_read_for_one_training_is_not_read_for_the_next(tmp_path: Path, monkeypatch: Any) -> None:
    run_campaign(toy(tmp_path))
    with Store.open(address(tmp_path / "toy.db"), read_only=True) as store:
        site: Any = SimpleNamespace(campaign_id=store.campaign().id)
        nothing: Any = None
        read: list[int] = []
        labels_by_id = store.labels_by_id

        def counted(pairs: Iterable[tuple[str, str]]) -> list[Label]:
            labels = labels_by_id(pairs)
            read.append(len(labels))
            return labels

        monkeypatch.setattr(store, "labels_by_id", counted)
        kept = Orders(store, nothing, site, nothing)
        trained = [record for record in store.committees(site.campaign_id) if record.dataset_digest]
        sizes = [len(store.dataset_members(record.dataset_digest)) for record in trained]
        assert len(sizes) > 2
        assert sizes == sorted(sizes)
        assert [dataset_digest(kept.dataset(n)) for n in sizes] == [record.dataset_digest for record in trained]
        assert sum(read) == len(store.jobs(site.campaign_id, state="done")) >= sizes[-1]
        assert dataset_digest(kept.dataset(sizes[0])) == trained[0].dataset_digest
