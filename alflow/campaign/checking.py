"""Whether a database keeps alflow's promises: its rows, its journal replayed, and the files that belong to it.

Everything is read at one moment, so a campaign may run meanwhile; nothing is changed, not even a damaged file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from alflow.campaign.checkpoints import lost_checkpoints
from alflow.campaign.commands import DropFrame, PutJob, StartExploring, StartLabel, StartScoring, StartTraining
from alflow.campaign.decide import decide
from alflow.campaign.events import (
    CampaignResumed,
    CommitteeLost,
    Event,
    LabelDone,
    LabelFailed,
    LabelsGiven,
    RetryRequested,
    event_from_payload,
)
from alflow.campaign.orders import named_dataset
from alflow.campaign.site import folder_of
from alflow.campaign.state import State
from alflow.domain import FailureKind
from alflow.domain.identity import digest_of_bytes
from alflow.errors import AlflowError
from alflow.reference.spool import read_spooled
from alflow.store import (
    CampaignRecord,
    CommitteeRecord,
    ExecutionRecord,
    Finding,
    JobRecord,
    Snapshot,
    Store,
)

__all__ = ["check_database"]

STARTS = StartLabel | StartExploring | StartTraining | StartScoring


def check_database(database: str | Path, name: str | None = None, deep: bool = False) -> dict[str, list[Finding]]:
    """Look at every promise.

    Args:
        database: SQLite file or PostgreSQL URL.
        name: Only this campaign, and what all campaigns share; None for all.
        deep: Whether to look into every structure and array, not only into some thousand of each table.

    Returns:
        Findings by what they are about: the database first, under an empty name, then each campaign.

    Raises:
        StoreError: The database cannot be opened or read, or has no such campaign.
    """
    with Store.open(database, read_only=True) as store, store.snapshot() as moment:
        campaigns = moment.campaigns() if name is None else [moment.campaign(name)]
        found = {"": moment.check_rows([campaign.id for campaign in campaigns], deep)}
        if not found[""][0].holds:
            return found
        for campaign in campaigns:
            found[campaign.name] = _check_campaign(moment, campaign, str(database))
    return found


@dataclass
class _Past:
    """What a journal tells: where it leads, and what it had written down on the way."""

    state: State | None = None
    jobs: dict[str, PutJob] = field(default_factory=dict)
    decisions: dict[str, str] = field(default_factory=dict)
    starts: Counter[str] = field(default_factory=Counter)
    events: list[Event] = field(default_factory=list)
    given_back: list[str] = field(default_factory=list)
    put_back: set[str] = field(default_factory=set)
    problem: str | None = None

    def add(self, event: Event) -> None:
        """Take one event into account."""
        before = set(self.state.running) if self.state is not None else set()
        self.state, commands = decide(self.state, event)
        self.events.append(event)
        if isinstance(event, LabelFailed) and self.state.phase == "failed":
            self.given_back.append(event.frame_id)  # so many failed in a row that it is not the label's fault
        if isinstance(event, CommitteeLost):
            self.put_back |= before - set(self.state.running)  # their executions end when the campaign is taken up
        if isinstance(event, CampaignResumed):
            self.put_back.clear()
        for command in commands:
            if isinstance(command, PutJob):
                self.jobs[command.frame_id] = command
            elif isinstance(command, DropFrame):
                self.decisions[command.frame_id] = command.decision
            elif isinstance(command, STARTS):
                self.starts[command.task] += 1


def _check_campaign(moment: Snapshot, campaign: CampaignRecord, database: str) -> list[Finding]:
    jobs, executions = moment.jobs(campaign.id), moment.executions(campaign.id)
    folder = folder_of(campaign, database)
    if "labelling" in campaign.config:
        return [_labelling(moment, jobs, executions), _spool(moment, jobs, folder / "spool")]
    past = _replayed(moment, campaign)
    found = [_replays(past), _starts(past, executions), _open(past, executions)]
    if past.problem is None:
        committees = moment.committees(campaign.id)
        found += [
            _state_is_told(past, Counter(job.state for job in jobs), committees, campaign),
            _jobs_are_told(past, jobs, {f.id: f.decision for f in moment.frames(campaign.id)}),
            _attempts(past, jobs, executions),
            _labels(past, jobs, executions),
            _checkpoints(past, moment, campaign.id),
            _weights(committees, folder),
            _digests(moment, committees),
        ]
    return [*found, _spool(moment, jobs, folder / "spool")]


def _replayed(moment: Snapshot, campaign: CampaignRecord) -> _Past:
    past = _Past()
    for row in moment.events(campaign.id):
        try:
            past.add(event_from_payload(row.payload))
        except (AlflowError, ValueError, LookupError, TypeError, AssertionError) as error:
            past.problem = f"event {row.seq} ({row.kind}): {error}"
            return past
    return past


def _replays(past: _Past) -> Finding:
    broken = [] if past.problem is None else [past.problem]
    return Finding.of("replay", "The journal can be replayed from its first event.", len(past.events), broken)


def _starts(past: _Past, executions: Sequence[ExecutionRecord]) -> Finding:
    """Every start has a row, and every row a start."""
    rows = Counter(_task_of(row) for row in executions)
    tasks = sorted(past.starts | rows) if past.problem is None else []
    broken = [
        f"{task} was started {past.starts[task]} times, and has {rows[task]} executions"
        for task in tasks
        if past.starts[task] != rows[task]
    ]
    return Finding.of("executions", "Every start of a task has its execution, and no other.", len(executions), broken)


def _open(past: _Past, executions: Sequence[ExecutionRecord]) -> Finding:
    """What is open is in flight, and what is in flight is open."""
    sentence = "The executions without an end are the tasks in flight."
    if past.problem is not None or past.state is None:
        return Finding.of("in flight", sentence, 0)
    running = set(past.state.running)
    left = Counter(_task_of(row) for row in executions if row.ended_at is None)
    broken = [f"{task} is in flight, and its execution has ended" for task in sorted(running - set(left))]
    astray = sorted(set(left) - running - past.put_back)
    broken += [f"{task} has an open execution, and is not in flight" for task in astray]
    broken += [f"{task} has {number} open executions" for task, number in sorted(left.items()) if number > 1]
    return Finding.of("in flight", sentence, len(executions), broken)


def _state_is_told(
    past: _Past, counts: Mapping[str, int], committees: Sequence[CommitteeRecord], campaign: CampaignRecord
) -> Finding:
    """The numbers that the loop lives on are those of the tables."""
    state = past.state
    sentence = "The journal, replayed, gives the numbers that the tables show."
    if state is None:
        return Finding.of("state", sentence, 0)
    active = next((committee.generation for committee in committees if committee.state == "active"), 0)
    told = {
        "done": state.n_done,
        "quarantined": state.n_quarantined,
        "pending": len(state.queue),
        "running": state.running_of("label"),
        "active generation": state.generation,
    }
    shown = {name: active if name == "active generation" else counts[name] for name in told}
    broken = [
        f"{name}: {number} by the journal, {shown[name]} by the tables"
        for name, number in told.items()
        if number != shown[name]
    ]
    if campaign.holder is None and state.phase in ("finished", "failed") and campaign.state != state.phase:
        broken.append(f"the campaign is {state.phase} by the journal, {campaign.state} by its row")
    return Finding.of("state", sentence, len(told), broken)


def _checkpoints(past: _Past, moment: Snapshot, campaign_id: int) -> Finding:
    """Each walker goes on from what was written."""
    walkers, unreadable = moment.readable_walkers(campaign_id)
    lost = lost_checkpoints(past.state, walkers, unreadable) if past.state is not None else {}
    broken = [f"walker {number}: {problem}" for number, problem in lost.items()]
    checked = len(walkers) + len(unreadable)
    return Finding.of("checkpoints", "Each checkpoint of a walker is what was written.", checked, broken)


def _jobs_are_told(past: _Past, jobs: Sequence[JobRecord], decisions: Mapping[str, str]) -> Finding:
    """Each row of a job, and each decision, is what the journal last said."""
    broken = []
    rows = {job.frame_id: job for job in jobs}
    for frame in sorted(set(rows) | set(past.jobs)):
        row, told = rows.get(frame), past.jobs.get(frame)
        one = None if row is None else (row.state, row.attempts, row.n_lost, row.structure_id, row.purpose)
        other = None if told is None else (told.state, told.attempts, told.n_lost, told.structure_id, told.purpose)
        if one != other:
            broken.append(f"job of frame {frame}: {_job(other)} by the journal, {_job(one)} by its row")
    for frame, decision in past.decisions.items():
        if decisions.get(frame) != decision:
            broken.append(f"frame {frame}: {decision} by the journal, {decisions.get(frame)} by its row")
    return Finding.of("jobs", "Each job and each frame is as the journal last said.", len(rows), broken)


def _job(values: Sequence[object] | None) -> str:
    return "nothing" if values is None else f"{values[0]}, {values[1]} attempts, {values[2]} lost"


def _attempts(past: _Past, jobs: Sequence[JobRecord], executions: Sequence[ExecutionRecord]) -> Finding:
    """Executions of a label: at most the attempts allowed, those lost, and those that were nobody's fault."""
    sentence = "No label was tried more often than allowed; attempts that were lost are not counted."
    if past.state is None:
        return Finding.of("attempts", sentence, 0)
    allowed = past.state.config.reference.max_attempts
    tried, free = Counter[str](), Counter[str]()
    for row in executions:
        if row.kind == "label":
            tried[row.subject] += 1
            given_back = row.status in ("lost", "running") or row.failure_kind is FailureKind.BUG
            free[row.subject] += given_back or row.message.startswith("found: ")
    retries = [event for event in past.events if isinstance(event, RetryRequested)]
    again = Counter(frame.frame_id for event in retries for frame in event.frames)
    again.update(past.given_back)
    broken = []
    for job in jobs:
        most = allowed * (1 + again[job.frame_id])
        if tried[job.id] - free[job.id] > most or job.attempts > allowed:
            counted = f"{tried[job.id]} executions, {free[job.id]} of them lost or not its fault"
            broken.append(f"job {job.id}: {counted}, {job.attempts} attempts; {most} are allowed")
    return Finding.of("attempts", sentence, len(jobs), broken)


