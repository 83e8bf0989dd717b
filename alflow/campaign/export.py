"""The data set as extended XYZ."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alflow.campaign.site import split_of
from alflow.domain import Label
from alflow.domain.ase import write_extxyz
from alflow.errors import ConfigError
from alflow.store import Store
from alflow.store.location import shown

__all__ = ["export_labels"]


def export_labels(database: str, name: str | None, output: Path) -> int:
    """Write every label of one campaign, or of all, with where it comes from.

    Args:
        database: File or URL.
        name: Name of a campaign; None for every campaign.
        output: Extended XYZ file to write.

    Returns:
        How many were written.

    Raises:
        StoreError: No such database or campaign.
        ConfigError: There are no labels yet, or the file cannot be written.
    """
    with Store.open(database, read_only=True) as store:
        chosen = [store.campaign(name)] if name is not None else store.campaigns()
        rows = [row for campaign in chosen for row in _labels(store, campaign.id, campaign.name)]
    if not rows:
        raise ConfigError(f"{shown(database)} holds no label yet; there is nothing to export.")
    try:
        write_extxyz(output, rows)
    except OSError as error:
        raise ConfigError(f"{output} cannot be written: {error.strerror}.") from None
    return len(rows)


def _labels(store: Store, campaign_id: int, name: str) -> Iterator[tuple[Label, dict[str, Any]]]:
    done = sorted(store.jobs(campaign_id, state="done"), key=lambda job: job.event_seq)
    labels = store.labels_by_id([(job.structure_id, job.level_id) for job in done])
    for job, label in zip(done, labels, strict=True):
        frame = store.frame(job.frame_id)
        info: dict[str, Any] = {
            "campaign": name,
            "frame_id": job.frame_id,
            "structure_id": job.structure_id,
            "level_id": job.level_id,
            "engine": label.level.engine,
            "purpose": job.purpose,
            "split": split_of(job.structure_id, job.purpose),
            "charge": label.structure.charge,
            "multiplicity": label.structure.multiplicity,
        }
        optional = {
            "walker": frame.walker,
            "step": frame.step,
            "generation": frame.generation,
            "disagreement_ev_ang": frame.disagreement,
        }
        info.update({key: value for key, value in optional.items() if value is not None})
        yield label, info
