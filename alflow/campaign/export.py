"""The data set as extended XYZ, or as lines of QCSchema."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alflow.campaign.qcschema import to_qcschema
from alflow.campaign.site import split_of
from alflow.domain import Label
from alflow.domain.ase import write_extxyz
from alflow.domain.identity import canonical_json
from alflow.errors import ConfigError
from alflow.store import FrameRecord, JobRecord, Store
from alflow.store.location import shown

__all__ = ["export_labels", "info_of"]


def export_labels(database: str, name: str | None, output: Path) -> int:
    """Write every label of one campaign, with where it comes from. Two levels of theory never meet in one file.

    Args:
        database: File or URL.
        name: Name of the campaign; may be left out when there is only one.
        output: File to write: QCSchema, one label a line, if its name ends in ``.jsonl``; else extended XYZ.

    Returns:
        How many were written.

    Raises:
        StoreError: No such database or campaign.
        ConfigError: There are no labels yet, the file cannot be written, or it cannot hold cells.
    """
    with Store.open(database, read_only=True) as store:
        campaign = store.campaign(name)
        rows = list(_labels(store, campaign.id, campaign.name))
    if not rows:
        raise ConfigError(f"{shown(database)} holds no label yet; there is nothing to export.")
    if output.exists() and Path(database).exists() and output.samefile(database):
        raise ConfigError(f"{output} is the database itself; choose another file for the export.")
    draft = output.with_name(f".{output.name}.part")
    try:
        if output.suffix == ".jsonl":
            lines = [canonical_json(to_qcschema(label, info)) + "\n" for label, info in rows]
            draft.write_text("".join(lines), encoding="utf-8")
        else:
            write_extxyz(draft, rows)
        draft.replace(output)
    except OSError as error:
        raise ConfigError(f"{output} cannot be written: {error.strerror}.") from None
    except ValueError as error:
        raise ConfigError(f"{output}: {error} Export to extended XYZ.") from None
    return len(rows)


def info_of(frame: FrameRecord, job: JobRecord, label: Label, campaign: str) -> dict[str, Any]:
    """What is told of a label in its comment line: where it comes from and what it is for."""
    info: dict[str, Any] = {
        "campaign": campaign,
        "frame_id": job.frame_id,
        "structure_id": job.structure_id,
        "level_id": job.level_id,
        "level": label.level.to_json(),
        "attempt": job.attempts,
        "host": str(label.provenance.get("host", "")),
        "versions": canonical_json(label.provenance.get("versions", {})),
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
        "extrapolation": frame.extrapolation,
    }
    return info | {key: value for key, value in optional.items() if value is not None}


def _labels(store: Store, campaign_id: int, name: str) -> Iterator[tuple[Label, dict[str, Any]]]:
    done = sorted(store.jobs(campaign_id, state="done"), key=lambda job: job.event_seq)
    labels = store.labels_by_id([(job.structure_id, job.level_id) for job in done])
    for job, label in zip(done, labels, strict=True):
        yield label, info_of(store.frame(job.frame_id), job, label, name)
