"""How wide the band is in which a label's energy may lie."""

from __future__ import annotations

import numpy as np

from alflow.selection.energy_band import FEWEST, QUANTILE, WIDTH, EnergyBand


def test_the_band_is_ten_times_what_nine_in_ten_labels_stayed_below_in_whatever_order_they_came() -> None:
    rng = np.random.default_rng(3)
    errors, disagreements = rng.normal(scale=0.4, size=57), rng.uniform(0.2, 2.0, size=57)
    band = EnergyBand()
    for error, disagreement in zip(errors, disagreements, strict=True):
        band.learn(error, disagreement)
    limit = WIDTH * np.quantile(np.abs(errors) / disagreements, QUANTILE) * 0.9
    assert limit > 0.5, "the least width is not what is tried here"
    assert band.judge(0.999 * limit, 0.9) is None
    assert band.judge(-0.999 * limit, 0.9) is None
    assert "above the committee" in str(band.judge(1.001 * limit, 0.9))
    assert "below the committee" in str(band.judge(-1.001 * limit, 0.9))


def test_there_is_no_band_before_ten_labels() -> None:
    band = EnergyBand()
    for _ in range(FEWEST - 1):
        band.learn(0.1, 1.0)
    assert band.judge(1e3, 0.1) is None
    band.learn(0.1, 1.0)
    assert band.judge(1e3, 0.1) is not None
