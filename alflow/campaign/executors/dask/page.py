"""The page about the campaign in the dashboard of a Dask scheduler: brought there by value, fed by calls.

The scheduler needs neither alflow nor a database. Whatever goes wrong here is the page's own misfortune.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final

import cloudpickle
from distributed.diagnostics.plugin import SchedulerPlugin

from alflow.campaign.executors.dask.seats import Workers
from alflow.domain.identity import digest_of_bytes
from alflow.errors import Unavailable
from alflow.reports import board
from alflow.reports.board import STALE_AFTER_S, Board, routes
from alflow.reports.dashboard import page_bytes

__all__ = ["CampaignPage", "SchedulerBoard"]

ANSWER_WITHIN_S: Final = 5.0
"""Time a scheduler has to take a snapshot."""

THIS: Final = __name__


class CampaignPage(SchedulerPlugin):
    """Puts the page ``alflow`` beside those of Dask, once on each scheduler; a newer page takes the place of an older.

    Args:
        page: The page, as HTML.
        version: Name of this page among all versions of it.
        stale_after_s: When it is told that nothing new comes.
    """

    idempotent = True

    def __init__(self, page: bytes, version: str, stale_after_s: float) -> None:
        self.name = f"alflow-page-{version}"
        self._page = page
        self._stale_after_s = stale_after_s

    async def start(self, scheduler: Any) -> None:
        """Add routes, a link in the navigation, and the call by which snapshots come in."""
        known = scheduler.extensions.get("alflow")
        if known is not None:
            known.page = self._page
            return
        shown = Board(self._page, stale_after_s=self._stale_after_s)
        links = _link_in_navigation(scheduler)
        scheduler.http_application.add_handlers(r".*", routes(shown, links))
        scheduler.handlers["alflow_post"] = shown.post
        scheduler.extensions["alflow"] = shown


class SchedulerBoard:
    """The way to the page on whatever scheduler the workers have now.

    Args:
        workers: They know the scheduler.
        stale_after_s: When it is told that nothing new comes.
    """

    def __init__(self, workers: Workers, stale_after_s: float = STALE_AFTER_S) -> None:
        self._workers = workers
        self._stale_after_s = stale_after_s
        self._session: int | None = None

    def post(
        self,
        campaign: str,
        name: str,
        snapshot: bytes,
        ended: bool,
        stale_since_s: float | None = None,
        answers: Mapping[str, bytes] | None = None,
    ) -> Sequence[str]:
        """Put up a snapshot on the scheduler; see :meth:`alflow.reports.board.Board.post`.

        Raises:
            Unavailable: There is no scheduler at present.
            Exception: Whatever Dask says when it cannot take the page or the snapshot.
        """
        client, session = self._workers.client, self._workers.session
        if client is None or client.status != "running":
            raise Unavailable("Dask's scheduler is away")
        if session != self._session:
            page = page_bytes()
            with _sent_by_value():
                client.register_plugin(CampaignPage(page, digest_of_bytes(page)[:12], self._stale_after_s))
            self._session = session
        scheduler: Any = client.scheduler
        told: Sequence[str] = client.sync(
            scheduler.alflow_post,
            campaign=campaign,
            name=name,
            snapshot=snapshot,
            ended=ended,
            stale_since_s=stale_since_s,
            answers=dict(answers or {}),
            callback_timeout=ANSWER_WITHIN_S,
        )
        return told


@contextmanager
def _sent_by_value() -> Iterator[None]:
    """Within this, objects of two modules are pickled with their code."""
    modules = (import_module(THIS), board)
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def _link_in_navigation(scheduler: Any) -> list[str]:
    """Add the page to the list that all of Dask's pages show; returns that list, empty where Bokeh is missing."""
    try:
        shared = import_module("distributed.dashboard.scheduler").template_variables(scheduler)
        pages: list[str] = shared["pages"]
    except Exception as error:
        logging.getLogger("distributed.scheduler").info("alflow's page has no link in Dask's dashboard: %s", error)
        return []
    if "alflow" not in pages:
        pages.insert(1, "alflow")
    return pages
