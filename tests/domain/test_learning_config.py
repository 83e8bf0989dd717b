from __future__ import annotations

import pytest
from pydantic import ValidationError

from alflow.domain.learning_config import ModelConfig, TrainingConfig


def test_the_defaults_survive_json() -> None:
    assert ModelConfig.model_validate_json(ModelConfig().model_dump_json()) == ModelConfig()
    assert TrainingConfig.model_validate_json(TrainingConfig().model_dump_json()) == TrainingConfig()


def test_a_misspelt_key_is_answered_with_the_right_one() -> None:
    with pytest.raises(ValidationError, match="Did you mean 'cutoff_ang'"):
        ModelConfig.model_validate({"cutof_ang": 4.0})


def test_the_angular_cutoff_lies_inside_the_radial_one() -> None:
    with pytest.raises(ValidationError, match=r"angular_cutoff_ang \(4\.0\) is at most cutoff_ang \(3\.0\)"):
        ModelConfig(cutoff_ang=3.0, angular_cutoff_ang=4.0)
    assert ModelConfig(cutoff_ang=3.0).angular_radius == 3.0


def test_a_single_width_is_answered_with_what_is_expected() -> None:
    with pytest.raises(ValidationError, match=r"one width per layer, for example \[32, 32\]; found 32"):
        ModelConfig.model_validate({"hidden": 32})
