"""The labels of a campaign as a file: extended XYZ, ASE's database, DeePMD's folders, HDF5, or lines of QCSchema."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, get_args

from alflow.campaign.qcschema import to_qcschema
from alflow.campaign.site import split_of
from alflow.domain.identity import canonical_json
from alflow.errors import ConfigError, FormatError, did_you_mean
from alflow.formats import Exported, write_labels
from alflow.store import FrameRecord, JobRecord, Split, Store
from alflow.store.location import shown

__all__ = ["export_labels", "told_of", "write_file"]

BATCH: Final = 1000
"""Labels that are in memory at once."""


def export_labels(
    database: str, name: str | None, output: Path, split: str | None = None, form: str | None = None
) -> int:
    """Write labels of one campaign, with where each comes from. Two levels of theory never meet in one file.

    Args:
        database: File or URL.
        name: Name of the campaign; may be left out when there is only one.
        output: What to write; see :func:`write_file`.
        split: Only those of this part of the data set: ``train``, ``validation`` or ``audit``.
        form: The format, if the name of the file does not tell.

    Returns:
        How many were written.

    Raises:
        StoreError: No such database or campaign.
        ConfigError: There are no such labels, or the file cannot be written.
        FormatError: The format cannot hold them.
    """
    if split is not None and split not in get_args(Split):
        known = get_args(Split)
        raise ConfigError(f"--split {split}: expected {', '.join(known)}.{did_you_mean(split, known)}")
    if output.exists() and Path(database).exists() and output.samefile(database):
        raise ConfigError(f"{output} is the database itself; choose another file for the export.")
    with Store.open(database, read_only=True) as store:
        campaign = store.campaign(name)
        done = sorted(store.jobs(campaign.id, state="done"), key=lambda job: job.event_seq)
        wanted = [job for job in done if split in (None, split_of(job.structure_id, job.purpose))]
        if not wanted:
            of_split = f" of the split {split}" if done else ""
            raise ConfigError(f"{shown(database)} holds no label{of_split} yet; there is nothing to export.")
        about = {"campaign": campaign.name, "campaign_uuid": campaign.uuid, "alflow_version": version("alflow")}
        told = {"campaign": campaign.name, "alflow_version": about["alflow_version"]}
        return write_file(output, _labels(store, told, wanted), form, about)


def write_file(output: Path, rows: Iterable[Exported], form: str | None, about: dict[str, Any]) -> int:
    """Write labels, from wherever they come; the file appears whole or not at all.

    Args:
        output: QCSchema, one label a line, if its name ends in ``.jsonl``; else what its name says, as in
            :func:`alflow.formats.write_labels`.
        rows: Each label with what else is told of it.
        form: The format, if the name does not tell.
        about: What is told of all of them.

    Returns:
        How many were written.

    Raises:
        ConfigError: The file cannot be written, or QCSchema cannot hold a cell.
        FormatError: The format cannot hold these labels.
    """
    try:
        if output.suffix == ".jsonl" and form is None:
            return _write_qcschema(output, rows)
        return write_labels(output, rows, form, about)
    except OSError as error:
        raise ConfigError(f"{output} cannot be written: {error.strerror or error}.") from None
    except FormatError:
        raise
    except ValueError as error:
        raise ConfigError(f"{output}: {error} Export to extended XYZ.") from None


def _write_qcschema(output: Path, rows: Iterable[Exported]) -> int:
    draft, number = output.with_name(f".{output.name}.part"), 0
    try:
        with draft.open("w", encoding="utf-8") as file:
            for label, told in rows:
                origin = {"structure_id": label.structure.id, "level": label.level.to_json(), **told}
                file.write(canonical_json(to_qcschema(label, origin)) + "\n")
                number += 1
        draft.replace(output)
    finally:
        draft.unlink(missing_ok=True)
    return number


def _labels(store: Store, about: Mapping[str, Any], jobs: Sequence[JobRecord]) -> Iterator[Exported]:
    """Labels with what the campaign knows of them, read in batches."""
    for begin in range(0, len(jobs), BATCH):
        some = jobs[begin : begin + BATCH]
        labels = store.labels_by_id([(job.structure_id, job.level_id) for job in some])
        frames = store.frames_by_id(job.frame_id for job in some)
        for job, label in zip(some, labels, strict=True):
            yield label, {**about, **told_of(job, frames[job.frame_id])}


def told_of(job: JobRecord, frame: FrameRecord) -> dict[str, Any]:
    """What a campaign knows of a label: where it comes from and what it is for."""
    told: dict[str, Any] = {
        "frame_id": job.frame_id,
        "attempt": job.attempts,
        "purpose": job.purpose,
        "split": split_of(job.structure_id, job.purpose),
    }
    optional = {
        "walker": frame.walker,
        "step": frame.step,
        "generation": frame.generation,
        "disagreement_ev_ang": frame.disagreement,
        "extrapolation": frame.extrapolation,
    }
    return told | {key: value for key, value in optional.items() if value is not None}