def _labelling(moment: Snapshot, jobs: Sequence[JobRecord], executions: Sequence[ExecutionRecord]) -> Finding:
    """Labels of a file have no journal to be held against: their jobs and executions tell of each other."""
    ended, lost, left = Counter[str](), Counter[str](), Counter[str]()
    for row in executions:
        ended[row.subject] += row.status in ("done", "failed") and row.failure_kind is not FailureKind.BUG
        lost[row.subject] += row.status == "lost"
        left[row.subject] += row.ended_at is None
    broken = []
    for job in jobs:
        if job.attempts > ended[job.id] or job.n_lost > lost[job.id]:
            told = f"{job.attempts} attempts and {job.n_lost} losses"
            broken.append(f"job {job.id}: {told}, and executions of {ended[job.id]} and {lost[job.id]}")
        if job.state == "running":
            sound = left[job.id] == 1 or (not left[job.id] and moment.find_label(job.structure_id, job.level_id))
        else:
            sound = left[job.id] == 0
        if not sound:
            broken.append(f"job {job.id} is {job.state}, and {left[job.id]} of its executions are open")
    strangers = sorted(set(ended) - {job.id for job in jobs})
    broken += [f"executions of {subject}, which nobody asked for" for subject in strangers]
    sentence = "Every attempt at a label has its execution, and only of a label that is being made one is open."
    return Finding.of("labelling", sentence, len(executions), broken)


