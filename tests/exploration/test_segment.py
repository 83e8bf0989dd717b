from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from alflow.domain import Structure
from alflow.exploration import Ensemble, Reason, SegmentOutcome, Walker, WalkerStatus, explore
from alflow.exploration.integrators import langevin_step, start_dynamics
from alflow.exploration.noise import thermal_noise
from alflow.tensors import to_batch
from tests.exploration.analytic import ETHANOL, WATER, LennardJones, Springs, settings, walkers_on

COMMITTEE = Springs([ETHANOL, WATER], [9.0, 10.0, 11.0])


def disagreements(walker: Walker, n_steps: int, committee: Springs = COMMITTEE) -> list[float]:
    """Disagreement of every frame of a walker, computed step by step outside of ``explore``."""
    state = start_dynamics(committee, to_batch([walker.structure]), torch.as_tensor(walker.velocities.copy())[None])
    found = [float(state.prediction.disagreement())]
    size = len(walker.structure)
    noise = torch.as_tensor(thermal_noise(0, walker.walker, walker.resets, walker.step, n_steps, size))
    for step in range(n_steps):
        state = langevin_step(committee, state, noise[step][None], 0.5, 300.0, 0.01)
        found.append(float(state.prediction.disagreement()))
    return found


def checkpoints(outcome: SegmentOutcome) -> list[Walker]:
    return [o.walker for o in outcome.walkers]


def test_a_quiet_segment_runs_to_its_end() -> None:
    outcome = explore(COMMITTEE, walkers_on(ETHANOL, [4, 9]), settings(n_steps=50))
    assert [o.status for o in outcome.walkers] == [WalkerStatus.RUNNING] * 2
    assert [(w.walker, w.step, w.resets) for w in checkpoints(outcome)] == [(4, 50, 0), (9, 50, 0)]
    assert outcome.walker_steps == outcome.n_trusted == 100
    assert [o.reason for o in outcome.walkers] == [None, None]
    assert all(50.0 < o.mean_temperature < 600.0 for o in outcome.walkers)


def test_the_same_seed_gives_the_same_segment_and_another_seed_another() -> None:
    walkers = walkers_on(ETHANOL, [0, 1, 2])
    first = explore(COMMITTEE, walkers, settings(n_steps=80))
    assert checkpoints(explore(COMMITTEE, walkers, settings(n_steps=80))) == checkpoints(first)
    other = explore(COMMITTEE, walkers, settings(n_steps=80, seed=1))
    assert all(a != b for a, b in zip(checkpoints(other), checkpoints(first), strict=True))


@pytest.mark.parametrize("ensemble", list(Ensemble))
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_restart_from_a_checkpoint_is_the_uninterrupted_run_bit_for_bit(
    ensemble: Ensemble, dtype: torch.dtype
) -> None:
    committee = Springs([ETHANOL], [9.0, 10.0, 11.0], dtype)
    walkers = walkers_on(ETHANOL, [0, 1, 2, 3])
    whole = explore(committee, walkers, settings(n_steps=300, ensemble=ensemble))
    middle = walkers
    # 37 and 300 are no multiples of the block of noise, 263 is longer than the chunk.
    for n_steps in (37, 263):
        middle = checkpoints(explore(committee, middle, settings(n_steps=n_steps, ensemble=ensemble)))
    assert middle == checkpoints(whole)


def test_a_trajectory_does_not_depend_on_its_company() -> None:
    walkers = walkers_on(ETHANOL, [0, 1, 2]) + walkers_on(WATER, [3])
    together = explore(COMMITTEE, walkers, settings(n_steps=100))
    backwards = explore(COMMITTEE, walkers[::-1], settings(n_steps=100))
    for walker, a, b in zip(walkers, checkpoints(together), checkpoints(backwards)[::-1], strict=True):
        alone = checkpoints(explore(COMMITTEE, [walker], settings(n_steps=100)))[0]
        for other in (a, b):
            # Only rounding differs: sums over padded atoms, 1e-16 per step, amplified by the motion.
            assert np.abs(other.structure.positions - alone.structure.positions).max() < 1e-10
    assert together.audit is not None
    assert backwards.audit is not None
    assert (together.audit.walker, together.audit.step) == (backwards.audit.walker, backwards.audit.step)


def test_a_walker_pauses_on_the_very_first_frame_above_the_threshold() -> None:
    walkers = walkers_on(ETHANOL, list(range(8)))
    paths = [disagreements(w, 200) for w in walkers]
    threshold = float(np.median([max(path) for path in paths]))
    outcome = explore(COMMITTEE, walkers, settings(n_steps=200, threshold=threshold))
    statuses = set()
    for walker, path, found in zip(walkers, paths, outcome.walkers, strict=True):
        crossing = next((index for index, value in enumerate(path) if value >= threshold), None)
        statuses.add(found.status)
        if crossing is None:
            assert found.status is WalkerStatus.RUNNING
            assert found.steps == 200
            continue
        assert (found.status, found.reason) == (WalkerStatus.PAUSED, Reason.DISAGREEMENT)
        assert found.steps == found.walker.step == found.walker.last_flag_step == crossing
        assert found.frame is not None
        assert (found.frame.walker, found.frame.step) == (walker.walker, crossing)
        assert found.frame.structure == found.walker.structure
        assert found.frame.disagreement == pytest.approx(path[crossing], rel=1e-6)
        prediction = COMMITTEE.predict(to_batch([found.frame.structure]))
        assert found.frame.predicted_energy == pytest.approx(float(prediction.energy), rel=1e-9)
        np.testing.assert_allclose(found.frame.predicted_forces, prediction.mean_forces[0].numpy(), atol=1e-9)
        assert found.max_disagreement == found.frame.disagreement
    assert statuses == {WalkerStatus.RUNNING, WalkerStatus.PAUSED}


