"""The command line: ``alflow run | validate | status | resume | stop | …``; each command is a function here.

Whatever is wrong with what the user gave ends in one sentence on standard error and exit code 2. Heavy modules are
imported by the command that needs them, so that ``alflow --help`` and ``alflow validate`` answer at once.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from alflow.errors import AlflowError, CampaignError, CampaignPaused, ConfigError

__all__ = ["app", "main"]

app = typer.Typer(
    name="alflow",
    help="Active learning of neural-network potentials: dynamics, PySCF, SQL and Dask in one loop.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

databases = typer.Typer(name="db", help="Look after a database: check, copy.", no_args_is_help=True)
app.add_typer(databases)

File = Annotated[Path, typer.Argument(help="The campaign, in YAML.")]
Database = Annotated[str, typer.Argument(help="SQLite file or PostgreSQL URL.", metavar="DB")]
Name = Annotated[str | None, typer.Argument(help="Name of the campaign; not needed if there is only one.")]
Toy = Annotated[bool, typer.Option("--toy", help="Dry run: a Morse model of the molecule instead of PySCF.")]


def main() -> None:
    """Run the command line; errors the user can act on become one sentence and exit code 2."""
    try:
        app()
    except AlflowError as error:
        print(f"alflow: {error}", file=sys.stderr)
        sys.exit(_exit_code(error))


def _exit_code(error: AlflowError) -> int:
    """1 for what happened on the way, 75 (try again later, as in sysexits.h) for a database that is away, else 2."""
    if isinstance(error, CampaignPaused):
        return 75
    return 1 if isinstance(error, CampaignError) else 2


def _room(name: str) -> Any:
    """Import one of alflow's rooms, only now: torch takes seconds, PySCF nearly one."""
    return import_module(f"alflow.{name}")


def _config(file: Path, toy: bool) -> Any:
    config = _room("campaign.config").load_config(file)
    return _room("campaign.toy").as_dry_run(config) if toy else config


@app.command()
def run(file: File, toy: Toy = False) -> None:
    """Run a campaign to its end, or continue it where it was left."""
    config = _config(file, toy)
    _room("campaign.console").run(config)


@app.command()
def validate(file: File, toy: Toy = False) -> None:
    """Check everything that can be known before an electron is computed."""
    config = _config(file, toy)
    preflight = _room("campaign.preflight")
    structures = preflight.read_starting_structures(config)
    preflight.check_campaign(config, structures)
    formulas = ", ".join(sorted({s.formula for s in structures}))
    console = Console()
    console.print(f"{file}: valid", highlight=False, markup=False)
    console.print(f"  {len(structures)} starting structure(s): {formulas}", highlight=False, markup=False)
    console.print(f"  {preflight.describe(config)}", highlight=False, markup=False, soft_wrap=True)
    console.print(preflight.describe_workers(config), highlight=False, markup=False, soft_wrap=True)


@app.command()
def status(
    database: Database,
    name: Name = None,
    alive: Annotated[
        bool,
        typer.Option("--alive", help="Only say whether its beat has moved since the last time; for health checks."),
    ] = False,
) -> None:
    """Show how a campaign stands.

    With --alive the exit code is 1 if the beat of whoever drives it stands still for two minutes or more.
    """
    if alive:
        if not _room("campaign.alive").show_alive(Console(), database, name):
            raise typer.Exit(1)
        return
    show = _room("campaign.status").show_status
    show(Console(), database, name)


@app.command()
def dashboard(
    database: Database,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the campaign; not needed if there is only one.")
    ] = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Where to listen; 0: any free port.")] = 8790,
) -> None:
    """Show a campaign in the browser, from its database alone, while it runs or afterwards; on loopback."""
    _room("reports.dashboard").serve(Console(), database, name, port)


@app.command()
def resume(database: Database, name: Name = None) -> None:
    """Continue a campaign from its database."""
    _room("campaign.console").resume(database, name)


