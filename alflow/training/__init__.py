"""Training: from labels to a committee."""

from alflow.training.batches import LabelBatch, LabelBatches
from alflow.training.committee import Fit, fit_committee
from alflow.training.metrics import ForceErrors, force_errors

__all__ = ["Fit", "ForceErrors", "LabelBatch", "LabelBatches", "fit_committee", "force_errors"]
