from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from alflow.domain import Structure
from alflow.exploration import Ensemble, Reason, SegmentSettings, Walker, WalkerOutcome, WalkerStatus, explore
from alflow.exploration.contacts import contact_closeness
from alflow.exploration.monitors import squared_distances, watch_contacts
from alflow.tensors import to_batch
from tests.exploration.analytic import ETHANOL, WATER, LennardJones, Spoiled, Springs, Wells, settings, walkers_on


def committee() -> Springs:
    return Springs([ETHANOL, WATER], [9.0, 10.0, 11.0])


def spoiled_segment(
    spoil: str, from_call: int = 51, **others: object
) -> tuple[WalkerOutcome, WalkerOutcome, list[Walker]]:
    """A segment in which one walker of two meets something bad in frame 51."""
    walkers = walkers_on(ETHANOL, [0, 1])
    outcome = explore(Spoiled(committee(), from_call, spoil), walkers, settings(**({"n_steps": 53} | others)))
    return outcome.walkers[0], outcome.walkers[1], walkers


GUARDS = [
    ("nan_force", Reason.NON_FINITE),
    ("inf_energy", Reason.NON_FINITE),
    ("energy", Reason.ENERGY),
    ("kick", Reason.TEMPERATURE),
]


@pytest.mark.parametrize(("spoil", "reason"), GUARDS)
def test_every_guard_resets_its_walker_with_its_reason(spoil: str, reason: Reason) -> None:
    found, other, _ = spoiled_segment(spoil)
    assert (found.status, found.reason, found.frame) == (WalkerStatus.RESET, reason, None)
    assert found.unphysical is not None
    assert (found.unphysical.reason, found.unphysical.walker) == (reason, 0)
    assert found.unphysical.message == found.message != ""
    assert found.steps == 51
    assert found.walker.step == found.unphysical.step == 51
    assert found.walker.resets == 1
    assert np.isfinite(found.walker.velocities).all()
    assert np.isfinite([found.max_disagreement, found.mean_temperature]).all()
    # The walker that stayed alone in the batch is then spoiled itself, in the next call.
    assert other.steps == 52


@pytest.mark.parametrize(("spoil", "reason"), GUARDS)
def test_a_reset_walker_goes_back_to_a_frame_trusted_at_least_one_lag_before(spoil: str, reason: Reason) -> None:
    found, _, walkers = spoiled_segment(spoil)
    # Trusted frames are kept at 20 and 40; 40 is only 11 steps before the crossing.
    trusted = explore(committee(), walkers, settings(n_steps=20)).walkers[0].walker
    assert np.abs(found.walker.structure.positions - trusted.structure.positions).max() < 1e-12
    assert not np.array_equal(found.walker.velocities, trusted.velocities)
    later, _, _ = spoiled_segment(spoil, from_call=60, n_steps=60)
    trusted = explore(committee(), walkers, settings(n_steps=40)).walkers[0].walker
    assert np.abs(later.walker.structure.positions - trusted.structure.positions).max() < 1e-12
    early, _, _ = spoiled_segment(spoil, from_call=15, n_steps=15)
    assert early.walker.structure == walkers[0].structure


def test_a_walker_that_meets_nan_in_its_first_frame_gets_new_velocities_and_no_nan() -> None:
    found, _, walkers = spoiled_segment("nan_force", from_call=0)
    assert (found.reason, found.steps, found.walker.step) == (Reason.NON_FINITE, 0, 0)
    assert found.walker.structure == walkers[0].structure
    assert found.walker.resets == 1
    assert found.unphysical is not None
    assert found.unphysical.disagreement is None


def test_positions_that_are_not_finite_give_no_structure() -> None:
    class Infinite(Wells):
        def predict(self, batch, stress=False):  # type: ignore[no-untyped-def]
            answer = super().predict(batch)
            return replace(answer, forces=torch.full_like(answer.forces, float("inf")))

    found = explore(Infinite(1.0), walkers_on(ETHANOL, [0]), settings(n_steps=5, remove_drift=False)).walkers[0]
    assert (found.status, found.reason) == (WalkerStatus.RESET, Reason.NON_FINITE)
    assert found.unphysical is not None
    assert found.unphysical.structure is None
    assert found.walker.structure == ETHANOL


def test_two_atoms_too_close_are_never_labelled() -> None:
    # Atoms fall into one common well and meet.
    asked = settings(n_steps=200, temperature=5000.0, energy_rise_per_atom=1e6, temperature_factor=1e6)
    found = explore(Wells(5.0), walkers_on(WATER, [0]), asked).walkers[0]
    assert (found.status, found.reason) == (WalkerStatus.RESET, Reason.SHORT_CONTACT)
    assert found.unphysical is not None
    assert found.unphysical.structure is not None
    assert contact_closeness(found.unphysical.structure, 0.6) >= 1.0
    assert contact_closeness(found.walker.structure, 0.6) < 1.0


