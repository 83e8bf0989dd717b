"""A world for the pure loop: answers every task with something that could happen, chosen by a seeded generator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from alflow.campaign.commands import (
    Command,
    Finish,
    ProposeSeeds,
    PutJob,
    StartExploring,
    StartLabel,
    StartScoring,
    StartTraining,
)
from alflow.campaign.config import CampaignConfig
from alflow.campaign.decide import decide
from alflow.campaign.events import (
    CampaignResumed,
    CampaignStarted,
    CheckpointsLost,
    Event,
    FrameSeen,
    LabelDone,
    LabelFailed,
    QueueRescored,
    SeedsProposed,
    SegmentDone,
    TaskLost,
    TrainingDone,
    WalkerReport,
)
from alflow.campaign.state import State


def config(**changes: object) -> CampaignConfig:
    settings: dict[str, object] = {
        "structures": "none.xyz",
        "reference": {"engine": "morse"},
        "walkers": 6,
        "label_budget": 24,
        "quiet_ps": 5.0,
        "initial_labels": 4,
        "labels_per_generation": 4,
        "threshold_ev_ang": 0.3,
    }
    return CampaignConfig.model_validate(settings | changes)


@dataclass
class World:
    """Chances of what may happen, and everything that did."""

    seed: int
    flag: float = 0.5
    duplicate: float = 0.1
    reset: float = 0.1
    fail: float = 0.1
    lost: float = 0.05
    kill: float = 0.02
    forget: float = 0.0
    reject: float = 0.1
    slots: int = 2
    pools: Mapping[str, int] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    states: list[State] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dice = np.random.default_rng(self.seed)
        self.open: list[Command] = []
        self.frames = 0

    def record(self, event: Event) -> None:
        """Journal an event and take its commands on."""
        state, commands = decide(self.states[-1] if self.states else None, event)
        self.events.append(event)
        self.states.append(state)
        self.commands.extend(commands)
        if isinstance(event, CampaignResumed):
            self.open = []
        self.open.extend(c for c in commands if not isinstance(c, PutJob | Finish) and hasattr(c, "task"))
        if any(isinstance(c, ProposeSeeds) for c in commands):
            seeds = tuple(self.frame(-1, 0.0) for _ in range(self.states[-1].config.initial_labels))
            self.record(SeedsProposed(seeds))

    def frame(self, walker: int, disagreement: float, duplicate_of: str | None = None) -> FrameSeen:
        """A frame nobody has seen before."""
        self.frames += 1
        return FrameSeen(f"f{self.frames}", f"s{self.frames}", walker, self.frames, disagreement, duplicate_of)

    def play(self, settings: CampaignConfig, most: int = 4000) -> State:
        """Run a campaign to its end."""
        self.record(CampaignStarted(settings.model_dump(mode="json"), ("s0",), self.slots, self.pools))
        for _ in range(most):
            if self.states[-1].ended:
                return self.states[-1]
            if self.dice.random() < self.kill:
                if self.forget and self.dice.random() < self.forget:
                    self.record(CheckpointsLost((int(self.dice.integers(settings.walkers)),), "altered"))
                self.record(CampaignResumed(self.slots, self.pools))
                continue
            command = self.open.pop(int(self.dice.integers(len(self.open))))
            self.record(self.answer(command))
        raise AssertionError(f"the campaign did not end within {most} events: {self.states[-1]}")

    def answer(self, command: Command) -> Event:
        """Something that may come back from a task."""
        dice = self.dice.random
        state = self.states[-1]
        assert not isinstance(command, PutJob | Finish | ProposeSeeds)
        if dice() < self.lost:
            return TaskLost(command.task, "the worker died")
        match command:
            case StartLabel():
                if dice() < self.fail:
                    kind = str(self.dice.choice(["SCF_FAIL", "TIMEOUT", "CRASH"]))
                    return LabelFailed(command.task, command.frame_id, kind, "it failed")
                return LabelDone(command.task, command.frame_id, 0.1, 0.05)
            case StartTraining():
                accepted = command.generation == 1 or dice() > self.reject
                return TrainingDone(command.task, command.n_labels, "ab" * 32, accepted, "", {})
            case StartScoring():
                return QueueRescored(command.task, state.generation, {f: dice() for f in command.frame_ids})
            case StartExploring():
                reports = tuple(self.report(order.walker, command.steps) for order in command.walkers)
                audit = self.frame(0, 0.1) if command.audit and dice() < 0.9 else None
                return SegmentDone(command.task, command.generation, reports, audit)
        raise AssertionError(f"nobody answers {command}")

    def report(self, walker: int, steps: int) -> WalkerReport:
        """How one walker may come out of a segment."""
        before = self.states[-1].walkers[walker].step
        draw = self.dice.random()
        if draw < self.flag:
            twin = "f1" if self.dice.random() < self.duplicate else None
            frame = self.frame(walker, 0.3 + self.dice.random(), twin)
            return WalkerReport(walker, "paused", "disagreement", before + steps // 2, steps // 2, 0.5, 500.0, frame)
        if draw < self.flag + self.reset:
            made = int(self.dice.integers(0, steps))
            return WalkerReport(walker, "reset", "too hot", before + made, made, 0.5, 500.0, None)
        return WalkerReport(walker, "running", "", before + steps, steps, 0.2, 500.0)
