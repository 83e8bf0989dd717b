"""The board: what the page shows, and the routes by which a browser gets it. Knows Tornado and nothing of alflow.

A copy of this module's code travels to Dask schedulers that may not have alflow, so it imports nothing of it.
Snapshots and answers are bytes here: they are passed on unread.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tornado import web

__all__ = ["Board", "routes"]

STALE_AFTER_S = 15.0

FRESH_S = 1.5
"""An answer older than this is given, and asked for anew."""

FORGOTTEN_S = 20.0
"""A question that was not answered within this time is dropped."""

MOST_QUESTIONS, MOST_ANSWERS, MOST_CAMPAIGNS = 8, 64, 8

QUESTION = re.compile(r"walker:\d{1,7}|frame:[\w-]{1,64}")

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
"""The page loads nothing from anywhere else, and no text in it can make it do so."""


@dataclass
class Post:
    """The latest that came of one campaign."""

    name: str
    snapshot: bytes
    ended: bool
    stale_since_s: float | None
    at_s: float
    clock_s: float
    answers: dict[str, tuple[bytes, float]] = field(default_factory=dict)
    questions: dict[str, float] = field(default_factory=dict)

    def forget(self, now: float) -> None:
        """Drop questions that nobody has answered."""
        self.questions = {asked: at for asked, at in self.questions.items() if now - at < FORGOTTEN_S}


class Board:
    """Holds the latest snapshot of each campaign, questions that wait, and answers that came.

    Args:
        page: The page, as HTML.
        wake: Called when a question begins to wait.
        stale_after_s: Nothing new for this long from a campaign that has not ended: its orchestrator is gone, or cannot
            reach the page.
    """

    def __init__(
        self, page: bytes, wake: Callable[[], object] = lambda: None, stale_after_s: float = STALE_AFTER_S
    ) -> None:
        self.page = page
        self._wake = wake
        self._stale_after_s = stale_after_s
        self._posts: dict[str, Post] = {}

    def post(
        self,
        campaign: str,
        name: str,
        snapshot: bytes,
        ended: bool,
        stale_since_s: float | None = None,
        answers: Mapping[str, bytes] | None = None,
    ) -> list[str]:
        """Put up a snapshot.

        Args:
            campaign: Its name among all campaigns.
            name: Its name for people.
            snapshot: JSON.
            ended: Whether no further one is to be expected.
            stale_since_s: Since when nobody has driven the campaign, s since 1970, if whoever posts knows better.
            answers: JSON for each question.

        Returns:
            Questions that wait.
        """
        before, now = self._posts.pop(campaign, None), time.monotonic()
        post = Post(name, snapshot, ended, stale_since_s, time.time(), now)
        if before is not None:
            post.answers, post.questions = before.answers, before.questions
        self._posts[campaign] = post
        while len(self._posts) > MOST_CAMPAIGNS:
            del self._posts[next(iter(self._posts))]
        for question, found in (answers or {}).items():
            post.answers.pop(question, None)
            post.answers[question] = (found, now)
            post.questions.pop(question, None)
        while len(post.answers) > MOST_ANSWERS:
            del post.answers[next(iter(post.answers))]
        post.forget(now)
        return list(post.questions)

    def status(self, campaign: str | None = None) -> bytes:
        """The latest snapshot, as JSON, with the times that tell how fresh it is; of the newest campaign by default."""
        found = self._find(campaign)
        post = found[1] if found is not None else None
        told: dict[str, Any] = {
            "served_unix_s": round(time.time(), 1),
            "received_unix_s": None if post is None else round(post.at_s, 1),
            "stale_since_unix_s": None if post is None else self._stale_since(post),
            "campaigns": [{"uuid": uuid, "name": post.name} for uuid, post in self._posts.items()],
        }
        snapshot = b"null" if post is None else post.snapshot
        return json.dumps(told).encode()[:-1] + b', "snapshot": ' + snapshot + b"}"

    def ask(self, campaign: str | None, question: str) -> bytes | None:
        """The answer to a question, perhaps a little old; None while it waits for one.

        Raises:
            ValueError: It is no question that can be answered.
        """
        found = self._find(campaign)
        if found is None or not QUESTION.fullmatch(question):
            raise ValueError("expected question=walker:NUMBER or question=frame:ID of a campaign that is shown")
        post, now = found[1], time.monotonic()
        answer, at = post.answers.get(question, (None, 0.0))
        if answer is None or now - at > FRESH_S:
            post.forget(now)
            if question not in post.questions and len(post.questions) < MOST_QUESTIONS:
                post.questions[question] = now
                self._wake()
        return answer

    def _find(self, campaign: str | None) -> tuple[str, Post] | None:
        if campaign in self._posts:
            return str(campaign), self._posts[str(campaign)]
        newest = max(self._posts.items(), key=lambda item: item[1].clock_s, default=None)
        return newest if not campaign else None

    def _stale_since(self, post: Post) -> float | None:
        if post.stale_since_s is not None or post.ended:
            return post.stale_since_s
        return round(post.at_s, 1) if time.monotonic() - post.clock_s > self._stale_after_s else None


class Routed(web.RequestHandler):
    """What all answers have in common."""

    def initialize(self, board: Board, links: list[str] | None = None) -> None:
        """Take what the routes were made with."""
        self.board, self.links = board, links or []

    def set_default_headers(self) -> None:
        """Nothing is kept, framed by strangers, or taken for something else."""
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "no-referrer")


class PageRoute(Routed):
    """The page."""

    def get(self) -> None:
        """Answer with the page."""
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Content-Security-Policy", POLICY)
        links = json.dumps(self.links).replace("<", "\\u003c")
        self.write(self.board.page.replace(b"/*LINKS*/[]", links.encode()))


class StatusRoute(Routed):
    """The snapshot."""

    def get(self) -> None:
        """Answer with the latest snapshot."""
        self.set_header("Content-Type", "application/json")
        self.write(self.board.status(self.get_query_argument("campaign", None)))


class AnswerRoute(Routed):
    """The story of a walker or a frame, and its structure."""

    def get(self) -> None:
        """Answer at once if the answer is here; else ask for it, so that it is here in a moment."""
        self.set_header("Content-Type", "application/json")
        try:
            found = self.board.ask(self.get_query_argument("campaign", None), self.get_query_argument("question", ""))
        except ValueError as error:
            self.set_status(400)
            found = json.dumps({"error": str(error)}).encode()
        if found is None:
            self.set_status(202)
            found = b'{"asked": true}'
        self.write(found)


def routes(board: Board, links: list[str] | None = None) -> list[tuple[str, type[web.RequestHandler], dict[str, Any]]]:
    """Routes for a Tornado application, under whatever prefix it has: the page's own addresses are all relative.

    Args:
        board: What is shown.
        links: Names of the other pages beside it, for its navigation.
    """
    given: dict[str, Any] = {"board": board, "links": links}
    return [
        (r"(?:/.+)?/alflow", PageRoute, given),
        (r"(?:/.+)?/alflow/api/status\.json", StatusRoute, given),
        (r"(?:/.+)?/alflow/api/answer\.json", AnswerRoute, given),
    ]
