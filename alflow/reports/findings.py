"""Everything a report says in numbers, read from the database and measured with the committee; nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from alflow.domain import Evaluation, Structure
from alflow.errors import AlflowError, InputError
from alflow.potentials import Committee, load_committee
from alflow.reports.atlas import Atlas, chosen, describe, project
from alflow.reports.calibration import Calibration, calibrate
from alflow.reports.constant_energy import ConstantEnergy, Plan, conserve
from alflow.reports.parity import Parity, compare, drawn, relative_energies
from alflow.reports.provenance import Costs, Machine, Walks, cost_labels, machines, settings, versions, walks
from alflow.reports.rows import Rows
from alflow.reports.timeline import Timeline, draw_up
from alflow.reports.validity import Validity, known_region
from alflow.selection import ErrorEstimate, estimate_error, threshold_in_force
from alflow.store import CommitteeRecord

__all__ = ["Asked", "Findings", "Generation", "TestSet", "find_out"]

PARITY_MOST: Final = 5000
ATLAS_MOST: Final = 2000
ATLAS_MOST_ATOMS: Final = 400_000
"""What is stored of structures grows with their atoms; this many keep the page below 10 MB."""


@dataclass(frozen=True, eq=False)
class Asked:
    """What a report is to hold besides what the database knows.

    Attributes:
        weights: Folder of the campaign's weight files.
        starts: Starting structures, for the run at constant energy.
        dynamics: Whether to run it.
        test_file: Name of a file of further labels; None if there is none.
        test: What is in it.
        most_dynamics_s: Wall time that run may take, s.
        tell: Called with a sentence about what is being done.
    """

    weights: Path
    starts: tuple[Structure, ...] = ()
    dynamics: bool = True
    test_file: str | None = None
    test: tuple[tuple[Structure, Evaluation], ...] = ()
    most_dynamics_s: float = 60.0
    tell: Callable[[str], None] = lambda sentence: None


@dataclass(frozen=True, eq=False)
class Generation:
    """One committee and its errors.

    Attributes:
        record: Its row.
        n_train: Labels it learnt from.
        n_labels: Labels there were, with those held out.
        test: Its error on the test set, eV/Å; None without one, or without its weight file.
    """

    record: CommitteeRecord
    n_train: int
    n_labels: int
    test: ErrorEstimate | None


@dataclass(frozen=True, eq=False)
class TestSet:
    """The active committee on labels from a file.

    Attributes:
        file: Name of the file.
        parity: The comparison; None without a committee.
    """

    file: str
    parity: Parity | None


@dataclass(frozen=True, eq=False)
class Findings:
    """What a campaign did and what came of it.

    Attributes:
        rows: What the database holds of it.
        database: The database, as it may be shown.
        settings: Its configuration, as (key, value) lines.
        versions: Programs that made labels.
        machines: Machines that worked for it.
        parts: Part of the data set each label belongs to.
        generations: Every committee, rejected ones too.
        calibration: Disagreement against true error.
        parity: The active committee on the labels; None without one.
        test: The same on a file of further labels.
        costs: What labels cost.
        walks: What walkers reported.
        timeline: Who worked when.
        atlas: The map of the data set; None for fewer than two labels.
        constant_energy: Dynamics at constant energy; None if not run.
        validity: What the labels cover.
        omitted: Parts that are missing, each with the reason.
        target: Mean absolute error of a force component that is good enough, eV/Å.
        threshold: Disagreement of a flag, eV/Å.
        temperature: Temperature of the walkers, K.
        audit_minimum: Audit frames the campaign wants before it ends by itself.
    """

    rows: Rows
    database: str
    settings: tuple[tuple[str, str], ...]
    versions: Mapping[str, Mapping[str, int]]
    machines: tuple[Machine, ...]
    parts: tuple[str, ...]
    generations: tuple[Generation, ...]
    calibration: Calibration
    parity: Parity | None
    test: TestSet | None
    costs: Costs
    walks: Walks
    timeline: Timeline
    atlas: Atlas | None
    constant_energy: ConstantEnergy | None
    validity: Validity | None
    omitted: Mapping[str, str]
    target: float | None
    threshold: float | None
    temperature: float | None
    audit_minimum: int

    @property
    def is_campaign(self) -> bool:
        """Whether walkers and committees were wanted; else labels were made of a file."""
        return "labelling" not in self.rows.campaign.config


def find_out(rows: Rows, database: str, asked: Asked) -> Findings:
    """Measure what the rows of a campaign say, and its committee.

    Args:
        rows: The campaign.
        database: The database, as it may be shown.
        asked: What else is wanted.
    """
    told: Mapping[str, Any] = rows.campaign.config.get("config", {})
    target, temperature = told.get("target_force_error_ev_ang"), told.get("temperature_k")
    threshold = threshold_in_force(told.get("threshold_ev_ang"), target)
    omitted: dict[str, str] = {}
    committee = _guarded("committee", omitted, lambda: _active(rows, asked))
    asked.tell(f"evaluating {len(rows.labels)} labels")
    parity = _guarded("parity", omitted, lambda: _parity(committee, rows))
    asked.tell("drawing the map of the data set")
    atlas = _guarded("atlas", omitted, lambda: _atlas(rows, parity, committee))
    generations = _generations(rows, asked, omitted)
    test = _guarded("test", omitted, lambda: _test(committee, asked))
    run = _guarded("dynamics", omitted, lambda: _run(committee, asked, rows, told, threshold))
    parts = rows.parts
    learnt = [label for label, part in zip(rows.labels, parts, strict=True) if part == "train"]
    sizes = {label.structure.id: len(label.structure) for label in rows.labels}
    return Findings(
        rows=rows,
        database=database,
        settings=tuple(settings(rows.campaign.config)),
        versions=versions(rows.labels),
        machines=tuple(machines(rows.executions)),
        parts=parts,
        generations=generations,
        calibration=calibrate(rows.done, rows.frames, [label.evaluation.forces for label in rows.labels]),
        parity=parity,
        test=test,
        costs=cost_labels(rows.executions, rows.jobs, sizes),
        walks=walks(rows.events, told.get("timestep_fs", 0.0)),
        timeline=draw_up(rows.executions),
        atlas=atlas,
        constant_energy=run,
        validity=known_region(learnt or rows.labels),
        omitted=omitted,
        target=target,
        threshold=threshold,
        temperature=temperature,
        audit_minimum=told.get("audit_minimum", 10),
    )


def _guarded(name: str, omitted: dict[str, str], make: Callable[[], Any]) -> Any:
    """A part of the report, or None and the reason why it is missing."""
    try:
        return make()
    except AlflowError as error:
        omitted[name] = str(error)
        return None


def _active(rows: Rows, asked: Asked) -> Committee:
    if rows.active is None:
        raise InputError("No committee has been trained yet.")
    return load_committee(asked.weights / f"{rows.active.sha256}.safetensors", sha256=rows.active.sha256)


def _parity(committee: Committee | None, rows: Rows) -> Parity | None:
    if committee is None or not rows.labels:
        return None
    parts = rows.parts
    places = drawn(parts, PARITY_MOST)
    known = [(rows.labels[place].structure, rows.labels[place].evaluation) for place in places]
    return compare(committee, known, [parts[place] for place in places])


def _test(committee: Committee | None, asked: Asked) -> TestSet | None:
    if asked.test_file is None:
        return None
    parity = compare(committee, asked.test, ["test"] * len(asked.test)) if committee is not None else None
    return TestSet(asked.test_file, parity)


def _atlas(rows: Rows, parity: Parity | None, committee: Committee | None) -> Atlas | None:
    labels, lost = rows.labels, rows.given_up
    structures = [label.structure for label in labels] + list(lost)
    if len(structures) < 2:
        return None
    seen = [rows.frames.get(job.frame_id) for job in rows.done] + [None] * len(lost)
    errors = dict(zip(parity.structure_ids, parity.mean_error, strict=True)) if parity is not None else {}
    energy = [*relative_energies(labels), *[np.nan] * len(lost)]
    disagreement = [np.nan if f is None or f.disagreement is None else f.disagreement for f in seen]
    generation = [0 if f is None or f.generation is None else f.generation for f in seen]
    names = ["" if f is None else f.id for f in seen]
    all_parts = [*rows.parts, *["given up"] * len(lost)]
    n_atoms = sum(len(structure) for structure in structures)
    keep = chosen(len(structures), min(ATLAS_MOST, max(2, ATLAS_MOST_ATOMS * len(structures) // n_atoms)))
    shown = [structures[k] for k in keep]
    places, explained = project(describe(shown, committee))
    return Atlas(
        structures=tuple(shown),
        places=places,
        explained=explained,
        n_all=len(structures),
        seen_by="the descriptors of the active committee"
        if committee is not None
        else "the default symmetry functions",
        parts=tuple(all_parts[k] for k in keep),
        frame_ids=tuple(names[k] for k in keep),
        energy=np.array([energy[k] for k in keep]),
        error=np.array([errors.get(s.id, np.nan) for s in shown]),
        disagreement=np.array([disagreement[k] for k in keep]),
        generation=np.array([generation[k] for k in keep], dtype=np.int64),
    )


def _generations(rows: Rows, asked: Asked, omitted: dict[str, str]) -> tuple[Generation, ...]:
    found, missing = [], 0
    for record in rows.committees:
        data = rows.datasets[record.dataset_digest]
        test = None
        if asked.test:
            asked.tell(f"testing generation {record.generation}")
            try:
                committee = load_committee(asked.weights / f"{record.sha256}.safetensors", sha256=record.sha256)
                test = estimate_error(compare(committee, asked.test, ["test"] * len(asked.test)).mean_error)
            except InputError as error:
                omitted["test"] = str(error)
            except AlflowError:
                missing += 1
        n_labels = data.n_train + data.n_validation + data.n_audit
        found.append(Generation(record, data.n_train, n_labels, test))
    if missing:
        omitted["test curve"] = (
            f"The weight files of {missing} committee(s) are missing or altered; they were not tested."
        )
    return tuple(found)


def _run(
    committee: Committee | None, asked: Asked, rows: Rows, told: Mapping[str, Any], threshold: float | None
) -> ConstantEnergy | None:
    if committee is None:
        return None
    if not asked.dynamics:
        raise InputError("--no-dynamics was given.")
    starts = list(asked.starts) or [label.structure for label in rows.labels[:1]]
    if not starts:
        raise InputError("There is no structure to start from.")
    plan = Plan(
        temperature=told.get("temperature_k", 300.0),
        timestep=told.get("timestep_fs", 0.5),
        seed=rows.campaign.seed,
        most_s=asked.most_dynamics_s,
        threshold=threshold,
    )
    asked.tell(f"running {plan.length_ps:g} ps at constant energy")
    return conserve(committee, starts, plan)
