"""Write docs/configuration.md from the configuration models: ``python docs/make_configuration.py``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from alflow.campaign.config import CampaignConfig
from alflow.campaign.initial_config import InitialConfig
from alflow.campaign.pool_config import ExternalCluster, PoolConfig, PoolsConfig, SecurityConfig
from alflow.campaign.slurm_config import JobClass, SlurmConfig
from alflow.domain.learning_config import ModelConfig, TrainingConfig
from alflow.reference import toy
from alflow.reference.config import (
    AseConfig,
    CasscfConfig,
    CommitteeConfig,
    LennardJonesConfig,
    MorseConfig,
    MorseMoleculeConfig,
    MuellerBrownConfig,
    PyscfConfig,
    PyscfPeriodicConfig,
    TdaConfig,
    XtbConfig,
)

PAGE: Final = Path(__file__).with_name("configuration.md")

UNITS: Final = {
    "_ev_ang2": "eV/Å²",
    "_ev_ang": "eV/Å",
    "_per_ang": "1/Å",
    "_per_ps": "1/ps",
    "_ang": "Å",
    "_ev": "eV",
    "_fs": "fs",
    "_gib": "GiB",
    "_ha": "Ha",
    "_mb": "MB",
    "_ps": "ps",
    "_k": "K",
    "_h": "h",
    "_s": "s",
}
"""Unit of a key, by its ending; longer endings first."""

HEAD: Final = """\
# Configuration

Written by `docs/make_configuration.py` from the models themselves; change the docstrings there, not this page.

A campaign is a YAML file, or the same keys as arguments of `CampaignConfig`. The unit of a number is in its name. An
unknown key is an error that names the key you probably meant.
"""

SECTIONS: Final[tuple[tuple[str, type[BaseModel], type | None], ...]] = (
    ("The campaign", CampaignConfig, None),
    ("`initial:`", InitialConfig, None),
    ("`reference:` with `engine: pyscf`", PyscfConfig, None),
    ("`reference:` with `engine: pyscf-periodic`", PyscfPeriodicConfig, None),
    ("`reference:` with `engine: pyscf-tda`", TdaConfig, None),
    ("`reference:` with `engine: pyscf-casscf`", CasscfConfig, None),
    ("`reference:` with `engine: xtb`", XtbConfig, None),
    ("`reference:` with `engine: ase`", AseConfig, None),
    ("`reference:` with `engine: committee`", CommitteeConfig, None),
    ("`reference:` with `engine: morse-molecule`", MorseMoleculeConfig, toy.MorseMolecule),
    ("`reference:` with `engine: morse`", MorseConfig, toy.Morse),
    ("`reference:` with `engine: mueller-brown`", MuellerBrownConfig, toy.MuellerBrown),
    ("`reference:` with `engine: lennard-jones`", LennardJonesConfig, toy.LennardJones),
    ("`pools:`", PoolsConfig, None),
    ("`pools:` with `label:`, `explore:` or `train:`", PoolConfig, None),
    ("`cluster:`", ExternalCluster, None),
    ("`cluster:` with `security:`", SecurityConfig, None),
    ("`cluster:` with `slurm:`", SlurmConfig, None),
    ("`cluster:` with `slurm:`, its `jobs:`", JobClass, None),
    ("`model:`", ModelConfig, None),
    ("`training:`", TrainingConfig, None),
)
"""Heading, model, and the class that explains keys the model does not."""


def meanings(cls: type) -> dict[str, str]:
    """Read the Attributes section of a Google-style docstring: meaning by name."""
    text = inspect.getdoc(cls) or ""
    _, found, section = text.partition("Attributes:\n")
    if not found:
        return {}
    section = section.split("\n\n")[0]
    entries = re.split(r"\n?^ {4}(?=\w+: )", section, flags=re.MULTILINE)
    pairs = (entry.split(": ", 1) for entry in entries if ": " in entry)
    return {name.strip(): " ".join(meaning.split()) for name, meaning in pairs}


def unit(name: str) -> str:
    """Unit that a key names, or a dash."""
    return next((text for ending, text in UNITS.items() if name.endswith(ending)), "–")


def default(field: FieldInfo) -> str:
    """Default of a key as it would be written in YAML."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, PyscfConfig):
        return "`engine: pyscf`"
    if isinstance(value, BaseModel):
        return "see below"
    return "–" if value is None else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def allowed(field: FieldInfo) -> str:
    """Limits of a number, or the words that may be chosen."""
    choices = re.findall(r"Literal\[([^\]]*)\]", str(field.annotation))
    words = [word for choice in choices for word in re.findall(r"'([^']+)'", choice)]
    if words:
        return " or ".join(f"`{word}`" for word in words)
    signs = ((Gt, "gt", ">"), (Ge, "ge", "≥"), (Lt, "lt", "<"), (Le, "le", "≤"))
    found = [(sign, rule, name) for rule in _rules(field) for kind, name, sign in signs if isinstance(rule, kind)]
    return ", ".join(f"{sign} {getattr(rule, name)}" for sign, rule, name in found) or "–"


def _rules(field: FieldInfo) -> list[Any]:
    """Every rule about a field, also those inside of ``Positive | None``."""
    rules: list[Any] = []
    for part in (field, *getattr(field.annotation, "__args__", ())):
        own: Sequence[Any] = getattr(part, "metadata", ()) or getattr(part, "__metadata__", ())
        for rule in own:
            rules.extend(rule.metadata if isinstance(rule, FieldInfo) else [rule])
    return rules


def table(model: type[BaseModel], source: type | None) -> str:
    """The table of one model's keys.

    Raises:
        ValueError: A key is not explained anywhere.
    """
    known: dict[str, str] = meanings(source) if source else {}
    for cls in reversed(model.__mro__):
        known |= meanings(cls)
    lines = ["| key | unit | default | allowed | meaning |", "|---|---|---|---|---|"]
    for name, field in model.model_fields.items():
        meaning = "Tells the references apart." if name == "engine" else known.get(name)
        if meaning is None:
            raise ValueError(f"{model.__name__}.{name} is not explained; add it to the Attributes of its docstring.")
        meaning = meaning.replace("``", "`").replace("|", "\\|")
        lines.append(f"| `{name}` | {unit(name)} | {default(field)} | {allowed(field)} | {meaning} |")
    return "\n".join(lines)


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for heading, model, source in SECTIONS:
        about = (inspect.getdoc(model) or "").split("\n\n")[0].split("; see :class:")[0].rstrip(".") + "."
        about = about.replace("``", "`").replace("\n", " ")
        parts.append(f"## {heading}\n{about}\n\n{table(model, source)}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
