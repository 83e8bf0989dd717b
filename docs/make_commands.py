"""Write docs/commands.md from the command line itself: ``python docs/make_commands.py``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import typer

from alflow.cli import app

PAGE: Final = Path(__file__).with_name("commands.md")

HEAD: Final = """\
# The command line

Written by `docs/make_commands.py` from the commands themselves; change `alflow/cli.py`, not this page.

`DB` is an SQLite file or a PostgreSQL URL. What cannot be used ends in one sentence on standard error. Exit codes: 0
finished or stopped, 1 the campaign failed, `db check` found damage, `status --alive` no beat, or alflow has a defect, 2
something you gave cannot be used, 3 `label` or `hessian` left structures without a label, 75 the database stayed away
and the campaign paused.
"""


def commands(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Every command below a group, with the words that call it."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


def is_option(parameter: Any) -> bool:
    """Whether a parameter is given by its name."""
    return bool(parameter.opts[0].startswith("-"))


def placeholder(parameter: Any) -> str:
    """What stands for the value of a parameter in a usage line."""
    return str(parameter.metavar or parameter.name.upper())


def word(parameter: Any) -> str:
    """A parameter as it is written in a usage line; brackets around what may be left out."""
    text = placeholder(parameter)
    if is_option(parameter):
        text = parameter.opts[0] if parameter.is_flag else f"{parameter.opts[0]} {text}"
    return text if parameter.required or text.startswith("[") else f"[{text}]"


def row(parameter: Any) -> str:
    """The line of a table that explains a parameter."""
    name = parameter.opts[0] if is_option(parameter) else placeholder(parameter)
    given = parameter.default is not None and not getattr(parameter, "is_flag", False)
    default = "required" if parameter.required else f"`{parameter.default}`" if given else "–"
    return f"| `{name}` | {default} | {parameter.help} |"


def section(words: str, command: Any) -> str:
    """How one command is called, and what it does."""
    parameters = [parameter for parameter in command.params if parameter.name != "help"]
    usage = " ".join([words, *map(word, sorted(parameters, key=is_option))])
    lines = [f"## {words}", f"{command.help}\n", f"```\n{usage}\n```\n"]
    lines += ["| argument or option | default | meaning |", "|---|---|---|", *map(row, parameters), ""]
    return "\n".join(lines)


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(section(*found) for found in commands(typer.main.get_command(app), "alflow"))])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
