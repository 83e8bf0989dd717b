"""Completions that come together share one commit, and nothing else: the journal is that of one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from alflow.campaign.decide import replay
from alflow.campaign.events import event_from_payload
from alflow.campaign.executors import Completion, InlineExecutor
from alflow.campaign.launch import resume_campaign, run_campaign
from alflow.errors import StoreError
from alflow.store import ExecutionEnd, Store
from alflow.store.transaction import Transaction

from .toys import check_promises, journal, labels, rows, toy


class TogetherExecutor(InlineExecutor):
    """Four slots whose tasks all end at the same time."""

    slots = 4

    def wait(self, timeout_s: float) -> tuple[Completion, ...]:
        return tuple(completion for _ in tuple(self._waiting) for completion in super(TogetherExecutor, self).wait(0))


def test_completions_that_come_together_are_all_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commits: list[int] = []
    original = Store.transaction

    def counted(store: Store, lease: object) -> object:
        commits.append(1)
        return original(store, lease)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "transaction", counted)
    config = toy(tmp_path)
    ended = run_campaign(config, executor=TogetherExecutor())
    assert ended.state.phase == "finished"
    check_promises(config.database)
    assert len(commits) < 0.7 * len(journal(config.database))
    with Store.open(config.database) as store:
        replayed = replay(event_from_payload(event.payload) for event in store.events(store.campaign().id))
    assert replayed == ended.state


def test_a_commit_that_fails_leaves_nothing_of_any_of_its_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = toy(tmp_path)
    finish, finished = Transaction.finish_executions, []

    def fail(tx: Transaction, endings: Sequence[ExecutionEnd]) -> int:
        finished.extend(endings)
        if len(finished) >= 3:
            finish(tx, endings[:2])
            raise StoreError("the disk is full")
        return finish(tx, endings)

    with monkeypatch.context() as patched:
        patched.setattr(Transaction, "finish_executions", fail)
        with pytest.raises(StoreError, match="disk is full"):
            run_campaign(config, executor=TogetherExecutor())
    # The first four labels ended together; the third could not be written, so none of them was.
    assert rows(config.database, "SELECT count(*) FROM labels") == [(0,)]
    assert [kind for _, kind, _ in journal(config.database)] == ["campaign_started", "seeds_proposed"]
    computed = {file.name for file in (tmp_path / "toy.alflow" / "spool").iterdir()}
    assert len(computed) == 4

    assert resume_campaign(config.database, executor=TogetherExecutor()).state.phase == "finished"
    check_promises(config.database)
    found = rows(config.database, "SELECT count(*) FROM executions WHERE message LIKE 'found in the spool%'")
    assert found == [(4,)], "what was paid for is not paid for again"
    assert len(labels(config.database)) == config.label_budget
