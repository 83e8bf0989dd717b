"""A bookmark saves time and decides nothing: whatever is wrong with it, the journal is read from its first event."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alflow.campaign import bookmark
from alflow.campaign.bookmark import Bookmark
from alflow.campaign.decide import replay
from alflow.campaign.events import event_from_json, event_from_payload
from alflow.campaign.launch import resume_campaign, run_campaign
from alflow.campaign.state import State
from alflow.domain.identity import digest_of_bytes
from alflow.store import EventRecord, Store
from tests.postgresql import address

from .test_journal import CutAfter, PowerCut
from .toys import check_promises, journal, toy


@pytest.fixture
def interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of a campaign that was cut off after some events, three of them after its bookmark."""
    monkeypatch.setattr(bookmark, "EVERY", 20)
    monkeypatch.setattr(bookmark, "PAUSE_S", 0.0)
    with pytest.raises(PowerCut):
        run_campaign(toy(tmp_path), observers=[CutAfter(23)])
    assert (tmp_path / "toy.alflow" / "bookmark.json").exists()
    return tmp_path


def taken_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[State | None, int]:
    """What a new orchestrator knows, and how many events it had to understand for that."""
    understood = 0

    def counting(text: str) -> object:
        nonlocal understood
        understood += 1
        return event_from_json(text)

    with monkeypatch.context() as patched, Store.open(address(folder / "toy.db"), read_only=True) as store:
        patched.setattr(bookmark, "event_from_json", counting)
        return Bookmark(store, store.campaign().id, folder / "toy.alflow").replay(), understood


def whole(folder: Path) -> State | None:
    with Store.open(address(folder / "toy.db"), read_only=True) as store:
        return replay(event_from_payload(event.payload) for event in store.events(store.campaign().id))


def test_only_what_came_after_the_bookmark_is_replayed(interrupted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, understood = taken_up(interrupted, monkeypatch)
    assert state == whole(interrupted)
    assert understood == len(journal(interrupted / "toy.db")) - 20 == 3


def test_a_campaign_goes_on_from_its_bookmark_as_from_its_journal(interrupted: Path) -> None:
    ended = resume_campaign(address(interrupted / "toy.db"))
    assert ended.state.phase == "finished"
    assert ended.state == whole(interrupted)
    check_promises(interrupted / "toy.db")


@pytest.mark.parametrize(
    "damage", ["gone", "cut", "no state", "another program", "another journal", "text", "ahead", "a digit"]
)
def test_a_bookmark_that_is_not_right_is_not_believed(
    interrupted: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    file = interrupted / "toy.alflow" / "bookmark.json"
    content = json.loads(file.read_text())
    if damage == "gone":
        file.unlink()
    elif damage == "cut":
        file.write_text(file.read_text()[:-40])
    elif damage == "a digit":
        content["state"]["n_done"] += 1
        file.write_text(json.dumps(content))
    elif damage == "text":
        file.write_bytes(b"\xff\xfe")
    else:
        key = {"another program": "program", "another journal": "journal"}.get(damage, "state")
        if damage == "ahead":
            content["state"]["n_events"] = 10_000
        elif damage == "no state":
            content["state"]["walkers"] = "four"
        else:
            content[key] = "0" * 64
        del content["sealed"]
        file.write_text(json.dumps({**content, "sealed": digest_of_bytes(json.dumps(content).encode())}))
    state, understood = taken_up(interrupted, monkeypatch)
    assert state == whole(interrupted)
    assert understood == len(journal(interrupted / "toy.db"))


def test_a_bookmark_of_events_that_are_no_longer_there_is_not_believed(
    interrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = Store.journal_texts

    def altered(store: Store, campaign_id: int, after: int = 0, last: int | None = None) -> object:
        stored = texts(store, campaign_id, after, last)
        return stored if last is None else (text.replace("a", "b") for text in stored)  # to be hashed

    with monkeypatch.context() as patched:
        patched.setattr(Store, "journal_texts", altered)
        state, understood = taken_up(interrupted, monkeypatch)
    assert understood == len(journal(interrupted / "toy.db"))
    assert state == whole(interrupted)


def test_journal_texts_are_what_is_stored(interrupted: Path) -> None:
    with Store.open(address(interrupted / "toy.db"), read_only=True) as store:
        campaign = store.campaign().id
        events: list[EventRecord] = list(store.events(campaign))
        texts = list(store.journal_texts(campaign, after=2, last=7))
    assert [json.loads(text) for text in texts] == [event.payload for event in events[2:7]]
