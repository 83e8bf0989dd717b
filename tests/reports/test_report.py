"""``alflow report`` on a toy campaign: what it says, that it works offline, what it does when something is missing."""

from __future__ import annotations

import csv
import re
import shutil
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import escape, unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from alflow.campaign.export import export_labels
from alflow.campaign.launch import run_campaign
from alflow.campaign.machine import this_machine
from alflow.campaign.report_console import report
from alflow.domain import Structure
from alflow.domain.ase import read_structures
from alflow.errors import ConfigError, FormatError, StoreError
from alflow.formats import open_source
from alflow.potentials import load_committee
from alflow.reports import campaign_figures, sections
from alflow.reports.atlas import chosen, describe
from alflow.reports.canvas import as_svg
from alflow.reports.constant_energy import ConstantEnergy
from alflow.reports.document import compose
from alflow.reports.explorer import packed
from alflow.reports.findings import Asked, Findings, find_out
from alflow.reports.provenance import Walks, trained_on
from alflow.reports.rows import read_rows
from alflow.reports.timeline import draw_up
from alflow.reports.verdict import judge
from alflow.selection import ErrorEstimate, estimate_error
from alflow.store import ExecutionRecord, Store
from tests.browser import browsing, colors_of, fits, needs_browser, opened
from tests.campaign.toys import toy

VOID = {"meta", "br", "hr", "img", "input", "link"}
QUIET = Console(quiet=True)


class Reader(HTMLParser):
    """Every tag is closed in order, no id is there twice, whatever is to be seen is told to those who cannot see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: Counter[str] = Counter()
        self.tables = self.captions = 0
        self.links: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if told.get("id"):
            self.ids[str(told["id"])] += 1
        self.tables += tag == "table"
        self.captions += tag == "caption"
        if told.get("role") == "img" and told.get("aria-hidden") != "true":
            assert told.get("aria-label"), f"{tag} has no words"
        self.links += [str(told[name]) for name in ("src", "href", "xlink:href", "data", "action") if told.get(name)]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished toy campaign; tests that damage something take a copy."""
    folder = tmp_path_factory.mktemp("report")
    run_campaign(toy(folder, target_force_error_ev_ang=0.05, audit_fraction=0.4), None, [])
    return folder


@pytest.fixture(scope="module")
def found(home: Path) -> Findings:
    with Store.open(home / "toy.db", read_only=True) as store:
        rows = read_rows(store)
    return find_out(rows, "toy.db", Asked(home / "toy.alflow" / "weights", most_dynamics_s=1.0))


@pytest.fixture(scope="module")
def text(found: Findings) -> str:
    """The page."""
    return compose(found)


def test_the_page_is_whole_offline_and_can_be_read_aloud(text: str) -> None:
    page = Reader(text)
    assert [name for name, count in page.ids.items() if count > 1] == []
    assert page.tables == page.captions > 8
    assert [link for link in page.links if not link.startswith("#")] == []
    assert {link[1:] for link in page.links} <= set(page.ids), "every link leads somewhere in the page"
    assert re.findall(r"@import|url\((?!#)|fetch\(|XMLHttpRequest|import\(", text) == []
    assert "default-src 'none'" in text
    assert len(text) < 1_000_000


@needs_browser
def test_a_browser_draws_the_map_and_the_structure_from_the_file_alone(text: str, tmp_path: Path) -> None:
    file = tmp_path / "toy.html"
    file.write_text(text, encoding="utf-8")
    with browsing() as browser:
        page, complaints = opened(browser, file.as_uri())
        assert page.locator("#viewer").get_attribute("data-atoms") == "3"
        assert colors_of(page, "viewer") > 50, "balls that are shaded"
        facts, drawn = page.locator("#map-facts"), "document.getElementById('viewer').toDataURL()"
        first, seen = facts.inner_text(), page.evaluate(drawn)
        page.locator("#map").press("n")
        assert facts.inner_text() != first
        page.locator("#map").press("p")
        assert facts.inner_text() == first
        assert page.evaluate(drawn) == seen, "from the same side"
        for press in ("ArrowLeft", "+"):
            page.locator("#viewer").press(press)
            assert page.evaluate(drawn) != seen, press
        page.locator("#viewer").dblclick()
        assert page.evaluate(drawn) == seen, "as it was"
        choices = page.locator("#map-color option").evaluate_all("all => all.map(one => one.value)")
        assert choices == ["part", "generation", "error", "energy", "disagreement"]
        legends = set()
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            for choice in choices:
                page.locator("#map-color").select_option(choice)
                legends.add(page.locator("#map-legend").inner_text())
                assert colors_of(page, "map") > 20, f"{choice}, {scheme}"
            assert colors_of(page, "viewer") > 50
            assert fits(page)
        assert len(legends) == len(choices)
        assert complaints == []


