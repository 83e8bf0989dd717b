"""Campaigns where spin matters: a radical, and a bond that is torn apart, each with one spin policy throughout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase
import ase.build
import ase.io
import numpy as np
import pytest

from alflow import CampaignConfig
from alflow.campaign.launch import run_campaign
from alflow.domain import Label
from alflow.reference import PyscfReference
from alflow.reference.scf import Field, converge
from alflow.store import Store
from alflow.units import EV_PER_HARTREE
from tests.campaign.toys import check_promises

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # minutes, on a machine that has other work too


UNTESTED = 2
"""Labels of a campaign that are looked at anew, of those whose gap spared them a test: the narrowest; and one other."""


def campaign(folder: Path, structures: list[ase.Atoms], reference: dict[str, Any], **changes: Any) -> list[Label]:
    """Run a campaign to its end; its labels, after a look at what is promised of every campaign."""
    ase.io.write(folder / "start.xyz", structures)
    settings = {
        "structures": str(folder / "start.xyz"),
        "database": str(folder / "spin.db"),
        "name": "spin",
        "reference": {"engine": "pyscf", "functional": "pbe", "basis": "def2-svp"} | reference,
        "quiet_ps": 4,
        "audit_minimum": 4,
        "model": {"components": 48, "hidden": [24]},  # it is the labels that are looked at
        "training": {"epochs": 20, "min_steps": 300},
        "executor": "inline",
        "dashboard_address": "127.0.0.1:0",
    }
    config = CampaignConfig.model_validate(settings | changes)
    ended = run_campaign(config)
    assert ended.state.phase == "finished", ended.state.reason
    check_promises(config.database)
    with Store.open(config.database, read_only=True) as store:
        labels = list(store.labels(store.campaign().id))
    assert len({label.level.id for label in labels}) == 1, "one level, and with it one spin policy"
    narrow = sorted(labels, key=lambda label: float(label.evaluation.diagnostics["gap_ev"]))
    spared = [label for label in narrow if label.evaluation.diagnostics["internal_stability"] == "not tested"]
    looked_at = [*spared[:UNTESTED], *[label for label in narrow if label not in spared][:1]]
    assert [label.structure.id for label in looked_at if not is_stable(label)] == [], "no saddle point is learnt from"
    return labels


def is_stable(label: Label) -> bool:
    """Whether the field of a label is a minimum within its form, looked at anew and without alflow's gap gate."""
    reference = PyscfReference(spin_policy=label.level.settings["spin_policy"])
    field = converge(reference, label.structure)
    assert isinstance(field, Field)
    assert float(field.mean_field.e_tot) * EV_PER_HARTREE == pytest.approx(label.evaluation.energy, abs=1e-6)
    return bool(field.mean_field.stability(internal=True, external=False, return_status=True)[2])


def test_a_campaign_on_the_methyl_radical(tmp_path: Path) -> None:
    labels = campaign(
        tmp_path,
        [ase.build.molecule("CH3")],
        {},
        multiplicity=2,
        temperature_k=800,
        label_budget=10,
        initial_labels=6,
        target_force_error_ev_ang=0.03,
    )
    assert len(labels) >= 8
    assert all(label.structure.multiplicity == 2 for label in labels)
    spins = [label.evaluation.diagnostics["s_squared"] for label in labels]
    assert spins == pytest.approx([0.75] * len(labels), abs=0.02), "nothing fell into another state"


def test_a_campaign_on_a_bond_torn_apart(tmp_path: Path) -> None:
    """HF from 0.92 to 2.5 Å: where the restricted singlet is unstable, every label has broken its symmetry."""
    labels = campaign(
        tmp_path,
        [ase.Atoms("FH", [[0, 0, 0], [0, 0, length]]) for length in (0.92, 1.2, 1.6, 2.0, 2.5)],
        {"spin_policy": "broken_symmetry"},
        temperature_k=3000,
        timestep_fs=0.2,
        friction_per_ps=50,
        walkers=5,
        label_budget=12,
        initial_labels=10,
        target_force_error_ev_ang=0.05,
    )
    found = {
        float(np.linalg.norm(np.subtract(*label.structure.positions))): label.evaluation.diagnostics for label in labels
    }
    assert min(found) < 1.0
    assert max(found) > 2.3
    for length, told in found.items():
        assert told["broken_symmetry"] == (told["external_stability"] == "unstable"), length
        if not 1.6 < length < 1.8:  # where the two fields part
            assert told["broken_symmetry"] == (length > 1.7), length