@app.command()
def stop(database: Database, name: Name = None) -> None:
    """Ask a running campaign to stop; tasks in flight may finish."""
    with _room("store").Store.open(database) as store:
        campaign = store.campaign(name)
        if campaign.holder is None:
            raise ConfigError(f"Campaign '{campaign.name}' is not running (it is {campaign.state}); nothing to stop.")
        if store.holder_is_alive(campaign.id) is False:
            again = "The same command" if "labelling" in campaign.config else "'alflow resume'"
            raise ConfigError(
                f"{campaign.holder}, which drove '{campaign.name}', is no more; nothing to stop. "
                f"{again} takes it up again."
            )
        store.request_stop(campaign.id)
    Console().print(f"{campaign.holder} was asked to stop '{campaign.name}'.", highlight=False, markup=False)


@app.command()
def retry(
    database: Database,
    words: Annotated[
        list[str] | None,
        typer.Argument(help="Campaign, if there are several; then beginnings of frames.", metavar="[NAME] [FRAME]…"),
    ] = None,
    failure: Annotated[str | None, typer.Option("--failure", help="Only those that failed so: SCF_FAIL …")] = None,
) -> None:
    """Give labels that were given up fresh attempts: all of them, some frames, or one class of failure."""
    _room("campaign.retry").ask_retry(Console(), database, words or (), failure)


@app.command()
def why(
    database: Database, frame: Annotated[str, typer.Argument(help="Frame or structure id, or its beginning.")]
) -> None:
    """Tell the story of one frame: who reached it, why it was chosen, what came of it."""
    _room("campaign.status").show_story(Console(), database, frame)


@app.command()
def export(
    database: Database,
    output: Annotated[
        Path,
        typer.Argument(
            help="What to write: .xyz, .db (ASE), .h5, .jsonl (QCSchema), or a folder (DeePMD).", metavar="OUT"
        ),
    ],
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the campaign; not needed if there is only one.")
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="Only train, validation or audit.")] = None,
    form: Annotated[str | None, typer.Option("--format", help="If the name does not tell.", metavar="FORMAT")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
) -> None:
    """Write the labels of a campaign to a file, in full precision and with where each comes from."""
    if output.exists() and not overwrite:
        raise ConfigError(f"{output} exists; choose another name or pass --overwrite.")
    count = _room("campaign.export").export_labels(database, name, output, split, form)
    Console().print(f"{count} labels written to {output}", highlight=False, markup=False)


def _list_columns(asked: bool) -> None:
    if asked:
        _room("campaign.query_console").list_columns(Console())
        raise typer.Exit


@app.command()
def query(
    database: Database,
    question: Annotated[
        str, typer.Argument(help="Such as 'formula = C2H6O and disagreement > 0.3'; all without.", metavar="QUESTION")
    ] = "",
    columns: Annotated[str | None, typer.Option("--columns", help="Columns to show, with commas between.")] = None,
    order_by: Annotated[str | None, typer.Option("--order-by", help="Column to order by, smallest first.")] = None,
    descending: Annotated[bool, typer.Option("--descending", help="Largest first.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", help="Frames at most; 20 for a table.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Only this campaign.")] = None,
    level: Annotated[str | None, typer.Option("--level", help="Only labels of this level, by id or its start.")] = None,
    form: Annotated[str, typer.Option("--format", help="table, csv, json, or xyz: the labels.")] = "table",
    count: Annotated[bool, typer.Option("--count", help="Only say how many there are.")] = False,
    columns_list: Annotated[
        bool, typer.Option("--columns-list", callback=_list_columns, is_eager=True, help="List all columns, and end.")
    ] = False,
) -> None:
    """Ask for frames and labels by what is known of them.

    Comparisons (=, !=, <, <=, >, >=, in, between, like, is null) of columns are joined by and, or, not and parentheses.
    docs/query.md has the columns and examples.
    """
    how = {"campaign": name, "level": level, "order_by": order_by, "descending": descending, "limit": limit}
    _room("campaign.query_console").query(database, question, columns, form, count, **how)


