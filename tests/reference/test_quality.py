"""What every label must pass."""

from __future__ import annotations

from typing import Any

import numpy as np

from alflow.reference.functionals import FUNCTIONALS
from alflow.reference.quality import defects, flags, grid_noise

POSITIONS = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
CHARGES = np.array([8.0, 1.0, 1.0])
FORCES = np.array([[-1.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
SOUND: dict[str, Any] = {"force_noise_ev_ang": 1e-4, "n_electrons": 10, "n_electrons_on_grid": 10.0001}


def test_a_sound_label_has_no_defect() -> None:
    assert defects(POSITIONS, FORCES, CHARGES, SOUND) == []
    assert defects(POSITIONS, np.zeros((3, 3)), CHARGES, SOUND) == []


def test_each_defect_is_named_with_its_number() -> None:
    pushed = FORCES + np.array([[0.01, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    (net,) = defects(POSITIONS, pushed, CHARGES, SOUND)
    assert net == "the forces add up to 1.0e-02 eV/Å instead of nothing"
    turned = FORCES + np.array([[-0.01, 0.01, 0.0], [0.0, -0.01, 0.0], [0.01, 0.0, 0.0]])
    (torque,) = defects(POSITIONS, turned, CHARGES, SOUND)
    assert torque.startswith("the forces turn the molecule with 2.0e-02 eV")
    (count,) = defects(POSITIONS, FORCES, CHARGES, SOUND | {"n_electrons_on_grid": 9.9})
    assert count == "the grid counts 9.9000 electrons of 10"


def test_noise_of_the_grid_excuses_a_torque() -> None:
    turned = FORCES + np.array([[-0.01, 0.01, 0.0], [0.0, -0.01, 0.0], [0.01, 0.0, 0.0]])
    assert defects(POSITIONS, turned, CHARGES, SOUND | {"force_noise_ev_ang": grid_noise("gga", 1)}) == []


def test_flags_say_what_to_beware_of() -> None:
    good: dict[str, Any] = {"s_squared": 0.0, "gap_ev": 8.0, "n_mo": 24, "n_ao": 24}
    assert flags(1, good) == []
    assert flags(1, good | {"external_stability": "unstable"}) == ["externally-unstable"]
    broken = {"external_stability": "unstable", "broken_symmetry": True, "s_squared": 0.9}
    assert flags(1, good | broken) == ["broken-symmetry"]
    assert flags(2, good | {"s_squared": 0.9, "gap_ev": 0.3}) == ["spin-contaminated", "small-gap"]
    assert flags(3, good | {"s_squared": 2.01, "n_mo": 23}) == ["functions-dropped"]
    assert flags(2, good | {"s_squared": 0.75, "gap_ev": None}) == []


def test_hartree_fock_has_no_grid_and_a_finer_grid_less_noise() -> None:
    assert grid_noise("hf", 3) == 0.0
    for family in ("lda", "gga", "meta-gga"):
        noise = [grid_noise(family, level) for level in range(1, 10)]
        assert noise == sorted(noise, reverse=True)
    restless = [grid_noise("meta-gga", level, restless=True) for level in range(1, 10)]
    assert restless == sorted(restless, reverse=True)
    assert all(noisy > calm for noisy, calm in zip(restless, noise, strict=True)), (
        "the last family is that of meta-GGAs"
    )


def test_scan_and_the_minnesota_functionals_state_that_they_notice_the_grid() -> None:
    assert {name for name, found in FUNCTIONALS.items() if found.restless} == {"scan", "m06", "m06-l", "m06-2x"}
