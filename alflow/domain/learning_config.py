"""What a committee looks like and how it is trained: configuration only, no tensors."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from alflow.domain.config import ClosedModel

__all__ = ["ModelConfig", "TrainingConfig"]


class ModelConfig(ClosedModel):
    """The form of a committee of high-dimensional neural-network potentials.

    The defaults are those of the published benchmark (``benchmarks/rmd17.py``); there is nothing to tune for a first
    campaign.

    Attributes:
        members: Number of networks; their disagreement decides what is labelled.
        cutoff_ang: Radius of the radial symmetry functions, Å.
        angular_cutoff_ang: Radius of the angular symmetry functions, Å; at most ``cutoff_ang``.
        radial_functions: Number of radial symmetry functions per neighbor element.
        angular_functions: Number of radial channels of the angular symmetry functions per neighbor element.
        angular_degree: Highest degree l of the angular symmetry functions.
        components: Number of principal components of the symmetry functions each network sees.
        hidden: Width of the hidden layer of each network.
        length_scale: Distance in descriptor space (in standard deviations of the training data) over which the hidden
            layer bends; larger is smoother.
        repulsion: Whether a screened nuclear repulsion acts between atoms that overlap.
    """

    members: int = Field(default=4, ge=1, le=64)
    cutoff_ang: float = Field(default=5.0, ge=1.5, le=20.0)
    angular_cutoff_ang: float = Field(default=4.0, ge=1.5, le=20.0)
    radial_functions: int = Field(default=12, ge=2, le=64)
    angular_functions: int = Field(default=5, ge=1, le=16)
    angular_degree: int = Field(default=3, ge=0, le=8)
    components: int = Field(default=128, ge=2, le=2048)
    hidden: int = Field(default=256, ge=1, le=4096)
    length_scale: float = Field(default=8.0, gt=0.0)
    repulsion: bool = True

    @model_validator(mode="after")
    def _angular_inside_radial(self) -> Self:
        if self.angular_cutoff_ang > self.cutoff_ang:
            raise ValueError(
                f"angular_cutoff_ang ({self.angular_cutoff_ang}) is at most cutoff_ang ({self.cutoff_ang}); "
                "raise cutoff_ang or lower angular_cutoff_ang"
            )
        return self


class TrainingConfig(ClosedModel):
    """How a committee is fitted to labels.

    Attributes:
        energy_weight_per_ang: Weight of an energy error (eV, divided by √atoms) relative to the error of one force
            component (eV/Å), 1/Å.
        stress_weight_per_ang: Weight of an error in the virial (stress times volume, eV, divided by √atoms) relative
            to the error of one force component, 1/Å.
        bootstrap: How much the members' training sets differ: 0 all see the same, 1 a full Bayesian bootstrap.
        prior_spread: How far apart members are where the labels do not decide, relative to the prior width of the
            output weights that the labels themselves suggest.
        ridge: Penalty on the output weights relative to the mean square of the design matrix; None chooses it by
            cross-validation over frames.
        folds: Number of parts of the cross-validation.
    """

    energy_weight_per_ang: float = Field(default=9.0, ge=0.0)
    stress_weight_per_ang: float = Field(default=0.3, ge=0.0)
    bootstrap: float = Field(default=0.5, ge=0.0, le=1.0)
    prior_spread: float = Field(default=1.0, ge=0.0, le=10.0)
    ridge: float | None = Field(default=None, gt=0.0)
    folds: int = Field(default=5, ge=2, le=20)
