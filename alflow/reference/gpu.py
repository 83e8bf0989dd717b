"""The two expensive parts of a label on a GPU, by GPU4PySCF: the first way to a converged field, and the gradient.

The field goes back to the processor in between, where it is judged, rescued and tested like any other: a GPU changes
how long a label takes, not what it is.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from alflow.domain.structure import FloatArray
from alflow.errors import ConfigError

__all__ = ["density_by_gpu", "gradient_by_gpu", "require_gpu"]


def require_gpu() -> None:
    """Check that GPU4PySCF is installed and sees a device.

    Raises:
        ConfigError: It is not, or does not.
    """
    if find_spec("gpu4pyscf") is None or find_spec("cupy") is None:
        raise ConfigError(
            "reference.device: gpu needs GPU4PySCF, which is not installed; install gpu4pyscf-cuda12x or -cuda13x, as"
            " your driver has it, or leave device out."
        )
    problem = _device_error()
    if problem:
        raise ConfigError(f"reference.device: gpu found no GPU it can use ({problem}); leave device out.")


def density_by_gpu(mean_field: Any) -> FloatArray:
    """Iterate a field on the GPU as far as it will go.

    Args:
        mean_field: A field that has computed nothing yet, which is left as it is.

    Returns:
        Its density, from which the processor goes on.
    """
    device = mean_field.to_gpu()
    device.kernel()
    return _on_host(device.make_rdm1())


def gradient_by_gpu(mean_field: Any, grid_response: bool) -> FloatArray:
    """Gradient of a converged field, Ha/Bohr, shape (atom, 3).

    Args:
        mean_field: The field, with its orbitals.
        grid_response: Whether there is a grid whose response belongs to it.
    """
    gradient = mean_field.to_gpu().nuc_grad_method()
    if grid_response:
        gradient.grid_response = True
    return _on_host(gradient.kernel())


def _on_host(array: Any) -> FloatArray:
    return np.asarray(array.get() if hasattr(array, "get") else array, dtype=np.float64)


def _device_error() -> str:
    """Why CuPy cannot use a device; empty if it can."""
    try:
        return "" if import_module("cupy.cuda.runtime").getDeviceCount() > 0 else "no device"
    except Exception as error:  # CuPy's own kinds of error cannot be named without it
        return " ".join(str(error).split())
