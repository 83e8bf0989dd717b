"""Small campaigns on an analytic surface, and what must hold in the database of any campaign that ended."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import yaml

from alflow import CampaignConfig
from alflow.campaign.checking import check_database
from alflow.campaign.events import Event, LabelFailed, TrainingDone
from alflow.campaign.site import folder_of
from alflow.campaign.state import State
from alflow.store import Store
from alflow.store.location import is_server
from tests.postgresql import address

WATER_ANG = ((0.0, 0.0, 0.119262), (0.0, 0.763239, -0.477047), (0.0, -0.763239, -0.477047))
XYZ = "3\nwater\n" + "".join(f"{s} {x} {y} {z}\n" for s, (x, y, z) in zip("OHH", WATER_ANG, strict=True))

SMALL: dict[str, Any] = {
    "executor": "inline",
    "temperature_k": 800,
    "walkers": 4,
    "segment_steps": 80,
    "label_budget": 14,
    "initial_labels": 5,
    "labels_per_generation": 4,
    "audit_minimum": 3,
    "quiet_ps": 5,
    "threshold_ev_ang": 0.2,
    "target_force_error_ev_ang": 1e-4,  # out of reach: the budget ends these campaigns
    "dashboard_address": "127.0.0.1:0",
    "model": {
        "members": 3,
        "radial_functions": 6,
        "angular_functions": 2,
        "angular_degree": 2,
        "components": 16,
        "hidden": [16],
    },
    "training": {"epochs": 5, "min_steps": 60, "warm_share": 0.4},
}
"""Hot, small and easily surprised: some twenty tasks, a few seconds."""


def settings(
    folder: Path, delay_s: float = 0.0, limits: dict[str, Any] | None = None, **changes: Any
) -> dict[str, Any]:
    """Keys of a toy campaign whose files are in a folder; writes the starting structure there."""
    structures = folder / "water.xyz"
    structures.write_text(XYZ)
    reference = {
        "engine": "morse-molecule",
        "elements": ["O", "H", "H"],
        "positions_ang": [list(position) for position in WATER_ANG],
        "delay_s": delay_s,
    }
    places = {"structures": str(structures), "database": address(folder / "toy.db"), "name": "toy"}
    return SMALL | places | {"reference": reference | (limits or {})} | changes


def toy(folder: Path, delay_s: float = 0.0, limits: dict[str, Any] | None = None, **changes: Any) -> CampaignConfig:
    """Configuration of a toy campaign."""
    return CampaignConfig.model_validate(settings(folder, delay_s, limits, **changes))


def toy_file(folder: Path, delay_s: float = 0.0, **changes: Any) -> Path:
    """The same campaign as a YAML file for the command line."""
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(settings(folder, delay_s, **changes)))
    return path


@contextmanager
def reading(database: str | Path) -> Iterator[sqlite3.Connection]:
    """An SQLite file, without any code of alflow's."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as connection:
        yield connection


def rows(database: str | Path, query: str) -> list[tuple[Any, ...]]:
    """The answer to one query in SQL that both understand, of an address or of the database of a path."""
    database = address(database)
    if is_server(database):
        with psycopg.connect(database) as server:
            return server.execute(query.encode()).fetchall()
    with reading(database) as connection:
        return connection.execute(query).fetchall()


def rows_so_far(database: str | Path, query: str) -> list[tuple[Any, ...]]:
    """The same of a database that somebody else is about to make: nothing while there is none, or no such table."""
    try:
        return rows(database, query)
    except psycopg.errors.UndefinedTable:
        return []
    except sqlite3.OperationalError as error:
        if not str(error).startswith(("unable to open database file", "no such table")):
            raise
        return []


def write(database: str | Path, statements: str) -> None:
    """Change something behind alflow's back."""
    database = address(database)
    if is_server(database):
        with psycopg.connect(database) as server:
            server.execute(statements.encode())
        return
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.executescript(statements)


def literal(database: str | Path, blob: bytes) -> str:
    """Bytes, as they are written in the SQL of a database."""
    return f"'\\x{blob.hex()}'::bytea" if is_server(address(database)) else f"x'{blob.hex()}'"


def journal(database: str | Path) -> list[tuple[Any, ...]]:
    """Every event, as it is stored, without its time of day."""
    return rows(database, "SELECT seq, kind, payload_json FROM events ORDER BY seq")


def labels(database: str | Path) -> list[tuple[Any, ...]]:
    """What was computed, bit for bit, without where and when."""
    query = "SELECT structure_id, level_id, energy_ev, forces_ev_ang FROM labels ORDER BY structure_id, level_id"
    return rows(database, query)


def committees(database: str | Path) -> list[tuple[Any, ...]]:
    """Every committee by the hash of its weights."""
    return rows(database, "SELECT generation, state, sha256, dataset_digest FROM committees ORDER BY id")


def check_promises(database: str | Path, ended: str = "finished") -> None:
    """Check what alflow promises about every campaign that came to its end, with the checker that users have."""
    assert rows(database, "SELECT state, holder FROM campaigns") == [(ended, None)]
    assert broken_promises(database) == {}
    assert rows(database, "SELECT count(*) FROM label_jobs WHERE state IN ('pending', 'running')") == [(0,)]
    config = json.loads(rows(database, "SELECT config_json FROM campaigns")[0][0])["config"]
    assert rows(database, "SELECT count(*) FROM label_jobs WHERE state = 'done'")[0][0] <= config["label_budget"]
    assert [state for _, state, *_ in committees(database)].count("active") == 1
    with Store.open(address(database), read_only=True) as store:
        folder = folder_of(store.campaign(), address(database))
    for generation, state, sha256, _ in committees(database):
        assert (folder / "weights" / f"{sha256}.safetensors").exists(), (generation, state)
    # What was half written when its process was killed lies there for an hour.
    waiting = [file.name for file in (folder / "spool").iterdir() if file.suffix != ".part"]
    assert waiting == [], "a committed label waits in the spool for nobody"


def broken_promises(database: str | Path) -> dict[str, tuple[str, ...]]:
    """What ``alflow db check --deep`` finds to be broken, by name."""
    found = check_database(address(database), deep=True)
    return {finding.name: finding.broken for findings in found.values() for finding in findings if not finding.holds}


class Enough(BaseException):
    """Ends the campaign."""


class UntilLearntAfter:
    """An observer that ends the campaign at the first training after so many refused labels."""

    def __init__(self, failures: int) -> None:
        self.left = failures

    def seen(self, state: State, event: Event | None) -> None:
        self.left -= isinstance(event, LabelFailed)
        if self.left <= 0 and isinstance(event, TrainingDone):
            raise Enough
