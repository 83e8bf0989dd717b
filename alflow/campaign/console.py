"""A campaign as a person runs it: with progress on the way, a summary at the end, and the next three commands."""

from __future__ import annotations

import logging
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table
from rich.text import Text

from alflow.campaign.config import CampaignConfig
from alflow.campaign.launch import Ended, resume_campaign, run_campaign
from alflow.campaign.progress import LiveProgress, LogProgress, milli, progress
from alflow.domain import Reference
from alflow.errors import CampaignError
from alflow.reports.summary import Summary, summarize
from alflow.store import Store
from alflow.store.location import shown

__all__ = ["resume", "run", "show_summary", "start_logging"]

log = logging.getLogger("alflow")


def run(config: CampaignConfig, reference: Reference | None = None) -> Ended:
    """Run a campaign to its end, with progress and a summary; continue it if it was begun before.

    Args:
        config: What to do.
        reference: An object of your own that makes the labels, instead of ``config.reference``.

    Raises:
        InputError: Something cannot be used; the message says what to change. Nothing was run.
        CampaignLocked: The campaign is being run by another process, which the message names.
        CampaignError: The campaign failed; what was committed is kept, and it can be resumed.
    """
    return _shown(lambda display: run_campaign(config, reference, [display]))


def resume(database: str, name: str | None = None, reference: Reference | None = None) -> Ended:
    """Take up a campaign from its database, with progress and a summary.

    Args:
        database: File or URL.
        name: Name of the campaign; may be left out when there is only one.
        reference: The object that makes the labels, if the campaign was begun with one of your own.
    """
    return _shown(lambda display: resume_campaign(database, name, reference, [display]))


def _shown(drive: Callable[[LiveProgress | LogProgress], Ended]) -> Ended:
    console = Console()
    start_logging(console)
    with progress(console) as display:
        ended = drive(display)
    with Store.open(ended.database, read_only=True) as store:
        summary = summarize(store, store.campaign(ended.name))
    show_summary(console, summary, ended)
    if ended.state.phase == "failed":
        raise CampaignError(f"Campaign '{ended.name}' failed: {ended.state.reason}")
    return ended


def start_logging(console: Console) -> None:
    """Send alflow's own messages to the console, once."""
    if log.handlers:
        return
    plain = not console.is_terminal
    handler: logging.Handler = (
        logging.StreamHandler() if plain else RichHandler(console=console, show_path=False, show_level=False)
    )
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s" if plain else "%(message)s", "%H:%M:%S"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


def show_summary(console: Console, summary: Summary, ended: Ended) -> None:
    """Print what came of a campaign and what to do with it."""
    console.print()
    console.print(summary_table(summary))
    console.print(time_table(summary))
    if len(summary.learning_curve) > 1:
        console.print(curve_table(summary))
    console.print(f"\ndatabase   {shown(ended.database)}", soft_wrap=True, highlight=False, markup=False)
    console.print(f"committee  {ended.committee or 'none yet'}", soft_wrap=True, highlight=False, markup=False)
    console.print("\nNext:", style="bold")
    for command in next_commands(ended):
        console.print(f"  {command}", soft_wrap=True, highlight=False, markup=False)


def next_commands(ended: Ended) -> list[str]:
    """What to type next, so that it works from the shell the campaign was started from."""
    python = Path(sys.executable)
    alflow = "alflow" if shutil.which("alflow") else str(python.with_name("alflow"))
    database, name = shown(ended.database), shlex.quote(ended.name)
    commands = [
        f"{alflow} status {database} {name}",
        f"{alflow} report {database} --name {name}",
        f"{alflow} export {database} {ended.name}.xyz --name {name}",
    ]
    if ended.state.phase != "finished":
        commands.insert(0, f"{alflow} resume {database} {name}")
    if ended.committee:
        interpreter = "python" if shutil.which("alflow") else str(python)
        commands.append(f"{interpreter} -c 'import alflow; print(alflow.load_committee(\"{ended.committee}\"))'")
    return commands


