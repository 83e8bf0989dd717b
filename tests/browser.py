"""A real browser that looks at pages: what it shows, and what it complains of."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
LAPTOP = {"width": 1366, "height": 768}
WITHIN_S = 100

needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine: apt-get install chromium")


@contextmanager
def browsing() -> Iterator[Any]:
    """A browser without a window. It holds an event loop, so nothing else that needs one runs meanwhile."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install '.[dev]'")
    with playwright.sync_playwright() as running:
        found = running.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        yield found
        found.close()


def opened(browser: Any, address: str, scheme: str = "light") -> tuple[Any, list[str]]:
    """A page in a window of a laptop's size, and what it complains of; waits for a page that is still to be put up."""
    page = browser.new_page(viewport=LAPTOP, color_scheme=scheme)
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.set_default_timeout(1000 * WITHIN_S)
    deadline = time.monotonic() + WITHIN_S
    while page.goto(address).status == 404 and time.monotonic() < deadline:
        page.wait_for_timeout(200)
        complaints.clear()
    return page, complaints


def becomes(page: Any, true: str) -> None:
    """Wait until an expression is true. Playwright's own way needs ``eval``, which a page's policy forbids."""
    deadline = time.monotonic() + WITHIN_S
    while not page.evaluate(true):
        assert time.monotonic() < deadline, f"{true}: {page.locator('body').inner_text()}"
        page.wait_for_timeout(100)


def fits(page: Any) -> bool:
    """Whether nothing sticks out to the side."""
    found: bool = page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    return found


def colors_of(page: Any, canvas: str) -> int:
    """How many colors are on a canvas."""
    count: int = page.evaluate(
        """(name) => {
          const canvas = document.getElementById(name), copy = new OffscreenCanvas(canvas.width, canvas.height);
          const pixels = copy.getContext("2d", { willReadFrequently: true });
          pixels.drawImage(canvas, 0, 0);
          return new Set(new Uint32Array(pixels.getImageData(0, 0, copy.width, copy.height).data.buffer)).size;
        }""",
        canvas,
    )
    return count
