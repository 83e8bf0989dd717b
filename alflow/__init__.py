"""alflow makes the data set and the neural-network potential together, by itself.

Examples:
    A campaign::

        from alflow import CampaignConfig, run
        run(CampaignConfig(structures="ethanol.xyz", temperature_k=500, label_budget=100))

    Its potential, in any ASE script::

        atoms.calc = alflow.load_committee("campaign.alflow/weights/….safetensors")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alflow.campaign.config import CampaignConfig
    from alflow.campaign.console import resume, run
    from alflow.domain import Structure
    from alflow.potentials.calculator import load_calculator as load_committee
    from alflow.store import Store

__all__ = ["CampaignConfig", "Store", "Structure", "__version__", "load_committee", "resume", "run"]

__version__ = "0.1.0"

_HOMES = {
    "CampaignConfig": ("alflow.campaign.config", "CampaignConfig"),
    "Store": ("alflow.store", "Store"),
    "Structure": ("alflow.domain", "Structure"),
    "load_committee": ("alflow.potentials.calculator", "load_calculator"),
    "resume": ("alflow.campaign.console", "resume"),
    "run": ("alflow.campaign.console", "run"),
}


def __getattr__(name: str) -> Any:
    """Fetch a public name when it is first asked for: ``import alflow`` itself loads no torch, PySCF or Dask."""
    if name not in _HOMES:
        raise AttributeError(f"module 'alflow' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value
