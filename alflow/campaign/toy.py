"""Dry runs: the same campaign with a Morse model of the molecule instead of quantum chemistry."""

from __future__ import annotations

from alflow.campaign.config import CampaignConfig
from alflow.campaign.initial_config import InitialConfig
from alflow.campaign.preflight import read_starting_structures
from alflow.errors import ConfigError
from alflow.reference import MorseMoleculeConfig

__all__ = ["as_dry_run"]


def as_dry_run(config: CampaignConfig) -> CampaignConfig:
    """Replace the reference by bonds, angles and soft repulsion read off the first starting structure.

    The campaign gets a name of its own, ``NAME-toy``, so that no toy label ever meets a real one in a data set; what
    ``initial:`` names is of the real one, and left out.

    Raises:
        ConfigError: The starting structures are not all the same molecule, or are periodic.
    """
    structures = read_starting_structures(config)
    first = structures[0]
    if any(s.symbols != first.symbols for s in structures) or first.is_periodic:
        raise ConfigError("--toy models one molecule: it needs starting structures of one and the same molecule.")
    limits = config.reference.model_dump(include={"time_limit_s", "memory_limit_mb", "threads", "max_attempts"})
    reference = MorseMoleculeConfig(
        engine="morse-molecule",
        elements=first.symbols,
        positions_ang=tuple((float(x), float(y), float(z)) for x, y, z in first.positions),
        **limits,
    )
    changed = {"reference": reference, "name": f"{config.name}-toy", "initial": InitialConfig()}
    return config.model_copy(update=changed)
