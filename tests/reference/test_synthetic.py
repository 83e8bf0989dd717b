"""The synthetic reference: its times and failures are what was asked for, and always the same."""

from __future__ import annotations

import time

import numpy as np
import pytest

from alflow.domain import Evaluation, Failure, FailureKind, Structure
from alflow.reference import Morse, Synthetic

MORSE = Morse()
STRUCTURES = [Structure.of("HH", [[0, 0, 0], [0, 0, 0.7 + 0.0001 * k]]) for k in range(2000)]


def test_what_does_not_fail_is_what_the_reference_inside_computes() -> None:
    synthetic = Synthetic(MORSE, duration_s=0.0)
    assert synthetic.level == MORSE.level
    outcome, bare = synthetic.evaluate(STRUCTURES[0]), MORSE.evaluate(STRUCTURES[0])
    assert isinstance(outcome, Evaluation)
    assert isinstance(bare, Evaluation)
    assert outcome.energy == bare.energy
    np.testing.assert_array_equal(outcome.forces, bare.forces)


def test_as_many_fail_as_were_asked_for_and_always_the_same() -> None:
    synthetic = Synthetic(MORSE, duration_s=0.0, failure_rate=0.2)
    outcomes = [synthetic.at_once(structure) for structure in STRUCTURES]
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    assert {outcome.kind for outcome in failed} == {FailureKind.SCF_FAIL}
    assert abs(len(failed) - 400) < 4 * np.sqrt(2000 * 0.2 * 0.8)
    assert [isinstance(synthetic.at_once(s), Failure) for s in STRUCTURES] == [isinstance(o, Failure) for o in outcomes]
    other = Synthetic(MORSE, duration_s=0.0, failure_rate=0.2, seed=1)
    assert [other.fails(s) for s in STRUCTURES] != [synthetic.fails(s) for s in STRUCTURES]


def test_times_have_the_median_and_the_spread_that_were_asked_for() -> None:
    logs = np.log([Synthetic(MORSE, duration_s=3.0, spread=0.5).takes_s(structure) for structure in STRUCTURES])
    assert abs(logs.mean() - np.log(3.0)) < 4 * 0.5 / np.sqrt(2000)
    assert abs(logs.std() - 0.5) < 0.05
    assert Synthetic(MORSE, duration_s=3.0).takes_s(STRUCTURES[0]) == 3.0


def test_an_evaluation_takes_its_time() -> None:
    began = time.monotonic()
    Synthetic(MORSE, duration_s=0.05).evaluate(STRUCTURES[0])
    assert time.monotonic() - began >= 0.05


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"duration_s": -1.0}, "0 or more"), ({"duration_s": 1.0, "failure_rate": 1.5}, "from 0 to 1")],
)
def test_impossible_settings_are_refused(settings: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Synthetic(MORSE, **settings)  # type: ignore[arg-type]
