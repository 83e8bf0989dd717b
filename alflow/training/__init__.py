"""Training: from labels to a committee."""

from alflow.training.committee import Fit, fit_committee
from alflow.training.metrics import ForceErrors, force_errors

__all__ = ["Fit", "ForceErrors", "fit_committee", "force_errors"]
