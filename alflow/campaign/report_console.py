"""``alflow report``: what is wanted, where it goes, and the verdict in the terminal."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from alflow.campaign.site import folder_of, structure_from_json
from alflow.domain import Evaluation, Structure
from alflow.errors import ConfigError
from alflow.formats import open_source
from alflow.reports.document import compose, is_report, write_document, write_figures
from alflow.reports.findings import Asked, find_out
from alflow.reports.rows import read_rows
from alflow.reports.verdict import Verdict, judge
from alflow.reports.words import size
from alflow.store import Store
from alflow.store.location import is_server, shown

__all__ = ["report"]


def report(
    console: Console,
    database: str,
    name: str | None = None,
    output: Path | None = None,
    figures: Path | None = None,
    test: Path | None = None,
    dynamics: bool = True,
    force: bool = False,
) -> Verdict:
    """Write the report of a campaign and print where it is, and the verdict.

    Args:
        console: Where to print.
        database: File or URL.
        name: Name of the campaign; may be left out when there is only one.
        output: The file; by default the campaign's name with ``.html``, in the folder one stands in.
        figures: Folder for the figures and their numbers; None for none.
        test: File of further labels at the same level of theory; None for none.
        dynamics: Whether to run dynamics at constant energy with the active committee.
        force: Whether to replace a file that is no report.

    Raises:
        StoreError: No such database or campaign.
        StructureError: The test file cannot be used.
        ConfigError: The file exists and is no report, or cannot be written.
    """
    labels = _test_labels(test)
    with Store.open(database, read_only=True) as store:
        if output is not None:
            _check(output, database, force)
        rows = read_rows(store, name)
    path = output or Path(f"{rows.campaign.name}.html")
    _check(path, database, force)
    if figures is not None and figures.exists() and not figures.is_dir():
        raise ConfigError(f"--figures {figures}: expected a folder; found a file.")
    with console.status("reading the database") as status:
        asked = Asked(
            weights=folder_of(rows.campaign, database) / "weights",
            starts=tuple(structure_from_json(data) for data in rows.campaign.config.get("structures", ())),
            dynamics=dynamics,
            test_file=test.name if test is not None else None,
            test=labels,
            tell=status.update,
        )
        found = find_out(rows, shown(database), asked)
        status.update("writing")
        n_bytes = write_document(compose(found), path)
        written = write_figures(found, figures) if figures is not None else []
    verdict = judge(found)
    lines = [verdict.headline, *(f"  {statement.topic}: {statement.text}" for statement in verdict.statements)]
    for line in [*lines, "", f"report   {path} ({size(n_bytes)})"]:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    if figures is not None:
        console.print(f"figures  {figures} ({len(written)} files)", soft_wrap=True, highlight=False, markup=False)
    return verdict


def _test_labels(test: Path | None) -> tuple[tuple[Structure, Evaluation], ...]:
    if test is None:
        return ()
    labels = tuple((entry.structure, entry.evaluation) for entry in open_source(test))
    if not labels:
        raise ConfigError(f"--test {test}: the file holds no frame; expected structures with energies and forces.")
    return labels


def _check(path: Path, database: str, force: bool) -> None:
    """Refuse to write where something else is."""
    if not path.parent.is_dir():
        raise ConfigError(f"--output {path}: there is no folder {path.parent}.")
    if path.is_dir():
        raise ConfigError(f"--output {path}: expected a file; found a folder.")
    if not path.exists():
        return
    if not path.is_file():
        raise ConfigError(f"--output {path}: expected a file; found a device or the like, which no file may replace.")
    if not is_server(database) and path.samefile(database.removeprefix("sqlite:///")):
        raise ConfigError(f"{path} is the database itself; choose another file for the report.")
    if not force and not is_report(path):
        raise ConfigError(f"{path} exists and is no report of alflow; choose another --output, or pass --force.")
