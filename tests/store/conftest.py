"""Two real databases, and a small campaign to put into them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alflow.domain import Evaluation, Label, Level, Structure
from alflow.store import CampaignRecord, FrameRecord, Holder, JobRecord, Lease, Store
from tests.postgresql import emptied


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of an empty database."""
    return str(tmp_path / "store.db") if request.param == "sqlite" else emptied(request.getfixturevalue("postgres"))


@pytest.fixture
def store(target: str) -> Iterator[Store]:
    with Store.open(target, create=True) as opened:
        yield opened


@pytest.fixture
def campaign(store: Store) -> CampaignRecord:
    return store.create_campaign("water", {"walkers": 2, "cutoff_ang": 5.5}, seed=7)


@pytest.fixture
def lease(store: Store, campaign: CampaignRecord) -> Lease:
    return store.acquire(campaign.id, Holder.current())


class Samples:
    """Structures, labels, frames and jobs by number."""

    level = Level("toy", {"well_ev": 4.5})

    def structure(self, number: int) -> Structure:
        """A water molecule, a little different for each number."""
        stretched = 0.96 + 0.001 * number
        return Structure.of("OHH", [[0.0, 0.0, 0.0], [stretched, 0.0, 0.0], [-0.24, 0.93, 0.0]])

    def label(self, number: int) -> Label:
        forces = np.random.default_rng(number).normal(size=(3, 3))
        evaluation = Evaluation(-76.0 - number / 7, forces, diagnostics={"scf_cycles": number})
        return Label(self.structure(number), self.level, evaluation, {"host": "node1", "wall_s": 1.5})

    def frame(self, campaign_id: int, number: int, **changes: Any) -> FrameRecord:
        plain = FrameRecord(
            id=f"w0-s{number:06d}",
            campaign_id=campaign_id,
            structure_id=self.structure(number).id,
            origin="walker",
            decision="flagged",
            walker=0,
            step=number,
            time=0.5 * number,
            generation=1,
            disagreement=0.31,
            threshold=0.25,
            event_seq=number,
        )
        return replace(plain, **changes)

    def job(self, campaign_id: int, number: int, **changes: Any) -> JobRecord:
        plain = JobRecord(
            id=f"job-{number}",
            campaign_id=campaign_id,
            frame_id=f"w0-s{number:06d}",
            structure_id=self.structure(number).id,
            level_id=self.level.id,
            purpose="flagged",
        )
        return replace(plain, **changes)


@pytest.fixture
def samples() -> Samples:
    return Samples()
