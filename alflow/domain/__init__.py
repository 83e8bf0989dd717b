"""The nouns: frozen, numpy only, shared by every room."""

from alflow.domain.label import Evaluation, Failure, FailureKind, Label, Level, NonFiniteError, Outcome, Reference
from alflow.domain.structure import Structure
from alflow.domain.surface import Surface

__all__ = [
    "Evaluation",
    "Failure",
    "FailureKind",
    "Label",
    "Level",
    "NonFiniteError",
    "Outcome",
    "Reference",
    "Structure",
    "Surface",
]