def test_an_atom_that_leaves_is_noticed() -> None:
    # A pair of argon atoms is bound by 0.01 eV; at 600 K it flies apart.
    pair = Structure.of(["Ar", "Ar"], [[0.0, 0.0, 0.0], [3.8, 0.0, 0.0]])
    asked = settings(n_steps=4000, timestep=2.0, temperature=600.0, ensemble=Ensemble.NVE, detachment=6.0)
    walkers = walkers_on(pair, [0], temperature=600.0)
    found = explore(LennardJones(), walkers, asked).walkers[0]
    assert (found.status, found.reason) == (WalkerStatus.RESET, Reason.DETACHED_ATOM)
    assert found.unphysical is not None
    assert found.unphysical.structure is not None
    positions = found.unphysical.structure.positions
    assert 6.0 <= np.linalg.norm(positions[0] - positions[1]) < 6.1
    kept = explore(LennardJones(), walkers, replace(asked, detachment=None)).walkers[0]
    assert kept.status is WalkerStatus.RUNNING


def test_a_hot_start_of_few_atoms_is_no_spike() -> None:
    water = Springs([WATER], [9.0, 10.0])
    outcome = explore(water, walkers_on(WATER, list(range(200))), settings(n_steps=200))
    # 40 000 frames of 6 degrees of freedom, none of which is rarer than 1e-9.
    assert {o.status for o in outcome.walkers} == {WalkerStatus.RUNNING}


def test_distances_are_those_of_the_nearest_images() -> None:
    cell = np.array([[8.0, 0.0, 0.0], [2.5, 7.0, 0.0], [1.0, -1.5, 9.0]])
    positions = np.array([[0.1, 0.1, 0.1], [10.4, 6.9, 0.2], [1.0, 2.0, 8.9], [-16.0, 1.0, 0.5]])
    crystal = Structure.of("HHHH", positions, cell)
    slab = replace(crystal, pbc=np.array([True, True, False]))
    for structure in (crystal, slab):
        batch = to_batch([structure])
        found = squared_distances(batch.positions, watch_contacts(batch, 0.6))[0].sqrt().numpy()
        shifts = [np.array(s) - 3 for s in np.ndindex(7, 7, 7)]
        shifts = [s for s in shifts if structure.pbc[2] or s[2] == 0]
        images = np.stack([s @ cell for s in shifts])
        difference = positions[:, None] - positions[None]
        exact = np.linalg.norm(difference[:, :, None] + images, axis=-1).min(axis=2)
        near = (exact < 3.0) & ~np.eye(4, dtype=bool)
        assert near.any()
        np.testing.assert_allclose(found[near], exact[near], rtol=1e-12)
        assert contact_closeness(structure, 0.6) == pytest.approx((0.372 / exact[near].min()) ** 2, rel=1e-12)


def test_a_molecule_and_a_crystal_are_watched_in_one_batch() -> None:
    crystal = Structure.of("HH", [[0.1, 0.1, 0.1], [4.9, 0.1, 0.1]], [5.0, 5.0, 5.0])
    molecule = Structure.of("HH", [[0.1, 0.1, 0.1], [4.9, 0.1, 0.1]])
    structures = [crystal, molecule, Structure.of("H", [[0, 0, 0]])]
    batch = to_batch(structures)
    contacts = watch_contacts(batch, 0.6)
    together = (contacts.shortest2 / squared_distances(batch.positions, contacts)).amax(dim=(1, 2))
    expected = [(0.372 / 0.2) ** 2, (0.372 / 4.8) ** 2, 0.0]
    np.testing.assert_allclose(together, expected, rtol=1e-9)
    np.testing.assert_allclose([contact_closeness(alone, 0.6) for alone in structures], expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_steps", 0),
        ("threshold", 0.0),
        ("temperature", float("nan")),
        ("timestep", -0.5),
        ("friction", -1.0),
        ("ceiling", 0.5),
        ("detachment", 0.0),
        ("refractory_steps", -1),
    ],
)
def test_impossible_settings_are_refused_by_name(name: str, value: float) -> None:
    fields: dict[str, object] = {"n_steps": 10, "threshold": 0.2, "temperature": 300.0, "seed": 0, name: value}
    with pytest.raises(ValueError, match=name):
        SegmentSettings(**fields)  # type: ignore[arg-type]


def test_a_time_step_beyond_the_stability_limit_ends_in_a_guard_not_in_a_crash() -> None:
    outcome = explore(committee(), walkers_on(ETHANOL, [0, 1]), settings(n_steps=500, timestep=6.0))
    for found in outcome.walkers:
        assert found.status is WalkerStatus.RESET
        assert np.isfinite(found.walker.velocities).all()
        assert contact_closeness(found.walker.structure, 0.6) < 1.0
