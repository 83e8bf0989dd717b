"""``alflow cluster --kubernetes``: manifests, printed or written into a folder."""

from __future__ import annotations

from pathlib import Path

import yaml
from rich.console import Console

from alflow.campaign.config import CampaignConfig
from alflow.campaign.kubernetes import manifests
from alflow.errors import ConfigError

__all__ = ["show_manifests"]


def show_manifests(config: CampaignConfig, image: str, folder: Path | None) -> None:
    """Print the manifests of a campaign as one document, or write them into a folder.

    Args:
        config: The campaign.
        image: Image with alflow in it.
        folder: Where to write them, each into a file of its own; None prints them.

    Raises:
        ConfigError: The campaign cannot run in Kubernetes as it is, or the folder has such files already.
    """
    made = {name: _text(objects) for name, objects in manifests(config, image).items()}
    console = Console()
    if folder is None:
        console.print("---\n".join(made.values()), end="", highlight=False, markup=False, soft_wrap=True)
        return
    files = {folder / f"{number:02d}-{name}.yaml": text for number, (name, text) in enumerate(made.items())}
    there = [str(file) for file in files if file.exists()]
    if there:
        raise ConfigError(f"--output {folder}: {', '.join(there)} is there already; remove it or name another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        file.write_text(text, encoding="utf-8")
    told = f"{len(files)} files in {folder}. docs/clusters.md says what must be there before: kubectl apply -f {folder}"
    console.print(told, highlight=False, markup=False, soft_wrap=True)


def _text(objects: list[dict[str, object]]) -> str:
    return "---\n".join(yaml.safe_dump(made, sort_keys=False, width=120) for made in objects)
