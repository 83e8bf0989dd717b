"""The documents: their links, the names they use and the numbers they state are those of the code."""

from __future__ import annotations

import ast
import doctest
import re
import runpy
from pathlib import Path
from typing import Any, Final

import pytest
import typer
import yaml

from alflow.campaign import decide, learning
from alflow.campaign.config import CampaignConfig
from alflow.campaign.site import VALIDATION_SHARE
from alflow.cli import app, databases
from alflow.domain import FailureKind
from alflow.exploration import SegmentSettings
from alflow.reference import PyscfReference, XtbConfig
from alflow.reference.quality import FORCE_PER_GRADIENT
from alflow.selection.threshold import DISAGREEMENT_PER_ERROR
from alflow.store import column
from alflow.store.asking.parsing import parse_question

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = sorted(
    [
        *(ROOT / name for name in ("README.md", "CHANGELOG.md", "db/README.md", "docker/README.md")),
        *(ROOT / "docs").rglob("*.md"),
    ]
)


def names_of(commands: typer.Typer) -> set[str]:
    return {
        command.name or str(command.callback.__name__) for command in commands.registered_commands if command.callback
    }


COMMANDS: Final = names_of(app) | {"db"}


def flat(name: str) -> str:
    return " ".join((ROOT / name).read_text(encoding="utf-8").split())


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    dead = [link for link in links if link and "://" not in link and not (page.parent / link).exists()]
    assert dead == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_file_and_test_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    names = re.findall(r"`((?:alflow|tests|docs|db|workflows|docker|benchmarks)/[\w./-]+)(?:::(\w+))?`", text)
    missing = []
    for file, test in names:
        if not (ROOT / file).exists():
            missing.append(file)
        elif test and test not in _functions(ROOT / file):
            missing.append(f"{file}::{test}")
    assert missing == []


def _functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_the_readme_links_every_decision_and_the_map_shows_every_room() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    decisions = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs/decisions").glob("*.md")}
    assert decisions == set(re.findall(r"docs/decisions/[\w-]+\.md", text))
    rooms = {f"alflow/{path.parent.name}" for path in (ROOT / "alflow").glob("*/__init__.py")}
    assert rooms == set(re.findall(r"^\| `(alflow/[a-z]+)` ", text, re.MULTILINE))


def test_the_readme_lists_every_command() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `alflow (\w+)", text, re.MULTILINE)) == COMMANDS
    assert set(re.findall(r"^\| `alflow db (\w+)", text, re.MULTILINE)) == names_of(databases)


