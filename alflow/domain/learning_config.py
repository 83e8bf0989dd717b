"""What a committee looks like and how it is trained: configuration only, no tensors."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from alflow.domain.config import ClosedModel

__all__ = ["ModelConfig", "TrainingConfig"]


class ModelConfig(ClosedModel):
    """The form of a committee of high-dimensional neural-network potentials.

    The defaults are those of the published benchmark (``benchmarks/accuracy.py``); there is nothing to tune for a first
    campaign.

    Attributes:
        members: Number of networks; their disagreement decides what is labelled.
        symmetry_functions: ``moments`` are fast and accurate; ``classical`` are Behler's G2 and G4, to compare with, of
            which only the two cutoffs can be chosen.
        cutoff_ang: Radius of the radial symmetry functions, Å.
        angular_cutoff_ang: Radius of the angular symmetry functions, Å; None is ``cutoff_ang``, and never more.
        radial_functions: Number of radial symmetry functions per neighbor element.
        angular_functions: Number of radial channels of the angular symmetry functions per neighbor element.
        angular_degree: Highest degree l of the angular symmetry functions.
        components: Number of principal components of the symmetry functions each network sees.
        hidden: Widths of the hidden layers of each network.
        length_scale: Distance in descriptor space (in standard deviations of the training data) over which a new
            network bends; larger starts smoother.
        repulsion: Whether a screened nuclear repulsion acts between atoms that overlap.
    """

    members: int = Field(default=4, ge=1, le=64)
    symmetry_functions: Literal["moments", "classical"] = "moments"
    cutoff_ang: float = Field(default=5.0, ge=1.5, le=20.0)
    angular_cutoff_ang: float | None = Field(default=None, ge=1.5, le=20.0)
    radial_functions: int = Field(default=12, ge=2, le=64)
    angular_functions: int = Field(default=5, ge=1, le=16)
    angular_degree: int = Field(default=3, ge=0, le=8)
    components: int = Field(default=256, ge=2, le=2048)
    hidden: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(default=(32, 32), min_length=1, max_length=6)
    length_scale: float = Field(default=8.0, gt=0.0)
    repulsion: bool = True

    @field_validator("hidden", mode="before")
    @classmethod
    def _one_width_per_layer(cls, value: object) -> object:
        if isinstance(value, int):
            raise ValueError(
                f"hidden is a list with one width per layer, for example [{value}, {value}]; found {value}"
            )
        return value

    @model_validator(mode="after")
    def _angular_inside_radial(self) -> Self:
        if self.angular_cutoff_ang is not None and self.angular_cutoff_ang > self.cutoff_ang:
            raise ValueError(
                f"angular_cutoff_ang ({self.angular_cutoff_ang}) is at most cutoff_ang ({self.cutoff_ang}); "
                "raise cutoff_ang or lower angular_cutoff_ang"
            )
        return self

    @property
    def angular_radius(self) -> float:
        """Radius of the angular symmetry functions, Å."""
        return self.cutoff_ang if self.angular_cutoff_ang is None else self.angular_cutoff_ang


class TrainingConfig(ClosedModel):
    """How a committee is trained on labels.

    Attributes:
        epochs: Passes through the labels of a training that begins anew.
        min_steps: Fewest optimizer steps of a training that begins anew, however few the labels.
        warm_share: Steps of a training that goes on from an earlier committee, relative to one that begins anew.
        batch_labels: Labels per optimizer step.
        learning_rate: Highest step of the weights, relative to their natural scale; it falls to zero along a cosine.
        energy_weight_per_ang: Weight of an energy error (eV, divided by √atoms) relative to the error of one force
            component (eV/Å), 1/Å.
        stress_weight_per_ang: Weight of an error in the virial (stress times volume, eV, divided by √atoms) relative
            to the error of one force component, 1/Å.
        bootstrap: How much the members' training sets differ: 0 all see the same, 1 a full Bayesian bootstrap.
        memory_gib: Memory for the derivatives of the symmetry functions, GiB; labels beyond it have them recomputed
            at every step.
    """

    epochs: int = Field(default=100, ge=1)
    min_steps: int = Field(default=3000, ge=1)
    warm_share: float = Field(default=0.25, gt=0.0, le=1.0)
    batch_labels: int = Field(default=5, ge=1)
    learning_rate: float = Field(default=0.01, gt=0.0, le=1.0)
    energy_weight_per_ang: float = Field(default=3.0, ge=0.0)
    stress_weight_per_ang: float = Field(default=0.3, ge=0.0)
    bootstrap: float = Field(default=0.5, ge=0.0, le=1.0)
    memory_gib: float = Field(default=4.0, gt=0.0)
