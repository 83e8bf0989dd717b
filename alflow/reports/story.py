"""The stories of a frame and of a walker, in sentences for people: what the terminal and the page both tell."""

from __future__ import annotations

from typing import Final

import numpy as np

from alflow.store import FrameStory

__all__ = ["story_lines", "told_extrapolation"]

NEGLIGIBLE: Final = 0.005
"""An excursion that rounding alone may cause, or that nobody would care for."""


def story_lines(story: FrameStory) -> list[tuple[str, str]]:
    """The story of a frame as (heading, sentence) pairs."""
    frame = story.frame
    lines = [("frame", f"{frame.id}  ({story.structure.formula}, structure {frame.structure_id[:16]}…)")]
    if frame.walker is not None and frame.walker >= 0:
        time = "" if frame.time is None else f" ({frame.time:.1f} fs)"
        lines.append(("reached by", f"walker {frame.walker} at step {frame.step}{time}, generation {frame.generation}"))
    else:
        by = (
            "nobody here: it was given, in a file or with the labels that were there"
            if frame.origin == "given"
            else "displacing a starting structure, before any committee"
        )
        lines.append(("made by", by))
    if frame.disagreement is not None and frame.threshold is not None:
        lines.append(("disagreement", f"{frame.disagreement:.3f} eV/Å; the threshold was {frame.threshold:.3f} eV/Å"))
    if frame.extrapolation is not None:
        lines.append(("training data", told_extrapolation(frame.extrapolation)))
    reason = f": {frame.reason}" if frame.reason else ""
    lines.append(("decision", f"{frame.decision}{reason}"))
    if story.job is not None:
        job = story.job
        failure = f"; {job.failure_kind}: {job.failure_message}" if job.failure_kind else ""
        if job.failure_message and not job.failure_kind:
            failure = f"; {job.failure_message}"
        lines.append(("label job", f"{job.state} after {job.attempts} attempt(s), {job.n_lost} lost{failure}"))
    for run in story.executions:
        wall = "" if run.wall_s is None else f", {run.wall_s:.1f} s"
        memory = "" if run.peak_memory_mb is None else f", {run.peak_memory_mb:.0f} MB"
        what = f": {run.failure_kind}: {run.message}" if run.failure_kind else f": {run.message}" if run.message else ""
        lines.append((f"attempt {run.attempt}", f"{run.status} on {run.host or 'no worker'}{wall}{memory}{what}"))
    if story.label is not None:
        evaluation = story.label.evaluation
        text = f"energy {evaluation.energy:.6f} eV, largest force {evaluation.max_force:.3f} eV/Å"
        if frame.predicted_forces is not None:
            error = np.linalg.norm(frame.predicted_forces - evaluation.forces, axis=1).max()
            text += f"; the committee was wrong by up to {error:.3f} eV/Å"
        flags = "".join(f"; {flag}" for flag in evaluation.diagnostics.get("flags", ()))
        lines.append(("label", f"{text} [{story.label.level.engine}]{flags}"))
    for data, split in story.datasets:
        lines.append(("entered", f"data set {data.digest[:12]} as {split} ({data.n_train} train labels)"))
    return lines


def told_extrapolation(excursion: float) -> str:
    """Say how far a frame lies outside of what its committee was trained on."""
    if excursion < NEGLIGIBLE:
        return "inside the range of what the committee was trained on"
    return f"outside of what the committee was trained on, by {excursion:.2g} times its range"
