"""The board: how fresh a snapshot is, which questions are asked, and what a browser gets under any prefix."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import Any

import pytest
from tornado import web
from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port

from alflow.reports.board import MOST_ANSWERS, MOST_CAMPAIGNS, MOST_QUESTIONS, Board, routes
from alflow.reports.dashboard import page_bytes

SNAPSHOT = b'{"campaign": {"name": "water"}}'


def status(board: Board, campaign: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(board.status(campaign))
    return found


def fetched(board: Board, *paths: str, links: list[str] | None = None) -> list[tuple[int, bytes]]:
    """Status and body that a server on loopback gives for each path."""

    async def ask() -> list[tuple[int, bytes]]:
        socket, port = bind_unused_port("127.0.0.1")
        server = HTTPServer(web.Application(routes(board, links)))
        server.add_sockets([socket])
        client, found = AsyncHTTPClient(force_instance=True), []
        for path in paths:
            answer = await client.fetch(f"http://127.0.0.1:{port}{path}", raise_error=False)
            found.append((answer.code, answer.body))
        client.close()
        server.stop()
        await server.close_all_connections()
        return found

    return asyncio.run(ask())


def test_before_the_first_snapshot_there_is_none() -> None:
    told = status(Board(b""))
    assert (told["snapshot"], told["campaigns"], told["stale_since_unix_s"]) == (None, [], None)


def test_a_snapshot_grows_stale_when_nothing_follows_and_one_of_an_ended_campaign_never() -> None:
    board = Board(b"", stale_after_s=0.2)
    board.post("a", "water", SNAPSHOT, ended=False)
    board.post("b", "silicon", SNAPSHOT, ended=True)
    assert status(board, "a")["stale_since_unix_s"] is None
    time.sleep(0.3)
    assert status(board, "a")["stale_since_unix_s"] == status(board, "a")["received_unix_s"]
    assert status(board, "b")["stale_since_unix_s"] is None
    board.post("a", "water", SNAPSHOT, ended=False, stale_since_s=5.0)
    assert status(board, "a")["stale_since_unix_s"] == 5.0, "who reads the database knows better"


def test_the_newest_campaign_is_shown_and_others_are_named() -> None:
    board = Board(b"")
    for number in range(MOST_CAMPAIGNS + 2):
        board.post(f"u{number}", f"campaign {number}", SNAPSHOT.replace(b"water", b"c%d" % number), ended=False)
    told = status(board)
    assert told["snapshot"]["campaign"]["name"] == f"c{MOST_CAMPAIGNS + 1}"
    assert [one["uuid"] for one in told["campaigns"]] == [f"u{n}" for n in range(2, MOST_CAMPAIGNS + 2)]
    assert status(board, "u3")["snapshot"]["campaign"]["name"] == "c3"
    assert status(board, "u0")["snapshot"] is None, "not another campaign in its place"


def test_a_question_waits_until_it_is_answered_and_wakes_whoever_reads() -> None:
    woken: list[bool] = []
    board = Board(b"", lambda: woken.append(True))
    board.post("a", "water", SNAPSHOT, ended=False)
    assert board.ask(None, "walker:3") is None
    assert board.ask(None, "walker:3") is None
    assert len(woken) == 1
    assert board.post("a", "water", SNAPSHOT, ended=False) == ["walker:3"]
    assert board.post("a", "water", SNAPSHOT, ended=False, answers={"walker:3": b"{}"}) == []
    assert board.ask("a", "walker:3") == b"{}"


def test_a_stranger_can_ask_only_a_few_questions_of_two_kinds() -> None:
    board = Board(b"")
    board.post("a", "water", SNAPSHOT, ended=False)
    for wrong in ("", "walker:x", "frame:../../etc/passwd", "sql:drop", "walker:1\n"):
        with pytest.raises(ValueError, match="expected question="):
            board.ask(None, wrong)
    for number in range(3 * MOST_QUESTIONS):
        board.ask(None, f"walker:{number}")
    assert len(board.post("a", "water", SNAPSHOT, ended=False)) == MOST_QUESTIONS
    answers = {f"walker:{number}": b"{}" for number in range(2 * MOST_ANSWERS)}
    board.post("a", "water", SNAPSHOT, ended=False, answers=answers)
    assert board.ask(None, "walker:0") is None, "old answers make room"


def test_routes_answer_under_any_prefix_and_say_what_is_wrong() -> None:
    board = Board(page_bytes())
    board.post("a", "water", SNAPSHOT, ended=False)
    found = fetched(
        board,
        "/alflow",
        "/proxy/8787/alflow",
        "/a/alflow/api/status.json",
        "/alflow/api/answer.json?question=walker:1",
        "/alflow/api/answer.json?question=nonsense",
        "/alflow/secrets",
        links=["status", "</script>"],
    )
    assert [code for code, _ in found] == [200, 200, 200, 202, 400, 404]
    assert b'const LINKS = ["status", "\\u003c/script>"];' in found[0][1]
    assert json.loads(found[2][1])["snapshot"]["campaign"]["name"] == "water"
    assert "expected question=" in json.loads(found[4][1])["error"]


def test_the_page_loads_nothing_from_elsewhere() -> None:
    page = page_bytes().decode()
    addresses = set(re.findall(r"\w+://[^\"'\s]+", page))
    assert addresses == {"http://www.w3.org/2000/svg"}, "the name of SVG, which nobody fetches"
    assert "/*" + "PAGE*/" not in page
    assert "innerHTML" not in page, "texts go in as text"