def test_every_command_line_in_the_documents_names_a_command() -> None:
    used = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"^```([^\n]*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        code = [block for language, block in blocks if not language] + re.findall(r"`([^`\n]+)`", text)
        used |= {word for line in code for word in re.findall(r"(?:^| )alflow ([a-z]+)\b", line, re.MULTILINE)}
    assert used == COMMANDS


def options_of(group: Any, prefix: str = "") -> dict[str, set[str]]:
    """Options of each command, by the words that call it."""
    found: dict[str, set[str]] = {}
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            found |= options_of(command, f"{prefix}{name} ")
        else:
            given = [option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)]
            found[prefix + name] = {option for option in given if option.startswith("-")} | {"--help"}
    return found


OPTIONS: Final = options_of(typer.main.get_command(app))
OF_OTHERS: Final = {"--lifetime", "--dashboard-address", "--qos", "--gres", "--quick", "--functionals", "--sql"}
"""Options of Dask, of sbatch, of the benchmarks, and one that decision 0022 says there shall not be."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_option_a_page_names_is_one_of_its_command(page: Path) -> None:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    calls = re.findall(r"(?:^|[ `(])alflow ((?:db )?[a-z]+)\b([^`\n]*)", text, re.MULTILINE)
    wrong = [
        f"alflow {command} {option}"
        for command, rest in calls
        if command in OPTIONS
        for option in re.findall(r"(?<!\S)--?[a-z][a-z-]*", rest)
        if option not in OPTIONS[command]
    ]
    known = set.union(*OPTIONS.values()) | OF_OTHERS
    wrong += [option for option in re.findall(r"`(--[a-z-]+)", text) if option not in known]
    assert wrong == []


def test_conditions_in_text_and_in_python_are_the_same() -> None:
    table = re.findall(r"^\| (?:compare|one of|from|patterns|missing)[^|]*\|([^|]*)\|([^|]*)\|$",
                       (ROOT / "docs/query.md").read_text(encoding="utf-8"), re.MULTILINE)  # fmt: skip
    assert len(table) == 5
    for texts, expressions in table:
        asked = [parse_question(text) for text in re.findall(r"`(\w+ [^`]+)`", texts)]
        assert asked
        assert asked == [eval(code, {"column": column}) for code in re.findall(r"`([^`]+)`", expressions)]


@pytest.mark.parametrize("name", ["configuration", "commands", "tables"])
def test_a_generated_page_is_up_to_date(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    made = runpy.run_path(str(ROOT / f"docs/make_{name}.py"))["page"]()
    written = (ROOT / f"docs/{name}.md").read_text(encoding="utf-8")
    assert written == made, f"run: python docs/make_{name}.py"


@pytest.mark.parametrize(
    "page", [page for page in PAGES if ">>> " in page.read_text(encoding="utf-8")], ids=lambda page: page.stem
)
def test_examples_with_prompts_answer_as_shown(page: Path) -> None:
    failed, tried = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert tried
    assert not failed


def test_make_check_builds_the_documents_with_warnings_as_errors() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^check: docs types lint$", text, re.MULTILINE)
    assert re.search(r"-m sphinx -W .*-c docs \. build/docs$", text, re.MULTILINE)


def test_the_page_about_queries_lists_every_column() -> None:
    made = runpy.run_path(str(ROOT / "docs/make_query.py"))["page"]()
    assert (ROOT / "docs/query.md").read_text(encoding="utf-8") == made, "run: python docs/make_query.py"


def test_the_tutorial_shows_the_workflow_as_it_is() -> None:
    shown = blocks(ROOT / "docs/tutorial.md", "yaml")[0]
    comment, _, rest = (ROOT / "workflows/ethanol.yaml").read_text(encoding="utf-8").partition("\n")
    assert comment.startswith("#")
    assert shown == rest, "copy workflows/ethanol.yaml without its first line into docs/tutorial.md"


def test_every_reference_the_page_shows_is_a_valid_configuration() -> None:
    shown = [yaml.safe_load(block)["reference"] for block in blocks(ROOT / "docs/references.md", "yaml")]
    read = [CampaignConfig.model_validate({"structures": "x.xyz", "reference": keys}).reference for keys in shown]
    assert [config.engine for config in read] == [
        "pyscf-periodic",
        "xtb",
        "pyscf-tda",
        "pyscf-casscf",
        "ase",
        "committee",
    ]
    assert "`accuracy: 0.1` (alflow's)" in flat("docs/references.md")
    assert XtbConfig().accuracy == 0.1


def test_numbers_in_the_documents_are_those_of_the_code() -> None:
    settings = SegmentSettings(1, 1.0, 300.0, 0)
    campaign = CampaignConfig(structures="x.xyz")
    acceptance = 3 * FORCE_PER_GRADIENT * PyscfReference().gradient_tolerance_ha
    science, architecture = flat("docs/science.md"), flat("docs/architecture.md")
    expected = {
        science: [
            f"The threshold is one simple rule: {DISAGREEMENT_PER_ERROR:g} × `target_force_error_ev_ang`",
            f"{FORCE_PER_GRADIENT:g} eV/Å per Ha",
            f"a noise of up to {1000 * acceptance:.1f} meV/Å",
            f"more than {learning.WORSE} times the old one's",
            f"closer than {settings.contact_factor} of the sum",
            f"more than {settings.detachment:g} Å from every other",
            f"above {settings.temperature_factor} times what a thermal system",
            f"more than {settings.energy_rise_per_atom} eV per atom",
            f"at least {settings.trust_lag_steps} steps earlier",
        ],
        architecture: [
            f"The first segment under a new committee has {decide.FIRST_HORIZON} steps",
            f"down to {decide.SHORTEST_HORIZON}.",
        ],
        flat("docs/conventions.md"): [f"threshold is {DISAGREEMENT_PER_ERROR:g} × `target_force_error_ev_ang`"],
    }
    wrong = [sentence for text, sentences in expected.items() for sentence in sentences if sentence not in text]
    assert wrong == []
    assert settings.ceiling == 5, "docs/science.md says the ceiling is five times the threshold"
    assert VALIDATION_SHARE == 10, "docs/science.md says one label in ten is for validation"
    assert campaign.initial_labels == 8, "docs/tutorial.md says eight starting frames"
    assert len(FailureKind) == 10, "docs/glossary.md says ten classes of failure"


def test_the_image_copies_files_that_exist_and_enters_at_the_command_line() -> None:
    text = (ROOT / "docker/Dockerfile").read_text(encoding="utf-8")
    copied = [name for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE) for name in line.split()[:-1]]
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert 'ENTRYPOINT ["alflow"]' in text
    assert re.search(r"^USER (?!root)", text, re.MULTILINE)


def test_the_campaign_of_the_image_is_a_valid_configuration() -> None:
    (example,) = blocks(ROOT / "docker/README.md", "yaml")
    config = CampaignConfig.model_validate(yaml.safe_load(example))
    assert config.database.startswith("postgresql://")
    assert config.cluster.address == "tls://scheduler:8786"
