"""Progress of a campaign: a live panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from alflow.campaign.events import (
    CheckpointsLost,
    CommitteeGiven,
    CommitteeLost,
    Event,
    LabelFailed,
    LabelsGiven,
    SegmentDone,
    TaskBroken,
    TaskLost,
    TrainingDone,
    WorkersChanged,
)
from alflow.campaign.state import State
from alflow.units import FS_PER_PS

__all__ = ["LiveProgress", "LogProgress", "milli", "progress"]

log = logging.getLogger("alflow")

LINE_EVERY_S = 10.0


class Pace:
    """Labels per minute, measured from the first event this process saw."""

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self._first: int | None = None

    def per_minute(self, state: State) -> float:
        """Labels committed per minute since this process began."""
        if self._first is None:
            self._first = state.n_spent
        minutes = (time.monotonic() - self._begin) / 60
        return (state.n_spent - self._first) / minutes if minutes > 0 else 0.0

    def remaining(self, state: State) -> str:
        """Time until the label budget is spent at this pace."""
        pace = self.per_minute(state)
        if pace <= 0:
            return "–"
        seconds = round(60 * max(0, state.config.label_budget - state.n_spent) / pace)
        return f"{seconds // 60}:{seconds % 60:02d}"


def describe_error(state: State) -> str:
    """The current estimate of the force error, in meV/Å, with its interval where there is one."""
    mae = state.error.get("audit_force_mae_ev_ang")
    if mae is None:
        held_out = state.error.get("validation_force_mae_ev_ang")
        return "force error not known yet" if held_out is None else f"{milli(held_out)} meV/Å (validation)"
    low, high = (state.error.get(f"audit_force_mae_{side}_ev_ang") for side in ("lower", "upper"))
    interval = "" if low is None or high is None else f" [{milli(low)}, {milli(high)}]"
    return f"{milli(mae)}{interval} meV/Å (audit, {state.error.get('n_audit', 0):.0f} frames)"


def milli(value: float) -> str:
    """Thousandths, with a digit more where there would be only one."""
    return f"{1000 * value:.0f}" if value >= 0.01 else f"{1000 * value:.1f}"


def simulated_ps(state: State) -> float:
    """Simulated time of all walkers together, ps."""
    return sum(w.step for w in state.walkers) * state.config.timestep_fs / FS_PER_PS


class LogProgress:
    """One line for every event that matters, and one every ten seconds."""

    def __init__(self) -> None:
        self._pace = Pace()
        self._last = 0.0

    def __enter__(self) -> LogProgress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        return None

    def seen(self, state: State, event: Event | None) -> None:
        """Write down what happened."""
        sentence = _sentence(state, event)
        if sentence:
            log.info("%s", sentence)
        if time.monotonic() - self._last > LINE_EVERY_S:
            self._last = time.monotonic()
            status = Counter(w.status for w in state.walkers)
            log.info(
                "labels %d/%d (%d queued, %d running, %d failed) · generation %d · walkers %d moving, %d paused, "
                "%.2f ps · error %s · %.1f labels/min, %s left",
                state.n_spent,
                state.config.label_budget,
                len(state.queue),
                state.running_of("label"),
                state.n_failed,
                state.generation,
                status["ready"] + status["exploring"],
                status["paused"],
                simulated_ps(state),
                describe_error(state),
                self._pace.per_minute(state),
                self._pace.remaining(state),
            )


class LiveProgress:
    """A panel that is redrawn in place."""

    def __init__(self, console: Console) -> None:
        self._pace = Pace()
        self._live = Live(console=console, refresh_per_second=4, transient=False)
        self._news: list[str] = []

    def __enter__(self) -> LiveProgress:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._live.stop()

    def seen(self, state: State, event: Event | None) -> None:
        """Redraw."""
        sentence = _sentence(state, event)
        if sentence:
            self._news = [*self._news[-3:], f"{time.strftime('%H:%M:%S')}  {sentence}"]
        self._live.update(self._panel(state))

    def _panel(self, state: State) -> Group:
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold")
        table.add_column()
        bar = ProgressBar(total=state.config.label_budget, completed=state.n_spent, width=30)
        table.add_row(state.config.name, Text(f"{state.phase}{': ' + state.reason if state.reason else ''}"))
        table.add_row("labels", bar)
        table.add_row(
            "",
            f"{state.n_spent}/{state.config.label_budget} done, {len(state.queue)} queued, "
            f"{state.running_of('label')} running, {state.n_failed} failed, {state.n_quarantined} given up · "
            f"{self._pace.per_minute(state):.1f}/min, {self._pace.remaining(state)} left",
        )
        training = "training the next" if state.running_of("train") else ""
        table.add_row("generation", f"{state.generation}  {training}")
        table.add_row("force error", describe_error(state))
        table.add_row("walkers", Text("".join(_MARKS[w.status] for w in state.walkers)))
        moving = sum(w.status != "paused" for w in state.walkers)
        worst = max((w.disagreement for w in state.walkers), default=0.0)
        table.add_row(
            "",
            f"{moving} moving, {len(state.walkers) - moving} paused · {simulated_ps(state):.2f} ps in all · "
            f"disagreement up to {worst:.2f}, threshold {state.threshold:.2f} eV/Å",
        )
        return Group(table, *(Text(line, style="dim") for line in self._news))


_MARKS = {"ready": "○", "exploring": "●", "paused": "‖"}


def _sentence(state: State, event: Event | None) -> str:
    if isinstance(event, TrainingDone):
        if event.accepted:
            return f"generation {state.generation} learnt from {_learnt(event)} labels: {describe_error(state)}"
        return f"a committee was rejected: {event.reason}"
    if isinstance(event, LabelsGiven):
        return f"{state.n_given} labels of the database are the first data"
    if isinstance(event, CommitteeGiven):
        return f"generation 1 is the committee {event.sha256[:12]}"
    if isinstance(event, LabelFailed):
        return f"a label failed ({event.failure}): {event.message}"
    if isinstance(event, TaskLost):
        return f"task {event.task} was lost: {event.message}; it will run again"
    if isinstance(event, WorkersChanged):
        pools = ", ".join(f"{count} {name}" for name, count in event.pools.items())
        spared = f"; no more labels on {', '.join(event.drained)}" if event.drained else ""
        return f"workers now: {pools or 'none; the campaign waits for some'}{spared}"
    if isinstance(event, CommitteeLost):
        return f"the active committee is lost ({event.message}); it is trained again from the labels"
    if isinstance(event, CheckpointsLost):
        return f"{event.message}; begun anew at the starting structure, with a hole in the trajectory and no label lost"
    if isinstance(event, TaskBroken):
        return f"task {event.task} broke: {event.message.strip().splitlines()[-1]}"
    if isinstance(event, SegmentDone):
        resets = [r for r in event.reports if r.status == "reset"]
        return "; ".join(f"walker {r.walker} was sent back: {r.reason}" for r in resets)
    return ""


def _learnt(event: TrainingDone) -> str:
    return f"{event.metrics.get('n_train', event.n_labels):.0f}"


def progress(console: Console | None = None) -> LiveProgress | LogProgress:
    """The display that suits where the output goes."""
    console = console or Console()
    return LiveProgress(console) if console.is_terminal and sys.stdout.isatty() else LogProgress()
