"""The room's face: complete, and light to enter."""

from __future__ import annotations

import subprocess
import sys

import pytest

import alflow.reference


def loaded_after(statement: str) -> set[str]:
    probe = f"import sys; {statement}; print(' '.join({{name.split('.')[0] for name in sys.modules}}))"
    return set(subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout.split())


def test_every_public_name_is_there() -> None:
    for name in alflow.reference.__all__:
        assert getattr(alflow.reference, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        alflow.reference.nonsense  # noqa: B018


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import alflow.reference", {"pyscf", "torch", "pydantic", "psutil", "numpy", "distributed"}),
        ("from alflow.reference import make_reference, PyscfConfig; make_reference(PyscfConfig())", {"pyscf", "torch"}),
        ("import alflow.reference.child", {"numpy", "pyscf", "torch", "pydantic", "cloudpickle"}),
        ("import alflow.reference.work, alflow.reference.scf", {"torch", "distributed", "dask", "pydantic", "psutil"}),
    ],
)
def test_nothing_heavy_is_loaded_before_it_is_needed(statement: str, absent: set[str]) -> None:
    assert loaded_after(statement).isdisjoint(absent)