@app.command()
def report(
    database: Database,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the campaign; not needed if there is only one.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="File to write; by default NAME.html.", metavar="FILE.html")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option("--figures", help="Folder for figures as SVG and PNG and their numbers as CSV.")
    ] = None,
    test: Annotated[
        Path | None, typer.Option("--test", help="Further labels of the same level, as extended XYZ.", metavar="FILE")
    ] = None,
    dynamics: Annotated[
        bool, typer.Option("--dynamics/--no-dynamics", help="Whether to look if energy is conserved.")
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE.html whatever it is.")] = False,
) -> None:
    """Write one HTML file that says what was done and whether the potential can be trusted, and for what."""
    _room("campaign.report_console").report(Console(), database, name, output, figures, test, dynamics, force)


@app.command("import")
def import_(
    file: Annotated[
        Path, typer.Argument(help="Extended XYZ, ASE database, npz of rMD17, HDF5, or a folder of DeePMD.")
    ],
    level: Annotated[
        str,
        typer.Option(
            "--level", help="fast, standard, tight, a YAML file with the keys of reference:, words, or as-written."
        ),
    ],
    database: Annotated[str, typer.Option("--db", help="SQLite file or PostgreSQL URL.", metavar="DB")],
    name: Annotated[str, typer.Option("--name", help="Name under which the labels are recorded.")] = "imported",
    form: Annotated[str | None, typer.Option("--format", help="If the name does not tell.", metavar="FORMAT")] = None,
    energy_unit: Annotated[str | None, typer.Option("--energy-unit", help="eV, Ha, kcal/mol …")] = None,
    force_unit: Annotated[str | None, typer.Option("--force-unit", help="eV/Ang, Ha/Bohr …")] = None,
    length_unit: Annotated[str | None, typer.Option("--length-unit", help="Ang, Bohr or nm.")] = None,
    stress_unit: Annotated[str | None, typer.Option("--stress-unit", help="eV/Ang^3, GPa, kbar …")] = None,
    energy_key: Annotated[str | None, typer.Option("--energy-key", help="Its name in extended XYZ.")] = None,
    forces_key: Annotated[str | None, typer.Option("--forces-key", help="Their name in extended XYZ.")] = None,
    stress_key: Annotated[str | None, typer.Option("--stress-key", help="Its name in extended XYZ.")] = None,
    charge: Annotated[int, typer.Option("--charge", help="Where the file says nothing of it.")] = 0,
    multiplicity: Annotated[int, typer.Option("--multiplicity", help="2S + 1, likewise.", min=1)] = 1,
    implausible: Annotated[bool, typer.Option("--implausible", help="Take numbers that look wrong.")] = False,
) -> None:
    """Take the labels of a file into a database, each once; the same command continues.

    The exit code is 3 if some structures have another label there already, which stays, or if it was stopped.
    """
    settings = _room("formats").ReadSettings(
        energy_unit, force_unit, length_unit, stress_unit, energy_key, forces_key, stress_key, charge, multiplicity
    )
    console = _room("campaign.import_console")
    done = console.import_file(file, level, database, name, form, settings, implausible)
    if done.conflicts or done.left:
        raise typer.Exit(3)


@app.command()
def label(
    structures: Annotated[Path, typer.Argument(help="Structures, in a format ASE reads.", metavar="STRUCTURES")],
    level: Annotated[
        str, typer.Option("--level", help="fast, standard, tight, or a YAML file with the keys of reference:.")
    ],
    database: Annotated[str, typer.Option("--db", help="SQLite file or PostgreSQL URL.", metavar="DB")],
    name: Annotated[str, typer.Option("--name", help="Name under which the work is recorded.")] = "labels",
    cores: Annotated[int | None, typer.Option("--cores", help="Cores to use; all by default.")] = None,
) -> None:
    """Label a file of structures on all cores; the same command continues, and computes nothing twice.

    The exit code is 3 if some structures have no label in the end.
    """
    found = _room("campaign.label_console").label(structures, level, database, name, cores)
    if any(item.state in ("failed", "open") for item in found):
        raise typer.Exit(3)