def test_the_numbers_agree_with_the_database_and_with_each_other(found: Findings) -> None:
    assert found.parity is not None
    assert found.omitted == {}
    labels = found.rows.labels
    assert found.parity.structure_ids == tuple(label.structure.id for label in labels)
    forces = np.concatenate([label.evaluation.forces.reshape(-1) for label in labels])
    assert found.parity.forces == pytest.approx(forces)
    active = found.rows.active
    assert active is not None
    n_audit = sum(job.purpose == "audit" for job in found.rows.done)
    assert Counter(found.parts)["audit"] == n_audit > 1
    estimate = found.parity.force_error("audit")
    assert estimate is not None
    assert estimate.n == n_audit
    judged = found.parity.mean_error[[found.rows.members.get(label.key) == "audit" for label in labels]]
    assert len(judged) == active.metrics["n_audit"] > 0
    assert judged.mean() == pytest.approx(active.metrics["audit_force_mae_ev_ang"], rel=1e-6)
    told = found.parity.summary("train")
    assert told["force_mae_ev_ang"] == pytest.approx(active.metrics["train_force_mae_ev_ang"], rel=1e-6)
    events = [event.payload for event in found.rows.events if event.kind == "label_done"]
    mean_errors = [payload["mean_error"] for payload in events if payload["mean_error"] is not None]
    assert sorted(found.calibration.mean_error) == pytest.approx(sorted(mean_errors)), "what the journal says, too"


def test_the_map_holds_every_structure_with_its_place_and_its_numbers(found: Findings) -> None:
    assert found.atlas is not None
    assert len(found.atlas.structures) == found.atlas.n_all == len(found.rows.labels)
    assert 0.0 < sum(found.atlas.explained) <= 1.0 + 1e-9
    data = packed(found.atlas)
    assert sum(data["sizes"]) == sum(len(structure) for structure in found.atlas.structures)
    assert set(data["elements"]) == {1, 8}
    assert data["parts"].count("audit") == found.parts.count("audit")
    assert chosen(10, 4) == sorted(set(chosen(10, 4)))
    assert len(chosen(10, 4)) == 4


def test_the_map_is_made_of_the_mean_of_what_the_committee_sees(found: Findings, home: Path) -> None:
    active = found.rows.active
    assert active is not None
    committee = load_committee(home / "toy.alflow" / "weights" / f"{active.sha256}.safetensors")
    structures = [label.structure for label in found.rows.labels]
    alone = np.stack([committee.descriptors(structure).mean(axis=0) for structure in structures])
    assert describe(structures, committee) == pytest.approx(alone, abs=1e-10)


