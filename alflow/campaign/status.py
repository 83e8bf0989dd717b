"""How a campaign stands, and the story of one frame: read from the database alone."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from alflow.campaign.console import curve_table, summary_table, time_table
from alflow.campaign.labelled import counted
from alflow.campaign.retry import retry_hint
from alflow.reports.story import story_lines
from alflow.reports.summary import summarize
from alflow.store import Store

__all__ = ["show_status", "show_story"]


def show_status(console: Console, database: str, name: str | None = None) -> None:
    """Print how a campaign stands.

    Raises:
        StoreError: No such database or campaign.
    """
    with Store.open(database, read_only=True) as store:
        campaign = store.campaign(name)
        summary = summarize(store, campaign)
        flags = store.flags(campaign.id)
    console.print(summary_table(summary))
    if flags:
        told = f"  flags of labels: {counted(flags)}"
        console.print(told, highlight=False, markup=False, soft_wrap=True)
    if summary.given_up:
        console.print(f"  {retry_hint(campaign, database)}", highlight=False, markup=False, soft_wrap=True)
    if summary.time.available_s > 0:  # nobody has worked on labels that were imported
        console.print(time_table(summary))
    if summary.learning_curve:
        console.print(curve_table(summary))


def show_story(console: Console, database: str, frame: str) -> None:
    """Print the story of one frame.

    Raises:
        StoreError: No such database, no such frame, or several that begin alike.
    """
    with Store.open(database, read_only=True) as store:
        story = store.frame_story(store.frame(frame).id)
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for heading, line in story_lines(story):
        table.add_row(heading, Text(line))
    console.print(table)