def _labels(past: _Past, jobs: Sequence[JobRecord], executions: Sequence[ExecutionRecord]) -> Finding:
    """Every label that was committed is a job that is done; whoever was refused is known by name."""
    done = {job.frame_id: job for job in jobs if job.state == "done"}
    told = Counter(event.frame_id for event in past.events if isinstance(event, LabelDone))
    given = [event for event in past.events if isinstance(event, LabelsGiven)]
    told.update(frame.frame_id for event in given for frame in event.frames)
    broken = [f"frame {frame} is done, and the journal has no label of it" for frame in sorted(set(done) - set(told))]
    broken += [f"frame {frame} has a label, and its job is not done" for frame in sorted(set(told) - set(done))]
    broken += [f"frame {frame} has {number} labels in the journal" for frame, number in told.items() if number > 1]
    refused = {event.frame_id for event in past.events if isinstance(event, LabelFailed)}
    by_id = {job.id: job for job in jobs}
    for row in executions:
        job = by_id.get(row.subject) if row.kind == "label" and row.status == "done" else None
        if job is not None and job.frame_id not in told and job.frame_id not in refused:
            broken.append(f"execution {row.key} made a label, and the journal has none of frame {job.frame_id}")
    return Finding.of("labels", "Each label of the journal is a job that is done, once.", len(told), broken)


def _weights(committees: Sequence[CommitteeRecord], folder: Path) -> Finding:
    """The active committee's file is there; what is there is what was written."""
    broken = []
    for committee in committees:
        path = folder / "weights" / f"{committee.sha256}.safetensors"
        if not path.exists():
            if committee.state == "active":
                broken.append(f"{path} of the active committee is missing")
        elif digest_of_bytes(path.read_bytes()) != committee.sha256:
            broken.append(f"{path} is not what was written")
    sentence = "The weight file of the active committee is there, and every weight file has its hash."
    return Finding.of("weights", sentence, len(committees), broken)


def _digests(moment: Snapshot, committees: Sequence[CommitteeRecord]) -> Finding:
    """A dataset's name is the hash of its members."""
    digests = sorted({committee.dataset_digest for committee in committees})
    broken = [
        f"dataset {digest[:12]} is {found[:12]} by content"
        for digest in digests
        if (found := named_dataset(moment.dataset_members(digest))) != digest
    ]
    return Finding.of("digests", "The digest of a dataset is the hash of its members.", len(digests), broken)


def _spool(moment: Snapshot, jobs: Sequence[JobRecord], spool: Path) -> Finding:
    """What waits in the spool is committed already, or will be by the next process that drives the campaign."""
    wanted = {(job.structure_id, job.level_id) for job in jobs}
    broken, checked = [], 0
    for path in sorted(spool.glob("*.label.json")):
        try:
            found = read_spooled(path)
        except FileNotFoundError:
            continue  # committed in this instant
        except ValueError as error:
            broken.append(f"{path}: {error}")
            continue
        checked += 1
        key = (found.structure_id, found.level_id)
        if key not in wanted and moment.find_label(*key) is None:
            broken.append(f"{path}: structure {key[0][:12]} has no label, and nobody asked for it")
    return Finding.of("spool", "What waits in the spool is committed or will be.", checked, broken)


def _task_of(row: ExecutionRecord) -> str:
    """The task an execution ran: its key without campaign and epoch."""
    return row.key.split("-", 2)[2]
