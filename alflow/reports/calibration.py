"""Whether disagreement foretells the error: every labelled frame against what the committee said when it saw it.

A frame's prediction is stored before its label exists, so no committee can have learnt from it. Frames drawn at random
below the threshold (audit) and frames at the threshold (flagged) are kept apart: only the first tell how large the
error is where nobody raises a flag; the second tell whether a flag was worth its label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import betaincinv, ndtri

from alflow.domain.structure import FloatArray, IntArray
from alflow.store import FrameRecord, JobRecord

__all__ = ["Calibration", "Quantile", "Share", "Verdicts", "calibrate", "rank_correlation", "share_of", "verdicts"]

PURPOSES = ("audit", "flagged")
MOST_QUANTILES: Final = 5
FEWEST_IN_QUANTILE: Final = 5


@dataclass(frozen=True)
class Share:
    """How many of how many, with the exact interval of the share.

    Attributes:
        count: Of how many it holds.
        n: How many were looked at.
        lower: Lower end of the 95 % interval of the share.
        upper: Upper end.
    """

    count: int
    n: int
    lower: float
    upper: float

    @property
    def share(self) -> float:
        """The share itself; 0 of nothing."""
        return self.count / self.n if self.n else 0.0


@dataclass(frozen=True, eq=False)
class Calibration:
    """Labelled frames with a prediction, in the order in which their labels came.

    Attributes:
        frame_ids: Names of the frames.
        is_audit: Whether the frame was drawn at random below the threshold; else it was flagged, shape (frame,).
        generation: Committee that saw it, shape (frame,).
        disagreement: What that committee's members disagreed by, eV/Å, shape (frame,).
        max_error: Largest |F − F_label| over the atoms, eV/Å, shape (frame,).
        mean_error: Mean absolute error of a force component, eV/Å, shape (frame,).
    """

    frame_ids: tuple[str, ...]
    is_audit: FloatArray
    generation: IntArray
    disagreement: FloatArray
    max_error: FloatArray
    mean_error: FloatArray

    def verdicts(self, audit: bool | None, target: float | None) -> Verdicts:
        """Reduce one kind of frame to numbers.

        Args:
            audit: Frames drawn at random, or those that were flagged; None for both.
            target: Mean absolute error of a force component that is good enough, eV/Å; None if there is none.
        """
        chosen = np.full(len(self.frame_ids), True) if audit is None else self.is_audit == audit
        return verdicts(self.disagreement[chosen], self.max_error[chosen], self.mean_error[chosen], target)

    def quantiles(self, target: float | None) -> list[Quantile]:
        """Frames by disagreement in equal parts, the surest first; empty where two parts would have too few frames.

        Args:
            target: Mean absolute error of a force component that is good enough, eV/Å; None if there is none.
        """
        parts = min(MOST_QUANTILES, len(self.disagreement) // FEWEST_IN_QUANTILE)
        if parts < 2:
            return []
        found = []
        for chosen in np.array_split(np.argsort(self.disagreement, kind="stable"), parts):
            seen, n = self.disagreement[chosen], len(chosen)
            above = None if target is None else share_of(int((self.mean_error[chosen] > target).sum()), n)
            median = float(np.median(self.max_error[chosen]))
            found.append(Quantile(float(seen.min()), float(seen.max()), n, median, above))
        return found


@dataclass(frozen=True)
class Quantile:
    """Frames of about the same disagreement, and how wrong the committee was about them.

    Attributes:
        lowest: Smallest disagreement among them, eV/Å.
        highest: Largest, eV/Å.
        n: How many there are.
        error: Median of the largest error of any atom, eV/Å.
        above_target: Those whose mean error was above the target; None without a target.
    """

    lowest: float
    highest: float
    n: int
    error: float
    above_target: Share | None


@dataclass(frozen=True)
class Verdicts:
    """Disagreement against true error in numbers.

    Attributes:
        n: Frames.
        correlation: Spearman's rank correlation of disagreement and largest error, with its 95 % interval; None where
            fewer than four frames or no spread leave it undefined.
        ratio: Median of largest error over disagreement; None without frames.
        underestimated: Frames whose largest error was above their disagreement.
        above_target: Frames whose mean error was above the target; None without a target.
    """

    n: int
    correlation: tuple[float, float, float] | None
    ratio: float | None
    underestimated: Share
    above_target: Share | None


def verdicts(disagreement: FloatArray, largest: FloatArray, mean: FloatArray, target: float | None) -> Verdicts:
    """Reduce disagreement and true error to numbers.

    Args:
        disagreement: Disagreement of each frame, eV/Å, shape (frame,).
        largest: Largest error of any atom, eV/Å, shape (frame,).
        mean: Mean absolute error of a force component, eV/Å, shape (frame,).
        target: Mean error that is good enough, eV/Å; None if there is none.
    """
    n = len(disagreement)
    ratios = largest[disagreement > 0] / disagreement[disagreement > 0]
    return Verdicts(
        n=n,
        correlation=rank_correlation(disagreement, largest),
        ratio=float(np.median(ratios)) if len(ratios) else None,
        underestimated=share_of(int((largest > disagreement).sum()), n),
        above_target=None if target is None else share_of(int((mean > target).sum()), n),
    )


def calibrate(
    jobs: Sequence[JobRecord], frames: Mapping[str, FrameRecord], forces: Sequence[FloatArray]
) -> Calibration:
    """Hold predictions against labels.

    Args:
        jobs: Labels that arrived; starting frames are left out.
        frames: The frames they were asked for, by name; those without prediction are left out.
        forces: Forces of each label, eV/Å, shape (atom, 3).
    """
    names, rows = [], []
    for job, truth in zip(jobs, forces, strict=True):
        frame = frames[job.frame_id]
        if job.purpose not in PURPOSES or frame.predicted_forces is None or frame.disagreement is None:
            continue
        error = frame.predicted_forces - truth
        names.append(frame.id)
        rows.append(
            (
                float(job.purpose == "audit"),
                float(frame.generation or 0),
                frame.disagreement,
                float(np.linalg.norm(error, axis=1).max()),
                float(np.abs(error).mean()),
            )
        )
    audit, generation, disagreement, largest, mean = np.array(rows, dtype=float).reshape(-1, 5).T
    return Calibration(tuple(names), audit, generation.astype(np.int64), disagreement, largest, mean)


def share_of(count: int, n: int, confidence: float = 0.95) -> Share:
    """A share with its exact interval (Clopper and Pearson, Biometrika 26, 404 (1934)).

    Examples:
        >>> found = share_of(0, 10)
        >>> found.lower, round(found.upper, 3)
        (0.0, 0.308)
    """
    tail = 0.5 * (1.0 - confidence)
    lower = float(betaincinv(count, n - count + 1, tail)) if count > 0 else 0.0
    upper = float(betaincinv(count + 1, n - count, 1.0 - tail)) if count < n else 1.0
    return Share(count, n, lower, upper)


def rank_correlation(x: FloatArray, y: FloatArray, confidence: float = 0.95) -> tuple[float, float, float] | None:
    """Spearman's rank correlation with its interval.

    Fisher's transform with the variance of Bonett and Wright, Psychometrika 65, 23 (2000):
    atanh r ± z √((1 + r²/2)/(n − 3)).

    Returns:
        Correlation, lower and upper end; None for fewer than four values or where one of the two has no spread.

    Examples:
        >>> low_to_high = np.arange(20.0)
        >>> [round(value, 2) for value in rank_correlation(low_to_high, low_to_high**3)]
        [1.0, 1.0, 1.0]
    """
    n = len(x)
    ranks = _ranks(x), _ranks(y)
    spread = float(ranks[0].std() * ranks[1].std()) if n >= 4 else 0.0
    if spread <= 0.0:
        return None
    r = float(np.clip(np.mean((ranks[0] - ranks[0].mean()) * (ranks[1] - ranks[1].mean())) / spread, -1.0, 1.0))
    if abs(r) > 1.0 - 1e-12:
        return r, r, r
    reach = float(ndtri(0.5 + 0.5 * confidence)) * float(np.sqrt((1.0 + 0.5 * r * r) / (n - 3)))
    return r, float(np.tanh(np.arctanh(r) - reach)), float(np.tanh(np.arctanh(r) + reach))


def _ranks(values: FloatArray) -> FloatArray:
    """Ranks from 1; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    shared: FloatArray = np.cumsum(counts) - 0.5 * (counts - 1.0)
    return shared[place]