def test_a_walker_goes_on_from_its_flagged_frame_and_is_refractory_for_a_while() -> None:
    walker = walkers_on(ETHANOL, [0])[0]
    path = disagreements(walker, 120)
    threshold = max(path[:10]) * 1.0001
    flagged = explore(COMMITTEE, [walker], settings(n_steps=120, threshold=threshold, ceiling=100.0)).walkers[0]
    onward = explore(
        COMMITTEE, [flagged.walker], settings(n_steps=120 - flagged.steps, threshold=threshold, ceiling=100.0)
    ).walkers[0]
    again = next(i for i in range(flagged.steps + 20, 121) if path[i] >= threshold)
    assert any(value >= threshold for value in path[flagged.steps + 1 : flagged.steps + 20])
    assert onward.status is WalkerStatus.PAUSED
    assert onward.walker.step == again


def test_the_ceiling_ends_even_a_refractory_walker() -> None:
    walker = replace(walkers_on(ETHANOL, [0])[0], step=5, last_flag_step=5)
    threshold = 0.02
    outcome = explore(COMMITTEE, [walker], settings(n_steps=50, threshold=threshold, ceiling=4.0)).walkers[0]
    assert (outcome.status, outcome.reason) == (WalkerStatus.RESET, Reason.CEILING)
    assert outcome.frame is None
    assert outcome.unphysical is not None
    assert outcome.unphysical.disagreement is not None
    assert outcome.unphysical.disagreement >= 4.0 * threshold
    assert outcome.walker.step == 5 + outcome.steps
    assert outcome.walker.resets == 1


def test_a_start_far_above_the_ceiling_is_flagged_because_nothing_better_is_known() -> None:
    stretched = ETHANOL.with_positions(1.1 * ETHANOL.positions)
    outcome = explore(COMMITTEE, walkers_on(stretched, [0]), settings(n_steps=50, threshold=0.01)).walkers[0]
    assert (outcome.status, outcome.steps, outcome.walker.step) == (WalkerStatus.PAUSED, 0, 0)


def test_a_single_potential_never_flags() -> None:
    outcome = explore(Springs([ETHANOL], [10.0]), walkers_on(ETHANOL, [0]), settings(threshold=1e-6))
    assert outcome.walkers[0].status is WalkerStatus.RUNNING
    assert outcome.walkers[0].max_disagreement == 0.0


def test_the_same_walker_twice_or_none_is_refused() -> None:
    with pytest.raises(ValueError, match="each of them once"):
        explore(COMMITTEE, walkers_on(ETHANOL, [1, 1]), settings())
    with pytest.raises(ValueError, match="needs walkers"):
        explore(COMMITTEE, [], settings())


def test_the_audit_frame_is_uniform_over_walkers_and_steps() -> None:
    pair = Structure.of(["Ar", "Ar"], [[0.0, 0.0, 0.0], [3.8, 0.0, 0.0]])
    walkers = walkers_on(pair, [0, 1, 2], temperature=20.0)
    counts = np.zeros((3, 4))
    for segment in range(1200):
        asked = settings(n_steps=4, temperature=20.0, segment=segment)
        audit = explore(LennardJones(), walkers, asked).audit
        assert audit is not None
        counts[audit.walker, audit.step - 1] += 1
    assert chisquare(counts.ravel()).pvalue > 0.01


def test_only_trusted_frames_are_audited() -> None:
    walkers = [replace(w, last_flag_step=0) for w in walkers_on(ETHANOL, [0, 1])]
    paths = [disagreements(w, 40) for w in walkers]
    threshold = float(np.median(paths))
    trusted = {(w.walker, i) for w, p in zip(walkers, paths, strict=True) for i in range(1, 41) if p[i] < threshold}
    for segment in range(20):
        asked = settings(n_steps=40, threshold=threshold, ceiling=1e3, refractory_steps=1000, segment=segment)
        outcome = explore(COMMITTEE, walkers, asked)
        assert outcome.audit is not None
        assert (outcome.audit.walker, outcome.audit.step) in trusted
        assert outcome.n_trusted == len(trusted)
        assert outcome.audit.disagreement < threshold
    assert explore(COMMITTEE, walkers, replace(asked, audit=False)).audit is None


def test_the_audit_frame_is_what_the_walker_met() -> None:
    walker = walkers_on(ETHANOL, [3])[0]
    audit = explore(COMMITTEE, [walker], settings(n_steps=60)).audit
    assert audit is not None
    there = explore(COMMITTEE, [walker], settings(n_steps=audit.step)).walkers[0].walker
    assert there.structure == audit.structure
    energy = float(COMMITTEE.predict(to_batch([audit.structure])).energy)
    assert audit.predicted_energy == pytest.approx(energy, rel=1e-12)
