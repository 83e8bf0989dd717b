"""Disagreement against true error, from frames and labels with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from alflow.reports.calibration import Calibration, calibrate, rank_correlation, share_of, verdicts
from alflow.store import FrameRecord, JobRecord


def frame(name: str, disagreement: float, predicted: float, decision: str = "audit") -> FrameRecord:
    """One atom that is pulled along x."""
    forces = np.array([[predicted, 0.0, 0.0]])
    return FrameRecord(
        name, 1, name, "walker", decision, generation=2, disagreement=disagreement, predicted_forces=forces
    )  # type: ignore[arg-type]


def job(name: str, purpose: str = "audit") -> JobRecord:
    return JobRecord(f"job-{name}", 1, name, name, "level", purpose, "done")  # type: ignore[arg-type]


def test_each_frame_is_held_against_its_own_label_and_seeds_are_left_out() -> None:
    frames = {
        "a": frame("a", 0.1, 1.0),
        "b": frame("b", 0.5, 2.0, "flagged"),
        "s": FrameRecord("s", 1, "s", "seed", "seed"),
    }
    truth = [np.array([[0.7, 0.0, 0.0]]), np.array([[9.9, 0.0, 0.0]]), np.array([[2.0, 0.4, 0.3]])]
    found = calibrate([job("a"), job("s", "seed"), job("b", "flagged")], frames, truth)
    assert found.frame_ids == ("a", "b")
    assert found.is_audit.tolist() == [1.0, 0.0]
    assert found.max_error == pytest.approx([0.3, 0.5])
    assert found.mean_error == pytest.approx([0.1, 0.7 / 3])
    told = found.verdicts(True, target=0.05)
    assert (told.n, told.ratio) == (1, pytest.approx(3.0))
    assert told.correlation is None, "one frame has no rank"
    assert told.above_target is not None
    assert (told.above_target.count, told.above_target.n) == (1, 1)
    assert found.verdicts(None, None).n == 2
    assert found.verdicts(None, None).above_target is None


def test_an_overconfident_committee_is_found_out() -> None:
    disagreement = np.linspace(0.1, 1.0, 10)
    told = verdicts(disagreement, 2.0 * disagreement, 0.5 * disagreement, target=0.26)
    assert told.ratio == pytest.approx(2.0)
    assert told.underestimated.share == 1.0
    assert told.above_target is not None
    assert told.above_target.count == 5
    assert told.correlation == (1.0, 1.0, 1.0)


def test_the_interval_of_a_share_is_exact() -> None:
    """Against the tables of Clopper and Pearson: 1 of 10 lies between 0.0025 and 0.4450."""
    found = share_of(1, 10)
    assert (found.lower, found.upper) == (pytest.approx(0.00253, abs=1e-5), pytest.approx(0.44502, abs=1e-5))
    assert (share_of(10, 10).upper, share_of(0, 0).lower) == (1.0, 0.0)


def test_the_interval_of_a_rank_correlation_covers_as_often_as_it_says() -> None:
    """Normal pairs of correlation 0.6: Spearman's is 6/π asin(0.3)."""
    truth = 6.0 / np.pi * np.arcsin(0.3)
    dice = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        x = dice.standard_normal(30)
        y = 0.6 * x + 0.8 * dice.standard_normal(30)
        found = rank_correlation(x, y)
        assert found is not None
        hits += found[1] <= truth <= found[2]
    assert 0.92 <= hits / 400 <= 0.98


def test_equal_values_share_a_rank() -> None:
    """Against scipy, with ties in both."""
    dice = np.random.default_rng(1)
    x, y = dice.integers(0, 5, 40).astype(float), dice.integers(0, 5, 40).astype(float)
    found = rank_correlation(x, y)
    assert found is not None
    assert found[0] == pytest.approx(spearmanr(x, y).statistic)


def test_without_spread_there_is_no_correlation() -> None:
    assert rank_correlation(np.ones(9), np.arange(9.0)) is None
    assert rank_correlation(np.arange(3.0), np.arange(3.0)) is None


def test_errors_are_told_by_quantile_of_disagreement() -> None:
    n = 23
    order = np.random.default_rng(3).permutation(n)
    disagreement, largest = (np.arange(n) / 10.0)[order], (np.arange(n) / 5.0)[order]

    def seen(count: int) -> Calibration:
        nothing, some, errors = np.zeros(count), disagreement[:count], largest[:count]
        return Calibration(("f",) * count, nothing, nothing.astype(np.int64), some, errors, errors / 4.0)

    parts = seen(n).quantiles(target=0.56)
    ends = [(part.n, part.lowest, part.highest) for part in parts]
    assert ends == [(6, 0.0, 0.5), (6, 0.6, 1.1), (6, 1.2, 1.7), (5, 1.8, 2.2)]
    assert [part.error for part in parts] == pytest.approx([0.5, 1.7, 2.9, 4.0])
    assert [part.above_target.count for part in parts if part.above_target] == [0, 0, 6, 5]
    assert seen(n).quantiles(None)[0].above_target is None
    assert seen(9).quantiles(0.56) == []
