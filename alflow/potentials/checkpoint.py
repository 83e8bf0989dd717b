"""Weight files: tensors and a description, read without running any code from the file.

The format is safetensors; one metadata entry, ``alflow``, holds JSON with the format's name and version, the model
configuration and the elements. A version is never reused: a reader refuses what it does not know.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save

from alflow.domain.identity import canonical_json, digest_of_bytes
from alflow.domain.learning_config import ModelConfig
from alflow.errors import CheckpointError

__all__ = ["FORMAT", "VERSION", "Checkpoint", "read_checkpoint", "write_checkpoint"]

_HASH = re.compile(r"[0-9a-f]{64}")

FORMAT: Final = "alflow-committee"
VERSION: Final = 1

_TENSORS: Final = {"center", "projection", "hidden", "bias", "output", "linear", "atomic_energies"}


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The content of a weight file.

    Attributes:
        model: The form of the networks.
        elements: Atomic numbers, ascending.
        view_labels: Number of labels that fixed the projection.
        tensors: Weights by name.
    """

    model: ModelConfig
    elements: tuple[int, ...]
    view_labels: int
    tensors: Mapping[str, torch.Tensor]


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> str:
    """Write a weight file, whole or not at all.

    Returns:
        SHA-256 of the file.
    """
    description = canonical_json(
        {
            "format": FORMAT,
            "version": VERSION,
            "model": checkpoint.model.model_dump(mode="json"),
            "elements": list(checkpoint.elements),
            "view_labels": checkpoint.view_labels,
        }
    )
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    data = save(tensors, {"alflow": description})
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    return digest_of_bytes(data)


def read_checkpoint(path: Path, sha256: str | None = None) -> Checkpoint:
    """Read and verify a weight file.

    Args:
        path: The file.
        sha256: The hash it must have; None takes it from the file's name, if that is a hash.

    Raises:
        CheckpointError: Missing, altered, damaged, or of another format or version.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"Weight file {path} cannot be read: {error.strerror}.") from error
    found = digest_of_bytes(data)
    if sha256 is None and _HASH.fullmatch(path.stem):
        sha256 = path.stem
    if sha256 is not None and found != sha256:
        raise CheckpointError(
            f"Weight file {path} was altered or damaged: expected SHA-256 {sha256[:12]}…, found {found[:12]}…. "
            "Restore it from a copy, or train again."
        )
    try:
        tensors = load(data)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise CheckpointError(
            f"Weight file {path} is damaged: {error}. Restore it from a copy, or train again."
        ) from error
    description = _description(path, metadata)
    try:
        model = ModelConfig.model_validate(description["model"])
        elements = tuple(int(number) for number in description["elements"])
        view_labels = int(description["view_labels"])
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise CheckpointError(f"Weight file {path} describes no committee: {error}.") from error
    if set(tensors) != _TENSORS:
        raise CheckpointError(f"Weight file {path} should hold {sorted(_TENSORS)}; found {sorted(tensors)}.")
    return Checkpoint(model, elements, view_labels, tensors)


def _description(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    try:
        description = json.loads(metadata["alflow"])
        kind, version = description["format"], description["version"]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise CheckpointError(
            f"Weight file {path} is a safetensors file, but not one of alflow's: it has no description."
        ) from error
    if kind != FORMAT or version != VERSION:
        raise CheckpointError(
            f"Weight file {path} is {kind!r} version {version!r}; this alflow reads {FORMAT!r} version {VERSION}. "
            "Use the alflow that wrote it, or train again from the stored labels."
        )
    return dict(description)
