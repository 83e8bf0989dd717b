"""A trained committee as teacher: known by its hash, wired into campaigns, refused where it knows nothing."""

from __future__ import annotations

import os
import pickle
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
import yaml

from alflow.campaign.config import load_config
from alflow.campaign.label_console import read_level
from alflow.campaign.launch import resume_campaign, run_campaign
from alflow.campaign.preflight import check_campaign, describe, read_starting_structures
from alflow.campaign.teacher import CommitteeReference, check_reference, make_reference
from alflow.domain import Evaluation, Failure, FailureKind, Structure
from alflow.domain.identity import digest_of_bytes
from alflow.errors import ConfigError
from alflow.potentials import load_committee
from alflow.reference import CommitteeConfig, LabelRequest, Morse, MorseConfig, run_label
from tests.campaign.toys import WATER_ANG, check_promises, rows, toy
from tests.reference.test_face import loaded_after

WATER = Structure.of("OHH", WATER_ANG)
METHANE = Structure.of("CH", [[0.0, 0.0, 0.0], [1.1, 0.0, 0.0]])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committee of a toy campaign."""
    folder = tmp_path_factory.mktemp("teacher")
    with chdir(folder):
        ended = run_campaign(toy(folder, label_budget=10))
    assert ended.committee is not None
    return ended.committee


def teacher(weights: Path, **keys: object) -> CommitteeConfig:
    return CommitteeConfig.model_validate({"engine": "committee", "weights": str(weights)} | keys)


def test_a_label_is_the_mean_of_the_committee(weights: Path, tmp_path: Path) -> None:
    reference = make_reference(teacher(weights))
    asked = LabelRequest(reference, WATER, "label-c-a1", tmp_path / "spool", time_limit_s=100)
    found = run_label(asked).outcome
    expected = load_committee(weights).evaluate(WATER)
    assert isinstance(found, Evaluation), found
    assert found.energy == pytest.approx(expected.energy, abs=1e-9)
    np.testing.assert_allclose(found.forces, expected.forces, atol=1e-9)
    assert found.diagnostics["disagreement_ev_ang"] > 0


def test_the_level_is_the_content_of_the_file_and_not_its_place(weights: Path, tmp_path: Path) -> None:
    moved = tmp_path / "teacher.safetensors"
    moved.write_bytes(weights.read_bytes())
    first, second = CommitteeReference.of(weights), CommitteeReference.of(moved)
    assert first.level == second.level
    assert first.level.settings["sha256"] == digest_of_bytes(weights.read_bytes())
    copy = pickle.loads(pickle.dumps(first))
    assert (copy, copy.level) == (first, first.level)


def test_a_campaign_learns_from_a_teacher_and_goes_on_from_its_database(
    weights: Path, tmp_path: Path, database: str
) -> None:
    reference = {"engine": "committee", "weights": str(weights)}
    config = toy(tmp_path, reference=reference, label_budget=10, database=database)
    ended = run_campaign(config)
    assert ended.state.phase == "finished", ended.state.reason
    check_promises(config.database)
    assert rows(config.database, "SELECT count(*) FROM labels") == [(10,)]
    assert resume_campaign(config.database).committee == ended.committee
    assert describe(config).startswith(f"10 labels at committee {weights.stem[:12]}")


def test_what_a_teacher_does_not_know_is_refused(weights: Path) -> None:
    with pytest.raises(ConfigError, match="trained on H, O and knows nothing of C"):
        check_reference(teacher(weights), [METHANE])
    found = make_reference(teacher(weights)).evaluate(METHANE)
    assert isinstance(found, Failure)
    assert found.kind is FailureKind.REJECTED
    check_reference(teacher(weights), [WATER])
    check_reference(MorseConfig(), [WATER])
    assert make_reference(MorseConfig()) == Morse()


def test_a_weight_file_that_is_missing_or_another_one_is_told_before_anything_runs(
    weights: Path, tmp_path: Path
) -> None:
    for config in (teacher(tmp_path / "none.safetensors"), teacher(weights, sha256="0" * 64)):
        with pytest.raises(ConfigError, match=r"reference\.weights: Weight file .*(cannot be read|altered)"):
            check_reference(config, [WATER])


def test_a_weight_file_is_looked_up_beside_the_file_that_names_it(weights: Path, tmp_path: Path) -> None:
    name = os.path.relpath(weights, tmp_path)
    keys = {"engine": "committee", "weights": name}
    (tmp_path / "level.yaml").write_text(yaml.safe_dump(keys))
    level = read_level(str(tmp_path / "level.yaml"))
    assert isinstance(level, CommitteeConfig)
    assert Path(level.weights).resolve() == weights.resolve()
    campaign = toy(tmp_path).model_dump(mode="json") | {"reference": keys}
    (tmp_path / "campaign.yaml").write_text(yaml.safe_dump(campaign))
    config = load_config(tmp_path / "campaign.yaml")
    check_campaign(config, read_starting_structures(config))


def test_carrying_a_teacher_about_loads_no_torch() -> None:
    assert "torch" not in loaded_after("import alflow.campaign.teacher, alflow.campaign.config")