def test_without_a_committee_structures_are_told_apart_all_the_same() -> None:
    water = Structure.of("OHH", [[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
    turned = water.with_positions(water.positions[:, [1, 2, 0]])
    stretched = water.with_positions(1.1 * water.positions)
    features = describe([water, turned, stretched], None)
    assert features[0] == pytest.approx(features[1])
    assert np.abs(features[2] - features[0]).max() > 1e-2


def test_the_verdict_follows_its_rules(found: Findings) -> None:
    """The same campaign with audit errors set by hand; the rest stays as it was."""
    assert found.parity is not None
    n = len(found.parity.mean_error)
    all_audit = ("audit",) * n

    def with_errors(errors: np.ndarray[tuple[int, ...], np.dtype[np.float64]], minimum: int = 3) -> str:
        assert found.parity is not None
        parity = replace(found.parity, parts=all_audit, mean_error=errors)
        verdict = judge(replace(found, parity=parity, target=0.05, audit_minimum=minimum))
        return f"{verdict.statements[0].tone} {verdict.headline}"

    small = np.linspace(0.01, 0.02, n)
    assert with_errors(small).startswith("good Dry run on an analytic model (morse-molecule). This potential ")
    assert with_errors(10 * small).startswith("bad")
    assert "not as accurate as was asked for" in with_errors(10 * small)
    assert "cannot be judged yet" in with_errors(small, minimum=1000)
    assert with_errors(np.where(np.arange(n) % 2, 0.001, 0.1)).startswith("open")


@pytest.mark.parametrize(
    ("slopes", "tone"),
    [((-1e-5, 1e-5, 0.0), "good"), ((2e-3, 3e-3, 2e-3), "bad"), ((-1e-3, 1e-3, 0.0), "open"), ((1e-3,), "open")],
)
def test_energy_is_judged_by_the_interval_of_its_drift(found: Findings, slopes: tuple[float, ...], tone: str) -> None:
    time = np.linspace(0.0, 5.0, 11)
    curves = np.array(slopes) * time[:, None]
    run = ConstantEnergy("H2O", 3, time, curves, curves, np.full(curves.shape, 0.3), 5.0, 0.5, 0.2)
    statements = judge(replace(found, constant_energy=run)).statements
    energy = next(statement for statement in statements if statement.topic == "Energy")
    assert energy.tone == tone
    assert energy.text.endswith("100 % of its frames were above the threshold.")


@pytest.mark.parametrize(
    ("records", "failed", "tone", "said"),
    [
        (0, False, "open", "not enough time: 60 s were over"),
        (11, False, "open", "not enough time, less than 1 ps are not judged"),
        (0, True, "bad", "The run at constant energy failed"),
        (11, True, "bad", "ended early"),
    ],
)
def test_a_run_that_had_no_time_says_nothing_and_one_that_broke_does(
    found: Findings, records: int, failed: bool, tone: str, said: str
) -> None:
    """Half a picosecond, in which the energy rises steeply, as it does in part of a vibration."""
    time = np.linspace(0.0, 0.5, records)
    curves = np.array([2e-2, 3e-2, 2e-2]) * time[:, None]
    problem = "the energy was no finite number any more" if failed else "60 s were over"
    run = ConstantEnergy("H2O", 3, time, curves, curves, curves, 5.0, 0.5, 0.2, problem, failed)
    statements = judge(replace(found, constant_energy=run)).statements
    energy = next(statement for statement in statements if statement.topic == "Energy")
    assert energy.tone == tone
    assert said in energy.text


def test_few_audit_frames_are_not_judged(found: Findings) -> None:
    assert found.parity is not None
    keep = [place for place, part in enumerate(found.parity.parts) if part == "audit"][2:]
    parts = tuple("train" if place in keep else part for place, part in enumerate(found.parity.parts))
    verdict = judge(replace(found, parity=replace(found.parity, parts=parts)))
    assert verdict.statements[0].text == "The error cannot be judged: 2 audit frames, at least 4 are needed."
    assert verdict.headline.endswith("Whether this potential can be trusted cannot be judged yet.")


@pytest.fixture(scope="module")
def figures(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command writes."""
    folder = tmp_path_factory.mktemp("written")
    report(QUIET, str(home / "toy.db"), output=folder / "toy.html", figures=folder / "figures", dynamics=False)
    return folder / "figures"


def test_the_command_writes_the_page_figures_and_numbers(home: Path, figures: Path) -> None:
    Reader((figures.parent / "toy.html").read_text())
    for name in ("learning_curve", "parity", "calibration", "atlas", "walkers", "label_cost", "timeline"):
        assert (figures / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (figures / f"{name}.svg").read_text()
    with (figures / "label_cost.csv").open() as file:
        rows = list(csv.DictReader(file))
    with Store.open(home / "toy.db", read_only=True) as store:
        paid = [row for row in store.executions(1, "label") if row.status == "done"]
    assert [float(row["wall_s"]) for row in rows] == pytest.approx([row.wall_s for row in paid])
    assert not list(figures.parent.glob(".*")), "no draft is left behind"


def test_numbers_beside_the_figures_are_those_that_are_drawn(found: Findings, figures: Path) -> None:
    assert found.parity is not None
    table = columns_of(figures / "parity_forces.csv")
    axes = [f"{axis}_ev_ang" for axis in "xyz"]
    for name, drawn in (("force", found.parity.forces), ("predicted_force", found.parity.predicted_forces)):
        written = np.array([table[f"{name}_{axis}"] for axis in axes], dtype=float)
        assert written.T.ravel() == pytest.approx(drawn, rel=1e-8, abs=1e-12)
    assert Counter(table["structure_id"]) == dict.fromkeys(found.parity.structure_ids, 3)
    labels = columns_of(figures / "parity.csv")
    assert np.array(labels["energy_ev_atom"], dtype=float) == pytest.approx(found.parity.energy, rel=1e-8)
    assert dict(zip(table["structure_id"], table["part"], strict=True)) == dict(
        zip(labels["structure_id"], labels["part"], strict=True)
    )
    pictures = {path.stem for path in figures.glob("*.svg")}
    assert {path.stem for path in figures.glob("*.csv")} == pictures | {"parity_forces"}


def columns_of(file: Path) -> dict[str, list[str]]:
    with file.open() as opened_file:
        rows = list(csv.DictReader(opened_file))
    return {name: [row[name] for row in rows] for name in rows[0]}


def test_what_was_done_can_be_copied_from_the_page_and_says_what_trained(
    found: Findings, text: str, tmp_path: Path
) -> None:
    (copied,) = re.findall(r"<pre>(.*?)</pre>", text, re.DOTALL)
    (tmp_path / "starts.xyz").write_text(unescape(copied))
    starts = read_structures(tmp_path / "starts.xyz")
    assert [start.id for start in starts] == found.rows.events[0].payload["structure_ids"]
    ((machine, trainings),) = trained_on(found.rows.events)
    assert machine == this_machine()
    assert trainings == len(found.generations)
    assert escape(machine["processor"]) in text
    assert trained_on([event for event in found.rows.events if event.kind != "training_done"]) == []


def test_a_file_that_is_no_report_is_not_replaced(home: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.html"
    mine.write_text("<h1>my page</h1>")
    with pytest.raises(ConfigError, match="is no report of alflow"):
        report(QUIET, str(home / "toy.db"), output=mine, dynamics=False)
    assert mine.read_text() == "<h1>my page</h1>"
    report(QUIET, str(home / "toy.db"), output=mine, dynamics=False, force=True)
    first = mine.stat().st_mtime_ns
    report(QUIET, str(home / "toy.db"), output=mine, dynamics=False)
    assert mine.stat().st_mtime_ns > first, "a report of ours is brought up to date"
    with pytest.raises(ConfigError, match="database itself"):
        report(QUIET, str(home / "toy.db"), output=home / "toy.db", force=True)
    with pytest.raises(ConfigError, match="no folder"):
        report(QUIET, str(home / "toy.db"), output=tmp_path / "nowhere" / "toy.html")
    with pytest.raises(StoreError, match="no campaign 'tea'"):
        report(QUIET, str(home / "toy.db"), "tea", output=tmp_path / "tea.html")


def test_weights_that_are_gone_or_altered_are_told_and_the_rest_is_there(home: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(home, copy)
    with Store.open(copy / "toy.db", read_only=True) as store:
        active = store.active_committee(1)
    assert active is not None
    weights = copy / "toy.alflow" / "weights" / f"{active.sha256}.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    verdict = report(QUIET, str(copy / "toy.db"), output=copy / "toy.html", test=_exported(copy))
    text = (copy / "toy.html").read_text()
    Reader(text)
    assert weights.name in text
    assert 'id="figure-learning_curve"' in text
    assert 'id="figure-calibration"' in text, "what was predicted is in the database"
    assert 'id="figure-parity"' not in text
    assert "default symmetry functions" in text
    assert "1 committee(s) are missing or altered" in text
    assert [statement.topic for statement in verdict.statements[:2]] == ["Error", "Weights"], "as when it was trained"
    assert verdict.tone == "bad", "nobody can use a potential whose file is gone"


def _exported(folder: Path) -> Path:
    export_labels(str(folder / "toy.db"), None, folder / "test.xyz")
    return folder / "test.xyz"


def test_a_test_file_is_measured_with_every_committee(home: Path, found: Findings, tmp_path: Path) -> None:
    """The campaign's own labels, exported: the test error is that of the labels."""
    shutil.copytree(home, tmp_path / "copy")
    test = _exported(tmp_path / "copy")
    figures = tmp_path / "figures"
    report(QUIET, str(home / "toy.db"), output=tmp_path / "a.html", figures=figures, test=test, dynamics=False)
    with (figures / "learning_curve.csv").open() as file:
        curve = list(csv.DictReader(file))
    assert all(float(row["test_force_mae_ev_ang"]) > 0 for row in curve)
    assert found.parity is not None
    last = [float(curve[-1][f"test_{name}_ev_ang"]) for name in ("force_mae", "lower", "upper")]
    expected = estimate_error(found.parity.mean_error)
    assert last == pytest.approx([expected.mean, expected.lower, expected.upper], rel=1e-4)
    bare = tmp_path / "bare.xyz"
    bare.write_text("3\nwater\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n")
    with pytest.raises(FormatError, match=r"frame 0: there is no energy"):
        report(QUIET, str(home / "toy.db"), output=tmp_path / "b.html", test=bare)
    strange = tmp_path / "strange.xyz"
    strange.write_text("2\nProperties=species:S:1:pos:R:3:forces:R:3 energy=-1.0\nN 0 0 0 0 0 0\nN 0 0 1.1 0 0 0\n")
    nitrogen = tuple((entry.structure, entry.evaluation) for entry in open_source(strange))
    asked = Asked(home / "toy.alflow" / "weights", dynamics=False, test_file=strange.name, test=nitrogen)
    assert "The test file could not be used: " in sections.error(find_out(found.rows, "toy.db", asked))


def test_many_tasks_and_many_points_are_drawn_together(found: Findings) -> None:
    """Beyond 2,000 tasks none is drawn alone, beyond 3,000 points they are an image: the page stays small."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    rows = [
        ExecutionRecord(1, f"{k}", "label", f"{k}", host=f"n{k % 3}", started_at=start + timedelta(minutes=k),
                        ended_at=start + timedelta(minutes=k + 5), status="done")
        for k in range(2500)
    ]  # fmt: skip
    shown = campaign_figures.timeline(replace(found, timeline=draw_up(rows)))
    assert shown is not None
    assert "added up" in shown.alt
    assert len(shown.columns["host"]) == 2500
    assert len(as_svg(shown)) < 100_000
    dice = np.random.default_rng(0)
    many = Walks(*dice.random((5, 4000)), ("running",) * 4000, {})
    drawn = campaign_figures.walkers(replace(found, walks=many))
    assert drawn is not None
    assert "data:image/png" in as_svg(drawn)


def test_names_and_messages_cannot_become_code(found: Findings) -> None:
    wicked = "<script>alert(1)</script>"
    rows = replace(found.rows, campaign=replace(found.rows.campaign, name=wicked, reason=wicked))
    assert found.atlas is not None
    atlas = replace(found.atlas, frame_ids=tuple("</script><b>" for _ in found.atlas.frame_ids))
    text = compose(replace(found, rows=rows, database=wicked, atlas=atlas))
    Reader(text)
    assert "<script>alert" not in text
    assert "</script><b>" not in text


def test_an_interval_of_one_value_is_not_invented(found: Findings) -> None:
    assert found.parity is not None
    one = next(place for place, part in enumerate(found.parity.parts) if part == "audit")
    parts = tuple("audit" if place == one else "train" for place in range(len(found.parity.parts)))
    lonely = replace(found, parity=replace(found.parity, parts=parts))
    estimate = lonely.parity.force_error("audit") if lonely.parity is not None else None
    assert isinstance(estimate, ErrorEstimate)
    assert not np.isfinite(estimate.upper)
    assert "no interval" in compose(lonely)
