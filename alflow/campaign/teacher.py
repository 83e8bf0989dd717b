"""Every reference a configuration can name, the trained committee among them.

References and potentials are rooms on one floor that do not know each other; here both are known. Nothing here loads
torch: a teacher is a small picklable noun, and its committee is loaded in the process of a label.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from alflow.domain import Failure, FailureKind, Level, Outcome, Reference, Structure
from alflow.domain.identity import digest_of_bytes
from alflow.domain.learning_config import ModelConfig
from alflow.errors import CheckpointError, ConfigError, InputError
from alflow.reference import CommitteeConfig, ReferenceConfig
from alflow.reference import check_reference as check_engine
from alflow.reference import make_reference as make_engine

__all__ = ["CommitteeReference", "beside", "check_committee", "check_reference", "make_reference"]

PROCEDURE: Final = 1
"""Version of how a label is computed; part of the level, raised whenever a change alters the numbers."""


@dataclass(frozen=True)
class CommitteeReference:
    """A trained committee that teaches another one: mean energy and forces, and the stress of periodic structures.

    A committee knows elements and positions only: charge and multiplicity are those it was trained at, whatever a
    structure says.

    Attributes:
        weights: Its weight file; no part of the level, so that the file may be moved.
        sha256: SHA-256 of that file: the level.
    """

    weights: Path
    sha256: str

    preload = ("alflow.potentials",)

    @classmethod
    def of(cls, weights: str | Path, sha256: str | None = None) -> CommitteeReference:
        """Take the committee of a weight file.

        Args:
            weights: The file.
            sha256: The hash it must have; None takes it from the file's name, if that is a hash.

        Raises:
            CheckpointError: The file is missing, damaged, altered, or of a version this alflow does not read.
        """
        path = Path(weights).absolute()
        import_module("alflow.potentials").load_committee(path, sha256)
        return cls(path, digest_of_bytes(path.read_bytes()))

    @cached_property
    def level(self) -> Level:
        """The weights, by their hash."""
        return Level("committee", {"procedure": PROCEDURE, "sha256": self.sha256, "precision": "float64"})

    @cached_property
    def _committee(self) -> Any:
        # Not an import statement on purpose: only the process that computes may pay for loading torch.
        return import_module("alflow.potentials").load_committee(self.weights, self.sha256)

    def __getstate__(self) -> dict[str, Any]:
        """Only what was given; the committee is loaded again where it is needed."""
        return {"weights": self.weights, "sha256": self.sha256}

    def evaluate(self, structure: Structure) -> Outcome:
        """Compute the members' mean; their spread is in the diagnostics.

        Returns:
            The evaluation, or REJECTED: an element the committee was not trained on.

        Raises:
            CheckpointError: The file is gone or was altered since.
        """
        try:
            outcome: Outcome = self._committee.evaluate(structure)
        except InputError as error:
            return Failure(FailureKind.REJECTED, str(error))
        return outcome

    def check(self, structures: Iterable[Structure]) -> None:
        """Check that the committee knows all elements.

        Raises:
            ConfigError: It does not.
        """
        known = self._committee.symbols
        missing = sorted({symbol for structure in structures for symbol in structure.symbols} - set(known))
        if missing:
            raise ConfigError(
                f"reference.weights: this committee was trained on {', '.join(known)} and knows nothing of"
                f" {', '.join(missing)}."
            )


def make_reference(config: ReferenceConfig) -> Reference:
    """Build the reference a configuration describes, whatever its engine.

    Args:
        config: Validated configuration.

    Raises:
        InputError: A weight file that cannot be used, or what the engine itself refuses.
    """
    return _teacher(config) if isinstance(config, CommitteeConfig) else make_engine(config)


def check_reference(config: ReferenceConfig, structures: Iterable[Structure]) -> None:
    """Check that a reference can label these structures, before a campaign begins.

    Args:
        config: The reference's configuration.
        structures: The campaign's first structures; their elements must be all there will be.

    Raises:
        InputError: One sentence that says what to change.
    """
    if isinstance(config, CommitteeConfig):
        _teacher(config).check(structures)
    else:
        check_engine(config, structures)


def check_committee(weights: str, model: ModelConfig, structures: Iterable[Structure]) -> None:
    """Refuse a committee that cannot be generation 1 of a campaign.

    Args:
        weights: Its file.
        model: Form of the committees to come.
        structures: The campaign's first structures.

    Raises:
        ConfigError: Its file cannot be used, it lacks an element, or it has another form.
    """
    try:
        committee = import_module("alflow.potentials").load_committee(weights)
    except CheckpointError as error:
        raise ConfigError(f"initial.committee: {error}") from error
    missing = sorted({symbol for structure in structures for symbol in structure.symbols} - set(committee.symbols))
    if missing:
        raise ConfigError(
            f"initial.committee: this committee was trained on {', '.join(committee.symbols)} and knows nothing of"
            f" {', '.join(missing)}."
        )
    its, wanted = committee.model.model_dump(mode="json"), model.model_dump(mode="json")
    differ = [f"{key} is {its[key]} there and {wanted[key]} here" for key in its if its[key] != wanted[key]]
    if differ:
        raise ConfigError(
            f"initial.committee has another form than model: says ({'; '.join(differ)}); later committees go on from "
            "its weights, so make model: agree."
        )


def beside(file: Path, reference: Any) -> Any:
    """The keys of ``reference:`` in a YAML file, with a weight file looked up beside that file."""
    weights = reference.get("weights") if isinstance(reference, Mapping) else None
    if not isinstance(weights, str) or not weights or weights.startswith("~"):
        return reference
    return {**reference, "weights": str(file.parent.absolute() / weights)}


def _teacher(config: CommitteeConfig) -> CommitteeReference:
    try:
        return CommitteeReference.of(config.weights, config.sha256)
    except CheckpointError as error:
        raise ConfigError(f"reference.weights: {error}") from error