@app.command()
def hessian(
    structure: Annotated[Path, typer.Argument(help="One optimized molecule, in a format ASE reads.", metavar="FILE")],
    level: Annotated[
        str, typer.Option("--level", help="fast, standard, tight, or a YAML file with the keys of reference:.")
    ],
    database: Annotated[str, typer.Option("--db", help="SQLite file or PostgreSQL URL.", metavar="DB")],
    output: Annotated[Path | None, typer.Option("--out", help="Write everything to a .json or .npz file.")] = None,
    step_ang: Annotated[float, typer.Option("--step-ang", help="Displacement of each coordinate, Å.")] = 0.005,
    analytic: Annotated[
        bool, typer.Option("--analytic", help="PySCF's analytic Hessian; no infrared intensities.")
    ] = False,
    name: Annotated[str | None, typer.Option("--name", help="Name under which the labels are recorded.")] = None,
    cores: Annotated[int | None, typer.Option("--cores", help="Cores to use; all by default.")] = None,
) -> None:
    """Compute vibrations and infrared intensities from labels of displaced structures; the same command continues."""
    if output is not None and output.suffix not in (".json", ".npz"):
        raise ConfigError(f"--out {output}: expected a name that ends in .json or .npz.")
    if output is not None and not output.parent.is_dir():
        raise ConfigError(f"--out {output}: there is no folder {output.parent}.")
    if not 1e-4 <= step_ang <= 0.1:
        raise ConfigError(f"--step-ang {step_ang}: expected 0.0001 to 0.1 Å; 0.005 suits converged labels.")
    console = _room("campaign.hessian_console")
    found = console.hessian(structure, level, database, name, cores, step_ang, analytic)
    if found is None:
        raise typer.Exit(3)
    if output is not None:
        console.save(found, output)


@app.command()
def cluster(
    file: File,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the scripts; do not even ask SLURM.")] = False,
    kubernetes: Annotated[bool, typer.Option("--kubernetes", help="Print manifests for Kubernetes instead.")] = False,
    image: Annotated[str, typer.Option("--image", help="Image with alflow in it, for Kubernetes.")] = "alflow",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for the manifests.")] = None,
) -> None:
    """Print the SLURM jobs of a campaign and ask SLURM whether it would take them, or print manifests for Kubernetes.

    Nothing is submitted.
    """
    if kubernetes:
        _room("campaign.kubernetes_console").show_manifests(_config(file, False), image, output)
        return
    if output is not None:
        raise ConfigError("--output goes with --kubernetes; scripts for SLURM are written when the campaign runs.")
    if not _room("campaign.cluster_console").show_jobs(_config(file, False), dry_run):
        raise typer.Exit(2)


@app.command()
def certificates(
    folder: Annotated[Path, typer.Argument(help="Where to write cert.pem and key.pem.")],
    days: Annotated[int, typer.Option("--days", min=1, help="How long they are valid.")] = 365,
) -> None:
    """Make the certificate by which scheduler, workers and alflow know each other; needs the program openssl."""
    made = _room("campaign.certificates").make_certificates(folder, days)
    console = Console()
    console.print(f"{made.cert} and {made.key}", highlight=False, markup=False, soft_wrap=True)
    console.print("Who has the key may run code in the whole cluster: keep it as you keep a password.")


@databases.command()
def check(
    database: Database,
    name: Name = None,
    deep: Annotated[bool, typer.Option("--deep", help="Look into every structure and array, not a sample.")] = False,
) -> None:
    """Check every promise alflow makes about a database; nothing is changed. The exit code is 1 if one is broken."""
    if not _room("campaign.database_console").check(database, name, deep):
        raise typer.Exit(1)


@databases.command()
def copy(
    source: Annotated[str, typer.Argument(help="SQLite file or PostgreSQL URL.", metavar="SOURCE")],
    target: Annotated[str, typer.Argument(help="The same; made if it does not exist.", metavar="TARGET")],
    name: Annotated[str | None, typer.Option("--name", help="Only this campaign and what it uses.")] = None,
) -> None:
    """Copy a whole database or one campaign, with its files, to another database: all of it or nothing."""
    _room("campaign.database_console").copy(source, target, name)


if __name__ == "__main__":
    main()
