"""``alflow hessian``: second derivatives and vibrations of a molecule, from labels of displaced structures.

Each displaced structure is an ordinary label in the database: computed once, on all cores, whatever is killed; the same
command continues, and computes nothing when all of them are there.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table

from alflow.campaign.console import start_logging
from alflow.campaign.executors.dask import label_executor
from alflow.campaign.label_console import LabelProgress, label_slots, read_level, show_cost
from alflow.campaign.labelling import label_structures
from alflow.campaign.teacher import check_reference, make_reference
from alflow.domain import Evaluation, Reference, Structure
from alflow.domain.ase import read_structures
from alflow.errors import ConfigError, InputError
from alflow.properties import SecondDerivatives, Vibrations, differentiate, displaced, vibrations
from alflow.reference import PyscfReference, ReferenceConfig
from alflow.store import Store
from alflow.store.location import check_location, shown

__all__ = ["Harmonic", "hessian", "save"]

log = logging.getLogger("alflow")

LARGEST_FORCE_EV_ANG: Final = 0.05
"""Above this force on any atom a structure is no stationary point, and its vibrations mean little."""


@dataclass(frozen=True, eq=False)
class Harmonic:
    """What is known of a structure in the harmonic approximation.

    Attributes:
        structure: The molecule, not displaced.
        evaluation: Its label.
        derivatives: Hessian and dipole derivatives.
        modes: Normal modes, with standard atomic masses.
    """

    structure: Structure
    evaluation: Evaluation
    derivatives: SecondDerivatives
    modes: Vibrations


def hessian(
    file: Path, level: str, database: str, name: str | None, cores: int | None, step_ang: float, analytic: bool
) -> Harmonic | None:
    """Compute and show the vibrations of a molecule.

    Args:
        file: One structure, in any format ASE reads, optimized at this level.
        level: A preset, or a YAML file with the keys of ``reference:``.
        database: SQLite file or PostgreSQL URL.
        name: Name under which the labels are recorded; ``hessian-`` and the level's id unless given.
        cores: Cores to use; all by default.
        step_ang: Displacement of each coordinate, Å.
        analytic: Take PySCF's analytic Hessian instead of differences; there are no intensities then.

    Returns:
        The result; None if it was stopped before all labels were there.

    Raises:
        InputError: Something that was given cannot be used, or a structure could not be labelled.
    """
    console = Console()
    start_logging(console)
    config, structure = read_level(level), _read(file)
    try:
        check_reference(config, [structure])
    except InputError as error:
        raise type(error)(f"{file}: {error}") from error
    check_location(database)
    reference = make_reference(config)
    if analytic and not isinstance(reference, PyscfReference):
        raise ConfigError(f"--analytic needs PySCF; this level's engine is {reference.level.engine}.")
    wanted = [structure] if analytic else [structure, *displaced(structure, step_ang)]
    called = name or f"hessian-{reference.level.id[:12]}"
    evaluations = _labels(console, wanted, reference, config, database, called, cores)
    console.print(f"database  {shown(database)}, name {called}", soft_wrap=True, highlight=False, markup=False)
    if evaluations is None:
        console.print("Stopped; the same command goes on where it was left.", highlight=False)
        return None
    if analytic:
        raw = import_module("alflow.reference.analytic").analytic_hessian(reference, structure)
        derivatives = SecondDerivatives.of(raw)
    else:
        derivatives = differentiate(evaluations[1:], structure.charge, step_ang)
    modes = vibrations(derivatives.hessian, structure.masses, structure.positions, derivatives.dipole_derivatives)
    found = Harmonic(structure, evaluations[0], derivatives, modes)
    _show(console, found)
    return found


def save(found: Harmonic, output: Path) -> None:
    """Write everything into a file: ``.json``, or ``.npz`` with the same names.

    Args:
        found: What :func:`hessian` gave.
        output: File to write.

    Raises:
        ConfigError: Another ending, or the file cannot be written.
    """
    modes, derivatives = found.modes, found.derivatives
    content: dict[str, Any] = {
        "numbers": found.structure.numbers,
        "positions_ang": found.structure.positions,
        "masses_u": found.structure.masses,
        "energy_ev": found.evaluation.energy,
        "forces_ev_ang": found.evaluation.forces,
        "hessian_ev_ang2": derivatives.hessian,
        "asymmetry_ev_ang2": derivatives.asymmetry,
        "sum_rule_ev_ang2": derivatives.sum_rule,
        "wavenumbers_per_cm": modes.wavenumbers,
        "displacements_per_root_u": modes.displacements,
        "reduced_masses_u": modes.reduced_masses,
        "zero_point_energy_ev": modes.zero_point_energy,
    }
    if modes.intensities is not None and derivatives.dipole_derivatives is not None:
        content |= {"ir_intensities_km_mol": modes.intensities, "dipole_derivatives_e": derivatives.dipole_derivatives}
    try:
        if output.suffix == ".npz":
            np.savez(output, **content)
        else:
            text = json.dumps({key: np.asarray(value).tolist() for key, value in content.items()})
            output.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{output} cannot be written: {error.strerror}.") from None


def _read(file: Path) -> Structure:
    if not file.is_file():
        raise ConfigError(f"{file} does not exist; expected a file with one structure.")
    structures = read_structures(file) if file.stat().st_size else []
    if len(structures) != 1:
        raise ConfigError(f"{file} holds {len(structures)} structures; expected one, optimized at this level.")
    if structures[0].is_periodic:
        raise ConfigError(f"{file} is periodic; vibrations are computed for molecules.")
    return structures[0]


def _labels(
    console: Console,
    wanted: Sequence[Structure],
    reference: Reference,
    config: ReferenceConfig,
    database: str,
    name: str,
    cores: int | None,
) -> list[Evaluation] | None:
    """Labels of all structures, in their order; None if it was stopped before."""
    slots = label_slots(cores, config.threads)
    watcher = LabelProgress(slots)
    executor = partial(label_executor, slots, config.threads, "127.0.0.1:0")
    found = label_structures(wanted, reference, config, database, name, slots, executor, watcher)
    show_cost(console, found, time.monotonic() - watcher.began, slots)
    if any(item.state == "open" for item in found):
        return None
    failed = [item for item in found if item.state == "failed"]
    if failed:
        raise InputError(
            f"{len(failed)} of {len(found)} labels failed, without which there is no Hessian; the first:"
            f" {failed[0].message}. The same command tries them again."
        )
    with Store.open(database, read_only=True) as store:
        labels = store.labels_by_id([(structure.id, reference.level.id) for structure in wanted])
    return [label.evaluation for label in labels]


def _show(console: Console, found: Harmonic) -> None:
    """Print the modes, and how far they can be trusted."""
    modes, derivatives = found.modes, found.derivatives
    table = Table(title="Vibrations", title_justify="left", box=None)
    for column in ("mode", "1/cm", "km/mol", "reduced mass, u"):
        table.add_column(column, justify="right")
    for number, (wavenumber, mass) in enumerate(zip(modes.wavenumbers, modes.reduced_masses, strict=True)):
        strength = "–" if modes.intensities is None else f"{modes.intensities[number]:.1f}"
        table.add_row(str(number + 1), f"{wavenumber:.1f}", strength, f"{mass:.3f}")
    console.print(table)
    lines = [
        f"zero-point energy {modes.zero_point_energy:.4f} eV",
        f"errors, eV/Å²: asymmetry {derivatives.asymmetry:.1e}, sum rule of translation {derivatives.sum_rule:.1e}",
    ]
    if derivatives.dipole_sum_rule is not None:
        lines.append(f"sum rule of the dipole moment: {derivatives.dipole_sum_rule:.1e} e")
    if modes.n_imaginary:
        lines.append(f"{modes.n_imaginary} imaginary mode(s), shown negative: this is no minimum")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    force = found.evaluation.max_force
    if force > LARGEST_FORCE_EV_ANG:
        log.warning(
            "the largest force is %.3f eV/Å: this is no stationary point of this level of theory (%.2f eV/Å at most); "
            "optimize the structure first, its vibrations mean little",
            force,
            LARGEST_FORCE_EV_ANG,
        )
