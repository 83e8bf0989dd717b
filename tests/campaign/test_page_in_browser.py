"""The page as a person sees it: a real browser looks at a running campaign, and at what is left when it was killed."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import WITHIN_S, becomes, browsing, colors_of, fits, needs_browser, opened
from tests.faults.processes import kill_tree, start, wait_until_nothing_is_left
from tests.postgresql import address

from .toys import toy_file

pytestmark = needs_browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with browsing() as running:
        yield running


def address_in(output: Path) -> str:
    """Where a command says that its page is."""
    deadline = time.monotonic() + WITHIN_S
    while not (found := re.search(r"http://127\.0\.0\.1:\d+/alflow", output.read_text())):
        assert time.monotonic() < deadline, output.read_text()
        time.sleep(0.1)
    return found.group()


def number(page: Any, place: str) -> int:
    digits = re.sub(r"\D", "", page.locator(place).inner_text().partition(" of")[0])
    return int(digits or 0)


def test_a_running_campaign_changes_before_ones_eyes_and_its_walkers_can_be_clicked(
    browser: Any, tmp_path: Path
) -> None:
    file = toy_file(
        tmp_path, executor="dask", delay_s=0.15, walkers=6, label_budget=2000, quiet_ps=1e6, threshold_ev_ang=0.1
    )
    run = start(tmp_path, "run", str(file))
    try:
        page, complaints = opened(browser, address_in(tmp_path / "output.txt"))
        becomes(page, "document.getElementById('k-time').textContent.match(/[1-9]/)")
        before = number(page, "#k-labels")
        assert before >= 5
        becomes(page, f"parseInt(document.getElementById('k-labels').textContent.replace(/\\D*of.*/, '')) > {before}")
        assert page.locator("#walkers tbody tr").count() == 6
        assert page.locator("#c-disagreement path").count() >= 2
        assert page.locator("nav a", has_text="workers").get_attribute("href") == "workers"
        assert fits(page)
        page.locator("#walkers tbody tr").nth(2).click()
        becomes(page, "document.getElementById('d-canvas').dataset.atoms === '3'")
        assert page.locator("#d-title").inner_text() == "Walker 2"
        assert colors_of(page, "d-canvas") > 20, "balls that are shaded"
        assert complaints == []
        beside(browser, tmp_path, run)
        becomes(page, "document.getElementById('fresh').textContent.startsWith('no answer')")
        page.close()
    finally:
        run.kill()
        run.wait(timeout=20)
        wait_until_nothing_is_left(tmp_path)


def beside(browser: Any, folder: Path, run: Any) -> None:
    """The database shows the campaign too, and, when it was killed, that nobody drives it, and still every story."""
    (folder / "output.txt").write_text("")
    served = start(folder, "dashboard", address(folder / "toy.db"), "--port", "0")
    try:
        page, complaints = opened(browser, address_in(folder / "output.txt"), "dark")
        becomes(page, "document.getElementById('fresh').textContent.startsWith('as of')")
        assert page.locator("#state").inner_text() == "● running"
        before = number(page, "#k-labels")
        becomes(page, f"parseInt(document.getElementById('k-labels').textContent.replace(/\\D*of.*/, '')) > {before}")
        kill_tree(run)
        becomes(page, "document.getElementById('fresh').textContent.startsWith('stale since')")
        assert "alflow resume" in page.locator("#notice").inner_text()
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        page.locator("#frames tbody tr").first.click()
        becomes(page, "document.getElementById('d-canvas').dataset.atoms === '3'")
        assert "decision" in page.locator("#d-rows").inner_text()
        assert fits(page)
        assert complaints == []
        page.close()
    finally:
        served.send_signal(signal.SIGINT)
    assert served.wait(timeout=20) == 0
    assert "Traceback" not in (folder / "output.txt").read_text()
