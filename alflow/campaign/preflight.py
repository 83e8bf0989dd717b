"""Everything that can be known to be wrong before an electron is computed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from alflow.campaign.config import CampaignConfig, available_cores
from alflow.campaign.pools import check_resources, pool_table, pools_of
from alflow.campaign.site import CONTACT_FACTOR, DETACHMENT_ANG, working_folder
from alflow.campaign.slurm_config import SlurmCluster
from alflow.campaign.teacher import check_committee, check_reference
from alflow.domain import Reference, Structure
from alflow.domain.ase import read_structures
from alflow.domain.elements import COVALENT_RADII_ANG
from alflow.errors import ConfigError
from alflow.reference import (
    AseConfig,
    CasscfConfig,
    CommitteeConfig,
    MuellerBrownConfig,
    PyscfConfig,
    PyscfPeriodicConfig,
    TdaConfig,
    XtbConfig,
)
from alflow.reference.check import check_overlap
from alflow.store.location import check_location, shown

LONGEST_STEP_FS = 2.0
"""Longest time step with hydrogen: velocity Verlet is stable up to 2/ω, which is 2.8 fs for an O-H stretch."""

__all__ = ["check_campaign", "read_starting_structures"]


def read_starting_structures(config: CampaignConfig) -> tuple[Structure, ...]:
    """Read the starting geometries, with the campaign's charge and multiplicity.

    Raises:
        ConfigError: The file is missing, empty or not understood.
        StructureError: A structure in it is impossible.
    """
    path = Path(config.structures)
    if not path.is_file():
        raise ConfigError(f"structures: {path} does not exist; expected a file with at least one geometry.")
    structures = read_structures(path) if path.stat().st_size else []
    if not structures:
        raise ConfigError(f"structures: {path} holds no structure; expected at least one geometry.")
    for structure in structures:
        told = (structure.charge, structure.multiplicity)
        if told != (0, 1) and told != (config.charge, config.multiplicity):
            raise ConfigError(
                f"structures: {path} says charge {told[0]} and multiplicity {told[1]}, the campaign says "
                f"{config.charge} and {config.multiplicity}; make them agree."
            )
    return tuple(
        Structure(s.numbers, s.positions, s.cell, s.pbc, config.charge, config.multiplicity) for s in structures
    )


def check_campaign(
    config: CampaignConfig, structures: tuple[Structure, ...], reference: Reference | None = None
) -> None:
    """Refuse a campaign that cannot work.

    Args:
        config: What to do.
        structures: Where to start.
        reference: The user's own reference, if there is one; it is not looked into.

    Raises:
        InputError: What is wrong, what was expected, and what to do.
        StoreError: The database cannot be written where the configuration says.
    """
    check_resources(config)
    if isinstance(config.cluster, SlurmCluster):
        config.cluster.check_memory(config.reference.most_memory_mb)
    if len(structures) > config.initial_labels:
        raise ConfigError(
            f"initial_labels: {config.structures} holds {len(structures)} structures and initial_labels is "
            f"{config.initial_labels}; every structure needs a label, so raise initial_labels."
        )
    seen: dict[str, int] = {}
    for number, structure in enumerate(structures):
        if structure.id in seen:
            raise ConfigError(
                f"structures: {config.structures} holds the same structure twice (frames {seen[structure.id]} and "
                f"{number}); no label is paid for twice, so keep one of them."
            )
        seen[structure.id] = number
        if len(structure) < 2:
            raise ConfigError(f"structures: {config.structures} holds a single atom; there is nothing to explore.")
        check_overlap(structure)  # which spins are possible, the reference knows
        check_compact(structure, config)
    if isinstance(config.reference, MuellerBrownConfig):
        raise ConfigError(
            "reference.engine: mueller-brown is an outer field, and a committee knows only distances between atoms; "
            "choose morse-molecule for a dry run."
        )
    longest = LONGEST_STEP_FS if any(1 in s.numbers for s in structures) else 2 * LONGEST_STEP_FS
    if config.timestep_fs > longest:
        raise ConfigError(
            f"timestep_fs: {config.timestep_fs:g} fs is beyond {longest:g} fs, where the fastest vibration of "
            f"{structures[0].formula} can no longer be integrated; 0.5 fs suits most molecules."
        )
    if reference is None:
        check_reference(config.reference, structures)
    if config.initial.committee is not None:
        check_committee(config.initial.committee, config.model, structures)
    check_location(config.database)
    folder = working_folder(config.database, config.name)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} must be a folder for the campaign's files, and is a file; move it away.")
    if not os.access(Path.cwd(), os.R_OK):
        raise ConfigError(f"The current folder {Path.cwd()} cannot be read.")


def check_compact(structure: Structure, config: CampaignConfig) -> None:
    """Refuse a geometry that the guards of the dynamics would stop at its first step.

    Raises:
        ConfigError: Two atoms are too close, or an atom of a molecule is too far from every other.
    """
    if structure.is_periodic:
        return
    radii = np.array([COVALENT_RADII_ANG[number] for number in structure.numbers])
    distances = np.linalg.norm(structure.positions[:, None] - structure.positions[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    i, j = np.unravel_index(int((distances / (radii[:, None] + radii)).argmin()), distances.shape)
    if distances[i, j] < CONTACT_FACTOR * (radii[i] + radii[j]):
        raise ConfigError(
            f"structures: atoms {i} and {j} of {structure.formula} are {distances[i, j]:.2f} Å apart, closer than "
            f"{CONTACT_FACTOR} times the sum of their covalent radii; check the geometry and its unit (Å)."
        )
    farthest = min(DETACHMENT_ANG, 0.95 * config.model.cutoff_ang)
    lonely = int(distances.min(axis=1).argmax())
    if distances[lonely].min() > farthest:
        raise ConfigError(
            f"structures: atom {lonely} of {structure.formula} is {distances[lonely].min():.2f} Å from its nearest "
            f"neighbor; beyond {farthest:.2f} Å a molecule counts as fallen apart."
        )


def describe_workers(config: CampaignConfig) -> str:
    """Say which workers a valid campaign would have."""
    if isinstance(config.cluster, SlurmCluster):
        jobs = ", ".join(f"{job.workers} {name}" for name, job in config.cluster.slurm.jobs.items())
        return f"  workers in SLURM jobs: {jobs}"
    if config.cluster != "local":
        return f"  workers of the cluster at {config.cluster.address or config.cluster.scheduler_file}"
    table = pool_table(pools_of(config), config.cores or available_cores())
    return "\n".join(f"  {line}" for line in table.splitlines())


def describe(config: CampaignConfig) -> str:
    """Say in one line what a valid campaign would do."""
    reference = config.reference
    level: str = reference.engine
    if isinstance(reference, PyscfConfig | PyscfPeriodicConfig):
        level = f"{reference.functional}/{reference.basis}"
    elif isinstance(reference, TdaConfig):
        level = f"state {reference.state} of TDA-{reference.functional}/{reference.basis}"
    elif isinstance(reference, CasscfConfig):
        space = f"{reference.active_electrons},{reference.active_orbitals}"
        level = f"state {reference.state} of SA{reference.n_states}-CASSCF({space})/{reference.basis}"
    elif isinstance(reference, XtbConfig):
        level = reference.method
    elif isinstance(reference, AseConfig):
        level = reference.calculator
    elif isinstance(reference, CommitteeConfig):
        level = f"committee {Path(reference.weights).stem[:12]}"
    return (
        f"{config.label_budget} labels at {level}, {config.walkers} walkers at {config.temperature_k:g} K, "
        f"database {shown(config.database)}"
    )
