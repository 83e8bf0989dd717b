"""What the page shows when a walker or a frame is clicked: its story, and its structure."""

from __future__ import annotations

from typing import Any, Final

from alflow.domain import Structure
from alflow.domain.elements import COVALENT_RADII_ANG, SYMBOLS
from alflow.errors import StoreError
from alflow.reports.story import story_lines
from alflow.reports.tally import without_secrets
from alflow.reports.words import plural
from alflow.store import CampaignRecord, Store
from alflow.units import FS_PER_PS

__all__ = ["answer", "drawable"]

MOST_ATOMS: Final = 4000
"""A larger structure is not sent: a browser would draw it too slowly to be turned."""

FRAMES_OF_WALKER: Final = 8


def answer(store: Store, campaign: CampaignRecord, question: str) -> dict[str, Any]:
    """Answer a question of the page.

    Args:
        store: The database.
        campaign: The campaign it is about.
        question: ``walker:3`` or ``frame:0a1b…``.

    Returns:
        JSON values: ``title``, ``rows`` of (heading, sentence), ``frames`` to look at next and ``structure``; or
        ``error``, a sentence, if there is no such thing.
    """
    subject, _, name = question.partition(":")
    try:
        if subject == "walker":
            return _walker(store, campaign, int(name))
        return _frame(store, campaign, name)
    except StoreError as error:
        return {"question": question, "error": without_secrets(str(error))}


def drawable(structure: Structure) -> dict[str, Any] | None:
    """A structure as the page draws it, Å; None if it has too many atoms for that."""
    if len(structure.numbers) > MOST_ATOMS:
        return None
    return {
        "formula": structure.formula,
        "symbols": [SYMBOLS[number] for number in structure.numbers],
        "radii_ang": [COVALENT_RADII_ANG[number] for number in structure.numbers],
        "positions_ang": [[round(float(x), 3) for x in position] for position in structure.positions],
        "cell_ang": [[round(float(x), 3) for x in vector] for vector in structure.cell],
        "pbc": [bool(periodic) for periodic in structure.pbc],
    }


def _walker(store: Store, campaign: CampaignRecord, number: int) -> dict[str, Any]:
    walker = store.walker(campaign.id, number)
    if walker is None:
        return {"question": f"walker:{number}", "error": f"Walker {number} has not finished a segment yet."}
    frames = store.frames_of_walker(campaign.id, number, FRAMES_OF_WALKER)
    timestep = campaign.config.get("config", {}).get("timestep_fs") or 0.0
    rows = [
        ("made", f"{walker.step} steps, {walker.step * timestep / FS_PER_PS:.3f} ps, in {walker.segment} segments"),
        ("last segment", f"{walker.status}{': ' + walker.reason if walker.reason else ''}"),
        ("moves on", "no committee yet" if walker.generation is None else f"generation {walker.generation}"),
    ]
    if walker.disagreement is not None:
        rows.append(("disagreement", f"up to {walker.disagreement:.3f} eV/Å in its last segment"))
    if walker.temperature is not None:
        rows.append(("temperature", f"{walker.temperature:.0f} K, mean of its last segment"))
    rows.append(("sent back", f"{plural(walker.resets, 'time')} by a guard" if walker.resets else "never"))
    if walker.last_flag_step >= 0:
        rows.append(("last flag", f"at step {walker.last_flag_step}"))
    return {
        "question": f"walker:{number}",
        "title": f"Walker {number}",
        "rows": rows,
        "frames": [{"frame": f.id, "step": f.step, "decision": f.decision} for f in frames],
        "structure": drawable(walker.structure),
        "caption": f"at step {walker.step}",
    }


def _frame(store: Store, campaign: CampaignRecord, name: str) -> dict[str, Any]:
    story = store.frame_story(name)
    if story.frame.campaign_id != campaign.id:
        raise StoreError(f"Frame {name} belongs to another campaign.")
    return {
        "question": f"frame:{name}",
        "title": f"Frame {story.frame.id}",
        "rows": [(heading, without_secrets(line)) for heading, line in story_lines(story)],
        "frames": [],
        "walker": story.frame.walker if story.frame.walker is not None and story.frame.walker >= 0 else None,
        "structure": drawable(story.structure),
        "caption": story.structure.formula,
    }
