"""How Sphinx builds the documents: ``make docs``. The sources are every Markdown page of the repository."""

from __future__ import annotations

import inspect
import re
import sys
from enum import Enum
from importlib import import_module
from typing import Any, Final

from docutils import nodes
from pydantic import BaseModel
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.domains.python import PyObject
from sphinx.environment import BuildEnvironment
from sphinx.ext.napoleon import Config, GoogleDocstring
from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging
from sphinx.util.inspect import stringify_signature
from typing_extensions import is_protocol

import alflow
from alflow.store import Store

project = "alflow"
author = "the authors of alflow"
copyright = "the authors of alflow"
version = release = alflow.__version__

# The pages link each other, and README.md, CHANGELOG.md, db/ and docker/, as files: the sources begin at the top of the
# repository, so that every link works on a code host and here.
root_doc = "docs/index"
include_patterns = ["README.md", "CHANGELOG.md", "docs/**.md", "db/README.md", "docker/README.md"]
exclude_patterns = [".*", "**/.*", "build", "**/*.alflow"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx_copybutton"]

highlight_language = "none"
html_theme = "furo"
html_title = f"alflow {release}"
html_copy_source = False
html_static_path = ["static"]
html_css_files = ["wide.css"]
html_show_sourcelink = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "dollarmath"]

autodoc_default_options = {"members": True, "member-order": "groupwise", "exclude-members": "model_config"}
autodoc_typehints = "none"  # types are shown as the source has them, see `_signature`
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 96

nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(ase|collections|enum|np|npt|numpy|pathlib|pydantic|subprocess|torch|typing)\..*"),
    ("py:class", r"Any|Callable|FloatArray|IntArray|Iterable|Iterator|Mapping|Path|Sequence|datetime"),
    ("py:class", r"Callable\[\.\.\.|(Mapping|tuple)\[str"),  # how Sphinx cuts a nested type
    ("py:class", r"Device|Method|Property|Route|Selection|Spin|SpinPolicy"),  # words, told beside each
    (
        "py:class",
        r"Address|Atoms|CampaignReading|Connection|Described|DescriptorRange|Descriptors|Dropped|Engine|Extrapolation|NetworkWeights|Queue|State|_\w+",
    ),  # not public
]

FACES: Final = (
    "alflow",
    "alflow.errors",
    "alflow.domain",
    "alflow.domain.learning_config",
    "alflow.tensors",
    "alflow.potentials",
    "alflow.reference",
    "alflow.reference.course",
    "alflow.formats",
    "alflow.formats.file_units",
    "alflow.store",
    "alflow.exploration",
    "alflow.selection",
    "alflow.properties",
    "alflow.testing",
    "alflow.training",
    "alflow.reports.summary",
    "alflow.reports.timesplit",
)
"""Modules whose ``__all__`` is public."""


class Docstring(GoogleDocstring):
    """A docstring as this house writes it: what is returned is told in a sentence, whose type is in the signature."""

    def _consume_returns_section(self, preprocess_types: bool = False) -> list[tuple[str, str, list[str]]]:
        return [("", "", self._dedent(self._consume_to_next_section()))]


class Anew:
    """Stands for a default that is made for each object, such as an empty dictionary."""

    def __repr__(self) -> str:
        return "..."


GOOGLE: Final = Config(napoleon_use_ivar=True, napoleon_use_rtype=False, napoleon_attr_annotations=False)


def setup(app: Sphinx) -> None:
    """Read docstrings and signatures as this house writes them, and find public names where they are announced."""
    next(field for field in PyObject.doc_field_types if field.name == "variable").label = "Attributes"
    homes = _homes()
    aliases = _aliases()
    app.connect("autodoc-process-docstring", lambda *told: _docstring(aliases, *told))
    app.connect("autodoc-process-signature", _signature)
    app.connect("missing-reference", lambda app, env, node, text: _public(homes, app, env, node, text))
    app.connect("env-check-consistency", _complete)


def _homes() -> dict[str, str]:
    """Public name of each object, by its bare name and by the name of where it is defined.

    A face that fetches its names when they are asked for gets all of them now, so that autodoc sees them.
    """
    homes: dict[str, str] = {}
    for module in FACES:
        face = import_module(module)
        for name in face.__all__:
            found = getattr(face, name)
            setattr(face, name, found)
            homes[name] = f"{module}.{name}"
            if _is_code(found):
                homes[f"{found.__module__}.{found.__qualname__}"] = homes[name]
    return homes


