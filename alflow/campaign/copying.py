"""A campaign in another database: its rows, and the files that belong to it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from alflow.campaign.site import folder_of, working_folder
from alflow.errors import StoreError
from alflow.store import CampaignRecord, Store
from alflow.store.copying import Copied, copy_campaigns
from alflow.store.location import is_server, shown

__all__ = ["DatabaseCopy", "MovedFolder", "copy_database"]

PARTS = {"weights": "*.safetensors", "spool": "*.label.json"}
"""What is copied of a campaign's folder."""


@dataclass(frozen=True)
class MovedFolder:
    """The files of one campaign.

    Attributes:
        name: The campaign.
        before: Where they are.
        now: Where the copied campaign looks for them.
        n_files: Files copied; 0 if both are one folder.
    """

    name: str
    before: Path
    now: Path
    n_files: int


@dataclass(frozen=True)
class DatabaseCopy:
    """What was copied.

    Attributes:
        rows: By table: rows copied, and rows that were there before.
        folders: The files of each campaign.
    """

    rows: Copied
    folders: tuple[MovedFolder, ...]


def copy_database(source: str, target: str, name: str | None = None) -> DatabaseCopy:
    """Copy a whole database, or one campaign, with the files that belong to it; all or nothing.

    The source is only read, and its files stay. The copy is a campaign of its own from then on: go on with one of them.

    Args:
        source: SQLite file or PostgreSQL URL.
        target: The same; made if it does not exist.
        name: Only this campaign, and what it uses of what all share.

    Raises:
        CampaignLocked: A process drives a campaign that is to be copied.
        StoreError: The source cannot be read, or the target is not free; nothing was copied.
    """
    if shown(source) == shown(target):
        raise StoreError(f"Source and target are both {shown(source)}; give another database to copy to.")
    with Store.open(source, read_only=True) as old, Store.open(target, create=True) as new:
        campaigns = old.campaigns() if name is None else [old.campaign(name)]
        places = {c.id: (folder_of(c, source), _new_folder(c, target)) for c in campaigns}
        configs = {c.id: _moved(c, places[c.id][1] if is_server(target) else None) for c in campaigns}
        copied: dict[int, int] = {}

        def copy_files() -> None:
            copied.update({number: _copy_files(*pair) for number, pair in places.items()})

        rows = copy_campaigns(old, new, campaigns, configs, name is None, copy_files)
    return DatabaseCopy(rows, tuple(MovedFolder(c.name, *places[c.id], copied[c.id]) for c in campaigns))


def _new_folder(campaign: CampaignRecord, target: str) -> Path:
    """Where a campaign begun today in the target would have its files."""
    return working_folder(target, campaign.name).absolute()


def _moved(campaign: CampaignRecord, folder: Path | None) -> dict[str, object]:
    """The configuration of a campaign whose files are in a folder; None means beside its database."""
    config = {key: value for key, value in campaign.config.items() if key != "folder"}
    return config if folder is None else config | {"folder": str(folder)}


def _copy_files(before: Path, now: Path) -> int:
    """Copy weights and spool; what is there already is named by its content, and stays."""
    if before.absolute() == now:
        return 0
    number = 0
    for part, pattern in PARTS.items():
        (now / part).mkdir(parents=True, exist_ok=True)
        for path in sorted((before / part).glob(pattern)):
            if not (now / part / path.name).exists():
                draft = now / part / f"{path.name}.copied"
                shutil.copy2(path, draft)
                draft.replace(now / part / path.name)
            number += 1
    return number
