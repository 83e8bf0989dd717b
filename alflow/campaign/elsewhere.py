"""Tasks on a machine that may share no folder with the orchestrator: files travel with the task and with the answer.

A weight file is looked for where the task says, then in a folder of this machine, always by the hash of its bytes; if
it is in neither, the task comes back at once and is sent again with the bytes. A label waits in the campaign's spool
if that is the same folder here, and else in one of this machine, until it is known to have arrived. The checkpoint of a
label that was interrupted comes back with the answer, and goes along with the next attempt.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from alflow.campaign.tasks import (
    Answer,
    ExploreTask,
    LabelTask,
    ScoreTask,
    Task,
    TrainingResult,
    TrainTask,
    WeightFile,
)
from alflow.campaign.work import run_task
from alflow.domain import Evaluation
from alflow.domain.identity import digest_of_bytes
from alflow.reference import LabelResult
from alflow.reference.course import checkpoint_path
from alflow.reference.spool import write_durably, write_spooled

__all__ = ["Delivery", "Luggage", "Wanted", "checkpoint_for", "deliver", "mark", "pack", "run_elsewhere"]

KEPT_WEIGHTS: Final = 8
"""Weight files a machine keeps; the oldest go first."""

LARGEST_CHECKPOINT: Final = 200_000_000
"""A checkpoint of more bytes does not travel; it is of use on its own machine only. 800 basis functions take 90 MB."""

KEPT_S: Final = 30 * 86400.0
"""Age at which a label that nobody has asked for leaves a machine's own spool, s."""


@dataclass(frozen=True)
class Luggage:
    """What travels with a task.

    Attributes:
        mark: Name of a file in the campaign's folder, which tells that folder from any other of the same path.
        weights: Bytes of weight files by their hash, for a machine that does not have them.
        arrived: Files of this machine's own spool whose labels have arrived.
        checkpoint: Bytes of the checkpoint from which a label goes on.
    """

    mark: str
    weights: Mapping[str, bytes] = field(default_factory=dict)
    arrived: tuple[str, ...] = ()
    checkpoint: bytes | None = None


@dataclass(frozen=True)
class Wanted:
    """A task could not begin: this machine does not have a weight file."""

    sha256: str


@dataclass(frozen=True)
class Delivery:
    """An answer with what lies on the machine that gave it.

    Attributes:
        answer: The answer.
        weights: Bytes of the committee it trained.
        spool_file: File of the machine's own spool that holds the label it made.
        checkpoint: Bytes of the checkpoint of a label that was interrupted.
    """

    answer: Answer
    weights: bytes | None = None
    spool_file: str | None = None
    checkpoint: bytes | None = None


def run_elsewhere(task: Task, threads: int, luggage: Luggage) -> Delivery | Wanted:
    """Run a task on this machine, whatever it shares with the orchestrator's.

    Args:
        task: What to do; its paths are the orchestrator's.
        threads: Threads torch may use.
        luggage: What came with it.

    Raises:
        OSError: This machine's own folder cannot be used.
    """
    here = own_folder()
    for name in luggage.arrived:
        (here / "spool" / Path(name).name).unlink(missing_ok=True)
    for sha256, data in luggage.weights.items():
        _keep(here, sha256, data)
    try:
        task = _with_weights_here(task, here)
    except FileNotFoundError as missing:
        return Wanted(str(missing.args[0]))
    if isinstance(task, LabelTask):
        if (task.request.spool.parent / luggage.mark).is_file():
            return Delivery(run_task(task, threads))
        return _label_apart(task, threads, here / "spool", luggage)
    if isinstance(task, TrainTask):
        answer = run_task(replace(task, folder=here / "weights"), threads)
        made = answer.value.weights if isinstance(answer.value, TrainingResult) else None
        return Delivery(answer, weights=made.path.read_bytes() if made is not None else None)
    return Delivery(run_task(task, threads))


def _label_apart(task: LabelTask, threads: int, spool: Path, luggage: Luggage) -> Delivery:
    """Make a label where the campaign's folder is not to be seen."""
    _sweep(spool)
    place = _checkpoint_of(task, spool)
    if luggage.checkpoint is not None:
        write_durably(place, luggage.checkpoint)
    answer = run_task(replace(task, request=replace(task.request, spool=spool)), threads)
    if not isinstance(answer.value, LabelResult):
        return Delivery(answer)
    left = place.read_bytes() if place.exists() and place.stat().st_size <= LARGEST_CHECKPOINT else None
    return Delivery(answer, spool_file=answer.value.spool_file, checkpoint=left)


