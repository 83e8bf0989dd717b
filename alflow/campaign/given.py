"""A campaign that begins with what is there: labels of its database, a committee of a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from alflow.campaign.config import CampaignConfig
from alflow.campaign.events import CommitteeGiven, GivenLabel, LabelsGiven
from alflow.campaign.orders import named_dataset
from alflow.campaign.results import Interpretation
from alflow.campaign.site import Site, frame_name
from alflow.campaign.teacher import check_committee
from alflow.domain import Level, Structure
from alflow.domain.identity import digest_of_bytes
from alflow.errors import ConfigError
from alflow.reference.spool import write_durably
from alflow.reference.spotcheck import grid_doubt
from alflow.store import CommitteeRecord, FrameRecord, Store, Transaction
from alflow.store.location import shown

__all__ = ["check_labels", "given_committee", "given_labels", "restore_committee"]

FOUND_HERE = "its label was in the database before the campaign"


def check_labels(store: Store, config: CampaignConfig, structures: Sequence[Structure], level: Level) -> None:
    """Refuse to begin with labels where there are none.

    Raises:
        ConfigError: No label of the database can be used.
    """
    if next(_usable(store, config, structures, level.id), None) is not None:
        return
    elements = ", ".join(sorted({symbol for structure in structures for symbol in structure.symbols}))
    raise ConfigError(
        f"initial.labels: {shown(config.database)} holds no label at this campaign's level of theory ({level.engine}, "
        f"{level.id[:12]}…) of {elements} with charge {config.charge} and multiplicity {config.multiplicity}; import "
        "some with 'alflow import' and the same reference as --level, or leave initial.labels out."
    )


def _usable(
    store: Store, config: CampaignConfig, structures: Sequence[Structure], level_id: str
) -> Iterator[Structure]:
    """Structures with a label that the campaign can learn from, by id: one surface, and no element it does not have.

    A label whose grid is in doubt is left out, as the campaign would not learn from its own.
    """
    elements = {number for structure in structures for number in structure.numbers.tolist()}
    for label in store.labels(level_id=level_id):
        structure = label.structure
        same = (structure.charge, structure.multiplicity) == (config.charge, config.multiplicity)
        if not same or len(structure) < 2 or not set(structure.numbers.tolist()) <= elements:
            continue
        if grid_doubt(label.evaluation.diagnostics) is None:
            yield structure


def given_labels(store: Store, site: Site, remember: Callable[[str, Structure], None]) -> Interpretation:
    """The labels of the database, as the first data of a campaign.

    The first of them, as many as there would be starting frames, are always learnt from; of the others one in ten
    judges new committees, as with labels of the campaign's own. None is an audit: who chose these structures, and which
    committee learnt from them, is not known, and an audit is drawn at random from where the walkers go.

    Args:
        store: The database.
        site: The campaign.
        remember: Told of every frame, so that no frame to come repeats it.
    """
    config = site.config
    structures = list(_usable(store, config, site.structures, site.reference.level.id))
    given: list[GivenLabel] = []
    frames: list[tuple[FrameRecord, Structure]] = []
    for number, structure in enumerate(structures):
        name = frame_name(site.campaign_id, "given", -1, number, structure.id)
        given.append(GivenLabel(name, structure.id, "seed" if number < config.initial_labels else "flagged"))
        record = FrameRecord(name, site.campaign_id, structure.id, "given", "seed", step=number, reason=FOUND_HERE)
        frames.append((record, structure))
        remember(name, structure)
    known = {number for structure in structures for number in structure.numbers.tolist()}
    wanted = {number for structure in site.structures for number in structure.numbers.tolist()}
    return Interpretation(LabelsGiven(tuple(given), wanted <= known), frames=tuple(frames))


def given_committee(site: Site) -> Interpretation:
    """The committee of a file, as generation 1. Its file is copied among the campaign's own, under its hash.

    Raises:
        ConfigError: The file cannot be used.
    """
    path = site.config.initial.committee
    assert path is not None
    check_committee(path, site.config.model, site.structures)
    data = Path(path).read_bytes()
    sha256 = digest_of_bytes(data)
    write_durably(site.weights / f"{sha256}.safetensors", data)
    nothing = named_dataset([])  # what it learnt from is not known here

    def effects(tx: Transaction) -> None:
        tx.add_dataset(nothing, [])
        record = CommitteeRecord(
            campaign_id=site.campaign_id,
            generation=1,
            sha256=sha256,
            path=f"weights/{sha256}.safetensors",
            dataset_digest=nothing,
            metrics={"given": True},
        )
        tx.add_committee(record)

    return Interpretation(CommitteeGiven(sha256), effects)


def restore_committee(store: Store, site: Site) -> None:
    """Copy a given committee's file once more, if it is the active one, its copy is damaged, and the file is there."""
    active, path = store.active_committee(site.campaign_id), site.config.initial.committee
    if active is None or path is None or not active.metrics.get("given"):
        return
    copy = site.weights / f"{active.sha256}.safetensors"
    if copy.is_file() and digest_of_bytes(copy.read_bytes()) == active.sha256:
        return
    if Path(path).is_file() and digest_of_bytes(data := Path(path).read_bytes()) == active.sha256:
        write_durably(copy, data)
