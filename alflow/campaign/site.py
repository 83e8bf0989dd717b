"""Where one campaign lives: its structures and reference, its folders, its names for frames and executions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alflow.campaign.config import CampaignConfig
from alflow.domain import Reference, Structure
from alflow.domain.identity import content_id
from alflow.store import CampaignRecord, Split
from alflow.store.location import is_server

__all__ = [
    "PATIENCE_S",
    "Site",
    "execution_key",
    "folder_of",
    "frame_name",
    "split_of",
    "structure_from_json",
    "structure_to_json",
    "working_folder",
]

DETACHMENT_ANG = 4.0
"""A molecule's atom farther than this from every other has left it, Å."""

CONTACT_FACTOR = 0.6
"""Two atoms closer than this times the sum of their covalent radii are no structure to move from."""

PATIENCE_S = 90.0
"""How long a campaign waits for a database that went away, before it pauses, s."""

VALIDATION_SHARE = 10
"""One in this many labels, chosen by its hash, judges new committees instead of being learnt from."""


@dataclass(frozen=True)
class Site:
    """What carrying out a campaign needs besides its state.

    Attributes:
        campaign_id: Its row in the database.
        config: What the user asked for.
        structures: The starting structures.
        reference: What makes the labels.
        folder: Where its files live.
    """

    campaign_id: int
    config: CampaignConfig
    structures: tuple[Structure, ...]
    reference: Reference
    folder: Path

    @property
    def spool(self) -> Path:
        """Where label processes leave results before they are committed."""
        return self.folder / "spool"

    @property
    def weights(self) -> Path:
        """Where committees live, each named by the hash of its file."""
        return self.folder / "weights"


def working_folder(database: str, name: str) -> Path:
    """The folder of a campaign's files: beside an SQLite file and named after both, else in the folder one stands in.

    Examples:
        >>> working_folder("runs/ethanol.db", "ethanol").as_posix()
        'runs/ethanol.alflow'
        >>> working_folder("postgresql+psycopg://host/db", "ethanol").as_posix()
        'ethanol.alflow'
    """
    if is_server(database):
        return Path(f"{name}.alflow")
    path = Path(database.removeprefix("sqlite:///"))
    return path.parent / (f"{name}.alflow" if path.stem == name else f"{path.stem}.{name}.alflow")


def folder_of(record: CampaignRecord, database: str) -> Path:
    """Where a campaign's files are: beside an SQLite file, wherever that is now; else in the folder it was begun in."""
    begun_in = record.config.get("folder")
    return Path(begun_in) if begun_in else working_folder(database, record.name)


def frame_name(campaign_id: int, origin: str, walker: int, step: int, structure_id: str, task: str = "") -> str:
    """Name a frame by content: the same frame of the same campaign always has the same 16 characters.

    With a task in it: a walker that comes to the same structure again, after its label was dropped, sees a new frame.
    """
    fields = {"campaign": campaign_id, "origin": origin, "walker": walker, "step": step, "structure": structure_id}
    fields |= {"task": task} if task else {}
    return content_id("frame", fields)[:16]


def execution_key(campaign_id: int, epoch: int, task: str) -> str:
    """Name one execution: a task started again by a later orchestrator is another execution.

    Examples:
        >>> execution_key(1, 2, "train-t3")
        'c1-e2-train-t3'
    """
    return f"c{campaign_id}-e{epoch}-{task}"


def split_of(structure_id: str, purpose: str) -> Split:
    """Which part of the data set a label belongs to, for good: audit, validation or train.

    Seeds are always learnt from: the first committee needs every one of them. Of the others the choice between
    training and validation hangs on the structure's hash alone, so a label never moves from one to the other between
    generations.
    """
    if purpose == "audit":
        return "audit"
    if purpose == "seed":
        return "train"
    return "validation" if int(structure_id[:8], 16) % VALIDATION_SHARE == 0 else "train"


def structure_to_json(structure: Structure) -> dict[str, Any]:
    """Write a structure as JSON values; every number survives exactly."""
    return {
        "numbers": structure.numbers.tolist(),
        "positions_ang": structure.positions.tolist(),
        "cell_ang": structure.cell.tolist(),
        "pbc": structure.pbc.tolist(),
        "charge": structure.charge,
        "multiplicity": structure.multiplicity,
    }


def structure_from_json(data: Mapping[str, Any]) -> Structure:
    """Read a structure back, with the same id.

    Examples:
        >>> hydrogen = Structure.of("HH", [[0, 0, 0], [0.1 + 0.2, 0, 0.74]])
        >>> structure_from_json(structure_to_json(hydrogen)) == hydrogen
        True
    """
    return Structure.of(
        data["numbers"], data["positions_ang"], data["cell_ang"], data["pbc"], data["charge"], data["multiplicity"]
    )