def _is_code(thing: object) -> bool:
    return inspect.isclass(thing) or inspect.isfunction(thing)


def _aliases() -> dict[str, list[str]]:
    """What is announced and is neither class nor function, such as ``Outcome``, with the text below its definition."""
    found: dict[str, list[str]] = {}
    for module in FACES:
        face = import_module(module)
        names = [name for name in face.__all__ if not _is_code(getattr(face, name))]
        sources = [source for source in sys.modules if source.startswith(f"{module}.")]
        for source in (ModuleAnalyzer.for_module(source).find_attr_docs() for source in sources if names):
            found |= {name: source["", name] for name in names if ("", name) in source}
            found |= {name: [] for name in names if name not in found}
    return found


def _public(
    homes: dict[str, str], app: Sphinx, env: BuildEnvironment, node: pending_xref, text: nodes.TextElement
) -> nodes.Element | None:
    """Resolve a name that is written as it is imported or defined to where it is announced."""
    target = homes.get(str(node.get("reftarget", "")))
    if target is None or node.get("refdomain") != "py":
        return None
    domain: Any = env.get_domain("py")
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", target, node, text)


def _docstring(
    aliases: dict[str, list[str]], app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]
) -> None:
    """Turn a Google-style docstring into reStructuredText; ``|F|`` is an absolute value, not a substitution."""
    if what == "data":
        lines[:] = aliases.get(name.rpartition(".")[2]) or lines
    if inspect.isclass(thing) and issubclass(thing, Enum) and "Attributes:" not in lines:
        lines += ["", f"One of {', '.join(f'``{name}``' for name in thing.__members__)}."]
    typed = [_typed(line, thing) for line in lines] if inspect.isclass(thing) else lines
    # The first line of a property is a sentence, also where it holds a colon; napoleon would take that for a type.
    role = "method" if what in ("property", "data") else what
    made = Docstring(typed, GOOGLE, app, role, name, thing, options).lines()
    lines[:] = [line if line.startswith(".. ") else re.sub(r"(``.*?``)|\|", _bar, line) for line in made]


def _bar(found: re.Match[str]) -> str:
    return found[1] or r"\|"


def _typed(line: str, cls: type) -> str:
    """Add its type to the line of an attribute, as the source has it; configurations have a page of their own."""
    found = re.fullmatch(r" {4}(\w+): (.*)", line)
    if found is None or issubclass(cls, BaseModel):
        return line
    written = [vars(parent).get("__annotations__", {}).get(found[1]) for parent in cls.__mro__]
    kind = next((text for text in written if isinstance(text, str)), None)
    shown = kind and re.sub(r"_(?=\W)", r"\\_", kind)
    return f"    {found[1]} ({shown}): {found[2]}" if kind else line


def _signature(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str, None] | None:
    """Show parameters and their types as the source has them; none for what nobody makes by calling it."""
    if what == "class" and signature and (issubclass(thing, Enum | BaseModel | Store) or is_protocol(thing)):
        return "", None
    if what not in ("class", "function", "method"):
        return None
    written = inspect.signature(thing)
    if what == "method" and next(iter(written.parameters), None) in ("self", "cls"):
        written = written.replace(parameters=list(written.parameters.values())[1:])
    if what == "class":
        shown = [
            p.replace(default=Anew()) if repr(p.default) == "<factory>" else p for p in written.parameters.values()
        ]
        written = written.replace(parameters=shown, return_annotation=inspect.Signature.empty)
    return stringify_signature(written, unqualified_typehints=True), None


def _complete(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of every public name that no page documents."""
    documented = env.get_domain("py").data["objects"]
    for module in FACES:
        face = import_module(module)
        for name in face.__all__:
            found = getattr(face, name)
            home = f"{found.__module__}.{found.__qualname__}" if _is_code(found) else ""
            if not {f"{module}.{name}", home} & documented.keys() and not name.startswith("__"):
                logging.getLogger(__name__).warning("%s.%s is announced, but on no page of docs/api.", module, name)