def checkpoint_for(task: Task) -> bytes | None:
    """Bytes of the checkpoint a label may go on from, where the orchestrator has one."""
    if not isinstance(task, LabelTask):
        return None
    place = _checkpoint_of(task, task.request.spool)
    try:
        return place.read_bytes() if place.stat().st_size <= LARGEST_CHECKPOINT else None
    except OSError:
        return None


def _checkpoint_of(task: LabelTask, spool: Path) -> Path:
    return checkpoint_path(spool, task.request.structure.id, task.request.reference.level.id)


def deliver(task: Task, delivery: Delivery) -> Answer:
    """Put what came with an answer where the orchestrator expects it: a committee among the weights, a label spooled.

    Args:
        task: The task, with the orchestrator's paths.
        delivery: What came back.

    Raises:
        OSError: The campaign's folder cannot be written.
        ValueError: The bytes are not those of the committee that was trained.
    """
    answer, value = delivery.answer, delivery.answer.value
    if isinstance(task, TrainTask) and isinstance(value, TrainingResult) and value.weights is not None:
        sha256, data = value.weights.sha256, delivery.weights or b""
        if digest_of_bytes(data) != sha256:
            raise ValueError(f"The committee {sha256[:12]}… was altered on its way from {answer.host}.")
        weights = WeightFile(task.folder / f"{sha256}.safetensors", sha256)
        write_durably(weights.path, data)
        return replace(answer, value=replace(value, weights=weights))
    if isinstance(task, LabelTask) and delivery.checkpoint is not None:
        write_durably(_checkpoint_of(task, task.request.spool), delivery.checkpoint)
    if isinstance(task, LabelTask) and delivery.spool_file is not None and isinstance(value, LabelResult):
        request, outcome = task.request, value.outcome
        if isinstance(outcome, Evaluation):
            ids = (request.structure.id, request.reference.level.id)
            path = write_spooled(request.spool, *ids, outcome, value.provenance)
            return replace(answer, value=replace(value, spool_file=path.name))
    return answer


def pack(task: Task, wanted: Wanted, mark: str) -> Luggage | None:
    """The weight file a machine asked for; None if it is not whole here either."""
    files = [file for file in _weights_of(task) if file.sha256 == wanted.sha256]
    try:
        data = files[0].path.read_bytes()
    except (IndexError, OSError):
        return None
    return Luggage(mark, {wanted.sha256: data}) if digest_of_bytes(data) == wanted.sha256 else None


def mark(folder: Path, name: str) -> None:
    """Leave a file in the campaign's folder by which another machine knows that it sees the same one."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).touch()


def own_folder() -> Path:
    """This machine's folder for weights and labels; the user's alone.

    Raises:
        PermissionError: Another user has made it.
    """
    folder = Path(tempfile.gettempdir()) / f"alflow-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user; remove it or set TMPDIR.")
    return folder


def _weights_of(task: Task) -> tuple[WeightFile, ...]:
    if isinstance(task, ExploreTask | ScoreTask):
        return (task.committee,)
    return (task.start,) if isinstance(task, TrainTask) and task.start is not None else ()


def _with_weights_here(task: Task, here: Path) -> Task:
    """The task with weight files that can be read on this machine.

    Raises:
        FileNotFoundError: There is none with the right bytes; its only argument is the hash.
    """
    for weights in _weights_of(task):
        found = next((path for path in (weights.path, _place(here, weights.sha256)) if _is_whole(path, weights)), None)
        if found is None:
            raise FileNotFoundError(weights.sha256)
        local = WeightFile(found, weights.sha256)
        if isinstance(task, ExploreTask | ScoreTask):
            return replace(task, committee=local)
        if isinstance(task, TrainTask):
            return replace(task, start=local)
    return task


def _is_whole(path: Path, weights: WeightFile) -> bool:
    try:
        return digest_of_bytes(path.read_bytes()) == weights.sha256
    except OSError:
        return False


def _place(here: Path, sha256: str) -> Path:
    return here / "weights" / f"{sha256}.safetensors"


def _keep(here: Path, sha256: str, data: bytes) -> None:
    """Write a weight file, and remove the oldest of those that are too many."""
    write_durably(_place(here, sha256), data)
    files = sorted(_place(here, sha256).parent.glob("*.safetensors"), key=_age_s)
    for file in files[KEPT_WEIGHTS:]:
        file.unlink(missing_ok=True)


def _sweep(spool: Path) -> None:
    for file in spool.glob("*"):
        if _age_s(file) > KEPT_S:
            file.unlink(missing_ok=True)


def _age_s(file: Path) -> float:
    """Seconds since a file was written; another worker may have removed it meanwhile."""
    try:
        return time.time() - file.stat().st_mtime
    except FileNotFoundError:
        return float("inf")