def summary_table(summary: Summary) -> Table:
    """Labels, failures, committee, error and walkers of a campaign."""
    table = Table(title=f"Campaign {summary.campaign.name}", show_header=False, title_justify="left", box=None)
    jobs = summary.jobs
    reason = f" ({summary.campaign.reason})" if summary.campaign.reason else ""
    table.add_row("state", Text(f"{summary.campaign.state}{reason}"))
    if summary.campaign.holder:
        table.add_row("driven by", summary.campaign.holder)
    counts = [f"{jobs.get(s, 0)} {s}" for s in ("done", "running", "pending", "quarantined", "dropped") if jobs.get(s)]
    table.add_row("labels", ", ".join(counts) or "none")
    if summary.failures:
        table.add_row("failures", ", ".join(f"{n} {kind}" for kind, n in sorted(summary.failures.items())))
    for job in summary.given_up:
        asked = " (asked for again)" if job.retry_requested else ""
        told = f"frame {job.frame_id}: {job.failure_kind}: {job.failure_message}{asked}"
        table.add_row("given up", Text(told))
    if summary.drained:
        table.add_row("no labels on", Text(f"{', '.join(summary.drained)}: label after label crashed there"))
    table.add_row("generation", str(summary.generation))
    mae = summary.metrics.get("audit_force_mae_ev_ang")
    if mae is not None:
        low = summary.metrics.get("audit_force_mae_lower_ev_ang")
        high = summary.metrics.get("audit_force_mae_upper_ev_ang")
        interval = "" if low is None or high is None else f", 95 % interval {milli(low)} to {milli(high)}"
        frames = summary.metrics.get("n_audit", 0)
        table.add_row("force error", f"{milli(mae)} meV/Å{interval} ({frames:.0f} audit frames, never trained on)")
    if summary.excursions:
        count = len(summary.excursions)
        far = sum(excursion > 1.0 for excursion in summary.excursions)
        table.add_row(
            "extrapolating",
            f"{far} of {count} flagged frames lay outside of the training data by more than its range,"
            f" the farthest by {max(summary.excursions):.2g} times",
        )
    if summary.walker_steps:
        steps = summary.walker_steps
        table.add_row("walkers", f"{len(steps)}, {sum(steps)} steps in all, {min(steps)} to {max(steps)} each")
    return table


def time_table(summary: Summary) -> Table:
    """Where the cores' time went since the first label."""
    table = Table(title="Time since the first label", title_justify="left", box=None)
    for column in ("", "labelling", "exploring", "training", "handing over", "idle"):
        table.add_column(column, justify="right")
    split = summary.time
    shares = [split.share("label"), split.share("explore") + split.share("score"), split.share("train")]
    shares += [split.share("handover"), split.share("idle")]
    cores = split.available_s / split.elapsed_s if split.elapsed_s else 0.0
    table.add_row("share of each core", *(f"{100 * share:.0f} %" for share in shares))
    table.add_row("seconds per core", *(f"{share * split.elapsed_s:.0f}" for share in shares))
    table.caption = f"{split.elapsed_s:.0f} s on {cores:.3g} core(s); processors busy {100 * split.cpu_share:.0f} %"
    return table


def curve_table(summary: Summary) -> Table:
    """Error of every generation, all measured when it was trained."""
    table = Table(title="Learning curve", title_justify="left", box=None)
    for column in ("generation", "labels", "validation meV/Å", "audit meV/Å", "audit frames"):
        table.add_column(column, justify="right")
    for labels, generation, metrics in summary.learning_curve:
        cells = [_milli(metrics.get(f"{part}_force_mae_ev_ang")) for part in ("validation", "audit")]
        learnt = "given" if metrics.get("given") else str(labels)
        table.add_row(str(generation), learnt, *cells, f"{metrics.get('n_audit', 0):.0f}")
    return table


def _milli(value: float | None) -> str:
    return "–" if value is None else milli(value)
