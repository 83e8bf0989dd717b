"""What a worker does with committees: exploring, scoring and training."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from alflow.campaign.tasks import ExploreTask, ScoreTask, TrainingResult, TrainTask, WeightFile
from alflow.domain import Label
from alflow.domain.identity import digest_of_bytes
from alflow.exploration import FlaggedFrame, SegmentOutcome, explore
from alflow.potentials import Committee, load_committee
from alflow.reference.spool import write_durably
from alflow.selection import estimate_error
from alflow.tensors import to_batch
from alflow.training import fit_committee, force_errors

__all__ = ["judge", "run_with_committee", "save_weights"]

WORSE = 1.15
"""A new committee is rejected when its force error on held-out labels is more than this times the old one's, by more
than two standard errors of the difference: a few held-out frames alone prove nothing."""

EXPLORING_DTYPE = torch.float32

_CACHE: dict[str, Committee] = {}
"""The committees this worker used last, by hash; at most two."""


def run_with_committee(
    task: ExploreTask | TrainTask | ScoreTask, threads: int
) -> SegmentOutcome | TrainingResult | dict[str, float]:
    """Run a task that explores, scores or trains.

    Args:
        task: What to do.
        threads: Threads torch may use.
    """
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    if isinstance(task, TrainTask):
        return _train(task)
    committee = _committee(task.committee)
    if isinstance(task, ScoreTask):
        return _score(committee, task)
    return _with_extrapolation(committee, explore(committee, task.walkers, task.settings))


def _committee(weights: WeightFile) -> Committee:
    """The committee with these weights, from this worker's cache or from disk after its hash was verified."""
    if weights.sha256 not in _CACHE:
        while len(_CACHE) >= 2:
            _CACHE.pop(next(iter(_CACHE)))
        _CACHE[weights.sha256] = load_committee(weights.path, sha256=weights.sha256, dtype=EXPLORING_DTYPE)
    return _CACHE[weights.sha256]


def _with_extrapolation(committee: Committee, outcome: SegmentOutcome) -> SegmentOutcome:
    """The same outcome with the excursion of every frame that may be labelled; measured once, not at every step."""
    if committee.trained_range is None:
        return outcome

    def measured(frame: FlaggedFrame | None) -> FlaggedFrame | None:
        if frame is None:
            return None
        excursion = float(committee.extrapolation(to_batch([frame.structure], committee.dtype)).frames[0])
        return replace(frame, extrapolation=excursion if np.isfinite(excursion) else None)

    walkers = tuple(replace(walker, frame=measured(walker.frame)) for walker in outcome.walkers)
    return replace(outcome, walkers=walkers, audit=measured(outcome.audit))


def _score(committee: Committee, task: ScoreTask) -> dict[str, float]:
    scores = committee.predict(to_batch(task.structures, committee.dtype)).disagreement()
    return {frame_id: float(score) for frame_id, score in zip(task.frame_ids, scores, strict=True)}


def _train(task: TrainTask) -> TrainingResult:
    old = load_committee(task.start.path, sha256=task.start.sha256) if task.start else None
    fit = fit_committee(task.train, task.validation, task.model, task.training, task.seed, start=old)
    # How long it took belongs to the execution; in the journal it would make two equal runs differ.
    metrics = {name: value for name, value in fit.metrics.items() if not name.endswith("_seconds")}
    if not all(np.isfinite(value) for value in metrics.values()):
        finite = {name: value for name, value in metrics.items() if np.isfinite(value)}
        return TrainingResult(None, False, "training gave numbers that are not finite", finite)
    accepted, reason, judged = judge(fit.committee, old, task.validation, task.audit)
    return TrainingResult(save_weights(fit.committee, task.folder), accepted, reason, metrics | judged)


def judge(
    new: Committee, old: Committee | None, validation: Sequence[Label], audit: Sequence[Label]
) -> tuple[bool, str, dict[str, float]]:
    """Measure a new committee on labels it has not learnt from, and compare it with the one it would replace.

    Returns:
        Whether it is accepted, why not, and the metrics: error on audit labels with its 95 % interval.
    """
    metrics: dict[str, float] = {}
    if not all(bool(tensor.isfinite().all()) for tensor in new.weights.tensors().values()):
        return False, "its weights are not finite", metrics  # the first labels leave none to measure on
    held_out = [*validation, *audit]
    if held_out and not np.isfinite(force_errors(new, held_out).mean_absolute).all():
        return False, "its forces on held-out labels are not finite", metrics
    if audit:
        estimate = estimate_error(force_errors(new, audit).mean_absolute)
        metrics["audit_force_mae_ev_ang"] = estimate.mean
        metrics["n_audit"] = float(len(audit))
        if np.isfinite(estimate.upper):
            metrics["audit_force_mae_lower_ev_ang"] = estimate.lower
            metrics["audit_force_mae_upper_ev_ang"] = estimate.upper
    if old is None or not held_out:
        return True, "", metrics
    errors_new = np.asarray(force_errors(new, held_out).mean_absolute)
    errors_old = np.asarray(force_errors(old, held_out).mean_absolute)
    error_new, error_old = float(errors_new.mean()), float(errors_old.mean())
    metrics |= {"held_out_force_mae_ev_ang": error_new, "held_out_force_mae_before_ev_ang": error_old}
    doubt = 2.0 * float((errors_new - errors_old).std(ddof=1)) / np.sqrt(len(held_out)) if len(held_out) > 1 else np.inf
    if error_new > WORSE * error_old and error_new - error_old > doubt:
        return False, f"held-out force error {error_new:.4f} eV/Å against {error_old:.4f} before", metrics
    return True, "", metrics


def save_weights(committee: Committee, folder: Path) -> WeightFile:
    """Write a committee under the name of its own hash; whole or not at all, even if the power fails."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".training-") as scratch:
        draft = Path(scratch) / "committee.safetensors"
        committee.save(draft)
        data = draft.read_bytes()
    weights = WeightFile(folder / f"{digest_of_bytes(data)}.safetensors", digest_of_bytes(data))
    write_durably(weights.path, data)
    return weights
