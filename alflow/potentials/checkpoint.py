"""Weight files: tensors and a description, read without running any code from the file.

The format is safetensors; one metadata entry, ``alflow``, holds JSON with the format's name and version, the model
configuration and the elements. A version is never reused: a reader refuses what it does not know.

Version 1 (alflow 0.1 before trained hidden layers): one hidden layer, ``hidden`` of shape (element, component, member,
unit), its width an integer in the configuration. Version 2: any number of layers, ``hidden.k`` of shape (element,
member, input, unit); ``low`` and ``high``, the range of the components over the training set.
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
VERSION: Final = 2

_TENSORS: Final = {"center", "projection", "output", "linear", "atomic_energies"}
_LAYER_TENSORS: Final = ("hidden", "bias")
_RANGE: Final = {"low", "high"}


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
    if description["version"] == 1:
        description, tensors = _from_version_1(path, description, tensors)
    try:
        model = ModelConfig.model_validate(description["model"])
        elements = tuple(int(number) for number in description["elements"])
        view_labels = int(description["view_labels"])
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise CheckpointError(f"Weight file {path} describes no committee: {error}.") from error
    expected = _TENSORS | {f"{name}.{k}" for name in _LAYER_TENSORS for k in range(len(model.hidden))}
    if set(tensors) not in (expected, expected | _RANGE):
        raise CheckpointError(f"Weight file {path} should hold {sorted(expected)}; found {sorted(tensors)}.")
    return Checkpoint(model, elements, view_labels, tensors)


def _from_version_1(
    path: Path, description: dict[str, Any], tensors: Mapping[str, torch.Tensor]
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    try:
        model = {**description["model"], "hidden": [description["model"]["hidden"]]}
        renamed = dict(tensors)
        renamed["hidden.0"] = renamed.pop("hidden").permute(0, 2, 1, 3).contiguous()
        renamed["bias.0"] = renamed.pop("bias")
    except (KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"Weight file {path} describes no committee of version 1: {error}.") from error
    return {**description, "model": model}, renamed


def _description(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    try:
        description = json.loads(metadata["alflow"])
        kind, version = description["format"], description["version"]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise CheckpointError(
            f"Weight file {path} is a safetensors file, but not one of alflow's: it has no description."
        ) from error
    if kind != FORMAT or version not in (1, VERSION):
        raise CheckpointError(
            f"Weight file {path} is {kind!r} version {version!r}; this alflow reads {FORMAT!r} up to version "
            f"{VERSION}. Use the alflow that wrote it, or train again from the stored labels."
        )
    return dict(description)
