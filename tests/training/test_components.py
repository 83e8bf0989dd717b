"""Faint components are heard, and what is silent on the training data stays as it is."""

from __future__ import annotations

import pytest
import torch

from alflow.domain.learning_config import ModelConfig
from alflow.potentials.committee import symmetry_functions
from alflow.training import normalization
from alflow.training.normalization import fit_projection
from tests.potentials.committees import ETHANOL, rattled

SPREADS = torch.tensor([1.0, 0.1, 0.01, 0.0], dtype=torch.float64)


def _projection(components: int) -> torch.Tensor:
    model = ModelConfig(radial_functions=4, angular_functions=2, angular_degree=1, components=components)
    functions = symmetry_functions(model, 3)
    generator = torch.Generator().manual_seed(0)
    return fit_projection(rattled(ETHANOL, 40, 0.05, 0), functions, (1, 6, 8), model, generator)[1]


def test_a_component_a_hundred_times_fainter_is_heard_thirty_times_fainter() -> None:
    heard = normalization._gains(SPREADS.square()) * SPREADS
    # Spreads to the power 1 − 1/4.
    torch.testing.assert_close(heard[:3] / heard[0], SPREADS[:3] ** 0.75, rtol=1e-12, atol=0.0)
    # The variance is shared out anew; only what the silent component is credited with, 10⁻⁶, may be missing.
    assert float(heard.square().sum() / SPREADS.square().sum()) == pytest.approx(1.0, abs=1e-4)
    assert bool(normalization._gains(SPREADS.square()).isfinite().all())


def test_where_nothing_varies_nothing_is_made_louder() -> None:
    gains = normalization._gains(torch.zeros(5, dtype=torch.float64))
    torch.testing.assert_close(gains, torch.ones(5, dtype=torch.float64), rtol=1e-12, atol=0.0)


def test_faint_components_point_where_they_did_and_random_ones_keep_their_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    louder = _projection(16)
    monkeypatch.setattr(normalization, "_LOUDNESS", 0.0)
    plain = _projection(16)
    torch.testing.assert_close(louder[:, :, 14:], plain[:, :, 14:])
    gains = louder[:, :, :14].norm(dim=1) / plain[:, :, :14].norm(dim=1)
    torch.testing.assert_close(louder[:, :, :14], gains[:, None, :] * plain[:, :, :14])
    # Principal components come with ascending variance.
    assert bool((gains.diff(dim=1) <= 1e-12).all())
    assert float((gains[:, 0] / gains[:, -1]).min()) > 1.5
