"""The report as one HTML file: works offline, in light and dark, on paper, and read aloud."""

from __future__ import annotations

from html import escape
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Final

import numpy as np

from alflow.errors import ConfigError
from alflow.reports import campaign_figures, campaign_sections, figures, sections
from alflow.reports.canvas import Figure, write_files
from alflow.reports.explorer import explorer
from alflow.reports.findings import Findings
from alflow.reports.markup import Html, bullets, facts, join
from alflow.reports.verdict import Tone, Verdict, audit_error, judge
from alflow.reports.words import duration, milli, plural

__all__ = ["compose", "is_report", "write_document", "write_figures"]

MARK: Final = '<meta name="generator" content="alflow report '
POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
"""What a browser may load for this page: nothing that is not in it."""

_SIGNS: Final[dict[Tone, tuple[str, str]]] = {"good": ("✓", "yes"), "bad": ("✗", "no"), "open": ("?", "open")}
OF_LOOP: Final = ("error", "warning", "energy", "walkers")
"""Parts that labels of a file have nothing to say in."""


def compose(found: Findings) -> str:
    """Write the whole page."""
    style = (files("alflow.reports") / "report.css").read_text(encoding="utf-8")
    campaign = found.rows.campaign
    parts = [(name, text, part) for name, text, part in _parts(found) if found.is_campaign or name not in OF_LOOP]
    links = "".join(f'<a href="#{name}">{text}</a>' for name, text, _ in parts)
    body = join(*(part for *_, part in parts))
    state = campaign.state + (f" ({campaign.reason})" if campaign.reason else "")
    running = " It was still running: later numbers will differ." if campaign.state == "running" else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
{MARK}{escape(version("alflow"))}">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(campaign.name)} – alflow report</title>
<style>
{style}
</style>
</head>
<body>
<header>
<p class="kind">alflow report</p>
<h1>{escape(campaign.name)}</h1>
<p>{escape(found.database)} · {escape(state)} · read {found.rows.read_at:%Y-%m-%d %H:%M} UTC.{running}</p>
</header>
<main>
{_verdict(judge(found), found.rows.active is not None)}
{_facts(found)}
<nav aria-label="Parts of this report">{links}</nav>
{body}
</main>
<footer><p>Made by alflow {escape(version("alflow"))} from the database and its weight files; nothing was written
to either. Intervals are
95 % intervals. docs/report.md says how to read each part, and by which rules the verdict is made.</p></footer>
</body>
</html>
"""


def _parts(found: Findings) -> list[tuple[str, str, Html]]:
    return [
        ("error", "Error", sections.error(found)),
        ("warning", "Warning", sections.warning(found)),
        ("energy", "Energy", sections.energy(found)),
        ("data", "Data", campaign_sections.data_set(found, explorer(found.atlas))),
        ("walkers", "Walkers", campaign_sections.walkers(found)),
        ("cost", "Cost", campaign_sections.cost(found)),
        ("failures", "Failures", campaign_sections.failures(found)),
        ("done", "What was done", campaign_sections.done(found)),
    ]


def _verdict(verdict: Verdict, is_judged: bool) -> Html:
    lines = []
    for statement in verdict.statements:
        sign, word = _SIGNS[statement.tone]
        lines.append(
            f'<li class="{statement.tone}"><span class="sign" role="img" aria-label="{word}">{sign}</span>'
            f"<div><b>{escape(statement.topic)}</b> {escape(statement.text)}</div></li>"
        )
    heading = "For what" if is_judged else "What the labels cover"
    reach = f"<h3>{heading}</h3>{bullets(verdict.reach)}" if verdict.reach else ""
    return Html(
        f'<section class="verdict {verdict.tone}" aria-labelledby="verdict-title"><h2 id="verdict-title">'
        f'{escape(verdict.headline)}</h2><ul class="reasons">{"".join(lines)}</ul>{reach}</section>'
    )


def _facts(found: Findings) -> Html:
    summary = found.rows.summary
    estimate, _ = audit_error(found)
    failed = summary.jobs.get("quarantined", 0)
    items = [("labels", f"{len(found.rows.labels):,}", f"{failed:,} given up" if failed else "none given up")]
    if estimate is not None:
        ends = f"{milli(estimate.lower)} to {milli(estimate.upper)}" if np.isfinite(estimate.upper) else "no interval"
        items.append(("audit error, meV/Å", milli(estimate.mean), f"{ends}; {plural(estimate.n, 'frame')}"))
    if found.target is not None:
        items.append(("target, meV/Å", milli(found.target), "mean absolute, per component"))
    if found.is_campaign:
        items.append(("generation", str(summary.generation), plural(len(found.generations), "committee") + " trained"))
        longest = found.walks.time.max() if len(found.walks.time) else 0.0
        steps = sum(summary.walker_steps)
        items.append(("walker steps", f"{steps:,}", f"the longest walk {longest:.3g} ps"))
    spent = sum(machine.core_s for machine in found.machines)
    items.append(("processor time", duration(spent), plural(len(found.machines), "machine")))
    return facts(items)


def is_report(path: Path) -> bool:
    """Whether a file is a report of ours."""
    try:
        with path.open(encoding="utf-8") as file:
            return MARK in file.read(2000)
    except (OSError, UnicodeDecodeError):
        return False


def write_document(text: str, path: Path) -> int:
    """Write the page, whole or not at all.

    Returns:
        Size of the file, bytes.

    Raises:
        ConfigError: The file cannot be written.
    """
    draft = path.with_name(f".{path.name}.part")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from None
    return path.stat().st_size


def write_figures(found: Findings, folder: Path) -> list[Path]:
    """Write every figure as SVG and PNG, and its numbers as CSV.

    Raises:
        ConfigError: The folder cannot be written.
    """
    drawn = [
        figures.learning_curve(found),
        figures.parity(found),
        figures.test_parity(found),
        figures.calibration(found),
        figures.constant_energy(found),
        campaign_figures.atlas(found),
        campaign_figures.walkers(found),
        campaign_figures.label_cost(found),
        campaign_figures.timeline(found),
    ]
    paths: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for shown in drawn:
            if isinstance(shown, Figure):
                paths.extend(write_files(shown, folder))
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror}.") from None
    return paths
