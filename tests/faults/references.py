"""References that fail in every way there is, on chosen structures, and are right about all the others."""

from __future__ import annotations

import ctypes
import os
import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from alflow.domain import Evaluation, Failure, FailureKind, Level, Outcome, Structure
from alflow.reference import MorseMolecule, PyscfReference
from alflow.reference.course import Checkpoint, Course

IMPATIENT = PyscfReference(functional="hf", basis="sto-3g", max_cycles=1, gradient_tolerance_ha=1e-13)
"""The real engine with no chance to converge."""


@dataclass(frozen=True)
class Treacherous:
    """A Morse molecule on which some structures fail.

    Attributes:
        inner: What is right about all other structures.
        faults: How a structure fails, by its id.
    """

    inner: MorseMolecule
    faults: Mapping[str, str]

    @property
    def level(self) -> Level:
        return self.inner.level

    def evaluate(self, structure: Structure) -> Outcome:
        match self.faults.get(structure.id):
            case "unconverged":
                return IMPATIENT.evaluate(structure)
            case "endless":
                time.sleep(600)
            case "greedy":
                _eat_memory()
            case "segfault":
                ctypes.string_at(0)
            case "exit":
                os._exit(3)
            case "not-finite":
                return Failure(FailureKind.NON_FINITE, "The energy is nan eV.")
            case "rejected":
                return Failure(FailureKind.REJECTED, "This surface was not made for such a structure.")
            case "exception":
                raise RuntimeError("the basis set file of this reference is damaged")
        return self.inner.evaluate(structure)


@dataclass(frozen=True)
class Telling:
    """A Morse molecule that tells with every label what is in the environment of its process.

    Attributes:
        inner: What is right.
        names: Variables to tell; by default those that say how many threads there are.
    """

    inner: MorseMolecule
    names: tuple[str, ...] = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

    @property
    def level(self) -> Level:
        return self.inner.level

    def evaluate(self, structure: Structure) -> Outcome:
        outcome = self.inner.evaluate(structure)
        if isinstance(outcome, Failure):
            return outcome
        return Evaluation(outcome.energy, outcome.forces, None, {name: os.environ.get(name) for name in self.names})


@dataclass(frozen=True)
class Cramped:
    """A surface that is right, in a process that finds no room on the disk for what it has computed.

    Attributes:
        inner: What is right.
        full: A file; while it is there, no file may grow beyond some hundred bytes.
    """

    inner: MorseMolecule
    full: Path

    @property
    def level(self) -> Level:
        return self.inner.level

    def evaluate(self, structure: Structure) -> Outcome:
        if self.full.exists():
            resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
        return self.inner.evaluate(structure)


def _eat_memory() -> None:
    eaten = []
    for _ in range(60):  # 1.2 GB at most, should nobody stop it
        eaten.append(np.ones(20_000_000 // 8))
        time.sleep(0.02)
    time.sleep(600)


@dataclass(frozen=True)
class BadMachine:
    """A surface whose process dies on one machine and is right on all others.

    Attributes:
        host: Name of the bad machine.
        inner: What is right.
    """

    host: str
    inner: MorseMolecule

    @property
    def level(self) -> Level:
        return self.inner.level

    def evaluate(self, structure: Structure) -> Outcome:
        if os.uname().nodename == self.host:
            os.abort()
        return self.inner.evaluate(structure)


BEGUN = "begun"
"""File in the folder of a label's process that has begun its first step."""


@dataclass(frozen=True)
class Stepwise:
    """A surface that takes its time, in steps between which it may be interrupted; each label tells where it began.

    Attributes:
        inner: What is computed in the end.
        steps: Number of steps.
        pause_s: Time of a step, s.
        piece: Steps after which it asks to be interrupted once it has made another; 0 for never.
    """

    inner: MorseMolecule
    steps: int
    pause_s: float
    piece: int = 0

    @property
    def level(self) -> Level:
        return self.inner.level

    def evaluate(self, structure: Structure) -> Outcome:
        return self.inner.evaluate(structure)

    def evaluate_in_steps(self, structure: Structure, course: Course) -> Outcome:
        found = course.take()
        begun = int(found.told["done"]) if found is not None else 0
        course.restarted = found is not None
        for done in range(begun + 1, self.steps + 1):
            time.sleep(self.pause_s)
            Path(BEGUN).touch()  # in the folder of its own
            course.step(partial(Checkpoint, {"made": np.arange(done)}, {"done": done}), last=done == self.steps)
            if done - begun == self.piece:
                course.stop()
        made = self.inner.evaluate(structure)
        return made if isinstance(made, Failure) else replace(made, diagnostics={"began_at_step": begun})
