"""A GPU changes how long a label takes, not what it is."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
from pyscf import dft, gto

from alflow.domain import Structure
from alflow.errors import ConfigError
from alflow.reference import PyscfConfig, check_reference, gpu, make_reference
from alflow.reference.ladder import Trace, climb

from .differences import evaluation

WATER = Structure.of("OHH", [[0.0, 0.0, 0.0], [0.0, 0.80, 0.60], [0.05, -0.76, 0.57]])
WITHOUT = find_spec("gpu4pyscf") is None


def test_the_device_is_no_part_of_the_level() -> None:
    assert make_reference(PyscfConfig(device="gpu")).level.id == make_reference(PyscfConfig()).level.id


@pytest.mark.skipif(not WITHOUT, reason="GPU4PySCF is installed")
def test_without_gpu4pyscf_a_gpu_is_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="needs GPU4PySCF, which is not installed; install gpu4pyscf-cuda12x"):
        check_reference(PyscfConfig(device="gpu"), [WATER])


@pytest.mark.parametrize(
    ("count", "why"),
    [
        (lambda: 0, r"\(no device\)"),
        (lambda: 1 / 0, r"\(division by zero\)"),
    ],
)
def test_a_gpu_that_is_not_there_is_refused_with_the_reason(
    count: Callable[[], int], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CuPy counts none on a machine without a device, and raises where the driver is missing."""
    monkeypatch.setattr(gpu, "find_spec", lambda name: name)
    monkeypatch.setattr(gpu, "import_module", lambda name: SimpleNamespace(getDeviceCount=count))
    with pytest.raises(ConfigError, match=f"device: gpu found no GPU it can use {why}; leave device out"):
        check_reference(PyscfConfig(device="gpu"), [WATER])
    monkeypatch.setattr(gpu, "import_module", lambda name: SimpleNamespace(getDeviceCount=lambda: 1))
    gpu.require_gpu()


def test_a_field_that_begins_with_its_own_density_needs_hardly_a_cycle() -> None:
    """What a GPU hands over is taken up where it ended."""
    molecule = gto.M(atom="O 0 0 0; H 0 0.8 0.6; H 0 -0.8 0.6", basis="sto-3g", verbose=0)
    fields = [dft.RKS(molecule, xc="pbe") for _ in range(2)]
    for field in fields:
        field.conv_tol, field.conv_tol_grad = 1e-9, 5e-6
    cold, warm = Trace(), Trace()
    climb(fields[0], None, 50, cold)
    norm = climb(fields[1], None, 50, warm, np.asarray(fields[0].make_rdm1()))
    assert norm < 1.5e-5
    assert warm.cycles <= 2 < cold.cycles
    assert fields[1].e_tot == pytest.approx(fields[0].e_tot, abs=1e-9)


@pytest.mark.skipif(WITHOUT, reason="needs GPU4PySCF and a GPU")
@pytest.mark.parametrize("functional", ["hf", "pbe", "b3lyp", "r2scan"])
def test_labels_of_a_gpu_are_those_of_the_processor(functional: str) -> None:
    ours, theirs = (
        evaluation(make_reference(PyscfConfig(functional=functional, device=device)), WATER)
        for device in ("gpu", "cpu")
    )
    assert ours.energy == pytest.approx(theirs.energy, abs=1e-6)
    np.testing.assert_allclose(ours.forces, theirs.forces, atol=1e-4)
