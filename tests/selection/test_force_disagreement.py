from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from alflow.selection import DISAGREEMENT_PER_ERROR, flag_threshold, force_disagreement, frame_disagreement
from alflow.tensors import Prediction


def test_a_hand_calculation_of_three_members_and_two_atoms() -> None:
    forces = np.array(
        [[[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]], [[3.0, 4.0, 0.0], [1.0, 0.0, 0.0]], [[0.0, 4.0, 0.0], [1.0, 0.0, 0.5]]]
    )
    assert force_disagreement(forces).tolist() == [5.0, 0.5]
    assert frame_disagreement(forces) == 5.0


@given(st.integers(0, 10**6))
def test_rotation_and_the_order_of_members_change_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    forces = rng.normal(size=(4, 5, 3))
    turned = (forces @ np.linalg.qr(rng.normal(size=(3, 3)))[0])[rng.permutation(4)]
    np.testing.assert_allclose(force_disagreement(turned), force_disagreement(forces), rtol=1e-12)


def test_tensors_give_the_same_disagreement() -> None:
    forces = np.random.default_rng(0).normal(size=(8, 6, 3))
    prediction = Prediction(torch.zeros(8, 1), torch.as_tensor(forces)[:, None])
    np.testing.assert_allclose(prediction.atom_disagreement()[0].numpy(), force_disagreement(forces), rtol=1e-14)
    assert float(prediction.disagreement()) == pytest.approx(frame_disagreement(forces), rel=1e-14)


def test_one_member_cannot_disagree_with_itself() -> None:
    with pytest.raises(ValueError, match="two members"):
        force_disagreement(np.zeros((1, 3, 3)))


def test_the_threshold_is_a_multiple_of_the_target() -> None:
    assert flag_threshold(0.02) == DISAGREEMENT_PER_ERROR * 0.02
    assert flag_threshold(0.1, factor=2.0) == 0.2
    with pytest.raises(ValueError, match="above 0"):
        flag_threshold(0.0)
    with pytest.raises(ValueError, match="above 0"):
        flag_threshold(float("nan"))


def test_the_factor_is_below_that_of_independent_normal_errors() -> None:
    """Four members whose errors are independent: the mean errs by half of what one does, and the ratio is ten."""
    errors = np.random.default_rng(0).normal(size=(2000, 4, 3, 3))
    ratio = np.mean([frame_disagreement(e) for e in errors]) / np.abs(errors.mean(axis=1)).mean()
    # 2000 frames: 0.4 %; three atoms give 10.2, more atoms a little more.
    assert ratio == pytest.approx(10.0, rel=0.05)
    # Trained members share their mistakes and differ by less than members that err independently.
    assert ratio / 3.0 < DISAGREEMENT_PER_ERROR < ratio
