"""``alflow dashboard DB``: the page from the database alone, beside a run or after it."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket
import threading
from importlib.resources import files
from typing import Final

from rich.console import Console
from rich.logging import RichHandler
from tornado import web
from tornado.httpserver import HTTPServer

from alflow.errors import ConfigError
from alflow.reports.board import Board, routes
from alflow.reports.feed import Feed
from alflow.store import Store

__all__ = ["page_bytes", "serve"]

HOST: Final = "127.0.0.1"
PARTS: Final = {
    "/*STYLE*/": "page/page.css",
    "/*CHARTS*/": "page/charts.js",
    "/*STRUCTURE*/": "structure.js",
    "/*PAGE*/": "page/page.js",
}


def page_bytes() -> bytes:
    """The page in one piece: it loads nothing from anywhere."""
    folder = files("alflow.reports")
    page = (folder / "page/page.html").read_text(encoding="utf-8")
    for place, name in PARTS.items():
        page = page.replace(place, (folder / name).read_text(encoding="utf-8"))
    return page.encode()


def serve(console: Console, database: str, name: str | None, port: int) -> None:
    """Show a campaign in the browser until somebody presses Ctrl-C.

    Args:
        console: Where to say at which address.
        database: File or URL; only read.
        name: Name of the campaign; None for the only one.
        port: Where to listen, on loopback; 0 for any free port.

    Raises:
        StoreError: No such database or campaign.
        ConfigError: The port cannot be used.
    """
    with Store.open(database, read_only=True) as store:
        campaign = store.campaign(name)
    listener = _listener(port)
    logging.getLogger("tornado.access").setLevel(logging.ERROR)
    logging.getLogger("alflow").addHandler(RichHandler(console=console, show_path=False, show_level=False))
    logging.getLogger("alflow").setLevel(logging.INFO)
    wake = threading.Event()
    board = Board(page_bytes(), wake.set)
    feed = Feed(database, campaign.name, board, wake=wake)
    asyncio.run(_listen(console, board, feed, campaign.name, listener))


async def _listen(console: Console, board: Board, feed: Feed, name: str, listener: socket.socket) -> None:
    application = web.Application([(r"/", web.RedirectHandler, {"url": "alflow"}), *routes(board)])
    server = HTTPServer(application)
    server.add_socket(listener)
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    feed.start()
    address = f"http://{HOST}:{listener.getsockname()[1]}/alflow"
    console.print(f"'{name}' is shown at {address}; Ctrl-C ends it.", highlight=False, markup=False, soft_wrap=True)
    await ended.wait()
    feed.close()
    server.stop()


def _listener(port: int) -> socket.socket:
    """A socket that listens on loopback.

    Raises:
        ConfigError: The port cannot be used.
    """
    made = socket.socket()
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setblocking(False)
        made.bind((HOST, port))
        made.listen()
    except OSError as error:
        made.close()
        why = "another program listens there" if error.errno == errno.EADDRINUSE else error.strerror
        raise ConfigError(
            f"--port {port}: {HOST}:{port} cannot be used ({why}); choose another with --port, or 0 for any free one."
        ) from None
    return made
